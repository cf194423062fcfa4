#!/usr/bin/env bash
# rrr grpo on the GPUs of one node, of failures that slurm_mine.sh mined. Before its time is over Slurm sends SIGTERM: the
# training finishes its step, writes a checkpoint and ends; the same sbatch again resumes it, with other GPUs too.
#SBATCH --job-name=rrr-grpo
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@900
set -euo pipefail
RUN=${RUN:-runs/slurm}            # a folder that all nodes see
GPUS=${GPUS:-${SLURM_GPUS_ON_NODE:-8}}
GRPO=${GRPO:---task countdown --preset paper}
# The launcher kills its processes 30 s after SIGTERM unless it is told to wait for their step: here 600 s. The weights in
# parts: LAUNCH="accelerate launch --config_file examples/accelerate_fsdp2.yaml --num_processes 8", which reads the variable.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=600
LAUNCH=${LAUNCH:-torchrun --standalone --nproc_per_node $GPUS --shutdown-timeout 600}

# Without -- torchrun would take --run for an option of its own.
# shellcheck disable=SC2086  # these hold several words
$LAUNCH -m -- rrr_cli grpo --run "$RUN" $GRPO &
child=$!
trap 'kill -TERM "$child"' TERM
while code=0; wait "$child" || code=$?; kill -0 "$child" 2>/dev/null; do :; done  # a signal ends wait, not the child
exit "$code"
