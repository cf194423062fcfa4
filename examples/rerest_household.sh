#!/usr/bin/env bash
# Re-ReST (arXiv 2406.01495) on household: the commands are those of rerest_countdown.sh.
# The same on a GPU, not run yet: MODEL=Qwen/Qwen2.5-1.5B-Instruct SAMPLING="--engine vllm --max-tokens 64" TRAIN="" bash examples/rerest_household.sh
set -euo pipefail
export TASK=household MODEL=${MODEL:-tiny-household} SAMPLING=${SAMPLING:---max-tokens 16} REFLECTION=${REFLECTION:-16}
export LIMIT=${LIMIT:-800} TEST=${TEST:-500}  # games
exec bash "$(dirname "$0")/rerest_countdown.sh"
