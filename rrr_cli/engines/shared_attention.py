"""Attention of one decoding step in which keys that several queries read are read once.

Rows that go on from one text share its keys and values, and the heads of a group (grouped-query attention) share
theirs: transformers would read the first once a row, and copy the second once a head, at each step. While a model
decodes this stands in for transformers' "sdpa", with the same result but for rounding. Reads and writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as FUNCTIONS

from rrr_cli.engines.key_values import Buffer, Span, length, write

Spans = tuple[Span, ...]
TOGETHER = 16  # rows of one text that are one group; the rest of them read it once more


class Shared:
    """What the rows of a decoder share: each row goes on from one text, and so do others.

    P groups of at most n rows, texts of at most T tokens.
    """

    def __init__(self, texts_R: Sequence[Spans]) -> None:
        rows_of: dict[Spans, list[int]] = {}
        for row, spans in enumerate(texts_R):
            rows_of.setdefault(spans, []).append(row)
        groups = [
            (spans, rows[i : i + TOGETHER]) for spans, rows in rows_of.items() for i in range(0, len(rows), TOGETHER)
        ]
        layers = texts_R[0][0].slab.layers
        device, dtype = layers[0][0].device, layers[0][0].dtype
        width = max(1, *(length(spans) for spans, _ in groups))
        self.layers = [Buffer.empty(pair, len(groups), width, 0) for pair in layers]
        write([spans for spans, _ in groups], self.layers, 0, width)
        self.size = max(len(rows) for _, rows in groups)
        slots = [row for _, rows in groups for row in rows + rows[:1] * (self.size - len(rows))]
        slot_of = {row: p * self.size + i for p, (_, rows) in enumerate(groups) for i, row in enumerate(rows)}
        self.rows_S = torch.tensor(slots, device=device)  # (P·n,), the row in each slot
        self.slots_R = torch.tensor([slot_of[row] for row in range(len(texts_R))], device=device)
        known_P = torch.tensor([length(spans) for spans, _ in groups], device=device)
        hidden = torch.arange(width, device=device) < width - known_P[:, None]
        self.mask = torch.zeros(hidden.shape, device=device, dtype=dtype).masked_fill(hidden, -torch.inf)[:, None, None]

    def to_slots(self, rows: torch.Tensor) -> torch.Tensor:
        """(R, kv, g, X) as (P, kv, n·g, X)."""
        _, heads, group, size = rows.shape
        slots = rows.index_select(0, self.rows_S).view(-1, self.size, heads, group, size)
        return slots.transpose(1, 2).reshape(-1, heads, self.size * group, size)

    def to_rows(self, slots: torch.Tensor) -> torch.Tensor:
        """(P, kv, n·g, X) as (R, kv, g, X)."""
        count, heads, queries, size = slots.shape
        rows = slots.view(count, heads, self.size, queries // self.size, size).transpose(1, 2)
        return rows.reshape(count * self.size, heads, -1, size).index_select(0, self.slots_R)


class SharedAttention:
    """transformers' "sdpa", in which one query a row also sees `shared`, if there is one.

    `layers` are those that have called it so far: a model whose attention is its own never does, and can't share.
    """

    def __init__(self) -> None:
        self.plain = FUNCTIONS["sdpa"]
        self.layers: set[int] = set()
        self.shared: Shared | None = None

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While this lasts, models call it."""
        FUNCTIONS["sdpa"] = self
        try:
            yield
        finally:
            FUNCTIONS["sdpa"] = self.plain

    @contextmanager
    def seeing(self, shared: Shared | None) -> Iterator[None]:
        """While this lasts, each row sees its text of `shared`."""
        self.shared = shared
        try:
            yield
        finally:
            self.shared = None

    def __call__(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        attention_mask: torch.Tensor | None, scaling: float | None = None, **more: Any,
    ) -> tuple[torch.Tensor, None]:
        """(B, T, heads, size) from queries (B, heads, T, size), keys and values (B, kv, columns, size)."""
        other = [name for name in ("position_bias", "s_aux") if more.get(name) is not None]
        if not other and hasattr(module, "layer_idx"):
            self.layers.add(module.layer_idx)
        groups = query.shape[1] // key.shape[1]
        if self.shared is not None:
            out = self._with_shared(module.layer_idx, query, key, value, attention_mask, scaling)
        elif groups == 1 or attention_mask is None or attention_mask.shape[1] != 1 or other:
            return self.plain(  # type: ignore[no-any-return]
                module, query, key, value, attention_mask, scaling=scaling, **more)
        else:
            out = grouped(query, key, value, attention_mask, scaling, groups)
        return out.transpose(1, 2).contiguous(), None

    def _with_shared(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        attention_mask: torch.Tensor | None, scaling: float | None,
    ) -> torch.Tensor:
        assert self.shared is not None
        rows, heads, count, size = query.shape
        assert count == 1, "only one query a row sees the shared text"
        shared, texts = self.shared, self.shared.layers[layer]
        query_R = query.view(rows, key.shape[1], -1, size) * (size**-0.5 if scaling is None else scaling)
        own_R = query_R @ key.transpose(2, 3)
        if attention_mask is not None:
            own_R = own_R + additive(attention_mask, own_R.dtype)
        before_R = shared.to_rows(shared.to_slots(query_R) @ texts.keys.transpose(2, 3) + shared.mask)
        weights_R = torch.cat([before_R, own_R], -1).softmax(-1, dtype=torch.float32).to(value.dtype)
        before_R, own_R = weights_R.split([before_R.shape[-1], own_R.shape[-1]], -1)
        out = shared.to_rows(shared.to_slots(before_R) @ texts.values) + own_R @ value
        return out.reshape(rows, heads, 1, value.shape[-1])


def grouped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float | None, groups: int
) -> torch.Tensor:
    """The queries of heads that share keys as more queries of one head: (B, heads, T, size)."""
    rows, heads, count, size = query.shape
    if mask.shape[2] > 1:
        mask = mask[:, :, None].expand(-1, -1, groups, -1, -1).flatten(2, 3)
    folded = query.reshape(rows, heads // groups, groups * count, size)
    out = torch.nn.functional.scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scaling)
    return out.reshape(rows, heads, count, value.shape[-1])


def additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask that is added to scores."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -torch.inf)


def takes_shared(model: Any) -> bool:
    """Whether the model's layers all see every earlier token, by PyTorch's own attention."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windows = getattr(config, "sliding_window", None) if not getattr(config, "layer_types", None) else None
    return config._attn_implementation == "sdpa" and kinds == {"full_attention"} and not windows


def beginnings(texts_R: Sequence[Sequence[Span]]) -> list[Spans]:
    """Of each row's text the beginning that is worth most to share: its length times how many rows have it. All of a
    text that shares nothing."""
    counts = Counter(tuple(spans[:k]) for spans in texts_R for k in range(1, len(spans) + 1))

    def saved(spans: Spans) -> float:
        return length(spans) * (1 - 1 / counts[spans])

    chosen = []
    for spans in texts_R:
        best = max((tuple(spans[:k]) for k in range(len(spans), 0, -1)), key=saved)
        chosen.append(best)
    return chosen


def tokens_saved(beginnings_R: Sequence[Spans]) -> int:
    """Keys that a step needn't read again."""
    return sum(map(length, beginnings_R)) - sum(map(length, set(beginnings_R)))
