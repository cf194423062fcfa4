"""One training run from its locks to the finished model: resume, TRL's trainer, the last rename.

Writes `models/policy-checkpoints/`, `models/policy/` and, through the recorder, the tables `rollouts` and `steps`.
Refuses a run whose checkpoints don't go on from its tables, and to replace a `models/policy` of another configuration.
"""

from __future__ import annotations

import shutil
import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from peft import LoraConfig
from transformers import PrinterCallback
from transformers.utils import logging as transformers_logging

from rrr_cli import artifacts
from rrr_cli.errors import INTERRUPTED, NOTHING, RrrError
from rrr_cli.progress import Work
from rrr_cli.records import content_id
from rrr_cli.tasks.base import Task
from rrr_cli.training import checkpoints
from rrr_cli.training.arguments import grpo_config
from rrr_cli.training.dataset import Failure, check_no_test_prompt, fingerprint, training_order
from rrr_cli.training.policy import Policy
from rrr_cli.training.recorder import Ledger, Recorder
from rrr_cli.training.retry_reward import RetryReward
from rrr_cli.training.settings import Options, Recipe
from rrr_cli.training.trainer import ReflectionTrainer


@dataclass
class Session:
    """Everything that one training run is made of."""

    options: Options
    recipe: Recipe
    task: Task
    policy: Policy
    failures: list[Failure]
    longest: int  # tokens of the longest text
    config: dict[str, Any]

    def __post_init__(self) -> None:
        models = self.options.run / "models"
        self.folder, self.target = models / "policy-checkpoints", models / "policy"
        self.inputs = {"failures": fingerprint(self.failures)}
        self.config_id = content_id(self.config, self.inputs)

    def run(self) -> dict[str, Any]:
        """Train what is left to train; the summary, empty in every process but the first. Raises RrrError."""
        self.configure()
        state = PartialState()
        with ExitStack() as stack:
            ledger = self._open(stack) if state.is_main_process else None
            state.wait_for_everyone()
            start = checkpoints.newest(self.folder, self.config_id)
            done = checkpoints.step_of(start) if start else 0
            if self.options.resume and start is None and not self.target.exists():
                raise RrrError(f"{self.folder} holds no whole checkpoint to resume from; leave out --resume to start")
            if not self.target.exists() and done < self.recipe.steps:
                if ledger is not None and start is None:
                    check_no_test_prompt(self.failures, self.task)
                self._train(start, done, ledger)
            state.wait_for_everyone()
            if ledger is not None:
                self._finish()
            state.wait_for_everyone()
        return self.summary() if state.is_main_process else {}

    def configure(self) -> None:
        """Set TRL's arguments, which also joins the other processes of a torchrun. Raises RrrError (exit 2)."""
        _quiet()
        self.args = grpo_config(self.options, self.recipe, self.folder / checkpoints.PARTIAL, self.longest)

    def trainer(self) -> ReflectionTrainer:
        """The trainer, before its first step."""
        reward = RetryReward(
            self.failures, self.task, self.policy.render, self.policy.decode, self.options.retry_context,
            self.recipe.max_tokens, self.options.zero_leaks,
        )
        trainer = ReflectionTrainer(
            reward=reward, shared_prefix=self.options.shared_prefix, model=str(self.policy.path), args=self.args,
            train_dataset=self._dataset(), processing_class=self.policy.tokenizer, peft_config=self._lora(),
        )
        trainer.remove_callback(PrinterCallback)  # it prints to stdout
        return trainer

    def _open(self, stack: ExitStack) -> Ledger:
        """Lock the tables, clear what --overwrite replaces, and bring the tables up to the newest checkpoint."""
        run, options = self.options.run, self.options
        rollouts, steps = (
            stack.enter_context(
                artifacts.Writer(run, table, "grpo", self.config, self.inputs, options.overwrite, options.seed)
            )
            for table in ("rollouts", "steps")
        )
        shutil.rmtree(self.folder / checkpoints.PARTIAL, ignore_errors=True)
        if options.overwrite:
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.rmtree(self.target, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(rollouts, steps, run)
        if self.target.exists():
            made_by = checkpoints.provenance(self.target).get("config_id")
            if made_by != self.config_id:
                raise RrrError(f"{self.target} is of another configuration: type --overwrite, or name another --run")
            if min(ledger.last.values()) < self.recipe.steps:
                raise RrrError(f"{self.target} is there, but not the rows of its training: start anew with --overwrite")
        else:
            ledger.catch_up(checkpoints.newest(self.folder, self.config_id))
        return ledger

    def _train(self, start: Path | None, done: int, ledger: Ledger | None) -> None:
        trainer = self.trainer()
        with Work("grpo", self.recipe.steps, done, quiet=ledger is None) as work:
            recorder = Recorder(trainer, work, self.folder, self.config_id, self.recipe.save_every, ledger)
            trainer.add_callback(recorder)
            trainer.train(resume_from_checkpoint=str(start) if start else None)
            if recorder.interrupted:
                work.stop_if_interrupted()
                raise RrrError("stopped by a signal to another process; type the same command to go on", INTERRUPTED)
            if recorder.hopeless:
                raise RrrError(
                    f"this model can't yet solve any of these {len(self.failures)} problems: none of the "
                    f"{work.done * self.recipe.batch} retries in the first {work.done} steps earned a reward. Try an "
                    f"easier --level, a stronger --model, or more --max-tokens",
                    NOTHING,
                )

    def _dataset(self) -> Dataset:
        rows = Dataset.from_dict({
            "prompt": [failure.prompt_ids for failure in self.failures], "failure": list(range(len(self.failures))),
        })
        groups = self.recipe.batch // self.recipe.group
        return rows.select(training_order(len(self.failures), groups, self.recipe.steps, self.options.seed))

    def _lora(self) -> LoraConfig | None:
        if self.options.lora == 0:
            return None
        return LoraConfig(
            r=self.options.lora, lora_alpha=2 * self.options.lora, target_modules="all-linear", task_type="CAUSAL_LM"
        )

    def _finish(self) -> None:
        """Make `models/policy` from the last checkpoint; the checkpoints have then done their work."""
        if not self.target.exists():
            last = checkpoints.path_of(self.folder, self.recipe.steps)
            checkpoints.export(
                last, self.target, self.policy.name,
                {"config_id": self.config_id, "steps": self.recipe.steps, "config": self.config, "inputs": self.inputs},
            )
        shutil.rmtree(self.folder, ignore_errors=True)

    def summary(self) -> dict[str, Any]:
        """Where the policy is, and the mean reward of the first and the last five steps."""
        columns = ["step", "reward_mean", "seconds"]
        steps = sorted(artifacts.read(self.options.run, "steps", columns=columns), key=lambda row: row["step"])
        return {
            "policy": str(self.target), "steps": len(steps), "failures": len(self.failures),
            "reward_first_steps": statistics.fmean(row["reward_mean"] for row in steps[:5]),
            "reward_last_steps": statistics.fmean(row["reward_mean"] for row in steps[-5:]),
            "seconds": sum(row["seconds"] for row in steps),
        }


def _quiet() -> None:
    """What transformers, TRL and datasets would print is said by the progress bar, the tables and our own errors."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    disable_progress_bar()
