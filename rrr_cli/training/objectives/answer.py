"""The comparison that the paper leaves out: ordinary GRPO on a first answer to the same problems, without reflections.

prompt = the problem; completion = the answer. In an environment the completion is the episode: the model's turns are
trained, the environment's words between them are masked out of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rrr_cli.errors import RrrError
from rrr_cli.failures import Failure
from rrr_cli.options import refuse_given
from rrr_cli.rollout import Loop
from rrr_cli.training.objectives.base import Setting, check_episodes, passes, refuse_attempts
from rrr_cli.training.samples import Group, Sample
from rrr_cli.training.tokens import TokenEpisode, token_completion

if TYPE_CHECKING:
    from rrr_cli.training.settings import Options


OF_REFLECTIONS = (
    "reflection_tokens", "retry_context", "feedback", "freeze_actor", "retries", "no_answers", "reward_on",
    "length_cost",
)


class Answer:
    """See the module."""

    tries = "answers"
    measure = "first_try"  # by which the best step is chosen: no reflection is trained

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @staticmethod
    def check(options: Options) -> None:
        """Raise RrrError (exit 2) for an option about reflections."""
        refuse_given(options, OF_REFLECTIONS, "it is about reflections, and --objective answer has none")
        refuse_attempts(options)

    def fit(self, failures: Sequence[Failure], window: int) -> int:
        """Room for a problem and an answer, or the first turn of one; turns that can be one sequence."""
        render, answer = self.setting.render, self.setting.max_tokens
        prompt = max(len(render(tuple(failure.problem.prompt), failure.problem.tools)) for failure in failures)
        if prompt + answer > window:
            raise RrrError(
                f"the longest prompt ({prompt} tokens) with an answer ({answer}) needs {prompt + answer} tokens, and "
                f"the model's window holds {window}: lower --max-tokens"
            )
        check_episodes(self.setting, failures)
        return prompt + answer

    def complete(self, groups: Sequence[Group], loop: Loop, stops: Sequence[int]) -> list[Sample]:
        """First tries at each group's problem."""
        episodes_B_N = [
            [
                TokenEpisode(**vars(episode), render=self.setting.render, stops=stops)
                for episode in loop.first_tries(group.failure.problem, group.samples)
            ]
            for group in groups
        ]
        attempts_B_N = loop.play("first", episodes_B_N)
        return [
            Sample(group.failure, token_completion(episode.completions[0]).prompt_ids, episode.tokens(), None, attempt)
            for group, episodes_N, attempts_N in zip(groups, episodes_B_N, attempts_B_N, strict=True)
            for episode, attempt in zip(episodes_N, attempts_N, strict=True)
        ]

    def reward(self, sample: Sample) -> float | None:
        """1.0 where the answer passes."""
        return passes(sample)
