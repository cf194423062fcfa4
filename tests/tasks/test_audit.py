"""`rrr tasks check`: the verifier of every task and level passes its own audit, over all its problems."""

from __future__ import annotations

import json

import pytest

from rrr_cli.errors import NO_BACKEND
from rrr_cli.records import Message, Problem
from rrr_cli.tasks import TASKS, load_task
from rrr_cli.tasks.audit import audit
from rrr_cli.tasks.base import Verdict

# Of 465,000 problems, which would take a quarter of an hour.
LIMITS = {("countdown", "paper"): 500}
LEVELS = [(name, level) for name in TASKS if name != "alfworld" for level in load_task(name).levels]


@pytest.mark.parametrize(("name", "level"), LEVELS, ids=map("-".join, LEVELS))
def test_the_audit_is_clean(rrr, name: str, level: str):
    limit = LIMITS.get((name, level))
    ran = rrr("tasks", "check", name, "--level", level, "--json", *(["--limit", limit] if limit else []))
    if name == "mbpp" and ran.code == NO_BACKEND:
        pytest.skip(ran.err)
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    assert result["wrong"] == 0
    assert result["reference"] == {"tried": result["problems"], "passed": result["problems"]}
    assert result["other_reference"]["tried"] == result["problems"]


class Letters:
    """Problems with the references of `letters`; an answer passes that begins with the reference."""

    name = "letters"
    error_types = ("wrong",)

    def __init__(self, letters: str) -> None:
        self.letters = letters
        self.together = 0

    def problems(self, split: str):
        for i, letter in enumerate(self.letters if split == "train" else ""):
            yield Problem(str(i), "letters", split, "only", [Message("user", "?")], None, json.dumps(letter), "{}")

    def verify_many(self, pairs):
        self.together += 1
        passed = [t[0].content == json.loads(p.reference) for p, t in pairs]
        return [Verdict(success, 0.0, None if success else "wrong", "", None) for success in passed]

    def right_turns(self, problem: Problem) -> list[str]:
        return [json.loads(problem.reference)]


@pytest.mark.parametrize(("letters", "others"), [("aab", 3), ("aaaa", 0), ("abab", 4), ("baa", 3), ("a", 0)])
def test_another_reference_is_one_that_differs(letters: str, others: int):
    result = audit(Letters(letters))  # type: ignore[arg-type]
    assert result["other_reference"] == {"tried": others, "passed": 0}
    assert result["problems"] == len(letters)
    assert result["wrong"] == 0


def test_verdicts_are_asked_for_together():
    task = Letters("ab" * 400)
    audit(task)  # type: ignore[arg-type]
    assert task.together == 2


@pytest.mark.parametrize(("method", "says"), [
    ("def verify(self, problem, transcript):\n        return None", "None, not a Verdict"),
    ("def problems(self, split):\n        return [1]", "1, not a Problem")])
def test_a_task_that_returns_other_things_is_one_line(rrr, tmp_path, method: str, says: str):
    path = tmp_path / "mine.py"
    path.write_text(f"from rrr_cli.tasks.countdown.task import Countdown\n\n\nclass Mine(Countdown):\n    {method}\n")
    ran = rrr("tasks", "check", f"{path}:Mine", "--limit", 2)
    assert (ran.code, says in ran.err, ran.err.count("\n")) == (2, True, 1), ran.err
