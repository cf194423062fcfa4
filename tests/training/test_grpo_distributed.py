"""`torchrun` with two CPU processes trains the same policy as one process does, and only the first of them writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch
from grpo_runs import GUESSING, PARITY, mine, options
from safetensors.torch import load_file

from rrr_cli.stages import grpo
from rrr_cli.store import artifacts

SCRIPT = Path(__file__).parent.parent / "grpo_runs.py"


@pytest.mark.parametrize("special", [
    {}, {"objective": "reflection+answer", "steps": None, "token_budget": 400},
    {"objective": "answer", "task": f"{GUESSING}Easily"},
    {"freeze_actor": True, "beta": 0.0, "reward_on": "other:2", "loss_per": "token", "micro_batch": 4},
    {"objective": "attempts", "attempts": 3, "internalise": True, "steps": 2},
    {"objective": "distil", "task": f"{GUESSING}Easily", "steps": 2},
    {"group": 2, "skip_dead_groups": True, "refill": 2, "beta": 0.0, "micro_batch": 4, "steps": 2},
])
def test_two_processes_train_as_one_does(tmp_path: Path, random_model: Path, special: dict[str, object]) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for run in (one, two):
        mine(run, GUESSING if "task" in special else PARITY)
    # A group of 16 in a batch of 16: it spans both processes. Groups of 2: a process may have none to replace.
    changes = {"steps": 3, "group": 16, "device": "cpu", "lr": 1e-3, **special}
    grpo.run(options(one, random_model, **changes))
    words = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, str(SCRIPT), str(two), str(random_model), *words], capture_output=True, text=True, timeout=150,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parent.parent)},
    )
    assert done.returncode == 0, done.stderr[-2000:]

    outputs = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(map(len, outputs))[0] == 0  # the second process has nothing to report
    alone, together = (
        [replace(row, advantage=round(row.advantage, 4)) for row in artifacts.read(run, "rollouts")]
        for run in (one, two)
    )
    assert together == alone
    assert artifacts.count(two, "steps") == artifacts.count(one, "steps") <= 3
    counted = [
        [(row.generated_tokens, row.skipped_groups, row.refilled_groups) for row in artifacts.read(run, "steps")]
        for run in (one, two)
    ]
    assert counted[0] == counted[1]
    before, after = (load_file(run / "models" / "policy" / "model.safetensors") for run in (one, two))
    for name in before:
        torch.testing.assert_close(after[name], before[name], atol=1e-4, rtol=1e-3)


def test_processes_that_generate_together_call_equally_often(tmp_path: Path) -> None:
    tests = SCRIPT.parent
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, str(tests / "collective_episodes.py")], capture_output=True, text=True, timeout=150,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outputs = json.loads(done.stdout)
    assert [output["turns"] for output in outputs] == [[1, 1, 2], [5, 3]]
    assert [output["counts"] for output in outputs] == [[3, 2, 2, 1, 1]] * 2  # the longest episode has five turns
    assert [output["tries"] for output in outputs] == [[1, 1], [3, 3]]
