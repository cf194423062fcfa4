"""Keys and values of prompts: what a prefix cache has of them is taken from it, and only the rest is computed.

One forward for many prompts: those of which nothing is known together, and those of which the beginning is, in groups
of like remaining length. Refuses a model whose layers keep something else than keys and values of each token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache

from rrr_cli.engines.key_values import Buffer, Slab, Span, Started, length, write
from rrr_cli.engines.prefix_cache import PrefixCache
from rrr_cli.engines.shared_attention import Shared, SharedAttention, beginnings
from rrr_cli.errors import RrrError

TOKENS = 16384  # of one forward; bounds its memory
COLUMNS = 4 * TOKENS  # of known and computed keys in one forward
SCORES = 2**21  # a head: queries times keys in one forward, where something is known
WORTH = 4  # a known beginning shorter than 1/4 of its prompt isn't worth a mask and a group of its own

Texts = list[list[Span]]


def prefill(
    model: Any, prompts_P: Sequence[Sequence[int]], context: int, cache: PrefixCache | None, attention: SharedAttention
) -> Texts:
    """spans_P of every prompt's tokens but the last, which the first step of decoding feeds."""
    known_P: Texts = [[] for _ in prompts_P]
    if cache is not None:
        for p, prompt in enumerate(prompts_P):
            spans = cache.match(prompt[:-1])
            if WORTH * length(spans) >= len(prompt) - 1 > 0:
                known_P[p] = spans
            cache.reused += length(known_P[p])
            cache.prefilled += len(prompt) - 1 - length(known_P[p])
    spans_P: Texts = [list(spans) for spans in known_P]
    for group in _groups([len(prompt) - 1 for prompt in prompts_P], [length(spans) for spans in known_P]):
        known_G = [known_P[p] for p in group]
        rest_G = [prompts_P[p][length(known) : -1] for p, known in zip(group, known_G, strict=True)]
        slab = _computed(model, rest_G, known_G, context, attention)
        start, texts = 0, []
        for p, known, rest in zip(group, known_G, rest_G, strict=True):
            spans_P[p].append(Span(slab, start, start + len(rest)))
            texts.append((prompts_P[p][:-1], length(known), start))
            start += len(rest)
        if cache is not None:
            cache.add(texts, slab)
    return spans_P


def _groups(lengths_P: Sequence[int], known_P: Sequence[int]) -> Iterator[list[int]]:
    """Which prompts are computed by one forward: little padding, and bounded memory. Those that are known entirely are
    in none."""
    rest_P = [total - known for total, known in zip(lengths_P, known_P, strict=True)]
    order = sorted((p for p in range(len(rest_P)) if rest_P[p] or not known_P[p]),
                   key=lambda p: (known_P[p] > 0, rest_P[p]))
    group: list[int] = []
    for p in order:
        rows = len(group) + 1
        longest = max([known_P[q] for q in group], default=0)
        columns = rows * (max(longest, known_P[p]) + rest_P[p])
        full = rows * rest_P[p] > TOKENS or (
            known_P[p] > 0 and (columns > COLUMNS or columns * rest_P[p] > SCORES))
        if group and (
            full or (known_P[p] > 0) != (known_P[group[0]] > 0) or rest_P[p] > 2 * rest_P[group[0]] + 32
        ):
            yield group
            group = []
        group.append(p)
    if group:
        yield group


def _computed(
    model: Any, rest_P: Sequence[Sequence[int]], known_P: Sequence[Sequence[Span]], context: int,
    attention: SharedAttention,
) -> Slab:
    """The keys and values of the rest of each prompt, after what is known of it: of all of them, or of none.

    Padded on the right: under a causal mask nothing sees the padding. What is known is aligned to the right, so that
    nothing stands between it and the rest: a sliding window then counts as it does without padding. What several of
    them have in common is kept apart, where that pays.
    """
    device, count = model.device, len(rest_P)
    ids = torch.zeros(count, max(1, *(len(rest) for rest in rest_P), 1), dtype=torch.long)
    for ids_T, rest in zip(ids, rest_P, strict=True):
        ids_T[: len(rest)] = torch.tensor(rest, dtype=torch.long)
    fed: dict[str, Any] = {"input_ids": ids.to(device), "use_cache": True, "logits_to_keep": 1}
    width, shared = 0, None
    if not known_P[0]:
        layers: list[Any] = [Started() for _ in range(model.config.get_text_config().num_hidden_layers)]
    else:
        begun = beginnings(known_P)
        shared = Shared(begun) if attention.worth(begun) else None
        own_P = [known[len(spans) :] if shared else known for known, spans in zip(known_P, begun, strict=True)]
        own_R, known_R = (
            torch.tensor([length(spans) for spans in texts], device=device)[:, None] for texts in (own_P, known_P))
        width = int(own_R.max())
        layers = [Buffer.empty(pair, count, width, ids.shape[1]) for pair in known_P[0][0].slab.layers]
        write(own_P, layers, 0, width)
        fed["attention_mask"] = (torch.arange(width + ids.shape[1], device=device) >= width - own_R).long()
        positions = known_R + torch.arange(ids.shape[1], device=device)
        fed["position_ids"] = positions.clamp(max=context - 1)  # of the padding, too
    with attention.seeing(shared):
        model(past_key_values=Cache(layers=layers), **fed)
    if any(layer.get_seq_length() != width + ids.shape[1] for layer in layers):
        raise RrrError(f"this model ({model.config.model_type}) has layers that don't keep the keys and "
                       "values of each token; use --engine vllm for it")
    return Slab.of(layers, [(p, width, width + len(rest)) for p, rest in enumerate(rest_P)])
