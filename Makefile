# make quickstart   the loop on Countdown, a few minutes on two CPU cores
# make test         ruff, mypy --strict, pytest
# make test-vllm    the engine contract on a real vLLM (its own venv; several GB)
# make tiny         train the embedded model again from nothing, about 15 minutes
# make torture      the long proofs: kills, flipped bits, memory, fuzzed answers, the largest audit; an hour and more
# make bench        our figures beside those of TRL, transformers and vLLM; writes benchmarks/results.json
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
export OMP_NUM_THREADS ?= 1
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: quickstart test test-vllm tiny torture bench

quickstart: $(VENV)/.train
	@bash examples/quickstart.sh

test: export OMP_NUM_THREADS = 1
test: $(VENV)/.dev
	ruff check .
	mypy
	pytest -n 2

test-vllm:
	bash tools/test_vllm.sh

tiny: $(VENV)/.train
	python tools/tiny/train_tiny.py

torture: $(VENV)/.dev
	python tools/torture/bitflips.py
	python tools/torture/kill.py
	python tools/torture/devices.py
	python tools/bench/artifacts.py --rows 3000000 --most 300
	python tools/fuzz/countdown.py
	python tools/fuzz/function_calling.py
	rrr tasks check countdown --level paper

bench: $(VENV)/.train
	python tools/bench/run.py
	python tools/bench/artifacts.py --rows 300000

# The constraints pin torch, so that no newer build is pulled in by another package.
$(VENV)/.train: pyproject.toml constraints.txt
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]' >&2
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]' >&2
	@touch $@
