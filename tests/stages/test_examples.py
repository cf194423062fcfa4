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


@pytest.mark.parametrize(("script", "model", "tokens"), [
    ("rerest_countdown.sh", "tiny", 64), ("rerest_household.sh", "tiny-household", 16),
])
def test_re_rest_ends_with_every_baseline(tmp_path: Path, script: str, model: str, tokens: int):
    settings = {"MODEL": model, "RUN": str(tmp_path / "run"), "LIMIT": "40", "TEST": "16",
                "TRAIN": "--epochs 1 --batch 32", "SAMPLING": f"--max-tokens {tokens}",
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", str(ROOT / "examples" / script)], env=os.environ | settings,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert [m["name"] for m in result["models"]] == [
        "base", "self-train", "more-samples", "more-samples-matched", "retries", "re-rest-untrained", "repairs-alone",
        "re-rest"]
    assert "failed attempts repaired, problems held out of the reflector's training" in done.stderr
