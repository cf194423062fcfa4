"""One training run from its locks to the finished model: resume, TRL's trainer, the last rename.

Writes `models/policy-checkpoints/`, `models/policy/` and, through the recorder, the tables `rollouts` and `steps`; with
--eval-every also `validations`, and `models/policy-best/` from the step that was best on problems kept aside.
Refuses a run whose checkpoints don't continue its tables, and to replace a `models/policy` of another configuration.
"""

from __future__ import annotations

import shutil
import statistics
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from peft import LoraConfig
from transformers import PrinterCallback
from transformers.utils import logging as transformers_logging

from rrr_cli.engines.decoding import check_own_tokens
from rrr_cli.engines.loading import loading
from rrr_cli.errors import INTERRUPTED, NOTHING, RrrError
from rrr_cli.failures import Failure
from rrr_cli.progress import Work
from rrr_cli.records import Problem, content_id
from rrr_cli.store import artifacts
from rrr_cli.store.provenance import comparable
from rrr_cli.tasks.base import Environment, Task
from rrr_cli.training import checkpoints, validation
from rrr_cli.training.arguments import grpo_config
from rrr_cli.training.dataset import TrainingOrder, check_no_test_prompt, fingerprint
from rrr_cli.training.objectives.base import Objective
from rrr_cli.training.plan import frozen_in_half
from rrr_cli.training.policy import Policy
from rrr_cli.training.recorder import Ledger, Recorder, tokens_spent
from rrr_cli.training.sampler import Sampler
from rrr_cli.training.settings import Options, Recipe, bytes_of, samples
from rrr_cli.training.sharded import check_devices, check_launch
from rrr_cli.training.trainer import PolicyTrainer
from rrr_cli.training.validation import Validator

COMMAND = "grpo"


@dataclass
class Session:
    """Everything that one training run is made of."""

    options: Options
    recipe: Recipe
    task: Task
    policy: Policy
    failures: list[Failure]
    objective: Objective
    longest: int  # tokens of the longest text, but for an episode's later turns
    config: dict[str, Any]
    kept: list[Problem] = field(default_factory=list)  # aside, to test the policy on

    def __post_init__(self) -> None:
        self.folder, self.target = checkpoints.places(self.options.run, "policy")
        _, self.best = checkpoints.places(self.options.run, "policy-best")
        self.inputs = {"failures": fingerprint(self.failures)}
        if self.kept:
            self.inputs["problems kept aside"] = content_id([problem.problem_id for problem in self.kept])
        # An objective that trains first tries is tested by them alone.
        self.measure: str = getattr(self.objective, "measure", "second_try")
        self.config_id = content_id(comparable(self.config), self.inputs)

    def run(self) -> dict[str, Any]:
        """Train what is left to train; the summary, empty in every process but the first. Raises RrrError."""
        self.configure()
        state = PartialState()
        with ExitStack() as stack, checkpoints.saving(self.folder):
            ledger = self._open(stack) if state.is_main_process else None
            state.wait_for_everyone()
            # Hashing takes long, and all processes have to agree.
            found = [checkpoints.newest(self.folder, self.config_id) if state.is_main_process else None]
            start: Path | None = broadcast_object_list(found)[0]
            done = checkpoints.step_of(start) if start else 0
            if self.options.resume and start is None and not self.target.exists():
                raise RrrError(f"{self.folder} holds no whole checkpoint to resume from; leave out --resume to start")
            if not self.target.exists() and not self._is_complete(done):
                if ledger is not None and start is None:
                    check_no_test_prompt((failure.problem for failure in self.failures), self.task)
                done = self._train(start, done, ledger)
            state.wait_for_everyone()
            if ledger is not None:
                self._finish(done, ledger)
            state.wait_for_everyone()
        return self.summary() if state.is_main_process else {}

    def configure(self) -> None:
        """Set TRL's arguments, which also joins the other processes of a torchrun. Raises RrrError (exit 2)."""
        quiet()
        check_launch()
        # An episode may fill the whole window; vLLM has to make room for it.
        longest = self.policy.window if isinstance(self.task, Environment) else self.longest
        how = self.policy.how | ({"dtype": "bfloat16"} if frozen_in_half(self.options, self.recipe) else {})
        self.args = grpo_config(self.options, self.recipe, self.folder / checkpoints.PARTIAL, longest, how)
        check_devices()
        if isinstance(self.task, Environment):
            self.args.vllm_enable_sleep_mode = False  # each turn would bring vLLM all the weights anew

    def trainer(self) -> PolicyTrainer:
        """The trainer, before its first step."""
        options = self.options
        sampler = Sampler(
            self.objective, self.failures, self.task, self.policy, self.options, self.recipe,
            self.args.vllm_max_model_length if self.args.use_vllm else self.policy.window,
        )
        with loading(f"--model {self.policy.name} can't be trained"):
            trainer = PolicyTrainer(
                sampler=sampler, shared_prefix=options.shared_prefix, model=str(self.policy.path), args=self.args,
                train_dataset=self._dataset(), processing_class=self.policy.tokenizer, peft_config=self._lora(),
                samples=samples(options), memory=bytes_of(options.memory, "--memory") if options.memory else None,
            )
        if self.kept or not trainer.use_vllm:
            check_own_tokens(trainer.model)
            if self.args.bf16:
                with trainer.accelerator.autocast():  # as in training
                    check_own_tokens(trainer.model)
        trainer.remove_callback(PrinterCallback)  # it prints to stdout
        return trainer

    def _open(self, stack: ExitStack) -> Ledger:
        """Lock the tables, clear what --overwrite replaces, and bring the tables up to the newest checkpoint."""
        run, options = self.options.run, self.options
        tested = self.kept or (options.overwrite and artifacts.exists(run, "validations"))
        writers = {
            table: stack.enter_context(
                artifacts.Writer(run, table, "grpo", self.config, self.inputs, options.overwrite, options.seed)
            )
            for table in ("rollouts", "steps", *(["validations"] if tested else []))
        }
        for model in (self.target, self.best):
            checkpoints.check_own(model, COMMAND)
        shutil.rmtree(self.folder / checkpoints.PARTIAL, ignore_errors=True)
        if options.overwrite:
            shutil.rmtree(self.folder, ignore_errors=True)
            checkpoints.remove(self.target)
            checkpoints.remove(self.best)
        (self.folder / checkpoints.PARTIAL).mkdir(parents=True, exist_ok=True)
        ledger = Ledger(writers, run)
        if self.target.exists():
            previous = checkpoints.provenance(self.target)
            if previous.get("config_id") != self.config_id:
                raise RrrError(f"{self.target} is of another configuration: type --overwrite, or name another --run")
            if ledger.trained < previous["steps"]:
                raise RrrError(f"{self.target} is there, but not the rows of its training: start anew with --overwrite")
        else:
            ledger.catch_up(checkpoints.newest(self.folder, self.config_id))
        return ledger

    def _is_complete(self, step: int) -> bool:
        """Whether a training that has come to `step` is at its end."""
        budget = self.options.token_budget
        return step >= self.recipe.steps or (budget is not None and tokens_spent(self.options.run, step) >= budget)

    def _train(self, start: Path | None, done: int, ledger: Ledger | None) -> int:
        """Train from the checkpoint `start`, at step `done`, to the end; the last step."""
        trainer, budget = self.trainer(), self.options.token_budget
        spent = tokens_spent(self.options.run, done)
        total, begun = (self.recipe.steps, done) if budget is None else (budget, spent)
        with Work("grpo" if budget is None else "grpo, tokens", total, begun, quiet=ledger is None) as work:
            recorder = Recorder(
                trainer, work, self.folder, self.config_id, self.recipe.save_every, ledger,
                self.options.objective, spent, budget, self._validator(), self.measure,
            )
            trainer.add_callback(recorder)
            trainer.train(resume_from_checkpoint=str(start) if start else None)
            if recorder.interrupted:
                work.stop_if_interrupted()
                raise RrrError("stopped by a signal to another process; type the same command to continue", INTERRUPTED)
        step = int(trainer.state.global_step)
        if recorder.hopeless:
            raise self._hopeless(step)
        return step

    def _validator(self) -> Validator | None:
        if not self.kept:
            return None
        return Validator(self.kept, self.task, self.policy, self.options, self.recipe)

    def _hopeless(self, steps: int) -> RrrError:
        return RrrError(
            f"this model can't yet solve any of these {len(self.failures)} problems: none of the "
            f"{steps * self.recipe.batch} {self.objective.tries} in the first {steps} steps earned a reward. Try an "
            f"easier --level, a stronger --model, or more --max-tokens",
            NOTHING,
        )

    def _dataset(self) -> Dataset:
        """A row a group: the index of its failure, which the sampler makes a prompt of."""
        groups = self.recipe.batch // self.recipe.group
        order = TrainingOrder(len(self.failures), groups, self.options.seed)
        rows = Dataset.from_dict({"prompt": np.arange(self.recipe.steps * groups)})
        return rows.with_transform(lambda batch: {"prompt": [order.failure(group) for group in batch["prompt"]]})

    def _lora(self) -> LoraConfig | None:
        rank = self.recipe.lora
        if rank == 0:
            return None
        return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")

    def _finish(self, steps: int, ledger: Ledger) -> None:
        """Make `models/policy` from the last checkpoint; the checkpoints have then done their work."""
        if not self.target.exists():
            if not ledger.rewarded(self.options.objective):  # the same command again, after it stopped for this
                raise self._hopeless(steps)
            best = validation.best(validation.curve(self.options.run), self.measure) if self.kept else None
            if best is not None and best["step"] > 0:  # else the untrained model was best
                checkpoints.check_weights(checkpoints.path_of(self.folder, best["step"]))
                checkpoints.remove(self.best)
                self._export(best["step"], self.best, validation={"measure": self.measure, **best})
            self._export(steps, self.target)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _export(self, steps: int, target: Path, **more: Any) -> None:
        checkpoints.export(
            checkpoints.path_of(self.folder, steps), target, self.policy.name,
            {"command": COMMAND, "config_id": self.config_id, "steps": steps, "config": self.config,
             "inputs": self.inputs, **more},
        )

    def summary(self) -> dict[str, Any]:
        """Where the policy is, and the mean reward of the first and the last five steps."""
        columns = ["step", "reward_mean", "seconds", "generated_tokens"]
        steps = sorted(artifacts.read(self.options.run, "steps", columns=columns), key=lambda row: row["step"])
        return {
            "policy": str(self.target), "objective": self.options.objective, "steps": len(steps),
            "failures": len(self.failures), "generated_tokens": sum(row["generated_tokens"] for row in steps),
            "reward_first_steps": statistics.fmean(row["reward_mean"] for row in steps[:5]),
            "reward_last_steps": statistics.fmean(row["reward_mean"] for row in steps[-5:]),
            "seconds": sum(row["seconds"] for row in steps), **self._tested(),
        }

    def _tested(self) -> dict[str, Any]:
        """What the tests on problems kept aside came to, if there were any."""
        if not self.kept:
            return {}
        found = validation.summary(self.options.run, self.measure, self.recipe.batch)
        return {"policy_best": str(self.best) if self.best.exists() else None, "validation": found}


def quiet() -> None:
    """What transformers, TRL and datasets would print is said by the progress bar, the tables and our own errors."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    disable_progress_bar()
