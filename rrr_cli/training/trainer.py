"""TRL's GRPOTrainer with its objective untouched: the only file that touches private parts of TRL (1.16).

Five seams, each held by a contract test: prompts come as token ids, from the one renderer of every engine; text comes
from `sample`; a conversation's mask is handed on as if its request were a tool's output; a group's prompt is computed
once in training; the advantages that the loss will use are kept for the recorder.

What a completion is, and which of its tokens are trained (`Options.objective`):
- reflection: the reflection. The retry is written inside the reward.
- answer: a first answer to the problem's own prompt.
- reflection+answer: reflection, request to retry, retry, as one sequence; the request's tokens are masked out of the
  loss, and reflection and retry share the advantage of the retry's verdict. The mined first answer is context, as in
  the paper. It isn't trained: a whole group shares it with reward 0, so its advantage in that group would be 0. Nor is
  a new first answer sampled: where it passed there would be nothing to reflect on, and the failures would no longer be
  the ones that the other objectives are compared on.
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
from rrr_cli.training.dataset import Row
from rrr_cli.training.reward import Judged, Turns, VerifierReward
from rrr_cli.training.settings import ANSWER, BOTH
from rrr_cli.training.shared_prefix import log_probabilities, supports


@dataclass(frozen=True)
class Scored:
    """A judged sample with its place in the step and what the loss makes of it."""

    judged: Judged
    group: int
    sample_index: int
    advantage: float
    trained_tokens: int


class PolicyTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer for each of the objectives. After each generation `scored_B` holds this process's batch."""

    def __init__(self, *args: Any, reward: VerifierReward, shared_prefix: bool, **kwargs: Any) -> None:
        super().__init__(*args, reward_funcs=reward, **kwargs)
        self.reward = reward
        self.reward.sample, self.reward.stops = self.sample, self.eos_token_ids
        self.shared_prefix = shared_prefix and supports(self.model)
        self.failures_B: list[Row] = []
        self.turns_B: list[Turns] = []  # of reflection+answer
        self.masks_B: list[list[int]] = []  # likewise: 1 where a token of the completion is trained
        self.scored_B: list[Scored] = []
        self.seconds_reflect = self.seconds_try = 0.0

    def sample(self, prompts_ids_B: list[list[int]], purpose: str, max_tokens: int) -> list[list[int]]:
        """One completion for each row of this process's batch, by the policy as it is now: completions_ids_B.

        A sample depends on the seed, the step, the purpose and its row in the step's whole batch, so neither resuming
        nor the number of processes changes it. Equal prompts in a row (a group) are prefilled once.
        """
        return self._sample(prompts_ids_B, purpose, max_tokens)[0]

    def _sample(
        self, prompts_ids_B: list[list[int]], purpose: str, max_tokens: int, repeats: int = 1
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        """completions_ids_B, and their log-probabilities where vLLM wrote them; `repeats` equal prompts in a row."""
        if self.use_vllm:  # collective
            self.vllm_generation.max_completion_length = max_tokens
            return super()._generate_single_turn(prompts_ids_B, None, {}, repeats)  # type: ignore[no-any-return]
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
        return [ids for completions_N in completions_B_N for ids in completions_N], None

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return prompts, None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: None, multimodal_fields: dict[str, Any], num_generations: int,
        has_tool_images: bool = False,
    ) -> tuple[list[list[int]], Any]:
        start = perf_counter()
        answers = self.reward.objective == ANSWER
        ids_B, logps_B = self._sample(
            prompt_ids, "answer" if answers else "reflect", self.max_completion_length, num_generations
        )
        seconds = perf_counter() - start
        self.seconds_reflect, self.seconds_try = (0.0, seconds) if answers else (seconds, 0.0)
        if self.reward.objective == BOTH:
            ids_B, logps_B = self._go_on(prompt_ids, ids_B, logps_B)
            self.seconds_try = perf_counter() - start - seconds
        return ids_B, logps_B

    def _go_on(
        self, prompts_ids_B: list[list[int]], reflections_ids_B: list[list[int]], logps_B: list[list[float]] | None
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        """Reflections to whole conversations: reflection, request, retry. Sets `turns_B` and `masks_B`."""
        requests_ids_B = []
        for failure, ids in zip(self.failures_B, reflections_ids_B, strict=True):
            ended = ids[-1] in self.eos_token_ids and failure.request_ids[0] in self.eos_token_ids
            requests_ids_B.append(failure.request_ids[ended:])  # the template's end of turn, unless it is there already
        before_B = list(zip(prompts_ids_B, reflections_ids_B, requests_ids_B, strict=True))
        retries_ids_B, retry_logps_B = self._sample(
            [prompt + ids + request for prompt, ids, request in before_B], "retry", self.reward.retry_tokens
        )
        self.turns_B = list(zip(reflections_ids_B, retries_ids_B, strict=True))
        self.masks_B = [
            [1] * len(ids) + [0] * len(request) + [1] * len(retry)
            for (_, ids, request), retry in zip(before_B, retries_ids_B, strict=True)
        ]
        completions_ids_B = [
            ids + request + retry for (_, ids, request), retry in zip(before_B, retries_ids_B, strict=True)
        ]
        if logps_B is None or retry_logps_B is None:
            return completions_ids_B, None
        return completions_ids_B, [
            logps + [0.0] * len(request) + retry_logps  # masked, so any number does
            for logps, request, retry_logps in zip(logps_B, requests_ids_B, retry_logps_B, strict=True)
        ]

    def _generate(self, prompts: list[list[int]]) -> tuple[Any, ...]:
        turn: tuple[Any, ...] = super()._generate(prompts)
        if self.reward.objective != BOTH:
            return turn
        prompt_ids, completion_ids, _, completions, logps, fields, *images = turn
        # The fields become columns of the reward function.
        return prompt_ids, completion_ids, self.masks_B, completions, logps, {**fields, "turns": self.turns_B}, *images

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
        self.failures_B = [self.reward.failures[row["failure"]] for row in inputs]
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        first = self.accelerator.process_index * len(inputs)  # row of the step's whole batch
        mask_B_C = output["completion_mask"] * output.get("tool_mask", 1)
        trained_B = (mask_B_C.sum(1) * (output["advantages"] != 0)).tolist()
        self.scored_B = [
            Scored(judged, row // self.num_generations, row % self.num_generations, advantage, int(trained))
            for row, (judged, advantage, trained) in enumerate(
                zip(self.reward.judged_B, output["advantages"].tolist(), trained_B, strict=True), start=first
            )
        ]
        return output
