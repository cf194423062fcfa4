#!/usr/bin/env bash
# Five objectives from one table of failures, with as many generated tokens each, and the untrained model: one report.
#   bash examples/compare_objectives.sh countdown      # or household; SEED=1 for another seed
# Each step resumes where it stopped. With a real model on a GPU, not run yet:
#   MODEL=Qwen/Qwen2.5-1.5B-Instruct SAMPLING="--engine vllm --max-tokens 1024" REFLECTION=512 GRPO="--preset paper --vllm colocate --schedule constant --warmup 0" BUDGET=50000000 bash examples/compare_objectives.sh countdown
set -euo pipefail
TASK=${1:-countdown} SEED=${SEED:-0}
case $TASK in
    countdown) DEFAULT=tiny TOKENS=96 REFLECTION=${REFLECTION:-96} PROBLEMS=2804 HELD_OUT=701 ;;
    household) DEFAULT=tiny-household TOKENS=16 REFLECTION=${REFLECTION:-32} PROBLEMS=1500 HELD_OUT=500 ;;
    *) DEFAULT=smollm2 TOKENS=512 REFLECTION=${REFLECTION:-512} PROBLEMS=2000 HELD_OUT=1000 ;;
esac
RUN=${RUN:-runs/compare-$TASK-$SEED}
MODEL=${MODEL:-$DEFAULT}
SAMPLING=${SAMPLING:---max-tokens $TOKENS}
LIMIT=${LIMIT:-$PROBLEMS}              # training problems
TEST=${TEST:-$HELD_OUT}                # test problems
BUDGET=${BUDGET:-330000}               # generated tokens of each training: reflections, retries, answers
GRPO=${GRPO:-}                         # settings of every training; the quick preset was chosen for `reflection`
OBJECTIVES=${OBJECTIVES:-reflection answer reflection+answer attempts distil}
COMMON="--task $TASK --seed $SEED"

# shellcheck disable=SC2086  # these hold several options
{
    # 1. The failures that every objective starts from; what mining costs is beside the budget, and shared by all.
    rrr mine-failures $COMMON --run "$RUN" $SAMPLING --model "$MODEL" --limit "$LIMIT" --samples 4 >&2
    # 2. One training each; the objective without reflections has no limit for them.
    models=(--model "base=$MODEL")
    for objective in $OBJECTIVES; do
        own=$GRPO
        [ "$objective" = answer ] || own+=" --reflection-tokens $REFLECTION"
        rrr grpo $COMMON --input "$RUN" --run "$RUN/$objective" --objective "$objective" --token-budget "$BUDGET" $own >&2
        models+=(--model "$objective=$RUN/$objective/models/policy")
    done
    # 3. Held-out problems, three tries: share solved against tokens, beside blind tries and plain retries.
    rrr eval $COMMON --run "$RUN" $SAMPLING --reflection-tokens "$REFLECTION" --limit "$TEST" --tries 3 "${models[@]}" --json
    rrr report "$RUN" -o "$RUN/report.html" >&2
}
