"""Several tries at a problem in one conversation, all by the policy: try, reflection, try, … up to `--attempts`.

A sample ends with its first pass. The chats are those of `rrr eval --tries`: each reflection and retry sees all before
it. Every turn of the model is trained, by what came of it: the return of try n is G_n = R_n + gamma * G_(n+1), where
R_n is 1 if it passes, and a reflection has the return of the try after it (LaMer, arXiv 2512.16848, gamma 0.6 between
attempts). A turn's advantage is its return minus the mean of the same turn's returns in the other samples of its group,
undivided (leave-one-out, MR-Search, arXiv 2603.11327); a turn that no other sample has gets 0. With `--internalise` a
right retry is also learnt as a first answer, -log π(retry | problem) (ERL, arXiv 2602.13949).

The mined failure only chose the problem: the first try is new, and where it passes there is nothing to reflect on. A
sample whose judge crashed is left out; one for which the window has no more room ends there.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.failures import Failure
from rrr_cli.options import refuse_given
from rrr_cli.prompts import reflect_chat, with_feedback
from rrr_cli.records import Message
from rrr_cli.rollout import Loop
from rrr_cli.tasks.base import Environment
from rrr_cli.training.judge import verdict_of
from rrr_cli.training.objectives.base import Setting, check_episodes, fit_reflections
from rrr_cli.training.objectives.story import Story, play, reflect
from rrr_cli.training.samples import Group, Sample
from rrr_cli.training.tokens import Thread, TokenEpisode, not_one_conversation, reply_ids

if TYPE_CHECKING:
    from rrr_cli.training.settings import Options

OF_REWARDS = ("freeze_actor", "retries", "no_answers", "reward_on", "length_cost", "scale_rewards")


class Attempts:
    """See the module."""

    tries = "samples"
    # As LaMer. A mean over each sample would weigh a failed first try, which has more turns beside it, less than one
    # that passes, and the baseline would no longer cancel.
    loss_per = "token"

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @staticmethod
    def check(options: Options) -> None:
        """Raise RrrError (exit 2) for another retrier, another reward, or a retry that doesn't see what came before."""
        refuse_given(
            options, OF_REWARDS,
            f"with --objective {options.objective} the policy writes every try, and the returns of its tries take the "
            "place of rewards")
        if options.retry_context != "full":
            raise RrrError(
                f"--objective {options.objective} trains all tries as one conversation: leave out --retry-context "
                f"{options.retry_context}", USAGE)

    def fit(self, failures: Sequence[Failure], window: int) -> int:
        """Room for all tries and reflections, in an environment for the first turns of two; turns that can be one
        sequence."""
        if self.setting.drops_thoughts:
            raise not_one_conversation("drops thoughts of earlier turns", "reflection")
        check_episodes(self.setting, failures)
        longest = max(map(self._longest, failures))
        if isinstance(self.setting.task, Environment):
            return fit_reflections(self.setting, failures, window)
        if longest > window:
            raise RrrError(
                f"{self.setting.options.attempts} tries of {self.setting.max_tokens} tokens with reflections of "
                f"{self.setting.reflection_tokens} need {longest} tokens with the longest prompt, and the model's "
                f"window holds {window}: lower --attempts, --max-tokens or --reflection-tokens")
        return longest

    def _longest(self, failure: Failure) -> int:
        """Tokens of a problem with all tries of one turn. What a verifier says is taken to be as long as it was."""
        setting, words, tools = self.setting, self.setting.task.words, failure.problem.tools
        asked = with_feedback(words["reflect"], failure.feedback, setting.feedback)
        before = (*failure.chat, *failure.transcript[:-1])
        request = reply_ids(setting.render, before, Message("user", asked), tools)
        again = reply_ids(
            setting.render, reflect_chat(failure.chat, failure.transcript, asked), Message("user", words["retry"]),
            tools)
        first = len(setting.render(tuple(failure.problem.prompt), tools)) + setting.max_tokens
        later = len(request) + setting.reflection_tokens + len(again) + setting.max_tokens
        return first + (setting.options.attempts - 1) * later

    def complete(self, groups: Sequence[Group], loop: Loop, stops: Sequence[int]) -> list[Sample]:
        """First tries; then, of the samples that failed, a reflection and a retry, until all passed or had their tries.
        """
        render = self.setting.render
        stories_B_N = [
            [
                Story(group.failure, Thread([], render, stops), TokenEpisode(**vars(e), render=render, stops=stops))
                for e in loop.first_tries(group.failure.problem, group.samples)
            ]
            for group in groups
        ]
        play(loop, "first", stories_B_N)
        stories = [story for stories_N in stories_B_N for story in stories_N]
        for _ in range(self.setting.options.attempts - 1):
            failed = [story for story in stories if story.failed]
            if not loop.any_open(bool(failed)):
                break
            reflect(loop, failed)
            play(loop, "retry", [[story] for story in failed if story.failed])
        return [story.sample(self.setting.options.internalise) for story in stories]

    def reward(self, sample: Sample) -> float | None:
        """The return of the first try: gamma to the number of failed tries before the one that passes."""
        return returns(sample, self.setting.options.gamma)[0]

    def advantages(self, samples: Sequence[Sample]) -> list[list[float]]:
        """Of each token its turn's, (T,) a sample."""
        returns_B = [returns(sample, self.setting.options.gamma) for sample in samples]
        groups: dict[tuple[int, int], list[tuple[int, float]]] = {}  # the samples' rows, by group and number of turn
        for row, (sample, returns_S) in enumerate(zip(samples, returns_B, strict=True)):
            for turn, value in enumerate(returns_S):
                if value is not None:
                    groups.setdefault((sample.group, turn), []).append((row, value))
        advantages_B = [[0.0] * len(sample.completion.ids) for sample in samples]
        for (_, turn), members in groups.items():
            for row, value in members:
                others = [other for at, other in members if at != row]
                places = samples[row].turns[turn]
                if others:
                    advantages_B[row][places.start : places.stop] = [value - statistics.fmean(others)] * len(places)
        return advantages_B


def returns(sample: Sample, gamma: float) -> list[float | None]:
    """Of each turn: the first try, the reflection on it, the second try, …; None all where a judge crashed."""
    value: float | None = 0.0
    returns_S: list[float | None] = []
    for attempt in reversed((*sample.others, sample.attempt)):
        passed = verdict_of(attempt)
        value = None if passed is None or value is None else passed + gamma * value
        returns_S = [value, value, *returns_S]
    return returns_S[1:]  # nothing was written before the first try
