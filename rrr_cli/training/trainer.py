"""TRL's GRPOTrainer with its objective untouched: the only file that overrides private parts of TRL (1.16).

Three seams, each held by a contract test: a group's prompt is computed once in training; what an objective weighs by
itself (advantages of tokens, tokens that are dropped) takes the place of TRL's, and is kept beside the samples for the
recorder; and texts that are to be learnt as they are get a loss of their own beside TRL's. Texts come from the rollout
function (`sampler.py`), a public part of TRL, as does the mask of tokens that aren't trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer

from rrr_cli.training.sampler import Sampler, passes
from rrr_cli.training.samples import Batch, Sample
from rrr_cli.training.shared_prefix import log_probabilities, supports


class PolicyTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer for each of the objectives. After each generation `batch` holds this process's samples."""

    def __init__(self, *args: Any, sampler: Sampler, shared_prefix: bool, **kwargs: Any) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*rollout_func.*")  # experimental; TRL's version is pinned
            super().__init__(*args, reward_funcs=passes, rollout_func=sampler, **kwargs)
        self.shared_prefix = shared_prefix and supports(self.model)
        self.batch = Batch([], 0.0, 0.0)
        self.drop_below: float | None = getattr(sampler.objective, "drop_below", None)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int,
        batch_size: int | None = None, compute_entropy: bool = False, **fields: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        if not self.shared_prefix:
            return super()._get_per_token_logps_and_entropies(  # type: ignore[no-any-return]
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **fields
            )
        parts = []
        with self.accelerator.autocast():
            for ids, mask in zip(
                input_ids.split(batch_size or len(input_ids)), attention_mask.split(batch_size or len(input_ids)),
                strict=True,
            ):
                parts.append(log_probabilities(model, ids, mask, logits_to_keep))
        logps, entropies = (torch.cat(values) for values in zip(*parts, strict=True))
        return logps, entropies if compute_entropy else None, None

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
        self.batch = Batch(samples, *inputs[0]["spent"])
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
                    self.args.per_device_train_batch_size,
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


def first_trained(sample: Sample) -> float:
    """The advantage of a sample's first trained token; 0.0 where none is."""
    assert sample.advantages is not None
    return next((a for a, mask in zip(sample.advantages, sample.completion.mask, strict=True) if mask), 0.0)
