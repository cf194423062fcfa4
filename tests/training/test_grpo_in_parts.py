"""`rrr grpo` on several devices, its weights in parts (FSDP2): the texts, weights and files of one process, also where
it is killed and goes on in more or fewer processes. Two CPU processes, by examples/accelerate_fsdp2.yaml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

import torch
from grpo_runs import mine, options
from safetensors import safe_open
from safetensors.torch import load_file

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.stages import grpo
from rrr_cli.store import artifacts
from rrr_cli.training import recorder

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "tests" / "several_devices.py"


@cache
def fsdp2() -> dict[str, str]:
    """What `accelerate launch` sets for the processes that it starts by the example."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    example = str(ROOT / "examples" / "accelerate_fsdp2.yaml")
    parsed, *_ = _validate_launch_command(
        launch_command_parser().parse_args(["--config_file", example, "-m", "rrr_cli", "grpo"]))
    return {name: value for name, value in prepare_multi_gpu_env(parsed).items()
            if name.startswith(("ACCELERATE_", "FSDP_"))}


def in_two(run: Path, model: Path, changes: dict[str, Any], **more: str) -> subprocess.CompletedProcess[str]:
    words = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
                "--shutdown-timeout", "5"]
    return subprocess.run(
        [*launcher, str(SCRIPT), str(run), str(model), *words], capture_output=True, text=True, timeout=150,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(SCRIPT.parent)]), **more},
    )


def in_one_until_a_crash(
    run: Path, model: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    """Trains a step to its checkpoint, whose rows don't reach the tables."""
    commit, commits = recorder.Ledger.commit, []

    def crash(ledger: recorder.Ledger, checkpoint: Path) -> None:
        commits.append(checkpoint)
        if len(commits) > resumed:  # the first brings the tables up to the checkpoint that it resumes from
            raise KeyboardInterrupt
        commit(ledger, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(recorder.Ledger, "commit", crash)
        with pytest.raises(KeyboardInterrupt):
            grpo.run(options(run, model, **changes))


@pytest.mark.parametrize(("killed", "special"), [
    # A process whose samples all pass writes no third try, while the other does.
    (True, {"objective": "attempts", "attempts": 4, "micro_batch": 1, "gradient_checkpointing": True}),
    (False, {"lora": 4}),
])
def test_two_devices_then_one_then_two_train_as_one_does(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch, killed: bool, special: dict[str, Any]
) -> None:
    straight, moved = tmp_path / "straight", tmp_path / "moved"
    for run in (straight, moved):
        mine(run)
    changes = {"steps": 3, "batch": 4, "group": 4, "save_every": 1, "device": "cpu", "lr": 1e-3, **special}
    grpo.run(options(straight, random_model, **changes))

    if killed:
        assert in_two(moved, random_model, changes, DIE_AT="1", **fsdp2()).returncode != 0
        (checkpoint,) = (moved / "models" / "policy-checkpoints").glob("step-*")
        assert form(checkpoint / "model.safetensors") == form(random_model / "model.safetensors")
    in_one_until_a_crash(moved, random_model, changes, monkeypatch, resumed=killed)
    assert artifacts.count(moved, "steps") == killed  # a checkpoint has the rows that the tables lack
    done = in_two(moved, random_model, changes, **({} if killed else fsdp2()))
    assert done.returncode == 0, done.stderr[-2000:]

    alone, together = (
        [replace(row, advantage=round(row.advantage, 4)) for row in artifacts.read(run, "rollouts")]
        for run in (straight, moved)
    )
    assert together == alone
    name = "adapter_model.safetensors" if "lora" in special else "model.safetensors"
    before, after = (run / "models" / "policy" / name for run in (straight, moved))
    assert form(after) == form(before)
    weights = load_file(after)
    for key, weight in load_file(before).items():
        torch.testing.assert_close(weights[key], weight, atol=1e-4, rtol=1e-3)


def form(path: Path) -> dict[str, tuple[str, list[int]]]:
    """The name, type and shape of each tensor of a file."""
    with safe_open(str(path), "pt") as file:
        tensors = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
        return {key: (tensor.get_dtype(), tensor.get_shape()) for key, tensor in tensors.items()}


@pytest.mark.parametrize(("variables", "says"), [
    ({"ACCELERATE_USE_DEEPSPEED": "true"}, "doesn't train with DeepSpeed.*accelerate_fsdp2.yaml"),
    ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "fsdp_version: 2"),
    ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"},
     "type --gradient-checkpointing"),
    ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, "splits nothing on a CPU"),
])
def test_a_launch_that_would_lose_the_model_is_refused_before_anything_is_deleted(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], says: str
) -> None:
    mine(tmp_path)
    (tmp_path / "models" / "policy").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    for name, value in {**variables, "FSDP_STATE_DICT_TYPE": "", "FSDP_CPU_RAM_EFFICIENT_LOADING": ""}.items():
        monkeypatch.setenv(name, value)  # puts back what the command sets, too
    with pytest.raises(RrrError, match=says) as caught:
        grpo.run(options(tmp_path, random_model, overwrite=True, device="cpu"))
    assert caught.value.exit_code == USAGE
    assert sorted(tmp_path.rglob("*")) == before
