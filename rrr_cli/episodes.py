"""One try as the loop plays it, turn by turn, and what an engine left without an answer. Reads and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from rrr_cli.engines.base import REFUSED, Completion, Prompt
from rrr_cli.errors import RrrError
from rrr_cli.records import Message, Problem, derive_seed


@dataclass
class Episode:
    """One try as it unfolds: a single turn, or the turns of model and environment."""

    problem: Problem
    chat: tuple[Message, ...]  # what was shown before it
    sample_index: int
    seed: int
    parent_id: str | None = None
    reflection_id: str | None = None
    reasoning: str | None = None
    transcript: list[Message] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)  # the model's turns, as far as they are its own
    invented: list[str] = field(default_factory=list)  # what it wrote in the environment's place
    thoughts: list[str] = field(default_factory=list)

    @property
    def next_seed(self) -> int:
        """The seed of its next turn."""
        return derive_seed(self.seed, "turn", len(self.completions)) if self.completions else self.seed

    @property
    def finish_reason(self) -> str:
        """stop, or length where a turn hit the token limit or found no room in the context."""
        return next((c.finish_reason for c in reversed(self.completions) if c.finish_reason != "stop"), "stop")

    @property
    def tokens_written(self) -> int | None:
        """Of all turns of the model; None where a server didn't count those of one."""
        counts = [c.tokens for c in self.completions if c.tokens is not None]
        return sum(counts) if len(counts) == len(self.completions) else None

    def prompt(self, seeds: tuple[int, ...]) -> Prompt:
        """What the model is shown for its next turn, to be continued once a seed."""
        return Prompt((*self.chat, *self.transcript), seeds, self.problem.tools)


@dataclass
class Unanswered:
    """What an engine left without an answer: nobody judges it, and it is never written as a failure of the model."""

    reasons: dict[str, str] = field(default_factory=dict)  # problem_id -> why its prompt has none
    failure: RrrError | None = None  # why the engine stopped, after which nothing is asked any more

    def note(self, problem: Problem, completion: Completion) -> None:
        """Keep why there is no answer, where there is none; "" if the engine stopped before it."""
        if completion.finish_reason == REFUSED:
            self.reasons.setdefault(problem.problem_id, completion.reason)
