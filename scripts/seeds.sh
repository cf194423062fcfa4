#!/usr/bin/env bash
# The quickstart with three seeds: mining, training and evaluation each anew. About three times its time.
#   bash scripts/seeds.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
SEEDS=${SEEDS:-0 1 2}
for seed in $SEEDS; do
    mkdir -p runs
    RUN="runs/seed-$seed" SEED="$seed" bash examples/quickstart.sh > "runs/seed-$seed.json"
done
for seed in $SEEDS; do
    cat "runs/seed-$seed.json"
done
