"""Whether a right answer stands in a text: how it is judged, and a task that doesn't say which answers stand in one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from rrr_cli.engines.base import Completion, Sampling
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.failures import Failure
from rrr_cli.records import Message
from rrr_cli.rollout import Loop
from rrr_cli.tasks import load_task
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.countdown import Countdown, make_problem
from rrr_cli.tasks.solves import MOST, solve_all, solves

TASK = """
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.base import Verdict

class Seven:
    name = "seven"
    levels = ("only",)
    error_types = ("wrong",)

    def __init__(self, level=None, data=None):
        pass

    def problems(self, split):
        yield Problem(f"p-{split}", self.name, split, "only", [Message("user", "What is 3 + 4?")], None, '"7"', "{}")

    def verify(self, problem, transcript):
        right = VERIFY
        return Verdict(right, float(right), None if right else "wrong", "Judged.", None)

    def right_turns(self, problem):
        return ["The sum is 7 ."]
"""
LAST_WORD = "bool(transcript) and transcript[-1].content.rstrip('. ').endswith('7')"


@pytest.fixture
def seven(tmp_path: Path):
    """Load a task with this verifier and these further methods."""
    def load(verify: str, more: str = ""):
        path = tmp_path / "seven.py"
        path.write_text(TASK.replace("VERIFY", verify) + more)
        task = load_task(f"{path}:Seven")
        return task, next(iter(task.problems("train")))

    return load


def test_without_answers_in_the_whole_text_and_the_right_turns_are_answers(seven):
    task, problem = seven(LAST_WORD)
    assert solves(task, problem, "I forgot to carry. It is 7.") is True
    assert solves(task, problem, "The sum is\n7. So add them again.") is True
    assert solves(task, problem, "It is 7, I think.") is solves(task, problem, "") is False
    assert task.leaks(problem, "It is 7.") is True


def test_a_verifier_that_any_text_passes_proves_nothing(seven):
    task, problem = seven("len(transcript) > 0")
    assert solves(task, problem, "I forgot to carry.") is False
    assert solves(task, problem, "Write: The sum is 7 .") is True


def test_an_older_task_says_by_leaks_what_solves(seven):
    task, problem = seven(LAST_WORD, "\n    def leaks(self, problem, text):\n        return 'seven' in text\n")
    assert solves(task, problem, "it is seven, of course") is True
    assert solves(task, problem, "It is 7.") is False


def test_a_judge_that_crashes_on_an_answer_ends_no_run(seven):
    answers = "\n    def answers_in(self, problem, text):\n        yield from ([word] for word in text.split())\n"
    task, problem = seven("1 / int(transcript[-1].content) == 1 / 7", answers)
    texts = ["1 2 7", "1 2", "x 7", "x", "0 2", ""]
    assert solve_all(task, [(problem, text) for text in texts]) == [True, False, True, None, None, False]


def test_answers_in_that_raises_is_named(seven):
    task, problem = seven(LAST_WORD, "\n    def answers_in(self, problem, text):\n        yield {}[text]\n")
    with pytest.raises(RrrError, match=r"answers_in\(\) raises KeyError: 'x' \(seven.py, line ") as caught:
        solves(task, problem, "x")
    assert caught.value.exit_code == USAGE


def test_a_task_of_several_turns_wants_all_its_right_turns_in_order(seven):
    task, problem = seven("[m.content for m in transcript if m.role == 'assistant'] == self.right_turns(problem)", """
    max_turns = 2

    def observe(self, problem, transcript):
        return Message("user", "3 + 4") if len(transcript) == 1 else None

    def right_turns(self, problem):
        return ["look", "7"]
""")
    assert solves(task, problem, "First look\nand then it is 7.") is True
    assert solves(task, problem, "7, and then look") is solves(task, problem, "look") is False


class Counting(Countdown):
    """Counts how often it is asked to judge, and how much."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def verify_many(self, pairs: Sequence[tuple]) -> list[Verdict]:
        self.asked.append(len(pairs))
        return [self.verify(*pair) for pair in pairs]


class Chains:
    """An engine whose texts hold right answers."""

    name = model = fingerprint = "chains"

    def generate(self, prompts_B, sampling):
        return [[Completion(f"Try {seed % 2 + 2} * 3 = 6 * 2 = 12 .", 9, "stop", 3) for seed in prompt.seeds]
                for prompt in prompts_B]


def test_all_reflections_of_a_call_are_judged_together():
    task = Counting()
    problems = [make_problem([2, 2, 3], target, "train", "easy", "0") for target in (12, 7)]
    failures = [Failure(problem, f"a{i}", [Message("assistant", "1")]) for i, problem in enumerate(problems)]
    rows_B_N = Loop(task, Chains(), Sampling()).reflect(failures, range(8))
    assert len(task.asked) == 1
    for problem, rows_N in zip(problems, rows_B_N, strict=True):
        assert [row.solves for row in rows_N] == [solves(task, problem, row.text) for row in rows_N]
    assert {row.solves for row in rows_B_N[0]} == {True, False}
    assert not any(row.solves for row in rows_B_N[1])


def test_of_one_text_so_many_answers_are_judged(seven):
    answers = "\n    def answers_in(self, problem, text):\n        while True:\n            yield [text]\n"
    task, problem = seven(f"calls.append(1) or {LAST_WORD}", f"{answers}\ncalls = []\n")
    assert solves(task, problem, "no") is False
    assert len(type(task).verify.__globals__["calls"]) == MOST
