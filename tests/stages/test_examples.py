"""The paper's experiments as scripts, with small limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")

ROOT = Path(__file__).parent.parent.parent


def small(script: str, run: Path, model: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "MODEL": model, "RUN": str(run), "SOURCE": "--level easy", "LIMIT": "48", "TEST": "16",
        "SAMPLING": "--max-tokens 96",
        "GRPO": "--preset quick --steps 2 --batch 16 --group 8 --max-tokens 96 --reflection-tokens 64",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    return subprocess.run(
        ["bash", str(ROOT / "examples" / script)], env=os.environ | settings, capture_output=True, text=True
    )


@pytest.mark.parametrize(("script", "model"), [
    ("paper_countdown.sh", "tiny"), ("paper_function_calling.sh", "tiny-tools"),
])
def test_a_papers_script_ends_with_eval_json(tmp_path: Path, script: str, model: str):
    done = small(script, tmp_path / "run", model)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert [m["name"] for m in result["models"]] == ["base", "trained"]
    assert all(m["n"] == 16 for m in result["models"])


RE_REST = ["base", "self-train", "more-samples", "more-samples-matched", "retries", "re-rest-untrained",
           "repairs-alone", "re-rest"]
SMALL = {"LIMIT": "40", "TEST": "16", "TRAIN": "--epochs 1 --batch 32"}
HELD_OUT = "failed attempts repaired, problems held out of the reflector's training"


def test_re_rest_ends_with_every_baseline(tmp_path: Path):
    settings = SMALL | {"MODEL": "tiny", "RUN": str(tmp_path / "run"), "SAMPLING": "--max-tokens 64",
                        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", str(ROOT / "examples/rerest_countdown.sh")], env=os.environ | settings,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert [m["name"] for m in result["models"]] == RE_REST
    assert HELD_OUT in done.stderr


def test_re_rest_on_household_too(rrr, tmp_path: Path):
    """The commands of the script, in order, in this process: starting each costs more than its work."""
    calls = tmp_path / "calls"
    stub = tmp_path / "bin" / "rrr"
    stub.parent.mkdir()
    stub.write_text(f"#!/bin/sh\nprintf '%s\\t' \"$@\" >> {calls}\necho >> {calls}\n")
    stub.chmod(0o755)
    settings = SMALL | {"LIMIT": "20", "TEST": "6", "RUN": str(tmp_path / "run"),
                        "PATH": f"{stub.parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", str(ROOT / "examples/rerest_household.sh")], env=os.environ | settings, check=True)
    printed = ""
    for line in calls.read_text().splitlines():
        ran = rrr(*line.split("\t")[:-1])
        assert ran.code == 0, ran.err
        printed += ran.err
    assert [m["name"] for m in json.loads(ran.out)["models"]] == RE_REST
    assert HELD_OUT in printed
