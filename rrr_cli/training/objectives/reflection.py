"""The paper's objective: the reflection is trained, by the verdict on the retry after it (RRR, section 3).

prompt = problem, failed attempt, request to reflect; completion = the reflection. The retry, in an environment a whole
episode, never enters the training forward, so "only reflections are trained" holds by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rrr_cli.failures import Failure
from rrr_cli.options import refuse_given
from rrr_cli.records import Attempt
from rrr_cli.records import Reflection as Row
from rrr_cli.rollout import Loop
from rrr_cli.training.objectives.base import Setting, earned, fit_reflections, reflect, refuse_attempts
from rrr_cli.training.objectives.others import Others
from rrr_cli.training.samples import Group, Sample
from rrr_cli.training.settings import others_of
from rrr_cli.training.tokens import Tokens

if TYPE_CHECKING:
    from rrr_cli.training.settings import Options


class Reflection:
    """See the module."""

    tries = "retries"
    others: Others | None = None  # what the reflections are tried on in place of the failed problem

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @staticmethod
    def check(options: Options) -> None:
        """Raise RrrError (exit 2) for an option of another objective, or of retries where there are none."""
        if others_of(options.reward_on):
            refuse_given(
                options, ("retries", "retry_context"),
                f"with --reward-on {options.reward_on} the failed problem isn't retried, and others get one try each")
        refuse_attempts(options)

    def fit(self, failures: Sequence[Failure], window: int) -> int:
        """Room for a reflection and a retry, or for a reflection and a try at another problem that shows it."""
        k = others_of(self.setting.options.reward_on)
        self.others = Others(failures, k) if k else None
        return fit_reflections(
            self.setting, failures, window, self.others.longest(self.setting) if self.others else None)

    def complete(self, groups: Sequence[Group], loop: Loop, stops: Sequence[int]) -> list[Sample]:
        """Reflections, then what judges each: its retries, or tries at other problems."""
        reflected = reflect(loop, groups)
        tries_B_R = self._tries(loop, [(failure, row) for failure, _, row in reflected])
        return [
            Sample(failure, completion.prompt_ids, Tokens.written(completion), row, first, tuple(others))
            for (failure, completion, row), (first, *others) in zip(reflected, tries_B_R, strict=True)
        ]

    def reward(self, sample: Sample) -> float | None:
        """The share of its tries that pass, less what its length costs."""
        return earned(sample, self.setting.options)

    def _tries(self, loop: Loop, pairs_B: Sequence[tuple[Failure, Row]]) -> list[list[Attempt]]:
        if self.others is not None:
            return self.others.tries(loop, pairs_B)
        return loop.retry(pairs_B, range(self.setting.options.retries))
