#!/usr/bin/env bash
# rrr mine-failures on one GPU with vLLM. Before its time is over Slurm sends SIGTERM: mining writes the part at hand and
# ends; the same sbatch again resumes it. With servers instead: SAMPLING="--engine openai --base-url http://node7:8000/v1".
#SBATCH --job-name=rrr-mine
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@600
set -euo pipefail
MODEL=${MODEL:-Qwen/Qwen2.5-1.5B-Instruct}
RUN=${RUN:-runs/slurm}            # a folder that all nodes see
SOURCE=${SOURCE:---task countdown --level paper --limit 20000 --samples 64}
SAMPLING=${SAMPLING:---engine vllm --max-model-len 2048 --max-tokens 1024}

# shellcheck disable=SC2086  # these hold several words
rrr mine-failures --run "$RUN" --model "$MODEL" $SOURCE $SAMPLING &
child=$!
trap 'kill -TERM "$child"' TERM
while code=0; wait "$child" || code=$?; kill -0 "$child" 2>/dev/null; do :; done  # a signal ends wait, not the child
exit "$code"
