"""Log-probabilities of groups' completions with each prompt computed once, exact to rounding.

A batch is one row: of each group the prompt without its last token, then for each completion that last token and the
completion without its own last. Positions restart with each completion, which sees the prompt and itself. A group of G
costs P + G·L tokens rather than G·(P + L), nothing is padded, and only completion tokens go through the LM head. Reads
and writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from rrr_cli.engines.devices import arithmetic
from rrr_cli.training.group_attention import Layout, register


def longest(model: Any) -> float:
    """Texts of fewer tokens can share a prompt in `model`; 0 where none can.

    Under a sliding window those that fit into it; else all, where a few tokens prove that the pass is exact.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    if config._attn_implementation != "sdpa" or not kinds <= {"full_attention", "sliding_attention"}:
        return 0
    register()
    # In the weights' own numbers, where a leak of one text into another shows; and as training computes.
    with torch.autocast(model.device.type, enabled=False):
        exact = is_exact(model)
    if not exact or (arithmetic(model) != model.dtype and not is_exact(model)):
        return 0
    window = getattr(config, "sliding_window", None)
    return math.inf if kinds == {"full_attention"} or window is None else window


def is_exact(model: Any) -> bool:
    """Whether `model` gives the completions of a small group the same log-probabilities either way.

    Not where tokens of one completion reach the next: recurrent layers, attention of the model's own.
    """
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.arange(7, 37, device=model.device).view(3, 10) % vocabulary
    ids[:, :5] = ids[0, :5]  # one prompt
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            plain = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True).log_probs[:, -5:]
            shared, _ = log_probabilities(model, ids, mask, 5)
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False  # a forward of the model's own that can't do with such a mask
    finally:
        model.train(training)
    return bool(torch.allclose(plain, shared, rtol=0, atol=3 * torch.finfo(arithmetic(model)).eps ** 0.5))


@dataclass(frozen=True)
class Packed:
    """One row of N tokens, and where in it the n completion tokens of the batch are predicted."""

    input_ids: torch.Tensor  # (1, N)
    position_ids: torch.Tensor  # (1, N)
    layout: Layout
    labels: torch.Tensor  # (1, n), the completion tokens
    source: torch.Tensor  # (n,), index into N of the token before each
    target: torch.Tensor  # (n,), index of each into the flattened (B, C) of the completions


def pack(input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_length: int) -> Packed:
    """Pack a batch (B, P + C) of left-padded prompts and right-padded completions of width `completion_length` = C."""
    ids_B_T, mask_B_T = input_ids.cpu(), attention_mask.bool().cpu()
    start = input_ids.shape[1] - completion_length
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, (ids, mask) in enumerate(zip(ids_B_T[:, :start], mask_B_T[:, :start], strict=True)):
        groups.setdefault(tuple(ids[mask].tolist()), []).append(row)
    tokens, positions, labels, source, target, bounds = [], [], [], [], [], []
    end = 0
    for prompt, rows in groups.items():
        shared = len(prompt) - 1
        tokens.append(torch.tensor(prompt[:-1], dtype=torch.long))
        positions.append(torch.arange(shared))
        group = [end, end := end + shared]
        for row in rows:
            completion = ids_B_T[row, start:][mask_B_T[row, start:]]
            length = len(completion)
            if length:
                tokens += [torch.tensor(prompt[-1:]), completion[:-1]]
            positions.append(torch.arange(shared, shared + length))
            labels.append(completion)
            source.append(torch.arange(end, end + length))
            target.append(torch.arange(length) + row * completion_length)
            if length:
                group.append(end := end + length)
        bounds.append(tuple(group))
    flat = [torch.cat(parts).to(input_ids.device) for parts in (tokens, positions, labels, source, target)]
    return Packed(flat[0][None], flat[1][None], Layout(tuple(bounds)), flat[2][None], flat[3], flat[4])


def log_probabilities(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy of each completion token, (B, C) each; 0 where there is none.

    `model` has TRL's fused LM head, so the temperature is in it; `longest` has said that it can.
    """
    packed = pack(input_ids, attention_mask, completion_length)
    with only(packed.source, model):
        out = model(
            input_ids=packed.input_ids, attention_mask=packed.layout.as_mask(input_ids.device),
            position_ids=packed.position_ids, shift_labels=packed.labels, fused_lm_head=True,
        )
    shape = (len(input_ids), completion_length)

    def unpacked(values_1_n: torch.Tensor) -> torch.Tensor:
        flat = values_1_n.new_zeros(shape[0] * shape[1])
        return flat.index_copy(0, packed.target, values_1_n[0]).view(shape)

    entropies = unpacked(out.entropy) if out.entropy is not None else torch.zeros(shape, device=input_ids.device)
    return unpacked(out.log_probs), entropies


@contextmanager
def only(places: torch.Tensor, model: Any) -> Iterator[None]:
    """While it is open the LM head gets the hidden states of these places alone."""
    model = getattr(model, "module", model)  # of DistributedDataParallel
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model

    def keep(module: Any, inputs: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, places]
        return output

    hook = causal.base_model.register_forward_hook(keep)
    try:
        yield
    finally:
        hook.remove()
