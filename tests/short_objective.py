"""An objective in one file, as a user writes it: reflections are trained, and only short ones earn their reward."""

from __future__ import annotations

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
