"""One GRPO sample from its tokens to its advantage: the one record that objective, trainer and recorder share."""

from __future__ import annotations

from dataclasses import dataclass

from rrr_cli.records import Attempt, Reflection
from rrr_cli.rollout import Failure
from rrr_cli.training.tokens import Tokens


@dataclass(frozen=True)
class Group:
    """Samples about one failure: those of its group that this process writes."""

    failure: Failure
    samples: range


@dataclass(frozen=True, repr=False)
class Sample:
    """What was written about a failure, the try that judges it, and what GRPO makes of the verdict."""

    failure: Failure
    prompt_ids: list[int]
    completion: Tokens
    reflection: Reflection | None  # None where the objective has none
    attempt: Attempt  # the try that was judged: a retry or an answer
    others: tuple[Attempt, ...] = ()  # further tries that were judged for its reward
    # Known only later: the reward, its place in the step, and what the group's other samples earned.
    reward: float | None = None  # None where the judge crashed
    group: int = 0
    sample_index: int = 0
    advantage: float = 0.0

    def __repr__(self) -> str:
        """Short: TRL prints a sample that has no reward."""
        return f"Sample(failed attempt {self.failure.attempt_id}, {self.attempt.error_type or 'passed'})"

    @property
    def tries(self) -> tuple[Attempt, ...]:
        """All that were judged."""
        return (self.attempt, *self.others)

    @property
    def generated_tokens(self) -> int:
        """What the sample cost."""
        written = [self.reflection.tokens if self.reflection else 0, *(one.completion_tokens for one in self.tries)]
        return sum(tokens or 0 for tokens in written)

    @property
    def trained_tokens(self) -> int:
        """Tokens that the reward moves: none where the advantage is 0."""
        return sum(self.completion.mask) if self.advantage else 0


@dataclass(frozen=True)
class Batch:
    """The samples that this process generated in one step, (B,), and how long that took."""

    samples: list[Sample]
    seconds_reflect: float
    seconds_try: float
