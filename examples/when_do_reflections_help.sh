#!/usr/bin/env bash
# When does a reflection beat another sample? {shared, frozen actor} x {binary, verifier feedback} x {answers allowed, none}:
# eight trainings from one table of failures, tested at equal tokens against blind tries and plain retries.
#   bash examples/when_do_reflections_help.sh countdown      # or household; SEED=1 for another seed
# Prints two lines of JSON: binary and verifier feedback. Each step resumes where it stopped.
set -euo pipefail
TASK=${1:-countdown} SEED=${SEED:-0}
case $TASK in
    countdown) DEFAULT=tiny TOKENS=96 REFLECTION=${REFLECTION:-96} PROBLEMS=2804 HELD_OUT=701 ;;
    household) DEFAULT=tiny-household TOKENS=16 REFLECTION=${REFLECTION:-32} PROBLEMS=1500 HELD_OUT=500 ;;
    *) DEFAULT=smollm2 TOKENS=512 REFLECTION=${REFLECTION:-512} PROBLEMS=2000 HELD_OUT=1000 ;;
esac
RUN=${RUN:-runs/when-$TASK-$SEED}
MODEL=${MODEL:-$DEFAULT}
SAMPLING=${SAMPLING:---max-tokens $TOKENS}
LIMIT=${LIMIT:-$PROBLEMS}              # training problems
TEST=${TEST:-$HELD_OUT}                # test problems
BUDGET=${BUDGET:-250000}               # generated tokens of each training: reflections and retries
GRPO=${GRPO:-}                         # settings of every training
ANSWERS=${ANSWERS:-allowed none}       # where reflections never hold an answer the second is the same training
CONTEXT=${CONTEXT:---retry-context full}
COMMON="--task $TASK --seed $SEED"

# shellcheck disable=SC2086  # these hold several options
{
    rrr mine-failures $COMMON --run "$RUN" $SAMPLING --model "$MODEL" --limit "$LIMIT" --samples 4 >&2
    for feedback in binary verifier; do
        models=(--model "base=$MODEL")
        for actor in shared frozen; do
            for answers in $ANSWERS; do
                name=$actor-$answers
                options="--feedback $feedback --reflection-tokens $REFLECTION --token-budget $BUDGET"
                [ $actor = frozen ] && options+=" --freeze-actor"
                [ $answers = none ] && options+=" --no-answers"
                rrr grpo $COMMON $CONTEXT --input "$RUN" --run "$RUN/$feedback-$name" $options $GRPO >&2
                models+=(--model "$name=$RUN/$feedback-$name/models/policy")
            done
        done
        # A frozen actor's reflector is read off the matrix: its row, with the untrained model as actor.
        rrr eval $COMMON $CONTEXT --run "$RUN/$feedback" $SAMPLING --reflection-tokens "$REFLECTION" --feedback $feedback \
            --limit "$TEST" --cross "${models[@]}" --json
        rrr report "$RUN/$feedback" -o "$RUN/$feedback/report.html" >&2
    done
}
