"""Log-probabilities of a group's completions with their prompt computed once, exact to rounding.

One packed row a prompt: the prompt without its last token, then for each completion that last token and the completion
without its own last. Positions restart with each completion, which sees the prompt and itself. A group of G costs
P + G·L tokens rather than G·(P + L), and no padding to the batch's longest. Reads and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


def supports(model: Any) -> bool:
    """Whether `model` takes a full attention mask: PyTorch's own attention, and no sliding window."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return config._attn_implementation == "sdpa" and kinds == {"full_attention"}


@dataclass(frozen=True)
class Packed:
    """R packed rows of at most T tokens, and where in them the N completion tokens of the batch are predicted."""

    input_ids: torch.Tensor  # (R, T)
    position_ids: torch.Tensor  # (R, T)
    attention_mask: torch.Tensor  # (R, 1, T, T), True where row token i sees token j
    labels: torch.Tensor  # (R, T), the next token; -100 where none is scored
    source: torch.Tensor  # (N,), index into the flattened (R, T)
    target: torch.Tensor  # (N,), index into the flattened (B, C) of the completions


def pack(input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_length: int) -> Packed:
    """Pack a batch (B, P + C) of left-padded prompts and right-padded completions of width `completion_length` = C."""
    device = input_ids.device
    ids_B, mask_B = input_ids.tolist(), attention_mask.bool().tolist()
    start = input_ids.shape[1] - completion_length
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, (ids, mask) in enumerate(zip(ids_B, mask_B, strict=True)):
        prompt = tuple(token for token, real in zip(ids[:start], mask[:start], strict=True) if real)
        groups.setdefault(prompt, []).append(row)
    tokens_R: list[list[int]] = []
    positions_R: list[list[int]] = []
    segments_R: list[list[int]] = []  # 0 in the prompt, k in the k-th completion
    labels_R: list[list[int]] = []
    places_R: list[list[int]] = []  # where in (B, C) a label stands
    for prompt, rows in groups.items():
        shared = len(prompt) - 1
        tokens, positions = list(prompt[:-1]), list(range(shared))
        segments, labels, places = [0] * shared, [-100] * shared, [-1] * shared
        for segment, row in enumerate(rows, start=1):
            completion = [t for t, real in zip(ids_B[row][start:], mask_B[row][start:], strict=True) if real]
            length = len(completion)
            tokens += [prompt[-1], *completion[:-1]] if length else []
            positions += range(shared, shared + length)
            segments += [segment] * length
            labels += completion
            places += range(row * completion_length, row * completion_length + length)
        for rows_R, values in zip(
            (tokens_R, positions_R, segments_R, labels_R, places_R), (tokens, positions, segments, labels, places),
            strict=True,
        ):
            rows_R.append(values)
    width = max(map(len, tokens_R))

    def padded(rows_R: list[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([row + [filler] * (width - len(row)) for row in rows_R], device=device)

    segments_R_T, places_R_T = padded(segments_R, -1), padded(places_R, -1)
    own = segments_R_T[:, :, None] == segments_R_T[:, None, :]
    seen = own | (segments_R_T == 0)[:, None, :]
    mask_R_T_T = (seen & torch.ones(width, width, dtype=torch.bool, device=device).tril())[:, None]
    source = (places_R_T.flatten() >= 0).nonzero()[:, 0]
    return Packed(
        padded(tokens_R, 0), padded(positions_R, 0), mask_R_T_T, padded(labels_R, -100), source,
        places_R_T.flatten()[source],
    )


def log_probabilities(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy of each completion token, (B, C) each; 0 where there is none.

    `model` has TRL's fused LM head, so the temperature is in it.
    """
    packed = pack(input_ids, attention_mask, completion_length)
    out = model(
        input_ids=packed.input_ids, attention_mask=packed.attention_mask, position_ids=packed.position_ids,
        shift_labels=packed.labels, fused_lm_head=True,
    )
    shape = (len(input_ids), completion_length)

    def unpacked(values_R_T: torch.Tensor) -> torch.Tensor:
        flat = values_R_T.new_zeros(shape[0] * shape[1])
        return flat.index_copy(0, packed.target, values_R_T.flatten()[packed.source]).view(shape)

    entropies = unpacked(out.entropy) if out.entropy is not None else torch.zeros(shape, device=input_ids.device)
    return unpacked(out.log_probs), entropies
