"""Right retries become first answers: a retry's tokens are trained after the bare problem (RLTF-SD, arXiv 2602.02482).

On the mined failed attempt the policy writes a reflection, and a retry that sees both; with `--feedback verifier` also
what the verifier said. The retry y1 is then trained as if it had answered the problem x alone: the loss is
-A * sum(log π(y1 | x)), with no ratio, and without the tokens whose log π is below -5. A_i is the verdict on the retry
of sample i minus the mean verdict on first answers to x, of which each sample of its group writes one; it is neither
divided nor leave-one-out. Neither reflection nor first answers are trained. In an environment the retry is an episode,
whose words from the environment are masked out of the loss.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rrr_cli.failures import Failure
from rrr_cli.options import refuse_given
from rrr_cli.rollout import Loop
from rrr_cli.training.judge import verdict_of
from rrr_cli.training.objectives.base import Setting, check_episodes, fit_reflections, reflect, refuse_attempts
from rrr_cli.training.samples import Group, Sample
from rrr_cli.training.tokens import TokenEpisode

if TYPE_CHECKING:
    from rrr_cli.training.settings import Options

OF_REWARDS = ("freeze_actor", "retries", "no_answers", "reward_on", "length_cost", "scale_rewards")


class Distil:
    """See the module."""

    measure = "first_try"  # it trains first answers
    tries = "retries"
    drop_below = -5.0  # nats: RLTF-SD's, against the noise of texts that the bare prompt makes very unlikely
    loss_per = "none"  # RLTF-SD sums over tokens

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @staticmethod
    def check(options: Options) -> None:
        """Raise RrrError (exit 2) for another retrier, another reward or a division of advantages."""
        refuse_given(
            options, OF_REWARDS,
            f"with --objective {options.objective} the policy's own retry is trained, by its verdict against that on "
            "first answers")
        refuse_attempts(options)

    def fit(self, failures: Sequence[Failure], window: int) -> int:
        """Room for a reflection and a retry; turns of a retry that can be one sequence."""
        check_episodes(self.setting, failures)
        return fit_reflections(self.setting, failures, window)

    def complete(self, groups: Sequence[Group], loop: Loop, stops: Sequence[int]) -> list[Sample]:
        """Reflections, retries, and as many first answers."""
        reflected, render = reflect(loop, groups), self.setting.render
        retries = [
            TokenEpisode(**vars(loop.retries(failure, row, range(1))[0]), render=render, stops=stops)
            for failure, _, row in reflected
        ]
        attempts_B_1 = loop.play("retry", [[retry] for retry in retries])
        firsts_B_N = loop.play("first", [loop.first_tries(group.failure.problem, group.samples) for group in groups])
        firsts = [first for firsts_N in firsts_B_N for first in firsts_N]
        return [
            Sample(failure, render(tuple(failure.problem.prompt), failure.problem.tools), retry.tokens(), row, attempt,
                   others=(first,))
            for (failure, _, row), retry, (attempt,), first in zip(
                reflected, retries, attempts_B_1, firsts, strict=True)
        ]

    def reward(self, sample: Sample) -> float | None:
        """1.0 where the retry passes."""
        passed = verdict_of(sample.attempt)
        return None if passed is None else float(passed)

    def advantages(self, samples: Sequence[Sample]) -> list[list[float]]:
        """The same for each token of a sample, (T,); 0 where the retry, or all first answers, couldn't be judged."""
        firsts: dict[int, list[float]] = {}
        for sample in samples:
            firsts.setdefault(sample.group, []).extend(
                float(passed) for one in sample.others if (passed := verdict_of(one)) is not None)
        return [
            [0.0 if sample.reward is None or not firsts[sample.group] else
             sample.reward - statistics.fmean(firsts[sample.group])] * len(sample.completion.ids)
            for sample in samples
        ]
