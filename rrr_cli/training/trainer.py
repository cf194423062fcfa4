"""TRL's GRPOTrainer with its objective untouched: the only file that overrides private parts of TRL (1.16).

Five seams, each held by a test: a group's prompt is computed once in training; a step's batch is split here rather than
by TRL, into parts that fit into memory, with its groups whole; what an objective weighs by itself (advantages of
tokens, tokens that are dropped) takes the place of TRL's, and is kept beside the samples for the recorder; texts that
are to be learnt as they are get a loss of their own beside TRL's; and several devices leave the checkpoints of one.
Texts come from the rollout function (`sampler.py`), a public part of TRL, as does the mask of tokens that aren't
trained.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from trl import GRPOTrainer

from rrr_cli.engines.devices import has_flash
from rrr_cli.training.memory import Cost, Room, Shape, size_tiles, weights_of
from rrr_cli.training.micro_batches import MicroBatches
from rrr_cli.training.parts import Texts
from rrr_cli.training.refill import dead_groups
from rrr_cli.training.sampler import Sampler, passes
from rrr_cli.training.samples import Batch, Sample
from rrr_cli.training.sharded import restore, settle, untied, whole
from rrr_cli.training.shared_prefix import log_probabilities, longest


class PolicyTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer for each of the objectives. After each generation `batch` holds this process's samples."""

    def __init__(
        self, *args: Any, sampler: Sampler, shared_prefix: bool, samples: int | None = None, memory: int | None = None,
        **kwargs: Any,
    ) -> None:
        """`samples` of a micro-batch, or None: what fits into `memory` bytes, or None: what is free."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*rollout_func.*")  # experimental; TRL's version is pinned
            super().__init__(*args, reward_funcs=passes, rollout_func=sampler, **kwargs)
        size_tiles(self.accelerator.device.type != "cpu")
        with self.accelerator.autocast():  # as in training
            self.shares_below = longest(self.model) if shared_prefix else 0  # tokens of a text
        self.batch = Batch([], 0.0, 0.0)
        self.skips_dead_groups: bool = sampler.options.skip_dead_groups
        self.drop_below: float | None = getattr(sampler.objective, "drop_below", None)
        self.micro = self._micro_batches(samples, memory)

    def create_accelerator_and_postprocess(self) -> None:
        """As transformers does, and before it wraps anything: how weights in parts are computed with."""
        super().create_accelerator_and_postprocess()
        self.in_parts: bool = settle(self.accelerator)

    def _micro_batches(self, samples: int | None, memory: int | None) -> MicroBatches:
        device, config, state = self.accelerator.device, self.model.config.get_text_config(), self.accelerator
        gpu, half = device.type != "cpu", bool(self.args.bf16)
        head = self.accelerator.unwrap_model(self.model).get_output_embeddings()
        cost = Cost(
            Shape.of(config), half, gpu, flash=half and has_flash(device), shared=self.shares_below > 0,
            eager=config._attn_implementation == "eager", trains_head=head.weight.requires_grad,
            checkpointing=self.args.gradient_checkpointing)
        room = Room(device, memory, 1 if gpu else state.num_processes)

        def free() -> int:
            return room.bytes(
                weights_of(self.model, self.ref_model, half),
                gradients=any(weight.grad is not None for weight in self.model.parameters()),
                moments=self.optimizer is not None and bool(self.optimizer.state))

        def checkpoint() -> None:
            self.model.gradient_checkpointing_enable(self.args.gradient_checkpointing_kwargs)

        return MicroBatches(cost, free, checkpoint, samples, state.num_processes, not state.is_main_process)

    def training_step(self, model: Any, inputs: list[dict[str, Any]], num_items_in_batch: Any = None) -> torch.Tensor:
        """A step's samples, and their gradient part by part: once more in smaller parts where memory ran out."""
        model.train()
        batch = self._generate_and_score_completions(inputs)
        logged = {name: list(values) for name, values in self._metrics["train"].items()}

        def run(parts: list[slice]) -> torch.Tensor:
            model.zero_grad()  # of a try before
            self._metrics["train"] = defaultdict(list, {name: list(values) for name, values in logged.items()})
            losses = [self._part(model, batch, part, part is parts[-1], num_items_in_batch) for part in parts]
            if len(parts) > 1:
                self._log_as_one(batch, parts)
            return torch.stack(losses).sum() if len(parts) > 1 else losses[0]

        live = batch["completion_mask"].sum(1)
        also = batch["internalised_mask"].sum(1) * batch["internalised_trained"].any(1) if (
            "internalised_mask" in batch) else None
        return self.micro.fit(self._texts(batch["prompt_mask"], live, also), True, run)

    def _part(
        self, model: Any, batch: dict[str, Any], part: slice, last: bool, num_items_in_batch: Any
    ) -> torch.Tensor:
        """The share of a part in the step's loss; its gradient is added to those before."""
        whole = len(batch["completion_mask"])
        inputs = {k: v[part] if v is not None and v.ndim else v for k, v in batch.items()}
        # What TRL divides a part's mean by; its loss per token is of the whole step already.
        share = whole / (part.stop - part.start)
        self.current_gradient_accumulation_steps = 1 if self.loss_type == "dapo" else share
        # Weights in parts would keep whole gradients until the last: they are summed over the devices at each.
        with nullcontext() if last or self.in_parts else self.accelerator.no_sync(model):
            loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def _log_as_one(self, batch: dict[str, Any], parts: list[slice]) -> None:
        """Put the mean over the step's tokens in place of what TRL logs, a mean over each part's."""
        trained_B = (batch["completion_mask"] * batch.get("tool_mask", 1)).sum(1).float()
        tokens_P = self.accelerator.reduce(torch.stack([trained_B[part].sum() for part in parts])).cpu()
        for name in ("kl", "entropy"):
            values = self._metrics["train"].get(name, [])
            if values:
                mean = tokens_P @ torch.tensor(values[-len(parts):]) / tokens_P.sum().clamp(min=1)
                values[-len(parts):] = [float(mean)]

    def _texts(
        self, prompt_mask: torch.Tensor, completions_B: torch.Tensor, also_B: torch.Tensor | None = None
    ) -> Texts:
        """Lengths of this process's rows of a step, and where its groups begin."""
        prompts, rows = prompt_mask.sum(1).tolist(), len(prompt_mask)
        first = self.accelerator.process_index * rows
        starts = [0, *(row for row in range(1, rows) if (first + row) % self.num_generations == 0)]
        lengths = list(zip(prompts, completions_B.tolist(), strict=True))
        also = list(zip(prompts, also_B.tolist(), strict=True)) if also_B is not None else ()
        return Texts(lengths, starts, also)

    def _prepare_inputs(self, generation_batch: dict[str, Any]) -> dict[str, Any]:
        """A part of a step's batch is all that the loss needs: TRL would sample here, shuffle single samples, which
        tears the groups apart, and split."""
        assert self.num_iterations == 1  # and `rrr grpo` has no evaluation of TRL's
        return generation_batch

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int,
        batch_size: int | None = None, compute_entropy: bool = False, **fields: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        inputs = (logits_to_keep, compute_entropy)
        if torch.is_grad_enabled():
            return self._scored(model, input_ids, attention_mask, *inputs, **fields)

        def run(parts: list[slice]) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
            found = [self._scored(model, input_ids[part], attention_mask[part], *inputs, **fields) for part in parts]
            logps, entropies, _ = zip(*found, strict=True)
            return torch.cat(logps), torch.cat(entropies) if compute_entropy else None, None

        start = input_ids.shape[1] - logits_to_keep
        texts = self._texts(attention_mask[:, :start], attention_mask[:, start:].sum(1))
        return self.micro.fit(texts, False, run)

    def _scored(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_length: int,
        compute_entropy: bool, **fields: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Log-probabilities and entropies (B, C) of one part of a batch, in one forward."""
        scored_B = attention_mask[:, -completion_length:].any(1)
        if not scored_B.all():
            return self._of_rows(
                scored_B, model, input_ids, attention_mask, completion_length, compute_entropy, **fields)
        if input_ids.shape[1] >= self.shares_below:
            return super()._get_per_token_logps_and_entropies(  # type: ignore[no-any-return]
                model, input_ids, attention_mask, completion_length, compute_entropy=compute_entropy, **fields)
        with self.accelerator.autocast():
            logps, entropies = log_probabilities(model, input_ids, attention_mask, completion_length)
        return logps, entropies if compute_entropy else None, None

    def _of_rows(
        self, scored_B: torch.Tensor, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor,
        completion_length: int, compute_entropy: bool, **fields: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Log-probabilities (B, C) for which only rows that have a completion are computed; 0 in the others."""
        if not scored_B.any():  # a forward all the same, which other processes wait for: of one token
            scored_B, attention_mask = scored_B.clone(), attention_mask.clone()
            scored_B[0] = attention_mask[0, -completion_length] = 1
        rows = scored_B.nonzero()[:, 0]
        parts = self._scored(
            model, input_ids[rows], attention_mask[rows], completion_length, compute_entropy, **fields)
        logps, entropies = (
            part if part is None else part.new_zeros(len(scored_B), completion_length).index_copy(0, rows, part)
            for part in parts[:2])
        assert logps is not None
        return logps, entropies, None

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        # The sampler's own fields are columns of the rows by now.
        samples: list[Sample] = [row["sample"] for row in inputs]
        if samples[0].advantages is None:
            advantages = output["advantages"].tolist()
        else:
            output["advantages"] = self._padded([sample.advantages for sample in samples])
            advantages = [first_trained(sample) for sample in samples]
        samples = [replace(sample, advantage=value) for sample, value in zip(samples, advantages, strict=True)]
        if self.drop_below is not None:
            samples = self._without_unlikely(output, samples, self.drop_below)
        if any(gather_object([any(sample.internalised for sample in samples)])):  # so that all have the same forwards
            output |= self._to_internalise(samples)
        self.batch = replace(Batch(samples, *inputs[0]["spent"]), replaced=inputs[0]["replaced"])
        if self.skips_dead_groups:
            dead = dead_groups(samples)
            live_B_1 = output["completion_mask"].new_tensor([[sample.group not in dead] for sample in samples])
            for name in {"completion_mask", "old_per_token_logps"} & output.keys():
                output[name] = output[name] * live_B_1  # the loss is still a mean over all samples
        return output

    def _without_unlikely(self, output: dict[str, Any], samples: list[Sample], least: float) -> list[Sample]:
        """Take the tokens below `least` out of the loss; the samples with the masks that are left."""
        completions_mask = output["completion_mask"]
        logps_B_T = output.get("old_per_token_logps")  # there with vLLM
        if logps_B_T is None:
            with torch.no_grad():
                logps_B_T, *_ = self._get_per_token_logps_and_entropies(
                    self.model, torch.cat([output["prompt_ids"], output["completion_ids"]], 1),
                    torch.cat([output["prompt_mask"], completions_mask], 1), completions_mask.shape[1],
                )
        output["tool_mask"] = output["tool_mask"] * (logps_B_T >= least)
        trained_B_T = completions_mask * output["tool_mask"]
        output["num_items_in_batch"] = self.accelerator.gather(trained_B_T.sum()).sum()
        if "importance_sampling_ratio" in output:  # of vLLM to the policy after another prompt: no ratio
            output["importance_sampling_ratio"] = torch.ones_like(output["importance_sampling_ratio"])
        return [
            replace(sample, completion=replace(sample.completion, mask=mask[: len(sample.completion.mask)]))
            for sample, mask in zip(samples, trained_B_T.tolist(), strict=True)
        ]

    def _to_internalise(self, samples: list[Sample]) -> dict[str, torch.Tensor]:
        """What is learnt as it is after each sample's prompt, (B, T): one untrained token where there is none."""
        ids_B = [s.internalised.ids if s.internalised else s.completion.ids[:1] for s in samples]
        trained_B = [s.internalised.mask if s.internalised else [0] for s in samples]
        return {
            "internalised_ids": self._padded(ids_B).long(), "internalised_trained": self._padded(trained_B),
            "internalised_mask": self._padded([[1] * len(ids) for ids in ids_B]).long(),
        }

    def _padded(self, rows_B: Sequence[Sequence[float] | None]) -> torch.Tensor:
        """(B, T), with 0 after the end of a row."""
        rows = [torch.tensor(row, dtype=torch.float32) for row in rows_B]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.accelerator.device)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        return loss + self._internalised(model, inputs) if "internalised_ids" in inputs else loss

    def _internalised(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """-log π of the texts to internalise, normalised as the loss of the samples is; its weight is 1."""
        trained_B_T = inputs["internalised_trained"]
        rows = trained_B_T.any(1).nonzero()[:, 0]
        rows = rows if len(rows) else torch.zeros_like(trained_B_T[:1, 0]).long()  # a forward all the same
        trained_R_T, mask_R_T = trained_B_T[rows], inputs["internalised_mask"][rows]
        logps_R_T, *_ = self._get_per_token_logps_and_entropies(
            model, torch.cat([inputs["prompt_ids"][rows], inputs["internalised_ids"][rows]], 1),
            torch.cat([inputs["prompt_mask"][rows], mask_R_T], 1), mask_R_T.shape[1],
        )
        losses_R = -(logps_R_T * trained_R_T).sum(1)
        if self.loss_type == "dapo":  # per token: num_items_in_batch are of all processes and micro-batches
            return losses_R.sum() * self.accelerator.num_processes / inputs["num_items_in_batch"].clamp(min=1.0)
        per_text = self.max_completion_length if self.loss_type == "dr_grpo" else trained_R_T.sum(1).clamp(min=1.0)
        return (losses_R / per_text).sum() / len(trained_B_T) / self.current_gradient_accumulation_steps

    # Weights in parts: a checkpoint has the files that one process writes, and is read as one process reads it.

    def train(self, resume_from_checkpoint: str | None = None, **more: Any) -> Any:
        if self.in_parts and resume_from_checkpoint:
            self.is_fsdp_enabled = False  # the model is whole until it is trained
            self._load_from_checkpoint(resume_from_checkpoint)
            self.is_fsdp_enabled = True
        return super().train(resume_from_checkpoint, **more)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.is_fsdp_enabled:  # else `train` has loaded it
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, untied(state_dict, self.model) if state_dict else state_dict)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.in_parts:
            return super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[no-any-return]
        state = whole(self.optimizer)
        if self.args.should_save:
            torch.save(state, Path(output_dir, OPTIMIZER_NAME))
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER_NAME))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or (self.accelerator.num_processes == 1 and not self.in_parts):
            return super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[no-any-return]
        kept, schedule = (  # transformers would read it onto the device, which torch can't where that is "cpu:0"
            torch.load(Path(checkpoint, name), map_location="cpu", weights_only=True, mmap=True)
            for name in (OPTIMIZER_NAME, SCHEDULER_NAME))
        restore(self.optimizer, kept)
        self.lr_scheduler.load_state_dict(schedule)


def first_trained(sample: Sample) -> float:
    """The advantage of a sample's first trained token; 0.0 where none is."""
    assert sample.advantages is not None
    return next((a for a, mask in zip(sample.advantages, sample.completion.mask, strict=True) if mask), 0.0)
