"""TRL's GRPOTrainer with its objective untouched: the only file that overrides private parts of TRL (1.16).

Two seams, each held by a contract test: a group's prompt is computed once in training; and the advantages that the loss
will use are kept beside their samples for the recorder. Texts come from the rollout function (`sampler.py`), a public
part of TRL, as does the mask of tokens that aren't trained.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch
from trl import GRPOTrainer

from rrr_cli.training.sampler import Sampler, passes
from rrr_cli.training.samples import Batch
from rrr_cli.training.shared_prefix import log_probabilities, supports


class PolicyTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer for each of the objectives. After each generation `batch` holds this process's samples."""

    def __init__(self, *args: Any, sampler: Sampler, shared_prefix: bool, **kwargs: Any) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*rollout_func.*")  # experimental; TRL's version is pinned
            super().__init__(*args, reward_funcs=passes, rollout_func=sampler, **kwargs)
        self.shared_prefix = shared_prefix and supports(self.model)
        self.batch = Batch([], 0.0, 0.0)

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
        self.batch = Batch(
            [
                replace(row["sample"], advantage=advantage)
                for row, advantage in zip(inputs, output["advantages"].tolist(), strict=True)
            ],
            *inputs[0]["seconds"],
        )
        return output
