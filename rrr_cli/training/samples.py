"""One GRPO sample from its tokens to its advantage: the one record that objective, trainer and recorder share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rrr_cli.failures import Failure
from rrr_cli.records import Attempt, Message, Reflection
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
    reflection: Reflection | None  # the last one; None where it has none
    attempt: Attempt  # the try that was judged, the last of several: a retry or an answer
    others: tuple[Attempt, ...] = ()  # further tries that were judged for its reward
    earlier: tuple[Reflection, ...] = ()  # reflections before the last one
    turns: tuple[range, ...] = ()  # where in the completion the tries and reflections with returns of their own are
    conversation: tuple[Message, ...] | None = None  # all of them after the problem, where there are several
    internalised: Tokens | None = None  # also learnt after `prompt_ids`: its loss is -log π, whatever the advantage
    # Known only later: the reward, its place in the step, and what the group's other samples earned.
    reward: float | None = None  # None where the judge crashed
    group: int = 0
    sample_index: int = 0
    advantage: float = 0.0  # of its first trained token
    advantages: list[float] | None = None  # (T,) of each token of the completion, where the objective gives its own

    def __repr__(self) -> str:
        """Short: TRL prints a sample that has no reward."""
        return f"Sample(failed attempt {self.failure.attempt_id}, {self.attempt.error_type or 'passed'})"

    @property
    def tries(self) -> tuple[Attempt, ...]:
        """All that were judged."""
        return (self.attempt, *self.others)

    @property
    def reflections(self) -> tuple[Reflection, ...]:
        """All that were written, in order."""
        return (*self.earlier, self.reflection) if self.reflection else ()

    @property
    def generated_tokens(self) -> int:
        """What the sample cost."""
        written = [*(one.tokens for one in self.reflections), *(one.completion_tokens for one in self.tries)]
        return sum(tokens or 0 for tokens in written)

    @property
    def trained_tokens(self) -> int:
        """Tokens that have a gradient: none where the advantage is 0."""
        mask = self.completion.mask
        advantages = self.advantages or [self.advantage] * len(mask)
        moved = sum(trained for trained, advantage in zip(mask, advantages, strict=True) if advantage)
        return moved + (sum(self.internalised.mask) if self.internalised else 0)


@dataclass(frozen=True)
class Batch:
    """The samples that this process generated in one step, (B,), and what that took."""

    samples: list[Sample]
    seconds_reflect: float
    seconds_try: float
    prefilled: int | None = None  # tokens of prompts that were computed; None where vLLM generated
    reused: int | None = None  # tokens of prompts whose keys and values an earlier text had left
    replaced: tuple[Sample, ...] = ()  # by --refill: they cost tokens, and that is all


def by_group(samples: Sequence[Sample]) -> dict[int, list[Sample]]:
    """The samples of each group, by its number."""
    groups: dict[int, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)
    return groups


def is_dead(group: Sequence[Sample]) -> bool:
    """Whether a group gives no gradient: all rewards equal, or all advantages 0 where the objective has its own."""
    if group[0].advantages is not None:
        return not any(any(sample.advantages or ()) for sample in group)
    return len({sample.reward for sample in group} - {None}) < 2
