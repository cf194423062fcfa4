#!/usr/bin/env bash
# Re-ReST (arXiv 2406.01495) on Countdown, beside its baselines, on a laptop's CPU. Each step resumes where it stopped.
# The same on a GPU, not run yet: MODEL=Qwen/Qwen2.5-1.5B-Instruct SAMPLING="--engine vllm --max-tokens 1024" TRAIN="" bash examples/rerest_countdown.sh
set -euo pipefail
TASK=${TASK:-countdown}
RUN=${RUN:-runs/rerest-$TASK} SEED=${SEED:-0}
MODEL=${MODEL:-tiny}
SAMPLING=${SAMPLING:---max-tokens 96}
REFLECTION=${REFLECTION:-96}  # most tokens of a reflection, in eval alone
LIMIT=${LIMIT:-600}    # training problems
TEST=${TEST:-701}      # test problems
TRAIN=${TRAIN---epochs 3 --batch 64 --micro-batch 64 --lora 16 --lora-targets all-linear --lr 1e-3}
COMMON="--task $TASK --run $RUN --seed $SEED"
OWN="--own-samples 4"  # tries of each problem that are the agent's own; four more are there for more-samples

# shellcheck disable=SC2086  # these hold several options
{
    # 1. The agent tries each problem.
    rrr mine-failures $COMMON $SAMPLING --model "$MODEL" --limit "$LIMIT" --samples 8 --stop-at-failure 0 >&2
    # 2. It repairs its own failures, untrained; what passes teaches the reflector, beside its failed and passing tries.
    rrr repair $COMMON $SAMPLING $OWN --feedback binary --per-problem 4 >&2
    rrr train-reflector $COMMON $OWN $TRAIN --feedback binary >&2
    # 3. The trained reflector repairs the same failures.
    rrr repair $COMMON $SAMPLING $OWN --feedback binary --per-problem 4 --reflector "$RUN/models/reflector" >&2
    # 4. The agent learns: from its own passing tries; from as many further tries as there are repairs; from repairs.
    rrr self-train $COMMON $OWN $TRAIN --texts own --name own >&2
    rrr self-train $COMMON $OWN $TRAIN --texts more-samples --repairs-by "$RUN/models/reflector" --name more >&2
    rrr self-train $COMMON $OWN $TRAIN --texts own+repairs --repairs-by "$MODEL" --name untrained >&2
    rrr self-train $COMMON $OWN $TRAIN --texts own+repairs --repairs-by "$RUN/models/reflector" --name rerest >&2
    # 5. Held-out problems. JSON on stdout, the table on stderr.
    rrr eval $COMMON $SAMPLING --reflection-tokens "$REFLECTION" --limit "$TEST" --model "base=$MODEL" \
        --model "self-train=$RUN/models/own" --model "more-samples=$RUN/models/more" \
        --model "re-rest-untrained=$RUN/models/untrained" --model "re-rest=$RUN/models/rerest" --json
}
