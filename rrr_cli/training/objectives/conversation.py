"""Reflection and retry as one conversation, both trained by the verdict on the retry; the request between them isn't.

The mined first answer is context, as in the paper. It isn't trained: a whole group shares it with reward 0, so its
advantage in that group would be 0. Nor is a new first answer sampled: where it passed there would be nothing to reflect
on, and the failures would no longer be the ones that the other objectives are compared on. In an environment the retry
is an episode, and the environment's words are masked out like the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.options import refuse_given
from rrr_cli.prompts import reflect_chat, reflect_request
from rrr_cli.records import Message
from rrr_cli.rollout import Failure, Loop
from rrr_cli.tasks.base import Environment
from rrr_cli.training.objectives.base import Setting, earned, fit_reflections, reflect
from rrr_cli.training.samples import Group, Sample
from rrr_cli.training.tokens import TokenEpisode, Tokens, after_turn, not_one_conversation, reply_ids

if TYPE_CHECKING:
    from rrr_cli.training.settings import Options


class Conversation:
    """See the module."""

    tries = "retries"

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @staticmethod
    def check(options: Options) -> None:
        """Raise RrrError (exit 2) for a retry that isn't the policy's own, or doesn't see what came before the
        reflection."""
        refuse_given(
            options, ("freeze_actor", "retries", "reward_on"),
            "--objective reflection+answer trains one retry of the failed problem with its reflection")
        if options.retry_context != "full":
            raise RrrError(
                f"--objective {options.objective} trains reflection and retry as one conversation, which holds the "
                f"failed attempt: leave out --retry-context {options.retry_context}", USAGE,
            )

    def fit(self, failures: Sequence[Failure], window: int) -> int:
        """Room for a reflection and a retry; turns that can be one sequence."""
        if self.setting.drops_thoughts:
            raise not_one_conversation("drops thoughts of earlier turns", self._instead)
        for failure in failures:
            self._request(failure)
        return fit_reflections(self.setting, failures, window)

    def complete(self, groups: Sequence[Group], loop: Loop, stops: Sequence[int]) -> list[Sample]:
        """Reflections, then a retry that continues the tokens of each."""
        reflected = reflect(loop, groups)
        requests = [
            after_turn(completion.ids, self._request(failure), stops) for failure, completion, _ in reflected
        ]
        episodes = [
            TokenEpisode(
                **vars(loop.retries(failure, row, range(1))[0]), render=self.setting.render, stops=stops,
                start=completion.prompt_ids + completion.ids + request,
            )
            for (failure, completion, row), request in zip(reflected, requests, strict=True)
        ]
        attempts_B_1 = loop.play("retry", [[episode] for episode in episodes])
        return [
            Sample(
                failure, completion.prompt_ids,
                Tokens.joined([Tokens.written(completion), Tokens.shown(request), episode.tokens()]), row, attempt,
            )
            for (failure, completion, row), request, episode, (attempt,) in zip(
                reflected, requests, episodes, attempts_B_1, strict=True)
        ]

    def reward(self, sample: Sample) -> float | None:
        """1.0 where the retry passes, less what the reflection's length costs."""
        return earned(sample, self.setting.options)

    def _request(self, failure: Failure) -> list[int]:
        """The tokens from the end of the reflection to the start of the retry, as the chat template writes them."""
        words, problem = self.setting.task.words, failure.problem
        request = reflect_request(words, failure.feedback, self.setting.feedback)
        chat = reflect_chat(failure.chat, failure.transcript, request)
        return reply_ids(self.setting.render, chat, Message("user", words["retry"]), problem.tools, self._instead)

    @property
    def _instead(self) -> str:
        """The objectives that work where turns aren't one sequence."""
        return "reflection" if isinstance(self.setting.task, Environment) else "reflection or answer"
