"""An objective from one file outside the package: it trains, its edits are noticed, and a half one is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("trl")

from conftest import Ran
from grpo_runs import PARITY, mine

from rrr_cli.store import artifacts

FILE = Path(__file__).parent.parent / "short_objective.py"


def test_an_objective_of_ones_own(rrr: Callable[..., Ran], tmp_path: Path, random_model: Path) -> None:
    run, mine_too = tmp_path / "run", tmp_path / "objective.py"
    shutil.copy(FILE, mine_too)
    mine(run)
    words = [
        "grpo", "--run", run, "--task", PARITY, "--model", random_model, "--objective", f"{mine_too}:Short", "--steps",
        1, "--batch", 64, "--group", 8, "--lora", 0, "--reflection-tokens", 10, "--max-tokens", 8, "--seed", 1,
    ]
    done = rrr(*words)
    assert done.code == 0, done.err
    rows = list(artifacts.read(run, "rollouts"))
    assert all(row.reward == float(row.success and row.reflection_tokens <= 6) for row in rows)
    assert len({(row.success, row.reward) for row in rows}) == 3, "passed and short, passed and long, failed"
    assert all(row.trained_tokens == (row.reflection_tokens if row.advantage else 0) for row in rows)
    assert {step.objective for step in artifacts.read(run, "steps")} == {f"{mine_too}:Short"}

    assert rrr(*words).code == 0
    mine_too.write_text(mine_too.read_text().replace("MOST = 6", "MOST = 7"))
    edited = rrr(*words)
    assert edited.code == 3
    assert "source of the objective" in edited.err


def test_an_objective_can_weigh_each_token(rrr: Callable[..., Ran], tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    words = [
        "grpo", "--run", tmp_path, "--task", PARITY, "--model", random_model, "--steps", 1, "--batch", 16, "--group", 4,
        "--lora", 0, "--reflection-tokens", 10, "--max-tokens", 8, "--objective",
    ]
    wrong = rrr(*words, f"{FILE}:Uneven")
    assert wrong.code == 2
    assert "advantages() returns [[1.0], [1.0]" in wrong.err
    assert "one finite number for each token of its completion" in wrong.err
    done = rrr(*words, f"{FILE}:LastToken")
    assert done.code == 0, done.err
    rows = list(artifacts.read(tmp_path, "rollouts"))
    assert {row.trained_tokens for row in rows} == {1}
    assert {row.advantage for row in rows} == {0.0}, "of the first token"


def test_a_half_objective_is_refused(rrr: Callable[..., Ran], tmp_path: Path) -> None:
    refused = rrr("grpo", "--run", tmp_path, "--objective", f"{FILE}:Unfinished")
    assert refused.code == 2
    assert "it has no check and no fit and no complete and no reward" in refused.err
    unknown = rrr("grpo", "--run", tmp_path, "--objective", "answers")
    assert unknown.code == 2
    assert "Known: reflection, answer, reflection+answer, attempts, distil" in unknown.err
