"""The task plug: where problems come from and how an answer is judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rrr_cli.records import Message, Problem


@dataclass(frozen=True)
class Verdict:
    """A verifier's judgement of one transcript."""

    success: bool
    score: float  # in [0, 1]
    error_type: str | None  # from the task's closed set `error_types`; None when it passed
    feedback: str  # one sentence of what the environment says; never holds the reference
    answer: str | None  # what was parsed


class Task(Protocol):
    """One file and one line in `TASKS`; built as `cls(level=None | str, data=None | path)`."""

    name: str
    levels: tuple[str, ...]  # first is the default
    error_types: tuple[str, ...]
    reflect_request: str  # the turn that asks for a reflection
    retry_request: str  # the turn that asks for another try

    def problems(self, split: str) -> Iterator[Problem]:
        """Problems of `split` ("train" or "test"): deterministic, ids unique, the splits disjoint."""
        ...

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Judge the turns after the prompt. Total and pure: any text in, a Verdict out, never raises."""
        ...

    def right_answer(self, problem: Problem) -> str:
        """The reference in the form of an answer, which `verify` passes. For audits; never shown to a model."""
        ...

    def leaks(self, problem: Problem, text: str) -> bool:
        """Whether `text` holds the reference answer word for word (white space aside)."""
        ...
