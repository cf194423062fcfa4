"""The paper's experiments as scripts run end to end, small, and end in the JSON of `rrr eval --json`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(("script", "model", "tokens"), [
    ("paper_countdown.sh", "tiny", 64), ("paper_function_calling.sh", "tiny-tools", 96),
])
def test_a_paper_script_runs_small_and_ends_in_json(tmp_path: Path, script: str, model: str, tokens: int):
    small = {
        "MODEL": model, "RUN": str(tmp_path / "run"), "SOURCE": "--level easy", "LIMIT": "48", "TEST": "16",
        "SAMPLING": f"--max-tokens {tokens}",
        "GRPO": f"--preset quick --steps 2 --batch 16 --group 8 --max-tokens {tokens} --reflection-tokens {tokens}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", str(ROOT / "examples" / script)], env=os.environ | small, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert [m["name"] for m in result["models"]] == ["base", "trained"]
    assert all(m["n"] == 16 for m in result["models"])
