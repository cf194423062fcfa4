"""The paper's experiments as scripts, with small limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def replayed(rrr, tmp_path: Path, script: str, *arguments: str, **settings: str) -> list[Any]:
    """What the commands of a script print, run in order in this process: starting each costs more than its work."""
    calls = tmp_path / "calls"
    stub = tmp_path / "bin" / "rrr"
    stub.parent.mkdir()
    stub.write_text(f"#!/bin/sh\nprintf '%s\\t' \"$@\" >> {calls}\necho >> {calls}\n")
    stub.chmod(0o755)
    settings |= {"RUN": str(tmp_path / "run"), "PATH": f"{stub.parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", str(ROOT / "examples" / script), *arguments], env=os.environ | settings, check=True)
    printed = []
    for line in calls.read_text().splitlines():
        printed.append(rrr(*line.split("\t")[:-1]))
        assert printed[-1].code == 0, printed[-1].err
    return printed


def test_re_rest_on_household_too(rrr, tmp_path: Path):
    printed = replayed(rrr, tmp_path, "rerest_household.sh", **SMALL | {"LIMIT": "20", "TEST": "6"})
    assert [m["name"] for m in json.loads(printed[-1].out)["models"]] == RE_REST
    assert any(HELD_OUT in ran.err for ran in printed)


FEW = {"LIMIT": "24", "TEST": "4", "BUDGET": "200", "GRPO": "--batch 8 --group 4"}


def test_five_objectives_end_in_one_table_and_report(rrr, tmp_path: Path):
    *_, evaluated, _ = replayed(rrr, tmp_path, "compare_objectives.sh", "household", **FEW)
    result = json.loads(evaluated.out)
    objectives = ["reflection", "answer", "reflection+answer", "attempts", "distil"]
    assert [m["name"] for m in result["models"]] == ["base", *objectives]
    assert {curve["model"] for curve in result["curves"]} == {"base", *objectives}
    assert (tmp_path / "run" / "report.html").exists()


def test_when_reflections_help_compares_frozen_reflectors_at_equal_tokens(rrr, tmp_path: Path):
    printed = replayed(rrr, tmp_path, "when_do_reflections_help.sh", "countdown", ANSWERS="allowed", **FEW)
    results = [json.loads(ran.out) for ran in printed if ran.out.startswith('{"models"')]
    assert len(results) == 2  # binary and verifier feedback
    for result in results:
        assert [m["name"] for m in result["models"]] == ["base", "shared-allowed", "frozen-allowed"]
        assert {t["reflector"] for t in result["cross"]["at_equal_tokens"]} == {"shared-allowed", "frozen-allowed"}
