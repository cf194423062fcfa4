"""Attention in which keys that several queries read are read once.

Rows that go on from one text share its keys and values, and the heads of a group (grouped-query attention) share
theirs: transformers would read the first once a row, and copy the second once a head, at each step. While a model
writes this stands in for transformers' "sdpa", with the same result but for rounding. Reads and writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as FUNCTIONS

from rrr_cli.engines.key_values import Buffer, Span, aligned, length, write

Spans = tuple[Span, ...]
TOGETHER = (1, 2, 4, 8, 16)  # rows of one text that may be one group; the rest of them read it once more
READING = 8  # what reading a text costs, in queries


class Shared:
    """What the rows of a decoder share: each row goes on from one text, which may be empty, and so do others.

    P groups of n rows, texts of at most T tokens.
    """

    def __init__(self, texts_R: Sequence[Spans]) -> None:
        rows_of: dict[Spans, list[int]] = {}
        for row, spans in enumerate(texts_R):
            rows_of.setdefault(spans, []).append(row)
        self.size = min(  # of every group: those of fewer rows are filled up
            TOGETHER, key=lambda size: sum(-(-len(rows) // size) for rows in rows_of.values()) * (size + READING))
        groups = [
            (spans, rows[i : i + self.size]) for spans, rows in rows_of.items()
            for i in range(0, len(rows), self.size)
        ]
        layers = next(spans for spans in texts_R if spans)[0].slab.layers
        device, dtype = layers[0][0].device, layers[0][0].dtype
        width = aligned(max(1, *(length(spans) for spans, _ in groups)))
        self.layers = [Buffer.empty(pair, len(groups), width, 0) for pair in layers]
        write([spans for spans, _ in groups], self.layers, 0, width)
        slots = [row for _, rows in groups for row in rows + rows[:1] * (self.size - len(rows))]
        slot_of = {row: p * self.size + i for p, (_, rows) in enumerate(groups) for i, row in enumerate(rows)}
        self.in_order = slots == list(range(len(texts_R)))  # each row is in the slot of its number
        self.rows_S = torch.tensor(slots, device=device)  # (P·n,), the row in each slot
        self.slots_R = torch.tensor([slot_of[row] for row in range(len(texts_R))], device=device)
        known_P = torch.tensor([length(spans) for spans, _ in groups], device=device)
        hidden = torch.arange(width, device=device) < width - known_P[:, None]
        self.mask = torch.zeros(hidden.shape, device=device, dtype=dtype).masked_fill(hidden, -torch.inf)[:, None, None]

    def to_slots(self, rows: torch.Tensor) -> torch.Tensor:
        """(R, kv, g, X) as (P, kv, n·g, X)."""
        _, heads, group, size = rows.shape
        slots = rows if self.in_order else rows.index_select(0, self.rows_S)
        slots = slots.reshape(-1, self.size, heads, group, size)
        return slots.transpose(1, 2).reshape(-1, heads, self.size * group, size)

    def to_rows(self, slots: torch.Tensor) -> torch.Tensor:
        """(P, kv, n·g, X) as (R, kv, g, X)."""
        count, heads, queries, size = slots.shape
        rows = slots.view(count, heads, self.size, queries // self.size, size).transpose(1, 2)
        rows = rows.reshape(count * self.size, heads, -1, size)
        return rows if self.in_order else rows.index_select(0, self.slots_R)


class SharedAttention:
    """transformers' "sdpa" for one model, in which the queries of a row also see its text of `shared`, if there is one.

    `least`: the keys that needn't be read again from which on a text is kept apart.
    """

    def __init__(self, model: Any, least: int) -> None:
        self.takes, self.least = takes_shared(model), least
        self.shared: Shared | None = None
        self.thread = 0  # in which it is in use: a verifier may run a model of its own beside it

    def worth(self, beginnings_R: Sequence[Spans]) -> bool:
        """Whether sharing these beginnings pays, and the model can."""
        saved = sum(map(length, beginnings_R)) - sum(map(length, set(beginnings_R)))
        return self.takes and saved >= self.least

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While this lasts, models call it."""
        self.plain, FUNCTIONS["sdpa"], self.thread = FUNCTIONS["sdpa"], self, get_ident()
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
        groups = 1 if get_ident() != self.thread else query.shape[1] // key.shape[1]
        if self.shared is not None and get_ident() == self.thread:
            out = self._with_shared(module.layer_idx, query, key, value, attention_mask, scaling)
        elif (
            groups == 1 or attention_mask is None or attention_mask.shape[1] != 1
            or more.get("position_bias") is not None
        ):
            return self.plain(  # type: ignore[no-any-return]
                module, query, key, value, attention_mask, scaling=scaling, **more)
        else:
            out = grouped(query, key, value, attention_mask, scaling, groups)
        return out.transpose(1, 2).contiguous(), None

    def _with_shared(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        mask: torch.Tensor | None, scaling: float | None,
    ) -> torch.Tensor:
        assert self.shared is not None
        rows, heads, count, size = query.shape
        shared, texts = self.shared, self.shared.layers[layer]
        query_R = query.reshape(rows, key.shape[1], -1, size) * (size**-0.5 if scaling is None else scaling)
        own_R = query_R @ key.transpose(2, 3)
        if mask is None and count > 1:  # transformers leaves out a mask that is causal and nothing else
            mask = torch.ones(1, 1, count, key.shape[2], dtype=torch.bool, device=key.device).tril()
        if mask is not None:
            own_R = own_R + folded(additive(mask, own_R.dtype), heads // key.shape[1])
        before_R = shared.to_rows(shared.to_slots(query_R) @ texts.keys.transpose(2, 3) + shared.mask)
        weights_R = torch.cat([before_R, own_R], -1).softmax(-1, dtype=torch.float32).to(value.dtype)
        before_R, own_R = weights_R.split([before_R.shape[-1], own_R.shape[-1]], -1)
        out = shared.to_rows(shared.to_slots(before_R) @ texts.values) + own_R @ value
        return out.reshape(rows, heads, count, value.shape[-1])


def grouped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float | None, groups: int
) -> torch.Tensor:
    """The queries of heads that share keys as more queries of one head: (B, heads, T, size)."""
    rows, heads, count, size = query.shape
    out = torch.nn.functional.scaled_dot_product_attention(
        query.reshape(rows, heads // groups, groups * count, size), key, value, attn_mask=folded(mask, groups),
        scale=scaling)
    return out.reshape(rows, heads, count, value.shape[-1])


def folded(mask: torch.Tensor, groups: int) -> torch.Tensor:
    """A mask (B, 1, T, columns) for the queries of `groups` heads, one head after the other: (B, 1, groups·T, columns),
    or as it is where that is the same."""
    if mask.shape[2] == 1 or groups == 1:
        return mask
    return mask[:, :, None].expand(-1, -1, groups, -1, -1).flatten(2, 3)


def additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask that is added to scores."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -torch.inf)


def takes_shared(model: Any) -> bool:
    """Whether the model's layers all see every earlier token, and leave attention to the function they are given."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    full = set(kinds) == {"full_attention"} if kinds else not getattr(config, "sliding_window", None)
    return full and config._attn_implementation == "sdpa" and getattr(model, "_supports_attention_backend", False)


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
