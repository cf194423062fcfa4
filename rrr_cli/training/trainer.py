"""TRL's GRPOTrainer with its objective untouched: the only file that touches private parts of TRL (1.16).

Four seams, each held by a contract test: prompts come as token ids, from the one renderer of every engine; text comes
from `sample`, for reflections and for retries; a group's prompt is computed once in training; the advantages that the
loss will use are kept for the recorder.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from time import perf_counter
from typing import Any

import torch
from trl import GRPOTrainer

from rrr_cli.engines import decoding
from rrr_cli.engines.base import Sampling
from rrr_cli.records import derive_seed
from rrr_cli.training.retry_reward import Judged, RetryReward
from rrr_cli.training.shared_prefix import log_probabilities, supports


@dataclass(frozen=True)
class Scored:
    """A judged reflection with its place in the step and what the loss makes of it."""

    judged: Judged
    group: int
    sample_index: int
    advantage: float
    trained_tokens: int


class ReflectionTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer whose completion is a reflection. After each generation `scored_B` holds this process's batch."""

    def __init__(self, *args: Any, reward: RetryReward, shared_prefix: bool, **kwargs: Any) -> None:
        super().__init__(*args, reward_funcs=reward, **kwargs)
        self.reward = reward
        self.reward.sample, self.reward.stops = self.sample, self.eos_token_ids
        self.shared_prefix = shared_prefix and supports(self.model)
        self.scored_B: list[Scored] = []
        self.seconds_reflect = 0.0

    def sample(self, prompts_ids_B: list[list[int]], purpose: str, max_tokens: int) -> list[list[int]]:
        """One completion for each row of this process's batch, by the policy as it is now: completions_ids_B.

        A sample depends on the seed, the step, the purpose and its row in the step's whole batch, so neither resuming
        nor the number of processes changes it. Equal prompts in a row (a group) are prefilled once.
        """
        if self.use_vllm:
            return self._vllm(prompts_ids_B, 1, max_tokens)[0]
        row = self.accelerator.process_index * len(prompts_ids_B)
        seeds_B = [
            derive_seed(self.args.seed, "grpo", purpose, self.state.global_step, row + i)
            for i in range(len(prompts_ids_B))
        ]
        prompts, seeds = [], []
        for prompt, members in groupby(zip(prompts_ids_B, seeds_B, strict=True), key=lambda pair: pair[0]):
            prompts.append(prompt)
            seeds.append([seed for _, seed in members])
        completions_B_N = decoding.sample(
            self.accelerator.unwrap_model(self.model_wrapped), prompts, seeds,
            Sampling(self.temperature, self.top_p, max_tokens), self.eos_token_ids, batch_size=len(prompts_ids_B),
        )
        return [ids for completions_N in completions_B_N for ids in completions_N]

    def _vllm(self, prompts_ids_B: list[list[int]], repeats: int, max_tokens: int) -> tuple[list[list[int]], Any]:
        """completions_ids_B and their log-probabilities; `repeats` equal prompts stand in a row. Collective."""
        self.vllm_generation.max_completion_length = max_tokens
        return super()._generate_single_turn(prompts_ids_B, None, {}, repeats)  # type: ignore[no-any-return]

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return prompts, None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: None, multimodal_fields: dict[str, Any], num_generations: int,
        has_tool_images: bool = False,
    ) -> tuple[list[list[int]], Any]:
        start = perf_counter()
        if self.use_vllm:
            turn = self._vllm(prompt_ids, num_generations, self.max_completion_length)
        else:
            turn = self.sample(prompt_ids, "reflect", self.max_completion_length), None
        self.seconds_reflect = perf_counter() - start
        return turn

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
        first = self.accelerator.process_index * len(inputs)  # row of the step's whole batch
        trained_B = (output["completion_mask"].sum(1) * (output["advantages"] != 0)).tolist()
        self.scored_B = [
            Scored(judged, row // self.num_generations, row % self.num_generations, advantage, int(trained))
            for row, (judged, advantage, trained) in enumerate(
                zip(self.reward.judged_B, output["advantages"].tolist(), trained_B, strict=True), start=first
            )
        ]
        return output
