#!/usr/bin/env bash
# Re-ReST (arXiv 2406.01495) on Countdown, beside its baselines, on a laptop's CPU. Each step resumes where it stopped.
# The last `rrr repair` prints how often the trained reflector repairs on problems held out of its training.
# The same on a GPU, not run yet: MODEL=Qwen/Qwen2.5-1.5B-Instruct SAMPLING="--engine vllm --max-tokens 1024" TRAIN="" bash examples/rerest_countdown.sh
set -euo pipefail
TASK=${TASK:-countdown}
RUN=${RUN:-runs/rerest-$TASK} SEED=${SEED:-0}
MODEL=${MODEL:-tiny}
SAMPLING=${SAMPLING:---max-tokens 96}
REFLECTION=${REFLECTION:-96}  # most tokens of a reflection
HELD_OUT=${HELD_OUT:-0.2}     # share of the problems that the reflector doesn't learn from
LIMIT=${LIMIT:-600}    # training problems
TEST=${TEST:-701}      # test problems
TRAIN=${TRAIN---epochs 3 --batch 64 --micro-batch 64 --lora 16 --lora-targets all-linear --lr 1e-3}
COMMON="--task $TASK --run $RUN --seed $SEED"
OWN="--own-samples 4"  # tries of each problem that are the agent's own; four more are there for more-samples
REFLECTOR=$RUN/models/reflector

# shellcheck disable=SC2086  # these hold several options
{
    # 1. The agent tries each problem.
    rrr mine-failures $COMMON $SAMPLING --model "$MODEL" --limit "$LIMIT" --samples 8 --stop-at-failure 0 >&2
    # 2. It repairs its own failures, untrained; what passes teaches the reflector, beside its failed and passing tries.
    rrr repair $COMMON $SAMPLING $OWN --feedback binary --per-problem 4 >&2
    rrr train-reflector $COMMON $OWN $TRAIN --feedback binary --held-out "$HELD_OUT" >&2
    # 3. The trained reflector repairs the same failures. Beside it the agent reflects on them, untrained, and retries.
    rrr repair $COMMON $SAMPLING $OWN --feedback binary --per-problem 4 --reflector "$REFLECTOR" >&2
    rrr reflect $COMMON $SAMPLING $OWN --per-problem 4 --reflection-tokens "$REFLECTION" >&2
    # 4. The agent learns: from its own passing tries; from as many further tries as there are repairs, over all problems
    # or of each problem as many; from retries; from repairs.
    rrr self-train $COMMON $OWN $TRAIN --texts own --name own >&2
    rrr self-train $COMMON $OWN $TRAIN --texts more-samples --repairs-by "$REFLECTOR" --name more >&2
    rrr self-train $COMMON $OWN $TRAIN --texts more-samples-matched --repairs-by "$REFLECTOR" --name matched >&2
    rrr self-train $COMMON $OWN $TRAIN --texts own+retries --name retries >&2
    rrr self-train $COMMON $OWN $TRAIN --texts own+repairs --repairs-by "$MODEL" --name untrained >&2
    rrr self-train $COMMON $OWN $TRAIN --texts repairs --repairs-by "$REFLECTOR" --name repairs >&2
    rrr self-train $COMMON $OWN $TRAIN --texts own+repairs --repairs-by "$REFLECTOR" --name rerest >&2
    # 5. Held-out problems. JSON on stdout, the table on stderr.
    rrr eval $COMMON $SAMPLING --reflection-tokens "$REFLECTION" --limit "$TEST" --model "base=$MODEL" \
        --model "self-train=$RUN/models/own" --model "more-samples=$RUN/models/more" \
        --model "more-samples-matched=$RUN/models/matched" --model "retries=$RUN/models/retries" \
        --model "re-rest-untrained=$RUN/models/untrained" --model "repairs-alone=$RUN/models/repairs" \
        --model "re-rest=$RUN/models/rerest" --json
}
