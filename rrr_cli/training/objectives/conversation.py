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
from rrr_cli.failures import Failure
from rrr_cli.options import refuse_given
from rrr_cli.prompts import reflect_chat, with_feedback
from rrr_cli.records import Message
from rrr_cli.rollout import Loop
from rrr_cli.tasks.base import Environment
from rrr_cli.training.objectives.base import Setting, earned, fit_reflections, reflect, refuse_attempts
from rrr_cli.training.samples import Group, Sample
from rrr_cli.training.tokens import Thread, TokenEpisode, Tokens, not_one_conversation, reply_ids

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
        refuse_attempts(options)

    def fit(self, failures: Sequence[Failure], window: int) -> int:
        """Room for a reflection and a retry; turns that can be one sequence."""
        if self.setting.drops_thoughts:
            raise not_one_conversation("drops thoughts of earlier turns", self._instead)
        for failure in failures:
            before, words, tools = self._request(failure)
            reply_ids(self.setting.render, before, Message("user", words), tools, self._instead)
        return fit_reflections(self.setting, failures, window)

    def complete(self, groups: Sequence[Group], loop: Loop, stops: Sequence[int]) -> list[Sample]:
        """Reflections, then a retry that continues the tokens of each."""
        render, reflected = self.setting.render, reflect(loop, groups)
        threads = [
            Thread(completion.prompt_ids, render, stops, [Tokens.written(completion)]) for _, completion, _ in reflected
        ]
        for thread, (failure, _, _) in zip(threads, reflected, strict=True):
            thread.add(thread.request(*self._request(failure), self._instead))
        episodes = [
            TokenEpisode(**vars(loop.retries(failure, row, range(1))[0]), render=render, stops=stops, start=thread.ids)
            for (failure, _, row), thread in zip(reflected, threads, strict=True)
        ]
        attempts_B_1 = loop.play("retry", [[episode] for episode in episodes])
        for thread, episode in zip(threads, episodes, strict=True):
            thread.add(episode.tokens())
        return [
            Sample(failure, thread.prompt_ids, thread.tokens, row, attempt)
            for (failure, _, row), thread, (attempt,) in zip(reflected, threads, attempts_B_1, strict=True)
        ]

    def reward(self, sample: Sample) -> float | None:
        """1.0 where the retry passes, less what the reflection's length costs."""
        return earned(sample, self.setting.options)

    def _request(self, failure: Failure) -> tuple[tuple[Message, ...], str, str | None]:
        """The chat before a reflection, the words between it and the retry, and the problem's tools."""
        words = self.setting.task.words
        request = with_feedback(words["reflect"], failure.feedback, self.setting.feedback)
        return reflect_chat(failure.chat, failure.transcript, request), words["retry"], failure.problem.tools

    @property
    def _instead(self) -> str:
        """The objectives that work where turns aren't one sequence."""
        return "reflection" if isinstance(self.setting.task, Environment) else "reflection or answer"
