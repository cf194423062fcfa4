"""Objectives in one file, as a user writes them: only short reflections earn their reward, or only ends are trained."""

from __future__ import annotations

from collections.abc import Sequence

from rrr_cli.training.objectives.reflection import Reflection
from rrr_cli.training.samples import Sample

MOST = 6  # tokens


class Short(Reflection):
    """The paper's, but for the reward."""

    def reward(self, sample: Sample) -> float | None:
        """0.0 where the reflection is too long."""
        reward = super().reward(sample)
        return reward and reward * (sample.reflection.tokens <= MOST)


class Unfinished:
    """Lacks most of what an objective is."""

    tries = "retries"


class LastToken(Reflection):
    """The last token alone is trained: its advantage is the reward minus the mean of the step's."""

    def advantages(self, samples: Sequence[Sample]) -> list[list[float]]:
        """(T,) a sample, of all processes' samples."""
        mean = sum(sample.reward or 0.0 for sample in samples) / len(samples)
        return [[0.0] * (len(s.completion.ids) - 1) + [(s.reward or 0.0) - mean] for s in samples]


class Uneven(Reflection):
    """Gives one advantage a sample, where one a token is wanted."""

    def advantages(self, samples: Sequence[Sample]) -> list[list[float]]:
        """(1,) a sample."""
        return [[1.0] for _ in samples]
