"""One supervised training from its rows to the finished model: SFT or DPO by TRL, resume, early stop, the last rename.

Writes `models/NAME-checkpoints/`, `models/NAME/` and the table `losses`. After each epoch it measures the held-out
loss and takes a checkpoint; the one with the lowest loss becomes the model. Refuses to replace a model of another
configuration, and to run in several processes.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from rrr_cli.engines.loading import loading
from rrr_cli.errors import NOTHING, USAGE, RrrError
from rrr_cli.progress import Work
from rrr_cli.records import Loss, content_id
from rrr_cli.store import artifacts
from rrr_cli.store.provenance import comparable
from rrr_cli.training import checkpoints
from rrr_cli.training.policy import Policy
from rrr_cli.training.session import quiet
from rrr_cli.training.settings import Supervised, rate
from rrr_cli.training.sharded import SPLITS, asked
from rrr_cli.training.texts import NO_LOSS, Preference, Text, held_out

LOSSES = "losses.json"  # in a checkpoint: the rows of all steps so far


class Training:
    """Everything that one supervised training is made of. All rows are of one kind: texts for SFT, preferences for DPO.

    `beta` is DPO's. `made_of` goes into the model's rrr.json: which attempts trained it, and what it is for. So do the
    problems of the texts that it learnt, without those that are held out.
    """

    def __init__(
        self, command: str, name: str, options: Supervised, policy: Policy, rows: Sequence[Text | Preference],
        config: dict[str, Any], made_of: dict[str, Any], beta: float = 0.1,
    ) -> None:
        self.folder, self.target = checkpoints.places(options.run, name)
        self.command, self.name, self.options, self.policy, self.beta = command, name, options, policy, beta
        self.micro = min(options.micro_batch, options.batch)
        if options.batch % self.micro:
            raise RrrError(f"--batch {options.batch} is not a multiple of --micro-batch {self.micro}", USAGE)
        self.config, self.made_of = config, {"command": command, **made_of}
        self.inputs = {"texts": content_id([vars(row) for row in rows])}
        self.config_id = content_id(comparable(config), self.inputs)
        self.rows, self.held_out = held_out(list(rows), options.held_out)
        self.epoch = -(-len(self.rows) // options.batch)  # steps
        if not self.rows:
            raise RrrError("every text is of a problem that is held out: there are too few; try --held-out 0")

    def run(self) -> dict[str, Any]:
        """Train what is left to train; the summary. Raises RrrError."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 or any(map(asked, SPLITS)):
            raise RrrError(f"rrr {self.command} trains in one process, on one device: start it without torchrun and "
                           "accelerate launch", USAGE)
        quiet()
        options = self.options
        stage = f"{self.command}-{self.name}"
        checkpoints.check_own(self.target, self.command)
        with checkpoints.saving(self.folder), artifacts.Writer(
            options.run, "losses", stage, self.config, self.inputs, options.overwrite, options.seed
        ) as losses:
            previous = checkpoints.provenance(self.target)
            if options.overwrite:
                shutil.rmtree(self.folder, ignore_errors=True)
                checkpoints.remove(self.target)
            if self.target.exists():
                if previous.get("config_id") != self.config_id:
                    raise RrrError(f"{self.target} is of another configuration: type --overwrite, or another --name")
                if losses.done("model"):
                    shutil.rmtree(self.folder, ignore_errors=True)  # a kill may have left it
                    return self.summary()
                checkpoints.remove(self.target)  # a kill of --overwrite took the rows first
            shutil.rmtree(self.folder / checkpoints.PARTIAL, ignore_errors=True)
            (self.folder / checkpoints.PARTIAL).mkdir(parents=True, exist_ok=True)
            last = self._train()
            if not losses.done("model"):
                losses.append([Loss(**row) for row in json.loads((last / LOSSES).read_text())["losses"]])
            self._finish(last)
        return self.summary()

    def _train(self) -> Path:
        """The last checkpoint, trained from the newest whole one. Raises RrrError when a signal stopped it."""
        newest = checkpoints.newest(self.folder, self.config_id)
        state: dict[str, Any] = {"losses": [], "ended": False}
        if newest:
            state = json.loads((newest / LOSSES).read_text())
        if newest and state["ended"]:
            return newest
        total = self.epoch * self.options.epochs
        with Work(self.command, total, len(state["losses"])) as work:
            follower = Follower(self, work, state["losses"])
            with loading(f"--model {self.policy.name} can't be trained"), self._lora_targets():
                trainer = self._trainer()
            trainer.remove_callback(PrinterCallback)  # it prints to stdout
            trainer.add_callback(follower)
            follower.trainer = trainer
            trainer.train(resume_from_checkpoint=str(newest) if newest else None)
            if work.interrupted:
                work.stop_if_interrupted()
        return checkpoints.path_of(self.folder, int(trainer.state.global_step))

    @contextmanager
    def _lora_targets(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            if "target_modules" not in str(error) and "Target modules" not in str(error):
                raise
            message = f"--lora-targets {self.options.lora_targets}: the model has no such layers"
            raise RrrError(message, USAGE) from None

    def _trainer(self) -> Trainer:
        options, policy = self.options, self.policy
        cpu = options.device == "cpu" or not torch.cuda.is_available()
        preferences = isinstance(self.rows[0], Preference)
        shared: dict[str, Any] = dict(
            output_dir=str(self.folder / checkpoints.PARTIAL), max_steps=self.epoch * options.epochs, seed=options.seed,
            per_device_train_batch_size=self.micro, per_device_eval_batch_size=self.micro,
            gradient_accumulation_steps=options.batch // self.micro,
            learning_rate=rate(options, "dpo" if preferences else "sft"), weight_decay=0.0, max_grad_norm=1.0,
            lr_scheduler_type="cosine", warmup_steps=round(options.warmup * self.epoch * options.epochs),
            bf16=options.dtype == "bfloat16" or (options.dtype == "auto" and not cpu), use_cpu=cpu,
            gradient_checkpointing=options.gradient_checkpointing, dataloader_pin_memory=not cpu,
            model_init_kwargs=policy.how, max_length=None,  # lengths were checked: nothing is ever cut
            # The follower logs, measures the held-out loss, saves and shows progress.
            logging_steps=1, logging_nan_inf_filter=False, eval_strategy="no", save_strategy="no", report_to="none",
            disable_tqdm=True,
        )
        parts: dict[str, Any] = dict(
            model=str(policy.path), train_dataset=dataset(self.rows), processing_class=policy.tokenizer,
            eval_dataset=dataset(self.held_out) if self.held_out else None, peft_config=self._lora(),
        )
        if not preferences:
            args = SFTConfig(dataset_kwargs={"skip_prepare_dataset": True}, packing=False, **shared)
            return SFTTrainer(args=args, **parts)
        args = DPOConfig(beta=self.beta, remove_unused_columns=False, **shared)
        pad = policy.tokenizer.pad_token_id
        return PreferenceTrainer(
            args=args, data_collator=Collator(policy.end_of_turn if pad is None else pad), **parts)

    def _lora(self) -> LoraConfig | None:
        options = self.options
        if options.lora == 0:
            return None
        targets = options.lora_targets
        return LoraConfig(
            r=options.lora, lora_alpha=2 * options.lora, lora_dropout=options.dropout, task_type="CAUSAL_LM",
            target_modules=targets if targets == "all-linear" else [t.strip() for t in targets.split(",")],
        )

    def _finish(self, last: Path) -> None:
        rows = json.loads((last / LOSSES).read_text())["losses"]
        step = best(rows) or checkpoints.step_of(last)
        checkpoints.export(
            checkpoints.path_of(self.folder, step), self.target, self.policy.name,
            {"config_id": self.config_id, "step": step, "config": self.config, "inputs": self.inputs, **self.made_of,
             "problems_learnt": sorted({row.problem_id for row in self.rows})},
        )
        shutil.rmtree(self.folder, ignore_errors=True)

    def summary(self) -> dict[str, Any]:
        """Where the model is, what it learnt from, and its losses."""
        rows = [row for row in artifacts.read(self.options.run, "losses") if row.model == self.name]
        measured = {row.step: row.held_out_loss for row in rows if row.held_out_loss is not None}
        chosen = checkpoints.provenance(self.target)["step"]
        return {
            "model": str(self.target), "texts": len(self.rows), "held_out_texts": len(self.held_out),
            "steps": len(rows), "chosen_step": chosen, "loss_first_step": rows[0].loss, "loss_last_step": rows[-1].loss,
            "held_out_loss": measured.get(chosen), "seconds": round(sum(row.seconds for row in rows), 1),
        }


class Follower(TrainerCallback):  # type: ignore[misc]
    """Keeps the losses, measures the held-out loss after each epoch, stops early, and seals checkpoints."""

    trainer: Trainer

    def __init__(self, training: Training, work: Work, losses: list[dict[str, Any]]) -> None:
        self.training, self.work, self.losses = training, work, losses
        self.started = 0.0
        self.ended = False

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.started = perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for the held-out loss and a checkpoint at the end of an epoch; for a checkpoint when a signal came."""
        epoch_ends = state.global_step % self.training.epoch == 0
        control.should_evaluate = epoch_ends and bool(self.training.held_out)
        control.should_save = epoch_ends or self.work.interrupted
        control.should_training_stop = self.work.interrupted or state.global_step >= state.max_steps
        self.ended = state.global_step >= state.max_steps

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:
        """One row a step. Raises RrrError (exit 5) for a loss that is not a number."""
        if logs is None or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"] + logs["grad_norm"]):
            raise RrrError(f"step {state.global_step}: the loss is {logs['loss']}: try a lower --lr", NOTHING)
        self.losses.append({
            "model": self.training.name, "step": state.global_step, "loss": logs["loss"], "held_out_loss": None,
            "learning_rate": logs["learning_rate"], "grad_norm": logs["grad_norm"],
            "seconds": perf_counter() - self.started,
        })
        self.work.count(1, f"loss {logs['loss']:.3f}")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Note the held-out loss, and stop where it hasn't fallen for too long."""
        self.losses[-1]["held_out_loss"] = metrics["eval_loss"]
        measured = [row["step"] for row in self.losses if row["held_out_loss"] is not None]
        since = len(measured) - 1 - measured.index(best(self.losses))
        if since >= self.training.options.patience:
            control.should_training_stop = self.ended = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal what transformers has just written; keep the newest checkpoint and the best."""
        folder = self.training.folder
        partial = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (partial / LOSSES).write_text(json.dumps({"losses": self.losses, "ended": self.ended}))
        checkpoints.seal(partial, checkpoints.path_of(folder, state.global_step), self.training.config_id)
        kept = {best(self.losses), state.global_step}
        for path in folder.glob("step-*"):
            if checkpoints.step_of(path) not in kept:
                shutil.rmtree(path)


class Collator(DataCollatorForPreference):  # type: ignore[misc]
    """TRL's, but that tokens without a label are left out of the loss: an environment's observations."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super().torch_call(examples)
        sides = [(ex, side) for side in ("chosen", "rejected") for ex in examples]
        for row, (example, side) in enumerate(sides):
            start, labels = len(example["prompt_ids"]), torch.tensor(example[f"{side}_labels"])
            output["completion_mask"][row, start : start + len(labels)] = (labels != NO_LOSS).long()
        return output


class PreferenceTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's DPO on rows that are token ids already."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset


def best(losses: Sequence[dict[str, Any]]) -> int:
    """The step with the lowest held-out loss, the first of equals; 0 where none was measured."""
    measured = [row for row in losses if row["held_out_loss"] is not None]
    return int(min(measured, key=lambda row: row["held_out_loss"])["step"]) if measured else 0


def dataset(rows: Sequence[Text | Preference]) -> Dataset:
    """Columns of token ids and labels, as TRL's collators take them."""
    if isinstance(rows[0], Text):
        return Dataset.from_list([{"input_ids": row.ids, "labels": row.labels} for row in rows])  # type: ignore[union-attr]
    return Dataset.from_list([{k: v for k, v in vars(row).items() if k != "problem_id"} for row in rows])
