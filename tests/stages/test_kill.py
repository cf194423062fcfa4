"""Each stage that samples, killed with SIGKILL at random moments by tools/torture/kill.py; trainings have own tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")


def test_a_kill_loses_and_doubles_no_row(tmp_path):
    script = Path(__file__).parent.parent.parent / "tools" / "torture" / "kill.py"
    stages = "mine-failures,reflect,repair,eval"
    command = [sys.executable, script, "--times", "2", "--stages", stages, "--work", tmp_path / "work"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("0 rows lost, doubled or unreadable") == 4
