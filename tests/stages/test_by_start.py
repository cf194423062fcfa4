"""tools/by_start.py: household's tests at equal tokens, paired by start."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numpy")

import numpy as np

from rrr_cli.stages.tries import Try

TOOL = Path(__file__).parents[2] / "tools" / "by_start.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("by_start", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ten_starts_won_have_the_p_of_ten_coins(tool):
    assert tool.sign_flip(np.ones(10, dtype=int)) == pytest.approx(2 * 0.5**10, rel=0.25)  # 195 of 100,000 flips
    assert tool.sign_flip(np.array([3, -3])) == 1.0
    assert tool.sign_flip(np.array([2, 1, -2, 1])) == pytest.approx(12 / 16, abs=0.01)  # of 16 signs 12 reach 2


def test_games_of_one_start_count_once(tool):
    def tries(*passed):
        return [Try(success, "", 1) for success in passed]

    arms = {"reflect": {"a": tries(False, True), "b": tries(False, True), "c": tries(False, False)},
            "blind": {"a": tries(False, False), "b": tries(False, False), "c": tries(False, True)}}
    test = {"control": "blind", "tries": 2, "control_tries": 2}
    got = tool.by_start(test, arms, {"a": "kitchen", "b": "kitchen", "c": "hall"})
    assert (got["starts"], got["starts_won"], got["starts_lost"]) == (2, 1, 1)


def test_a_line_for_each_test_at_equal_tokens(rrr, tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": "look"}))
    run = tmp_path / "run"
    done = rrr("eval", "--run", run, "--task", "household", "--engine", "scripted", "--model", f"base={script}",
               "--limit", 3, "--json")
    assert done.code == 0, done.err
    printed = subprocess.run([sys.executable, TOOL, run], capture_output=True, text=True, check=True).stdout
    lines = [json.loads(line) for line in printed.splitlines()]
    tests = json.loads(done.out)["at_equal_tokens"]
    assert [(t["a"], t["control"], t["won"], t["lost"]) for t in tests] == [
        (line["who"], line["control"], line["won"], line["lost"]) for line in lines]
    assert all(line["p_by_start"] == 1 for line in lines)  # nothing passes
