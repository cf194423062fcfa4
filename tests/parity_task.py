"""A task that random models solve half of the time: the answer passes when it has an even number of words.

For tests that need rewards which really vary; `--task tests/parity_task.py:Parity`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rrr_cli.errors import NO_BACKEND, RrrError
from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.base import Verdict


class Parity:
    name = "parity"
    levels = ("only",)
    error_types = ("odd",)
    words: Mapping[str, str] = {
        "reflect": "wrong Reflect short explanation",
        "retry": "Please try again",
    }

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        pass

    def problems(self, split: str) -> Iterator[Problem]:
        for first in range(0, 40) if split == "train" else range(40, 50):
            yield Problem(
                problem_id=content_id("parity", first), task=self.name, split=split, difficulty="only",
                prompt=[Message("user", f"Using the numbers {first} {first + 1} answer")], tools=None,
                reference='"yes yes"', metadata="{}",
            )

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        success = len(transcript[-1].content.split()) % 2 == 0
        feedback = "right" if success else "the number of words is odd"
        return Verdict(success, float(success), None if success else "odd", feedback, transcript[-1].content)

    def right_turns(self, problem: Problem) -> list[str]:
        return ["yes yes"]

    def answers_in(self, problem: Problem, text: str) -> Iterator[list[str]]:
        if "yes" in text.split():
            yield ["yes yes"]


class Impossible(Parity):
    """Nothing passes."""

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        return Verdict(False, 0.0, "odd", "never", None)


class Crashing(Parity):
    """The judge crashes on every third answer's length."""

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        if len(transcript[-1].content.split()) % 3 == 0:
            raise ValueError("a task's own bug")
        return super().verify(problem, transcript)


class Together(Parity):
    """Judges many at once and never one alone; refuses where it can't (`works`)."""

    works = True

    def verify_many(self, pairs: Sequence[tuple[Problem, Sequence[Message]]]) -> list[Verdict]:
        if not self.works:
            raise RrrError("nothing to judge with here", NO_BACKEND)
        return [super(Together, self).verify(problem, transcript) for problem, transcript in pairs]

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        raise AssertionError("one alone")


class Unequipped(Together):
    """Can't judge here."""

    works = False
