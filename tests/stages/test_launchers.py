"""The examples for Slurm start commands whose options exist, and hand Slurm's SIGTERM on to them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
# Stands for rrr and for the launcher: writes its words down; waits for SIGTERM if it is to, and then takes its time.
STUB = """#!/usr/bin/env bash
printf '%q ' "$@" > "$SAID.new"; mv "$SAID.new" "$SAID"
[ -z "$WAIT" ] && exit 5
trap 'sleep 0.3; exit 143' TERM
while :; do sleep 0.05; done
"""


def started(script: str, folder: Path, **settings: str) -> subprocess.Popen[bytes]:
    for name in ("rrr", "torchrun", "accelerate"):
        (folder / name).write_text(STUB)
        (folder / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "SAID": str(folder / "said"), "WAIT": ""}
    return subprocess.Popen(["bash", str(EXAMPLES / script)], env=environment | settings, cwd=EXAMPLES.parent)


def options_exist(words: list[str]) -> None:
    """Raises where a command line of rrr names an option that it hasn't."""
    from typer.main import get_command

    from rrr_cli.cli import build_app

    name, *rest = words
    get_command(build_app(name)).commands[name].make_context(name, rest)


@pytest.mark.parametrize(("script", "settings"), [
    ("slurm_mine.sh", {}),
    ("slurm_mine.sh", {"SAMPLING": "--engine openai --base-url http://node7:8000/v1"}),
    ("slurm_grpo.sh", {}),
    ("slurm_grpo.sh", {
        "LAUNCH": "accelerate launch --config_file examples/accelerate_fsdp2.yaml --num_processes 8",
        "GRPO": "--task countdown --lora 16 --vllm colocate"}),
])
def test_what_a_script_starts_has_these_options_and_its_exit_code(
    tmp_path: Path, script: str, settings: dict[str, str]
) -> None:
    assert started(script, tmp_path, **settings).wait(60) == 5
    words = shlex.split((tmp_path / "said").read_text())
    if script == "slurm_grpo.sh":
        words = launched(words)
    options_exist(words)


def launched(words: list[str]) -> list[str]:
    """What torchrun, or accelerate, would start of these words."""
    if words[0] == "launch":
        pytest.importorskip("accelerate")
        from accelerate.commands.launch import launch_command_parser

        parsed = launch_command_parser().parse_args(words[1:])
    else:
        pytest.importorskip("torch")
        from torch.distributed.run import get_args_parser

        parsed = get_args_parser().parse_args(words)
        assert parsed.shutdown_timeout == 600
    assert parsed.module
    assert parsed.training_script == "rrr_cli"
    return parsed.training_script_args


@pytest.mark.parametrize("script", ["slurm_mine.sh", "slurm_grpo.sh"])
def test_a_script_waits_for_what_sigterm_ends(tmp_path: Path, script: str) -> None:
    process = started(script, tmp_path, WAIT="1")
    while not (tmp_path / "said").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.2)  # the stub sets its trap
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True).stdout == b""
