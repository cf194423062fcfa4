"""The reward of a reflection: does the retry that follows it pass?

GRPO's completion is the reflection alone. The retry is written here, inside the reward, so its tokens never enter the
training forward, and "only reflections are trained" holds by construction (RRR, section 3). Reads the failures; writes
nothing: it keeps one `Judged` a reflection for the recorder. Refuses to score what couldn't be judged: None, left out
of the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from rrr_cli.prompts import retry_chat
from rrr_cli.records import Message
from rrr_cli.tasks.base import Task, Verdict
from rrr_cli.training.dataset import Failure, Render

JUDGE_CRASHED = "judge_crashed"

# prompts_ids_B, purpose, most new tokens -> completions_ids_B, in the same order
Sample = Callable[[list[list[int]], str, int], list[list[int]]]


@dataclass(frozen=True)
class Judged:
    """A reflection, its retry, and the verdict, before the group's advantage is known."""

    failure: Failure
    reflection: str
    retry: str
    success: bool | None
    error_type: str | None
    reward: float | None
    reflection_tokens: int
    retry_tokens: int
    reflection_finish: str
    leaks_reference: bool


class RetryReward:
    """A TRL reward function. After each call `judged_B` holds this process's batch, in the order of its completions."""

    def __init__(
        self, failures: Sequence[Failure], task: Task, render: Render, decode: Callable[[list[int]], str],
        retry_context: str, retry_tokens: int, zero_leaks: bool,
    ) -> None:
        self.__name__ = "retry_passes"  # TRL names its metric after it
        self.failures, self.task, self.render, self.decode = failures, task, render, decode
        self.retry_context, self.retry_tokens, self.zero_leaks = retry_context, retry_tokens, zero_leaks
        self.sample: Sample  # the trainer's own, and its stop tokens: set once it exists
        self.stops: Sequence[int] = ()
        self.judged_B: list[Judged] = []
        self.seconds = 0.0

    def __call__(
        self, completion_ids: list[list[int]], failure: list[int], **columns: Any
    ) -> list[float | None]:
        """rewards_B: 1.0 where the retry passes, 0.0 where it doesn't, None where the judge crashed."""
        start = perf_counter()
        failures_B = [self.failures[index] for index in failure]
        reflections_B = [self.decode(ids) for ids in completion_ids]
        prompts_B = [self._retry_prompt(f, text) for f, text in zip(failures_B, reflections_B, strict=True)]
        retries_B = self.sample(prompts_B, "retry", self.retry_tokens)
        self.judged_B = [
            self._judge(f, text, ids, retry)
            for f, text, ids, retry in zip(failures_B, reflections_B, completion_ids, retries_B, strict=True)
        ]
        self.seconds = perf_counter() - start
        return [judged.reward for judged in self.judged_B]

    def _retry_prompt(self, failure: Failure, reflection: str) -> list[int]:
        chat = retry_chat(
            failure.problem.prompt, failure.attempt.transcript, reflection, self.task.reflect_request,
            self.task.retry_request, self.retry_context,
        )
        return self.render(chat, failure.problem.tools)

    def _judge(self, failure: Failure, reflection: str, ids: list[int], retry_ids: list[int]) -> Judged:
        retry = self.decode(retry_ids)
        leaks = self.task.leaks(failure.problem, reflection)
        verdict = self._verify(failure, retry)
        reward = None
        if verdict is not None:
            reward = float(verdict.success and not (leaks and self.zero_leaks))
        return Judged(
            failure=failure, reflection=reflection, retry=retry,
            success=verdict.success if verdict else None,
            error_type=verdict.error_type if verdict else JUDGE_CRASHED,
            reward=reward, reflection_tokens=len(ids), retry_tokens=len(retry_ids),
            reflection_finish="stop" if ids and ids[-1] in self.stops else "length", leaks_reference=leaks,
        )

    def _verify(self, failure: Failure, retry: str) -> Verdict | None:
        try:
            return self.task.verify(failure.problem, [Message("assistant", retry)])
        except Exception:  # a task's bug must neither end a long training nor pass for a wrong answer
            return None
