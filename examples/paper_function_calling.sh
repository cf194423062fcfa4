#!/usr/bin/env bash
# The paper's function-calling experiment for one model on one GPU (arXiv 2505.24726, section 4). Needs the extras train
# and vllm (docs/models-and-engines.md). Each step resumes where it stopped. A small run, on generated problems:
#   MODEL=tiny-tools SOURCE="--level easy" SAMPLING="--max-tokens 128" LIMIT=1200 TEST=1000 GRPO="--preset quick --steps 50 --batch 256 --reflection-tokens 128" bash examples/paper_function_calling.sh
set -euo pipefail
MODEL=${MODEL:-Qwen/Qwen2.5-1.5B-Instruct}
RUN=${RUN:-runs/paper-function-calling}
SOURCE=${SOURCE:---data Salesforce/xlam-function-calling-60k}
SAMPLING=${SAMPLING:---engine vllm --max-model-len 8192 --max-tokens 1024}  # grpo takes the token limit of mining
LIMIT=${LIMIT:-48000}                 # training problems mined: all of them
TEST=${TEST:-12000}                   # test problems
GRPO=${GRPO:---preset paper --vllm colocate}
TASK="--task function_calling --run $RUN --seed ${SEED:-0}"

# shellcheck disable=SC2086  # these hold several options
{
    rrr mine-failures $TASK $SOURCE $SAMPLING --model "$MODEL" --limit "$LIMIT" --samples 64 >&2
    rrr grpo $TASK $GRPO >&2
    rrr eval $TASK $SAMPLING --model "base=$MODEL" --model "trained=$RUN/models/policy" --limit "$TEST" --json
}
