"""The reward of a sample: does its try pass? The try is the retry after a reflection, or a first answer.

With the objective reflection GRPO's completion is the reflection alone. The retry is written here, inside the reward,
so its tokens never enter the training forward, and "only reflections are trained" holds by construction (RRR, section
3). With the others the completion holds the try already. Reads the failures; writes nothing: it keeps one `Judged` a
sample for the recorder. Refuses to score what couldn't be judged: None, left out of the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from rrr_cli.errors import RrrError
from rrr_cli.prompts import retry_chat
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.base import Task, Verdict, verify_all
from rrr_cli.training.dataset import Render, Row
from rrr_cli.training.settings import ANSWER

JUDGE_CRASHED = "judge_crashed"

# prompts_ids_B, purpose, most new tokens -> completions_ids_B, in the same order
Sample = Callable[[list[list[int]], str, int], list[list[int]]]
# token ids of a reflection, None where there is none, and of the try that is judged
Turns = tuple[list[int] | None, list[int]]


@dataclass(frozen=True)
class Judged:
    """A sample and its verdict, before the group's advantage is known."""

    failure: Row
    reflection: str | None
    tried: str  # the retry, or the answer
    success: bool | None
    error_type: str | None
    reward: float | None
    reflection_tokens: int
    try_tokens: int
    reflection_finish: str | None
    try_finish: str
    leaks_reference: bool | None

    @property
    def generated_tokens(self) -> int:
        """What the sample cost."""
        return self.reflection_tokens + self.try_tokens


class VerifierReward:
    """A TRL reward function. After each call `judged_B` holds this process's batch, in the order of its completions."""

    def __init__(
        self, failures: Sequence[Row], task: Task, render: Render, decode: Callable[[list[int]], str],
        objective: str, retry_context: str, retry_tokens: int, zero_leaks: bool,
    ) -> None:
        self.__name__ = "passes"  # TRL names its metric after it
        self.failures, self.task, self.render, self.decode = failures, task, render, decode
        self.objective, self.zero_leaks = objective, zero_leaks
        self.retry_context, self.retry_tokens = retry_context, retry_tokens
        self.sample: Sample  # the trainer's own, and its stop tokens: set once it exists
        self.stops: Sequence[int] = ()
        self.judged_B: list[Judged] = []
        self.seconds = 0.0

    def __call__(
        self, completion_ids: list[list[int]], failure: list[int], turns: list[Turns] | None = None, **columns: Any
    ) -> list[float | None]:
        """rewards_B: 1.0 where the try passes, 0.0 where it doesn't, None where the judge crashed.

        `turns` are the parts of a completion that is a whole conversation.
        """
        start = perf_counter()
        failures_B = [self.failures[index] for index in failure]
        if turns is None and self.objective == ANSWER:
            turns = [(None, ids) for ids in completion_ids]
        elif turns is None:
            turns = self._retry(failures_B, completion_ids)
        tried_B = [self.decode(try_ids) for _, try_ids in turns]
        verdicts_B = self._verify(
            [(f.problem, [Message("assistant", tried)]) for f, tried in zip(failures_B, tried_B, strict=True)]
        )
        self.judged_B = [
            self._judged(f, *ids, tried, verdict)
            for f, ids, tried, verdict in zip(failures_B, turns, tried_B, verdicts_B, strict=True)
        ]
        self.seconds = perf_counter() - start
        return [judged.reward for judged in self.judged_B]

    def _retry(self, failures_B: list[Row], reflections_ids_B: list[list[int]]) -> list[Turns]:
        prompts_B = [
            self._retry_prompt(f, self.decode(ids)) for f, ids in zip(failures_B, reflections_ids_B, strict=True)
        ]
        retries_ids_B = self.sample(prompts_B, "retry", self.retry_tokens)
        return list(zip(reflections_ids_B, retries_ids_B, strict=True))

    def _retry_prompt(self, failure: Row, reflection: str) -> list[int]:
        chat = retry_chat(
            failure.problem.prompt, failure.failure.transcript, reflection, self.task.words["reflect"],
            self.task.words["retry"], self.retry_context,
        )
        return self.render(chat, failure.problem.tools)

    def _judged(
        self, failure: Row, reflection_ids: list[int] | None, try_ids: list[int], tried: str,
        verdict: Verdict | None,
    ) -> Judged:
        reflection = None if reflection_ids is None else self.decode(reflection_ids)
        leaks = None if reflection is None else self.task.leaks(failure.problem, reflection)
        reward = None
        if verdict is not None:
            reward = float(verdict.success and not (leaks and self.zero_leaks))
        return Judged(
            failure=failure, reflection=reflection, tried=tried,
            success=verdict.success if verdict else None,
            error_type=verdict.error_type if verdict else JUDGE_CRASHED,
            reward=reward, reflection_tokens=len(reflection_ids or ()), try_tokens=len(try_ids),
            reflection_finish=None if reflection_ids is None else self._finish(reflection_ids),
            try_finish=self._finish(try_ids), leaks_reference=leaks,
        )

    def _finish(self, ids: list[int]) -> str:
        return "stop" if ids and ids[-1] in self.stops else "length"

    def _verify(self, pairs: list[tuple[Problem, list[Message]]]) -> list[Verdict | None]:
        """The verdicts, together; where that crashes one by one, None for those that crash.

        A bug of a task must neither end a long training nor pass for a wrong answer. Raises RrrError: no judging here.
        """
        try:
            return list(verify_all(self.task, pairs))
        except RrrError:
            raise
        except Exception:
            return [None] if len(pairs) == 1 else [v for pair in pairs for v in self._verify([pair])]
