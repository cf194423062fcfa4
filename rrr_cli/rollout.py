"""The loop itself: attempt, reflect, retry. Shared by mine-failures, reflect and eval; GRPO uses its judge.

Prompts come from `prompts.py`, text from an engine, verdicts from the task; rows come out, nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rrr_cli.engines.base import Completion, Engine, Prompt, Sampling
from rrr_cli.prompts import reflect_chat, retry_chat
from rrr_cli.records import Attempt, Message, Problem, Reflection, content_id, derive_seed
from rrr_cli.tasks.base import Task


class Failed(Protocol):
    """What a reflection needs to know of a failed attempt: an `Attempt` has it."""

    @property
    def attempt_id(self) -> str: ...
    @property
    def transcript(self) -> list[Message]: ...


@dataclass(frozen=True)
class Loop:
    """One engine on one task with one way to sample. `seed` and the row's own ids fix every sample's seed."""

    task: Task
    engine: Engine
    sampling: Sampling
    seed: int = 0
    retry_context: str = "full"
    reflection_max_tokens: int = 512

    def attempt(
        self, problems_B: Sequence[Problem], samples: range, phase: str = "first"
    ) -> list[list[Attempt]]:
        """Tries number `samples` at each problem: attempts_B_N."""
        prompts = [
            Prompt(tuple(p.prompt), tuple(self._seed(phase, p.problem_id, i) for i in samples), p.tools)
            for p in problems_B
        ]
        completions_B_N = self.engine.generate(prompts, self.sampling)
        return [
            [self._judge(p, c, phase, i, s) for i, s, c in zip(samples, prompt.seeds, completions_N, strict=True)]
            for p, prompt, completions_N in zip(problems_B, prompts, completions_B_N, strict=True)
        ]

    def reflect(
        self, problems_B: Sequence[Problem], failed_B: Sequence[Failed], samples: range
    ) -> list[list[Reflection]]:
        """Reflections number `samples` on each failed attempt: reflections_B_N."""
        prompts = [
            Prompt(
                reflect_chat(p.prompt, a.transcript, self.task.reflect_request),
                tuple(self._seed("reflect", a.attempt_id, i) for i in samples),
                p.tools,
            )
            for p, a in zip(problems_B, failed_B, strict=True)
        ]
        sampling = Sampling(self.sampling.temperature, self.sampling.top_p, self.reflection_max_tokens)
        completions_B_N = self.engine.generate(prompts, sampling)
        rows: list[list[Reflection]] = []
        for p, a, prompt, completions_N in zip(problems_B, failed_B, prompts, completions_B_N, strict=True):
            rows.append([
                Reflection(
                    reflection_id=content_id("reflection", a.attempt_id, self.engine.fingerprint, sampling, s),
                    attempt_id=a.attempt_id, problem_id=p.problem_id, reflector=self.engine.model, sample_index=i,
                    text=c.text, tokens=c.tokens, finish_reason=c.finish_reason, seed=s,
                    temperature=sampling.temperature, leaks_reference=self.task.leaks(p, c.text),
                )
                for i, s, c in zip(samples, prompt.seeds, completions_N, strict=True)
            ])
        return rows

    def retry(
        self, problems_B: Sequence[Problem], failed_B: Sequence[Failed], reflections_B: Sequence[Reflection | None],
        samples: range,
    ) -> list[list[Attempt]]:
        """Retries number `samples` of each failed attempt after its reflection, or (None) without one: attempts_B_N."""
        prompts = [
            Prompt(
                retry_chat(
                    p.prompt, a.transcript, r.text if r else None, self.task.reflect_request,
                    self.task.retry_request, self.retry_context,
                ),
                tuple(self._seed("retry", a.attempt_id, r.reflection_id if r else None, i) for i in samples),
                p.tools,
            )
            for p, a, r in zip(problems_B, failed_B, reflections_B, strict=True)
        ]
        completions_B_N = self.engine.generate(prompts, self.sampling)
        return [
            [
                self._judge(p, c, "retry", i, s, a.attempt_id, r.reflection_id if r else None)
                for i, s, c in zip(samples, prompt.seeds, completions_N, strict=True)
            ]
            for p, a, r, prompt, completions_N in zip(
                problems_B, failed_B, reflections_B, prompts, completions_B_N, strict=True
            )
        ]

    def _seed(self, *parts: object) -> int:
        return derive_seed(self.seed, *parts)

    def _judge(
        self, problem: Problem, completion: Completion, phase: str, index: int, seed: int,
        parent_id: str | None = None, reflection_id: str | None = None,
    ) -> Attempt:
        transcript = [Message("assistant", completion.text)]
        verdict = self.task.verify(problem, transcript)
        return Attempt(
            attempt_id=content_id(
                phase, problem.problem_id, parent_id, reflection_id, self.engine.fingerprint, self.sampling,
                self.retry_context, index, seed,
            ),
            problem_id=problem.problem_id, task=problem.task, split=problem.split, difficulty=problem.difficulty,
            model=self.engine.model, phase=phase, sample_index=index, transcript=transcript,
            success=verdict.success, score=verdict.score, error_type=verdict.error_type, feedback=verdict.feedback,
            answer=verdict.answer, prompt_tokens=completion.prompt_tokens, completion_tokens=completion.tokens,
            finish_reason=completion.finish_reason, seed=seed, temperature=self.sampling.temperature,
            parent_id=parent_id, reflection_id=reflection_id,
        )
