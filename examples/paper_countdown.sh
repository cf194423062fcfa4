#!/usr/bin/env bash
# The paper's Countdown experiment for one model on one GPU (arXiv 2505.24726, section 4). Needs: pip install 'rrr_cli[train,vllm]'
# Each step goes on where it stopped. A dry run of everything, on a CPU in minutes:
#   MODEL=tiny ENGINE=transformers LEVEL=easy LIMIT=64 GRPO="--preset quick --steps 2 --batch 32" bash examples/paper_countdown.sh
set -euo pipefail
MODEL=${MODEL:-Qwen/Qwen2.5-1.5B-Instruct}
ENGINE=${ENGINE:-vllm}
LEVEL=${LEVEL:-paper}
RUN=${RUN:-runs/paper-countdown}
LIMIT=${LIMIT:-20000}                 # training problems mined; the paper's Countdown has 450k
GRPO=${GRPO:---preset paper --vllm colocate}
SAMPLING=(--level "$LEVEL" --engine "$ENGINE" --max-model-len 2048)
if [ "$ENGINE" = transformers ]; then SAMPLING=(--level "$LEVEL" --engine transformers --max-tokens 96); fi

rrr mine-failures "${SAMPLING[@]}" --run "$RUN" --model "$MODEL" --limit "$LIMIT" --samples 64 >&2
# shellcheck disable=SC2086  # GRPO holds several options
rrr grpo --run "$RUN" --model "$MODEL" $GRPO >&2
rrr eval "${SAMPLING[@]}" --run "$RUN" --model "base=$MODEL" --model "trained=$RUN/models/policy" --limit "$((LIMIT / 10))" --json
