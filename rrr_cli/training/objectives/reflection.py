"""The paper's objective: the reflection is trained, by the verdict on the retry after it (RRR, section 3).

prompt = problem, failed attempt, request to reflect; completion = the reflection. The retry, in an environment a whole
episode, never enters the training forward, so "only reflections are trained" holds by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rrr_cli.rollout import Failure, Loop
from rrr_cli.training.objectives.base import Setting, fit_reflections, passes, reflect, refuse_attempts
from rrr_cli.training.samples import Group, Sample
from rrr_cli.training.tokens import Tokens

if TYPE_CHECKING:
    from rrr_cli.training.settings import Options


class Reflection:
    """See the module."""

    tries = "retries"

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @staticmethod
    def check(options: Options) -> None:
        """Raise RrrError (exit 2) for an option of another objective."""
        refuse_attempts(options)

    def fit(self, failures: Sequence[Failure], window: int) -> int:
        """Room for a reflection and a retry."""
        return fit_reflections(self.setting, failures, window)

    def complete(self, groups: Sequence[Group], loop: Loop, stops: Sequence[int]) -> list[Sample]:
        """Reflections, then a retry after each."""
        reflected = reflect(loop, groups)
        retries_B_1 = loop.retry([(failure, row) for failure, _, row in reflected], range(1))
        return [
            Sample(failure, completion.prompt_ids, Tokens.written(completion), row, retry)
            for (failure, completion, row), (retry,) in zip(reflected, retries_B_1, strict=True)
        ]

    def reward(self, sample: Sample) -> float | None:
        """1.0 where the retry passes."""
        return passes(sample, self.setting.options.no_answers)
