"""What a training run leaves behind, step by step: rows, checkpoints, progress; and when it stops early.

A checkpoint is the commit: it holds the rows of its steps, and only once it is whole are they appended to the tables
`rollouts`, `steps` and `validations`. A run killed between the two appends them when it resumes. So after a SIGKILL at
any moment, resuming loses, doubles or tears no row, and what the steps so far have cost stands in their rows. Refuses
to continue when the loss is not a number, when every judge crashed, or when nothing was ever rewarded.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rrr_cli.errors import BUG, NOTHING, RrrError
from rrr_cli.progress import Work
from rrr_cli.records import Message, Rollout, TrainStep, Validation
from rrr_cli.rollout import transcript_text
from rrr_cli.store import artifacts
from rrr_cli.training import checkpoints, validation
from rrr_cli.training.judge import verdict_of
from rrr_cli.training.objectives import OBJECTIVES
from rrr_cli.training.samples import Batch, Sample, by_group, is_dead
from rrr_cli.training.trainer import PolicyTrainer
from rrr_cli.training.validation import Validator

ROWS = "rows.json"  # in a checkpoint: the rows of the steps since the one before
NO_REWARD_STEPS = 10  # a model whose first steps earn nothing at all has nothing to learn from


class Ledger:
    """The tables of one training run. Each step is appended once, however often a checkpoint offers it."""

    def __init__(self, writers: Mapping[str, artifacts.Writer], run: Path) -> None:
        self.writers = writers
        self.run = run
        # The last step that each table has; a test of the untrained model is of step 0.
        self.last = {
            table: max((row["step"] for row in artifacts.read(run, table, columns=["step"])),
                       default=-1 if table == "validations" else 0)
            for table in writers
        }

    @property
    def trained(self) -> int:
        """The last step of which all rows are there."""
        return min(self.last["rollouts"], self.last["steps"])

    def commit(self, checkpoint: Path) -> None:
        """Append the rows that a whole checkpoint holds, where the tables don't have them yet."""
        rows = json.loads((checkpoint / ROWS).read_text())
        for table, writer in self.writers.items():
            writer.append([STORED[table](**row) for row in rows[table] if row["step"] > self.last[table]])
            self.last[table] = max(self.last[table], rows["steps"][-1]["step"])

    def catch_up(self, checkpoint: Path | None) -> None:
        """Bring the tables up to the checkpoint that is resumed from; None starts afresh.

        Raises RrrError where the two don't belong together: one of them was removed by hand.
        """
        first = 1
        if checkpoint is not None:
            first = json.loads((checkpoint / ROWS).read_text())["steps"][0]["step"]
        step = self.trained
        if (checkpoint is None and step) or step < first - 1:
            newest = f"the checkpoint {checkpoint.name}" if checkpoint else "no whole checkpoint"
            raise RrrError(f"{self.run}: tables end at step {step}, but there is {newest}: start anew with --overwrite")
        if checkpoint is not None:
            self.commit(checkpoint)

    def rewarded(self, objective: str) -> bool:
        """Whether any try of any step so far passed; with an objective of a user's own, whether any was rewarded."""
        if objective in OBJECTIVES:
            rows = artifacts.read(self.run, "rollouts", columns=["judged_passed"])
            return any(row["judged_passed"] for row in rows)
        return any(row["reward"] for row in artifacts.read(self.run, "rollouts", columns=["reward"]))


def tokens_spent(run: Path, step: int) -> int:
    """All tokens that were generated up to and with `step`. The table may hold more steps than a checkpoint."""
    rows = artifacts.read(run, "steps", columns=["step", "generated_tokens"])
    return sum(row["generated_tokens"] for row in rows if row["step"] <= step)


class Recorder(TrainerCallback):  # type: ignore[misc]
    """Follows a PolicyTrainer. `ledger` is None in every process but the first, which alone writes.

    `objective` is its name. `spent`: tokens that earlier steps generated; training stops after the step in which they
    reach `budget`. `validator` tests the policy, if --eval-every asks for it.
    """

    def __init__(
        self, trainer: PolicyTrainer, work: Work, folder: Path, config_id: str, save_every: int,
        ledger: Ledger | None, objective: str, spent: int, budget: int | None, validator: Validator | None = None,
        measure: str = "second_try",
    ) -> None:
        self.trainer, self.work, self.folder, self.config_id = trainer, work, folder, config_id
        self.objective, self.validator, self.measure = objective, validator, measure
        self.save_every, self.ledger, self.spent, self.budget = save_every, ledger, spent, budget
        self.rewarded = ledger is not None and ledger.rewarded(objective)
        self.batches: list[Batch] = []  # of the step, one of every process
        self.samples: list[Sample] = []  # of all of them
        self.replaced: list[Sample] = []  # likewise, by --refill
        self.pending: dict[str, list[dict[str, Any]]] = {table: [] for table in STORED}
        self.interrupted = self.hopeless = False
        self.started = 0.0
        self.tested = False  # whether a test of the policy follows the step

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Test the untrained model."""
        if state.global_step == 0:
            self._validate()

    def _validate(self) -> None:
        if self.validator is not None:
            self.work.count(0, f"testing on {len(self.validator.problems)} problems kept aside")
            self.pending["validations"] += self.validator.rows(self.trainer, self.spent)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.started = perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Collect the step from every process; decide, the same in each, whether to checkpoint and whether to stop."""
        parts = gather_object([(self.trainer.batch, self.work.interrupted, self.rewarded)])
        self.batches = [batch for batch, _, _ in parts]
        self.samples = [sample for batch in self.batches for sample in batch.samples]
        self.replaced = [sample for batch in self.batches for sample in batch.replaced]
        everything = self.samples + self.replaced
        rewards = [sample.reward for sample in self.samples if sample.reward is not None]
        if not rewards:
            raise RrrError(
                f"step {state.global_step}: no sample has a reward: the task's verify() crashed on each, or the "
                "objective gave None", BUG)
        earned = any(sample.reward for sample in everything)
        if self.objective in OBJECTIVES:  # a cost of length is a reward other than 0, too
            earned = any(verdict_of(one) for sample in everything for one in sample.tries)
        self.rewarded = earned or any(rewarded for *_, rewarded in parts)
        self.interrupted = any(interrupted for *_, interrupted, _ in parts)
        self.spent += sum(sample.generated_tokens for sample in everything)
        ended = state.global_step == state.max_steps or (self.budget is not None and self.spent >= self.budget)
        self.hopeless = not self.rewarded and (ended or state.global_step >= NO_REWARD_STEPS)
        control.should_training_stop = ended or self.interrupted or self.hopeless
        self.tested = self.validator is not None and (ended or self.validator.due(state.global_step))
        control.should_save = (
            control.should_training_stop or self.tested or state.global_step % self.save_every == 0)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:
        """Turn the step into rows, once the trainer has reported its loss."""
        if logs is None or "loss" not in logs:  # the summary at the end
            return
        if not math.isfinite(logs["loss"] + logs["grad_norm"]):
            raise RrrError(
                f"step {state.global_step}: the loss is {logs['loss']}, its gradient {logs['grad_norm']}: try a lower "
                f"--lr with --overwrite",
                NOTHING,
            )
        step = train_step(
            state.global_step, self.samples, logs, perf_counter() - self.started, self.trainer.batch.seconds_reflect,
            self.trainer.batch.seconds_try, self.objective, self.replaced, self.trainer.skips_dead_groups,
        )
        step = replace(
            step, prefilled_tokens=total(batch.prefilled for batch in self.batches),
            reused_tokens=total(batch.reused for batch in self.batches))
        self.pending["steps"].append(asdict(step))
        self.pending["rollouts"] += [asdict(rollout(state.global_step, sample)) for sample in self.samples]
        done = 1 if self.budget is None else step.generated_tokens or 0
        self.work.count(done, f"reward {step.reward_mean:.2f}  {step.seconds:.1f} s a step")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal the checkpoint that transformers has just written, rows included; then append the rows."""
        if self.tested:
            self._validate()
        self.trainer.accelerator.wait_for_everyone()  # each process has written its random state
        if self.ledger is not None:
            partial = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (partial / ROWS).write_text(json.dumps(self.pending))
            checkpoint = checkpoints.path_of(self.folder, state.global_step)
            checkpoints.seal(partial, checkpoint, self.config_id)
            self.ledger.commit(checkpoint)
            best = validation.best(validation.curve(self.ledger.run), self.measure) if self.validator else None
            checkpoints.prune(self.folder, {best["step"]} if best else ())
        self.pending = {table: [] for table in STORED}
        self.trainer.accelerator.wait_for_everyone()


def stored_rollout(**columns: Any) -> Rollout:
    """A rollout as a checkpoint holds it, its turns as JSON."""
    for name in ("transcript", "conversation"):
        turns = columns.pop(name)
        columns[name] = None if turns is None else [Message(**turn) for turn in turns]
    return Rollout(**columns)


#: Table -> what makes a record of a row as a checkpoint holds it.
STORED: dict[str, Callable[..., Any]] = {
    "rollouts": stored_rollout, "steps": TrainStep, "validations": Validation,
}


def rollout(step: int, sample: Sample) -> Rollout:
    """One row of the table `rollouts`. A try after a reflection is a retry, and any other is an answer."""
    reflection, attempt = sample.reflection, sample.attempt
    text = transcript_text(attempt.transcript)
    return Rollout(
        step=step, group=sample.group, sample_index=sample.sample_index, problem_id=sample.failure.problem.problem_id,
        attempt_id=sample.failure.attempt_id, reflection=reflection.text if reflection else None,
        retry=text if reflection else None, success=verdict_of(attempt), error_type=attempt.error_type,
        reward=sample.reward, advantage=sample.advantage,
        reflection_tokens=(reflection.tokens or 0) if reflection else 0,
        retry_tokens=(attempt.completion_tokens or 0) if reflection else 0, trained_tokens=sample.trained_tokens,
        reflection_finish=reflection.finish_reason if reflection else None,
        answer=None if reflection else text,
        try_finish=attempt.finish_reason, generated_tokens=sample.generated_tokens,
        transcript=attempt.transcript if len(attempt.transcript) > 1 else None,
        reflection_thought=reflection.thought if reflection else None, solves=reflection.solves if reflection else None,
        judged=len(sample.tries), judged_passed=sum(bool(verdict_of(one)) for one in sample.tries),
        conversation=list(sample.conversation) if sample.conversation is not None else None,
    )


def train_step(
    step: int, samples: Sequence[Sample], logs: dict[str, Any], seconds: float, reflect: float, retry: float,
    objective: str, replaced: Sequence[Sample], skips: bool,
) -> TrainStep:
    """One row of the table `steps`. Loss, KL, entropy, gradient norm and rate are the trainer's own.

    `replaced`: samples that --refill wrote others in place of; `skips`: dead groups were left out of the update."""
    rewards = [sample.reward for sample in samples if sample.reward is not None]
    groups = by_group(samples)
    dead = sum(map(is_dead, groups.values()))
    reflections = [reflection for sample in samples for reflection in sample.reflections]
    tries = [attempt for sample in samples for attempt in sample.tries]
    retries = [attempt for attempt in tries if attempt.reflection_id is not None]
    answers = [attempt for attempt in tries if attempt.reflection_id is None]
    return TrainStep(
        step=step, loss=logs["loss"], kl=logs.get("kl"), reward_mean=statistics.fmean(rewards),
        reward_std=statistics.pstdev(rewards),
        dead_groups=dead / len(groups),
        reflection_length=statistics.fmean(r.tokens or 0 for r in reflections) if reflections else None,
        retry_length=statistics.fmean(a.completion_tokens or 0 for a in retries) if retries else None,
        clipped_reflections=(
            statistics.fmean(r.finish_reason == "length" for r in reflections) if reflections else None),
        entropy=logs.get("entropy"), learning_rate=logs["learning_rate"], grad_norm=logs["grad_norm"],
        seconds=seconds, seconds_reflect=reflect, seconds_retry=retry, seconds_update=seconds - reflect - retry,
        objective=objective,
        answer_length=statistics.fmean(a.completion_tokens or 0 for a in answers) if answers else None,
        clipped_tries=statistics.fmean(attempt.finish_reason == "length" for attempt in tries),
        generated_tokens=sum(sample.generated_tokens for sample in (*samples, *replaced)),
        skipped_groups=dead if skips else 0, refilled_groups=len(replaced) * len(groups) // len(samples),
    )


def total(counts: Iterable[int | None]) -> int | None:
    """Of all processes; None where a process doesn't count."""
    values = list(counts)
    known = [count for count in values if count is not None]
    return sum(known) if len(known) == len(values) else None
