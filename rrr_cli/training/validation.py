"""The held-out curve of a training: every few steps the policy tries problems of the train split kept aside for it.

`Validator` gives rows of the table `validations`; `curve` reads them back: shares by step, the best step, and how much
training it took to get near it. The problems kept aside depend on their ids alone, and their seeds are the same at each
step, so steps are compared on the same draws. Never reads the test split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from rrr_cli.engines.base import Sampling
from rrr_cli.engines.prefix_cache import PrefixCache
from rrr_cli.failures import Failure
from rrr_cli.metrics import rate
from rrr_cli.options import DEFAULT_FEEDBACK
from rrr_cli.records import Problem, Validation, derive_seed
from rrr_cli.rollout import Loop
from rrr_cli.store.artifacts import read
from rrr_cli.tasks.base import Task
from rrr_cli.training.judge import judge, verdict_of
from rrr_cli.training.policy import Policy
from rrr_cli.training.policy_engine import PolicyEngine, in_memory
from rrr_cli.training.settings import Options, Recipe
from rrr_cli.training.sharded import gathered
from rrr_cli.training.untrained import writers

NEAR = 0.95  # share of the gain after which a training counts as converged


@dataclass(frozen=True)
class Validator:
    """Tries the kept problems with the policy as it is at a step."""

    problems: Sequence[Problem]
    task: Task
    policy: Policy
    options: Options
    recipe: Recipe

    def due(self, step: int) -> bool:
        """Whether a test follows this step."""
        return step % (self.options.eval_every or 1) == 0

    def rows(self, trainer: Any, generated_tokens: int) -> list[dict[str, Any]]:
        """Rows of `validations`, of the problems in order; each process tries its share of them.

        Our own decoding writes, with --vllm too: vLLM may hold the weights of the step before. A problem whose try
        couldn't be judged has no row.
        """
        accelerator, stops = trainer.accelerator, trainer.eos_token_ids
        step = int(trainer.state.global_step)
        # Equal at each step, and so are the seeds that depend on it.
        engine = PolicyEngine(self.policy, in_memory(trainer, PrefixCache()), 0, self.policy.window, stops)
        # With --freeze-actor the untrained model tries and retries, as in the training.
        untrained = trainer.rollout_func.untrained
        actor = untrained.engine(trainer, self.policy.window, PrefixCache()) if untrained else None
        own = list(enumerate(self.problems))[accelerator.process_index :: accelerator.num_processes]
        tried: list[tuple[int, dict[str, Any]]] = []
        with gathered(*writers(trainer, untrained)):
            for start in range(0, len(own), self.recipe.batch):
                part = own[start : start + self.recipe.batch]
                rows = self._try(self._loop(engine, actor), [problem for _, problem in part])
                tried += [
                    (i, asdict(Validation(step=step, generated_tokens=generated_tokens, **row)))
                    for (i, _), row in zip(part, rows, strict=True) if row is not None
                ]
        return [row for _, row in sorted(gather_object(tried), key=lambda entry: entry[0])]

    def _loop(self, engine: PolicyEngine, actor: PolicyEngine | None) -> Loop:
        options, recipe = self.options, self.recipe
        return Loop(
            self.task, engine, Sampling.of(options, max_tokens=recipe.max_tokens),
            derive_seed(options.seed, "validation"), options.retry_context, recipe.reflection_tokens,
            options.feedback or DEFAULT_FEEDBACK, actor, judge,
        )

    @staticmethod
    def _try(loop: Loop, problems: Sequence[Problem]) -> list[dict[str, Any] | None]:
        """A row a problem but for its step: a first try and, where it failed, a reflection and a retry."""
        firsts = [attempts[0] for attempts in loop.acting.attempt(problems, range(1))]
        failed = [i for i, first in enumerate(firsts) if verdict_of(first) is False]
        failures = [Failure.of(problems[i], firsts[i]) for i in failed]
        reflections = [rows[0] for rows in loop.reflect(failures, range(1))]
        retries = [rows[0] for rows in loop.retry(list(zip(failures, reflections, strict=True)), range(1))]
        second = dict(zip(failed, zip(reflections, retries, strict=True), strict=True))
        rows: list[dict[str, Any] | None] = []
        for i, first in enumerate(firsts):
            reflection, retry = second.get(i, (None, None))
            if verdict_of(first) is None or (retry is not None and verdict_of(retry) is None):
                rows.append(None)
                continue
            written = [first.completion_tokens, reflection and reflection.tokens, retry and retry.completion_tokens]
            rows.append({
                "problem_id": first.problem_id, "first_success": first.success,
                "second_success": retry.success if retry else None, "tokens": sum(tokens or 0 for tokens in written),
                "reflection": reflection.text if reflection else None,
                "solves": reflection.solves if reflection else None,
            })
        return rows


def curve(run: Path) -> list[dict[str, Any]]:
    """One entry a step: n, shares of problems solved by the first try and within two, tokens of training until then."""
    by_step: dict[int, list[Validation]] = {}
    for row in read(run, "validations"):
        by_step.setdefault(row.step, []).append(row)
    return [
        {
            "step": step, "n": len(rows), "first_try": sum(row.first_success for row in rows) / len(rows),
            "second_try": sum(row.first_success or bool(row.second_success) for row in rows) / len(rows),
            "generated_tokens": rows[0].generated_tokens,
        }
        for step, rows in sorted(by_step.items())
    ]


def best(points: Sequence[dict[str, Any]], measure: str) -> dict[str, Any] | None:
    """The point with the highest share by `measure`, the earliest of equals."""
    return max(points, key=lambda point: (point[measure], -point["step"]), default=None)


def summary(run: Path, measure: str, samples: int) -> dict[str, Any]:
    """The curve, its best step, and the samples to convergence: what training had generated at the first tested step
    that has `NEAR` of the gain from the untrained model to the best step. `samples` are those of a step."""
    points = curve(run)
    top = best(points, measure)
    if top is None:
        return {}
    start = points[0][measure]
    near = next(point for point in points if point[measure] >= start + NEAR * (top[measure] - start))
    interval = rate([True] * round(top[measure] * top["n"]) + [False] * round((1 - top[measure]) * top["n"]))
    return {
        "measure": measure, "curve": points, "best_step": top["step"], "best": asdict(interval) if interval else None,
        "converged": {
            "step": near["step"], "samples": near["step"] * samples, "generated_tokens": near["generated_tokens"]},
    }
