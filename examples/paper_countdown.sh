#!/usr/bin/env bash
# The paper's Countdown experiment for one model on one GPU (arXiv 2505.24726, section 4). Needs the extras train and
# vllm (docs/models-and-engines.md). Each step resumes where it stopped. A small run of everything, on a CPU in minutes:
#   MODEL=tiny SOURCE="--level easy" SAMPLING="--max-tokens 96" LIMIT=64 TEST=32 GRPO="--preset quick --steps 2 --batch 32" bash examples/paper_countdown.sh
set -euo pipefail
MODEL=${MODEL:-Qwen/Qwen2.5-1.5B-Instruct}
RUN=${RUN:-runs/paper-countdown}
SOURCE=${SOURCE:---level paper}
SAMPLING=${SAMPLING:---engine vllm --max-model-len 2048 --max-tokens 1024}  # grpo takes the token limit of mining
LIMIT=${LIMIT:-20000}                 # training problems mined; the paper's Countdown has 450k
TEST=${TEST:-2000}                    # test problems
GRPO=${GRPO:---preset paper --vllm colocate}
TASK="--task countdown --run $RUN --seed ${SEED:-0}"

# shellcheck disable=SC2086  # these hold several options
{
    rrr mine-failures $TASK $SOURCE $SAMPLING --model "$MODEL" --limit "$LIMIT" --samples 64 >&2
    rrr grpo $TASK $GRPO >&2
    rrr eval $TASK $SAMPLING --model "base=$MODEL" --model "trained=$RUN/models/policy" --limit "$TEST" --json
}
