"""An objective in one file: the paper's, but a shorter reflection earns more.

    rrr grpo --objective examples/short_reflections.py:ShortReflections
"""

from rrr_cli.training.objectives.reflection import Reflection
from rrr_cli.training.samples import Sample


class ShortReflections(Reflection):
    """The tokens of the reflection are trained, by the verdict on the retry and by its own length."""

    def reward(self, sample: Sample) -> float | None:
        """1 where the retry passes, times 0.99 for each token of the reflection; None where its judge crashed."""
        passed = super().reward(sample)
        if passed is None or sample.reflection is None:
            return passed
        return passed * 0.99**sample.reflection.tokens
