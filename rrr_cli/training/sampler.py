"""One step's samples: TRL's rollout function, which turns failures into token ids, and the reward of each.

The dataset's prompt is the index of a failure; an objective says what is written about it. A sample's seed depends on
the run's seed, the step, the failed attempt and the sample's number in its group, so neither resuming, nor the number
of processes, nor micro-batches change it. Reads and writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import groupby
from time import perf_counter
from typing import Any

from accelerate.utils import gather_object

from rrr_cli.engines.base import Sampling
from rrr_cli.engines.prefix_cache import PrefixCache
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.failures import Failure
from rrr_cli.options import DEFAULT_FEEDBACK
from rrr_cli.plugs import blame
from rrr_cli.records import derive_seed
from rrr_cli.rollout import Loop
from rrr_cli.tasks.base import Task
from rrr_cli.training.judge import judge
from rrr_cli.training.objectives.base import Objective
from rrr_cli.training.policy import Policy
from rrr_cli.training.policy_engine import PolicyEngine, in_memory, open_anywhere, with_vllm
from rrr_cli.training.refill import refilled, spare
from rrr_cli.training.samples import Group, Sample
from rrr_cli.training.settings import Options, Recipe
from rrr_cli.training.sharded import gathered
from rrr_cli.training.untrained import Untrained, writers


class Sampler:
    """A rollout function of TRL: `sampler(prompts, trainer)`."""

    def __init__(
        self, objective: Objective, failures: Sequence[Failure], task: Task, policy: Policy, options: Options,
        recipe: Recipe, window: int,
    ) -> None:
        self.objective, self.failures, self.task, self.policy = objective, failures, task, policy
        self.options, self.recipe, self.window = options, recipe, window
        self.untrained = Untrained(policy) if options.freeze_actor else None

    def __call__(self, prompts: list[int], trainer: Any) -> dict[str, Any]:
        """The samples of this process's rows; `prompts` are indices of failures, a group's one after the other.

        What isn't one of TRL's own names becomes a column of the rows that the trainer and the reward get.
        """
        start = perf_counter()
        policy, untrained = PrefixCache(), PrefixCache()  # for this call alone: the weights change after it
        first = trainer.accelerator.process_index * len(prompts)  # row of the step's whole batch
        engine = self._engine(trainer, policy)
        rows = list(enumerate(prompts, start=first))
        loop, size = self._loop(engine, trainer, untrained), self.recipe.group

        def write(fresh: dict[int, int]) -> list[Sample]:
            return self._written([(row, fresh[row // size]) for row, _ in rows if row // size in fresh], loop, trainer)

        with nullcontext() if trainer.use_vllm else gathered(*writers(trainer, self.untrained)):
            samples, replaced = refilled(
                self._written(rows, loop, trainer), self.options.refill, self._spare(prompts, trainer), write,
                lambda samples: weighed(self.objective, samples, trainer.accelerator.process_index))
        reflect = engine.seconds_reflecting
        spent = [reflect, perf_counter() - start - reflect]
        if not trainer.use_vllm:
            spent += [policy.prefilled + untrained.prefilled, policy.reused + untrained.reused]
        policy.clear()  # the update needs the memory
        untrained.clear()
        return as_columns(samples) | {"spent": tuple(spent), "replaced": tuple(replaced)}  # lists would be of rows

    def _written(self, rows: list[tuple[int, int]], loop: Loop, trainer: Any) -> list[Sample]:
        """A sample of each row of the step's whole batch (its number, the index of its failure), with its reward."""
        size = self.recipe.group
        groups = [self._group(list(members)) for _, members in groupby(rows, key=lambda row: row[0] // size)]
        with blame("objective", self.objective, "complete()"):
            samples = self.objective.complete(groups, loop, trainer.eos_token_ids)
        with blame("objective", self.objective, "reward()"):
            return [
                replace(
                    sample, group=row // size, sample_index=row % size,
                    reward=checked(self.objective, self.objective.reward(sample)),
                )
                for (row, _), sample in zip(rows, samples, strict=True)
            ]

    def _spare(self, prompts: list[int], trainer: Any) -> list[int]:
        """The failures that --refill may take, which no process has a group about."""
        if not self.options.refill:
            return []
        return spare(len(self.failures), gather_object(prompts), self.options.seed, trainer.state.global_step)

    def _group(self, members: list[tuple[int, int]]) -> Group:
        """Rows of one group: its failure, and which of its samples they are."""
        (row, failure), size = members[0], self.recipe.group
        return Group(self.failures[failure], range(row % size, row % size + len(members)))

    def _engine(self, trainer: Any, cache: PrefixCache) -> PolicyEngine:
        generate = with_vllm(trainer) if trainer.use_vllm else in_memory(trainer, cache)
        return PolicyEngine(self.policy, generate, trainer.state.global_step, self.window, trainer.eos_token_ids)

    def _loop(self, engine: PolicyEngine, trainer: Any, untrained: PrefixCache) -> Loop:
        options, recipe = self.options, self.recipe
        return Loop(
            self.task, engine, Sampling.of(options, max_tokens=recipe.max_tokens),
            derive_seed(options.seed, "grpo", trainer.state.global_step), options.retry_context,
            recipe.reflection_tokens, options.feedback or DEFAULT_FEEDBACK,
            actor=self.untrained.engine(trainer, self.window, untrained) if self.untrained else None, judge=judge,
            any_open=open_anywhere if trainer.use_vllm else bool,
        )


def checked(objective: Objective, reward: Any) -> float | None:
    """A reward as a number. Raises RrrError (exit 2): it is neither a finite number nor None."""
    if reward is None:
        return None
    if not isinstance(reward, float | int) or not math.isfinite(reward):
        raise RrrError(f"the objective {type(objective).__name__}: reward() returns {reward!r}, not a number or None",
                       USAGE)
    return float(reward)


def weighed(objective: Objective, samples: list[Sample], process: int) -> list[Sample]:
    """This process's samples with the objective's own advantages, which are of the samples of all processes.

    Raises RrrError (exit 2): they aren't one finite number a token.
    """
    weigh = getattr(objective, "advantages", None)
    if weigh is None:
        return samples
    everyone: list[Sample] = gather_object(samples)
    with blame("objective", objective, "advantages()"):
        advantages_B = weigh(everyone)
        if advantages_B is None:
            return samples
        right = [len(row) for row in advantages_B] == [len(sample.completion.ids) for sample in everyone] and all(
            math.isfinite(value) for row in advantages_B for value in row)
    if not right:
        raise RrrError(
            f"the objective {type(objective).__name__}: advantages() returns {short(advantages_B)}: it is a list a "
            "sample, with one finite number for each token of its completion", USAGE)
    own = advantages_B[process * len(samples) : (process + 1) * len(samples)]
    return [replace(sample, advantages=list(row)) for sample, row in zip(samples, own, strict=True)]


def short(value: Any, most: int = 80) -> str:
    """What Python shows of a value, cut."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def as_columns(samples: Sequence[Sample]) -> dict[str, Any]:
    """The samples as TRL takes them; `env_mask` is 0 where a token of the completion isn't trained."""
    logps = [sample.completion.logps for sample in samples]
    return {
        "prompt_ids": [sample.prompt_ids for sample in samples],
        "completion_ids": [sample.completion.ids for sample in samples],
        "env_mask": [sample.completion.mask for sample in samples],
        "logprobs": None if None in logps else logps,
        "sample": list(samples),
    }


def passes(sample: Sequence[Sample], **columns: Any) -> list[float | None]:
    """The reward function: what the objective gave each sample. TRL names its metric after it."""
    return [one.reward for one in sample]
