"""tools/bench measures two arms in turns, and keeps what came of it in a file that docs/performance.md quotes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).parent.parent / "tools" / "bench" / "run.py"
KEYS = {"name", "ratio", "low", "high", "repetitions"}


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(RUN), *map(str, arguments)], capture_output=True, text=True)


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(path.read_text())}


def test_a_figure_is_measured_and_takes_the_place_of_its_older_row(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps([{"name": "rrr --help", "ratio": 0}, {"name": "another", "ratio": 2}]))
    done = bench("rrr --help", "--repetitions", 3, "--output", results)
    assert done.returncode == 0, done.stderr
    rows = rows_of(results)
    assert rows.keys() == {"rrr --help", "another"}
    assert rows["another"] == {"name": "another", "ratio": 2}
    row = rows["rrr --help"]
    assert row.keys() >= KEYS | {"kind", "ours_cpu_s", "peer_cpu_s", "commit", "processor", "threads", "versions"}
    assert row["repetitions"] == 3
    assert 1 < row["low"] <= row["ratio"] <= row["high"]  # more than Python alone
    assert "rrr --help" in done.stdout


def test_the_same_work_or_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RUN.parent))
    from pairs import take_turns

    class Fixed:
        def __init__(self, length: int) -> None:
            self.answer = {"cpu_s": 1.0, "lengths": [length]}

        def once(self) -> dict[str, Any]:
            return self.answer

        __enter__ = __exit__ = lambda self, *error: None

    assert take_turns([Fixed(3), Fixed(3)], 2) == [[Fixed(3).answer] * 2] * 2
    with pytest.raises(RuntimeError, match="same work"):
        take_turns([Fixed(3), Fixed(4)], 2)


def test_a_name_that_no_figure_has_lists_them() -> None:
    done = bench("nothing of this name")
    assert done.returncode == 1
    assert "step, tiny 512/64/32" in done.stderr


def test_published_figures_have_their_keys() -> None:
    rows = json.loads((RUN.parents[2] / "benchmarks" / "results.json").read_text())
    assert rows
    for row in rows:
        assert row.keys() >= KEYS, row
        assert row["low"] <= row["ratio"] <= row["high"], row
        assert row["repetitions"] >= 5 or row["kind"] == "minutes", row


def test_a_step_of_ours_and_of_trl_do_the_same_work() -> None:
    pytest.importorskip("trl")
    done = bench("--quick", "step, smol3 512/64/32, micro-batches of 8")
    assert done.returncode == 0, done.stderr
    assert "micro-batches of 8: " in done.stdout
