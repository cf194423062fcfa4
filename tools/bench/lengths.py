"""A task for benchmarks: problems of an exact length, and a verdict that about half of all texts pass.

`--level N`: problems of N words. It judges nothing but the parity of a text's hash, so that groups have a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from shapes import filler

from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.base import Verdict

TASK = f"{Path(__file__).resolve()}:Lengths"
ATTEMPT = filler("the failed attempt", 6)
PROBLEMS = 32


class Lengths:
    """See the module."""

    name = "lengths"
    levels = ("16",)
    error_types = ("odd",)
    words: Mapping[str, str] = {"reflect": filler("reflect", 12), "retry": filler("retry", 8)}

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        self.level = level or self.levels[0]

    def problems(self, split: str) -> Iterator[Problem]:
        """`PROBLEMS` to train on, and none to test."""
        for i in range(PROBLEMS if split == "train" else 0):
            yield Problem(
                problem_id=content_id("lengths", self.level, split, i), task=self.name, split=split,
                difficulty=self.level, prompt=[Message("user", filler((split, i), int(self.level)))], tools=None,
                reference='""', metadata="{}")

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Whether `passes` says so of the last turn."""
        good = passes(transcript[-1].content if transcript else "")
        return Verdict(good, float(good), None if good else "odd", "It is odd.", "even" if good else None)

    def right_turns(self, problem: Problem) -> list[str]:
        """One that passes."""
        return [next(text for i in range(99) if passes(text := f"w{i}"))]

    def answers_in(self, problem: Problem, text: str) -> Iterator[list[str]]:
        """None: the verdict is of whole texts."""
        return iter(())


def passes(text: str) -> bool:
    """Whether a try is right: every other text, but never the failed attempt."""
    return text != ATTEMPT and int(content_id(text), 16) % 2 == 0
