"""Countdown: reach a target from a few numbers with + - * / and parentheses, each number used exactly once.

Problems come from a generator (`generate.py`; levels easy and paper) or from `data`, a local file or the hub's data set
(`data.py`). A problem is its sorted numbers and its target: these make its id, and the id says which split it belongs
to. The verifier reads the last assistant turn (`judge.py`). The reference is one solution among several; any right
expression passes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from rrr_cli.records import Message, Problem
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.countdown.answers import expressions
from rrr_cli.tasks.countdown.data import check
from rrr_cli.tasks.countdown.data import problems as data_problems
from rrr_cli.tasks.countdown.generate import problems as generated_problems
from rrr_cli.tasks.countdown.judge import judge
from rrr_cli.tasks.countdown.problem import NAME, WORDS
from rrr_cli.tasks.rows import chosen_level
from rrr_cli.tasks.splits import check_split, last_reply


class Countdown:
    """The task; `levels` are of the generator, so `level` and `data` exclude each other.

    Raises RrrError: unknown level, or both given (exit 2); data that can't be read (exit 3), the hub's data set without
    the `datasets` package (exit 4).
    """

    name = NAME
    levels = ("easy", "paper")
    error_types = ("no_answer", "malformed", "too_long", "wrong_numbers", "division_by_zero", "wrong_value")
    words: Mapping[str, str] = WORDS

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        self.level = chosen_level(self.name, self.levels, level, data, check)
        self.data = data

    def problems(self, split: str) -> Iterator[Problem]:
        """Problems of `split`, "train" or "test"."""
        check_split(self.name, split)
        if self.data is None:
            return generated_problems(self.level, split, self.words)
        return data_problems(self.data, split, self.words)

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Judge the last assistant turn. Total and pure."""
        metadata = json.loads(problem.metadata)
        return judge(last_reply(transcript), metadata["nums"], metadata["target"])

    def right_turns(self, problem: Problem) -> list[str]:
        """The reference between the tags."""
        return [f"<answer> {json.loads(problem.reference)} </answer>"]

    def answers_in(self, problem: Problem, text: str) -> Iterator[list[str]]:
        """The right expressions in `text`, the reference or others, whole or as steps (`answers.py`). Wrong ones are
        left out: a text may hold thousands."""
        metadata = json.loads(problem.metadata)
        for expression in expressions(text, metadata["nums"], metadata["target"]):
            yield [f"<answer> {expression} </answer>"]
