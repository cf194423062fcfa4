#!/usr/bin/env bash
# The loop of "Reflect, Retry, Reward" on Countdown, on a laptop's CPU in a few minutes. Plain commands: copy any of them.
# Every step leaves Parquet in runs/quickstart; type the same again, and it resumes where it stopped.
set -euo pipefail
RUN=${RUN:-runs/quickstart} SEED=${SEED:-0}

# 1. Try each training problem until the model fails it; keep every attempt and its verdict.
rrr mine-failures --run "$RUN" --seed "$SEED" --samples 4 --max-tokens 96 >&2

# 2. What does the untrained model write about its failures, and does it help?
rrr reflect --run "$RUN" --seed "$SEED" --limit 256 --reflection-tokens 96 >&2

# 3. GRPO on the reflections alone: a reflection earns 1 when the retry that follows it passes.
rrr grpo --run "$RUN" --seed "$SEED" >&2

# 4. Held-out problems: first and second tries, before and after, beside the controls. JSON on stdout, the table on stderr.
rrr eval --run "$RUN" --seed "$SEED" --model base=tiny --model "trained=$RUN/models/policy" --json

# 5. Three reflections of the trained model that turned a failure into a success.
rrr sql --run "$RUN" --file examples/fixed.sql >&2
