#!/usr/bin/env bash
# The loop of "Reflect, Retry, Reward" on Countdown, on a laptop's CPU in a few minutes. Plain commands: copy any of them.
# Every step leaves Parquet in runs/quickstart; a step that was interrupted goes on where it stopped.
set -euo pipefail
RUN=${RUN:-runs/quickstart}

# 1. Try each training problem until the model fails it once; keep every attempt and its verdict.
rrr mine-failures --run "$RUN" --model tiny --samples 4 --max-tokens 64

# 2. Before any training: what does the model write about its failures, and does it help?
rrr reflect --run "$RUN" --model tiny --limit 256 --max-tokens 64 --reflection-tokens 64

# 3. GRPO on the reflections alone: a reflection earns 1 when the retry that follows it passes.
rrr grpo --run "$RUN" --model tiny

# 4. Three reflections of the trained model that turned a failure into a success.
rrr sql --run "$RUN" --file examples/fixed.sql --limit 3 >&2

# 5. Held-out problems, before against after, beside the controls.
rrr eval --run "$RUN" --model base=tiny --model "trained=$RUN/models/policy" \
    --max-tokens 64 --reflection-tokens 64 --json
