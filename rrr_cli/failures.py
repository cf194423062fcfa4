"""A failed attempt: what is reflected on, retried and repaired. Reads and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from rrr_cli.records import Attempt, Message, Problem


@dataclass(frozen=True)
class Failure:
    """A problem and a failed attempt at it: what is reflected on, retried and repaired, in every stage."""

    problem: Problem
    attempt_id: str
    transcript: list[Message]  # the turns after `chat`
    feedback: str = ""  # what the verifier said of it
    before: tuple[Message, ...] = ()  # between the prompt and this attempt: earlier tries and the reflections on them

    @classmethod
    def of(cls, problem: Problem, attempt: Attempt) -> Failure:
        """The failure that a row of the table `attempts` is."""
        return cls(problem, attempt.attempt_id, attempt.transcript, attempt.feedback)

    @property
    def chat(self) -> tuple[Message, ...]:
        """What was shown before the attempt."""
        return (*self.problem.prompt, *self.before)
