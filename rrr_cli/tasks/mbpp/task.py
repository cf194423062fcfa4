"""MBPP: write a Python function that passes unit tests (arXiv 2108.07732; a task of Re-ReST, arXiv 2406.01495).

Problems come from a generator (`generate.py`; levels easy and hard) or from `data`, a local file of MBPP's columns or
the hub's data set (`data.py`). The model's code runs in a sandbox (`rrr_cli.sandbox`), in a process of its own.

Which code of the last assistant turn: see `parse.py`. What the code prints is ignored; what it returns is compared
here, see `judge.py`. Code that knows the answers of the tests that are shown can return them: MBPP's tests are all
shown, the generator's aren't. Feedback holds no word of a test that isn't shown.

Verdicts don't depend on hash seeds or clocks but for the limit of 5 s of CPU. Only a sandbox that doesn't work raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from rrr_cli import sandbox
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.mbpp.data import check
from rrr_cli.tasks.mbpp.data import problems as data_problems
from rrr_cli.tasks.mbpp.generate import problems as generated_problems
from rrr_cli.tasks.mbpp.judge import fenced, judged
from rrr_cli.tasks.mbpp.parse import codes_in, wanted_names
from rrr_cli.tasks.mbpp.problem import NAME, WORDS
from rrr_cli.tasks.rows import chosen_level
from rrr_cli.tasks.splits import check_split, last_reply
from rrr_cli.thoughts import answer_of

MAX_ANSWERS = 4  # of a text; each is run


class Mbpp:
    """The task; `levels` are of the generator, so `level` and `data` exclude each other.

    Raises RrrError: unknown level, or both given (exit 2); data that can't be read (exit 3), the hub's data set without
    the `datasets` package (exit 4).
    """

    name = NAME
    levels = ("easy", "hard")
    error_types = (
        "no_code", "too_long", "syntax", "exception", "wrong_value", "hidden_test", "timeout", "resources",
        "ended_early",
    )
    words: Mapping[str, str] = WORDS

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        self.level = chosen_level(self.name, self.levels, level, data, check)
        self.data = data

    def problems(self, split: str) -> Iterator[Problem]:
        """Problems of `split`, "train" or "test"; the generator gives 2,000 and 500 at each level."""
        check_split(self.name, split)
        if self.data is None:
            return generated_problems(self.level, split, self.words)
        return data_problems(self.data, split, self.words)

    def settings(self) -> dict[str, str]:
        """What decides a verdict beside the problem: the sandbox. Raises RrrError (exit 4) where there is none."""
        return {"sandbox": sandbox.kind()}

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Judge the last assistant turn. Raises RrrError (exit 4): no sandbox works here."""
        return self.verify_many([(problem, transcript)])[0]

    def verify_many(self, pairs: Sequence[tuple[Problem, Sequence[Message]]]) -> list[Verdict]:
        """The verdicts on many transcripts, judged on all CPUs. Raises RrrError (exit 4): no sandbox works here."""
        return judged([(problem, answer_of(last_reply(transcript))) for problem, transcript in pairs])

    def right_turns(self, problem: Problem) -> list[str]:
        """The reference in a fence."""
        return [fenced(json.loads(problem.reference))]

    def answers_in(self, problem: Problem, text: str) -> Iterator[list[str]]:
        """The code that the verifier would read in `text`, and each block of it that defines what the tests ask for,
        the last first: a few, since each is run."""
        metadata = json.loads(problem.metadata)
        wanted = wanted_names(tuple(metadata["tests"] + metadata["hidden"]), metadata["imports"], metadata["setup"])
        for code in codes_in(text, wanted, MAX_ANSWERS):
            yield [fenced(code)]
