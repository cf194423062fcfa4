#!/usr/bin/env bash
# A script of examples/ with three seeds: mining, training and evaluation each anew. About three times its time.
#   bash tools/seeds.sh [examples/quickstart.sh]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
SCRIPT=${1:-examples/quickstart.sh}
NAME=$(basename "$SCRIPT" .sh)
SEEDS=${SEEDS:-0 1 2}
mkdir -p runs
for seed in $SEEDS; do
    RUN="runs/$NAME-$seed" SEED="$seed" bash "$SCRIPT" > "runs/$NAME-$seed.json"
done
for seed in $SEEDS; do
    cat "runs/$NAME-$seed.json"
done
