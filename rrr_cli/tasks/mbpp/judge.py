"""The verdict on an answer: its code, the tests that it is put to, and what the sandbox says.

The first test that fails decides. Feedback shows that test and what the code gave, unless the test is hidden: of those
no word is said, nor anything that the code says while they run. Only a sandbox that doesn't work raises.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from rrr_cli import sandbox
from rrr_cli.errors import RrrError
from rrr_cli.records import Problem
from rrr_cli.sandbox import Job, Outcome
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.mbpp.parse import code_of, static_fault, wanted_names
from rrr_cli.tasks.mbpp.problem import MAX_CODE
from rrr_cli.tasks.mbpp.unit_tests import UnitTest, read_test
from rrr_cli.text import safe_text

MAX_SHOWN = 300  # characters of a value or test that feedback shows


def judged(pairs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """The verdicts on many answers, judged on all CPUs. Raises RrrError (exit 4): no sandbox works here."""
    tries = [Try.of(problem, answer) for problem, answer in pairs]
    runnable = [i for i, one in enumerate(tries) if one.runs]
    jobs = [tries[i].job() for i in runnable]
    outcomes = dict(zip(runnable, sandbox.execute(jobs), strict=True)) if jobs else {}
    return [one.verdict(outcomes.get(i)) for i, one in enumerate(tries)]


def fenced(code: str) -> str:
    """Code in a fence that is longer than any in it."""
    fence = "```"
    while fence in code:
        fence += "`"
    return f"{fence}python\n{code}\n{fence}"


def reference_fault(problem: Problem) -> str:
    """Why the problem's reference can't pass; "" if it passes, or reads well where no sandbox can run it."""
    metadata = json.loads(problem.metadata)
    tests = tuple(metadata["tests"] + metadata["hidden"])
    fault = static_fault(json.loads(problem.reference), tests, metadata["imports"], metadata["setup"])
    if fault:
        return fault
    try:
        sandbox.kind()
    except RrrError:
        return ""
    [verdict] = judged([(problem, fenced(json.loads(problem.reference)))])
    # a busy machine doesn't change which problems there are: `rrr tasks check` tells of a slow reference
    return "" if verdict.success or verdict.error_type in ("timeout", "resources") else verdict.feedback


@dataclass(frozen=True)
class Try:
    """One answer's code and the tests that it is put to."""

    code: str | None
    tests: tuple[UnitTest, ...]
    shown: int  # how many of the tests the prompt shows
    imports: str
    setup: str

    @classmethod
    def of(cls, problem: Problem, answer: str) -> Try:
        metadata = json.loads(problem.metadata)
        sources, imports, setup = tuple(metadata["tests"] + metadata["hidden"]), metadata["imports"], metadata["setup"]
        tests = tuple(read_test(source, imports) for source in sources)
        code = code_of(answer, wanted_names(sources, imports, setup))
        return cls(code or None, tests, len(metadata["tests"]), imports, setup)

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
            if outcome.status in ("raised", "resources"):
                return self._hidden()
            number = None
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
