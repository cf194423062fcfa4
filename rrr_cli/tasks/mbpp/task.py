"""MBPP: write a Python function that passes unit tests (arXiv 2108.07732; a task of Re-ReST, arXiv 2406.01495).

Problems come from a generator (`generate.py`; levels easy and hard) or from `data`, a local file of MBPP's columns or
the hub's data set (`data.py`). The model's code runs in a sandbox (`rrr_cli.sandbox`), in a process of its own.

Which code of the last assistant turn: see `parse.py`. What the code prints is ignored; what it returns is compared
here, see `unit_tests.py`. Code that knows the answers of the tests that are shown can return them: MBPP's tests are all
shown, the generator's aren't. Feedback holds no word of a test that isn't shown.

Verdicts don't depend on hash seeds or clocks but for the limit of 5 s of CPU. Only a sandbox that doesn't work raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rrr_cli import sandbox
from rrr_cli.records import Message, Problem
from rrr_cli.sandbox import Job, Outcome
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.mbpp.data import check
from rrr_cli.tasks.mbpp.data import problems as data_problems
from rrr_cli.tasks.mbpp.generate import problems as generated_problems
from rrr_cli.tasks.mbpp.parse import code_of, wanted_names
from rrr_cli.tasks.mbpp.problem import MAX_CODE, NAME, WORDS
from rrr_cli.tasks.mbpp.unit_tests import UnitTest, read_test
from rrr_cli.tasks.rows import chosen_level
from rrr_cli.tasks.splits import check_split, last_reply
from rrr_cli.text import safe_text
from rrr_cli.thoughts import answer_of

MAX_SHOWN = 300  # characters of a value or test that feedback shows


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
        tries = [_Try.of(problem, transcript) for problem, transcript in pairs]
        runnable = [i for i, one in enumerate(tries) if one.runs]
        jobs = [tries[i].job() for i in runnable]
        outcomes = dict(zip(runnable, sandbox.execute(jobs), strict=True)) if jobs else {}
        return [one.verdict(outcomes.get(i)) for i, one in enumerate(tries)]

    def right_turns(self, problem: Problem) -> list[str]:
        """The reference in a fence."""
        return [f"```python\n{json.loads(problem.reference)}\n```"]

    def leaks(self, problem: Problem, text: str) -> bool:
        """Whether `text` holds the reference's code, white space aside."""
        return "".join(json.loads(problem.reference).split()) in "".join(text.split())


@dataclass(frozen=True)
class _Try:
    """One answer's code and the tests that it is put to."""

    code: str | None
    tests: tuple[UnitTest, ...]
    shown: int  # how many of the tests the prompt shows
    imports: str
    setup: str

    @classmethod
    def of(cls, problem: Problem, transcript: Sequence[Message]) -> _Try:
        metadata = json.loads(problem.metadata)
        tests = tuple(read_test(test) for test in metadata["tests"] + metadata["hidden"])
        asked = wanted_names(tuple(metadata["tests"] + metadata["hidden"]), metadata["imports"], metadata["setup"])
        code = code_of(answer_of(last_reply(transcript)), asked)
        return cls(code or None, tests, len(metadata["tests"]), metadata["imports"], metadata["setup"])

    @property
    def runs(self) -> bool:
        return self.code is not None and len(self.code) <= MAX_CODE

    def job(self) -> Job:
        shown, hidden = (
            tuple(expression for test in tests for expression in test.expressions)
            for tests in (self.tests[: self.shown], self.tests[self.shown :]))
        return Job(self.imports, self.code or "", self.setup, shown, hidden)

    def verdict(self, outcome: Outcome | None) -> Verdict:
        """The first test that fails decides; where none does, all have been run."""
        if self.code is None:
            return self._failed("no_code", "No code was found: write it in a ```python block.")
        if outcome is None:
            return self._failed("too_long", f"The code is longer than {MAX_CODE:,} characters.")
        first = 0
        for number, test in enumerate(self.tests):
            values = outcome.values[first : first + len(test.expressions)]
            first += len(test.expressions)
            if len(values) < len(test.expressions):
                return self._stopped(outcome, number if outcome.loaded else None)
            if not test.holds(values):
                if number >= self.shown:
                    return self._hidden()
                actual = " and ".join(
                    f"{_clean(part)} is {_shown(v)}" for part, v in zip(test.asked, values, strict=True))
                return self._failed("wrong_value", f"This test fails: {_clean(test.source)} In fact {actual}.")
        if outcome.status != "done":
            return self._stopped(outcome, None)
        return Verdict(True, 1.0, None, "The code passes every test.", self.code)

    def _stopped(self, outcome: Outcome, number: int | None) -> Verdict:
        """The verdict on a run that didn't get to all the values; `number`: the test that it was at, if known."""
        if number is not None and number >= self.shown:
            return self._hidden()
        at = f"This test fails: {_clean(self.tests[number].source)} " if number is not None else ""
        return self._failed(*{
            "syntax": ("syntax", f"The code can't be read: {_clean(outcome.message)}."),
            "raised": ("exception", f"{at}{'It' if at else 'The code'} raises {_clean(outcome.message)}."),
            "timeout": ("timeout", "The code takes too long: it was stopped after 5 seconds of work or 10 of waiting."),
            "resources": ("resources", f"{at}The code needs too much memory, or makes too large a value."),
        }.get(outcome.status, ("ended_early", "The program ended before the tests were done.")))

    def _hidden(self) -> Verdict:
        return self._failed("hidden_test", "The tests that are shown pass, but another test of the function fails.")

    def _failed(self, error_type: str, feedback: str) -> Verdict:
        return Verdict(False, 0.0, error_type, feedback, self.code[:MAX_CODE] if self.code else None)


def _clean(text: str) -> str:
    """One line, safe to print, short."""
    text = " ".join(safe_text(text).split()).rstrip(".")
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def _shown(value: object) -> str:
    try:
        return _clean(repr(value))
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number too long to show"
