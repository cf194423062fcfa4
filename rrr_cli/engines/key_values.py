"""Keys and values of tokens in each layer of a model: a buffer that rows decode in, and slabs that are kept.

A slab holds the tokens of several texts one after the other; a text is a list of spans of slabs. Pure tensors: knows
neither models nor texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import DynamicLayer

from rrr_cli.engines.devices import arithmetic

Pair = tuple[torch.Tensor, torch.Tensor]  # keys and values


class Buffer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values (R, heads, width + room, size): a step fills columns instead of copying them all."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, width: int) -> None:
        super().__init__()
        self.all_keys, self.all_values = keys, values
        self.is_initialized, self.dtype, self.device = True, keys.dtype, keys.device
        self.column: torch.Tensor | None = None  # where the next token goes, while the shapes are fixed
        self._show(width)

    @classmethod
    def empty(cls, like: Pair, rows: int, width: int, room: int) -> Buffer:
        """Zeros, for the heads and sizes of `like`, whose last axis but one are tokens."""
        # zeros: masked values must be finite, or attention gives NaN
        keys, values = (t.new_zeros(rows, t.shape[-3], width + room, t.shape[-1]) for t in like)
        return cls(keys, values, width)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values (R, heads, T, size); while the shapes are fixed, of the one token of a step."""
        if self.column is not None:
            for all_states, states in ((self.all_keys, key_states), (self.all_values, value_states)):
                all_states.index_copy_(2, self.column, states.to(all_states.dtype))
            return self.all_keys, self.all_values
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        self.all_keys[:, :, start:end] = key_states
        self.all_values[:, :, start:end] = value_states
        self._show(end)
        return self.keys, self.values

    @property
    def capacity(self) -> int:
        """Columns, in use and free."""
        return int(self.all_keys.shape[2])

    def fix(self, column: torch.Tensor) -> None:
        """From now on `update` writes into `column` (1,) and gives all columns."""
        self.column = column

    def release(self, width: int) -> None:
        """The first `width` columns are in use, and shapes grow again."""
        self.column = None
        self._show(width)

    def get_seq_length(self) -> int:
        """Columns in use. (The base class treats an empty tensor as an uninitialised layer.)"""
        return int(self.keys.shape[2])

    def rebuilt(self, keep: Sequence[int], rows: int, width: int, room: int) -> Buffer:
        """A buffer of `rows` rows and `width` columns, of which the first are the rows `keep`, aligned to the right."""
        index = torch.tensor(keep, device=self.keys.device)
        new = Buffer.empty((self.keys, self.values), rows, width, room)
        used = min(width, self.get_seq_length())  # columns further left are padding by now
        for target, old in ((new.keys, self.keys), (new.values, self.values)):
            target[: len(keep), :, width - used :] = old[:, :, old.shape[2] - used :].index_select(0, index)
        return new

    def _show(self, width: int) -> None:
        self.keys, self.values = self.all_keys[:, :, :width], self.all_values[:, :, :width]


class Started(DynamicLayer):  # type: ignore[misc]
    """A layer of tokens that are computed without any before them; kept in the numbers that attention computes with."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Pair:
        """Append keys and values (R, heads, T, size)."""
        keys, values = (states.to(arithmetic(states)) for states in (key_states, value_states))
        found: Pair = super().update(keys, values, *args, **kwargs)
        return found


class Slab:
    """Each layer's keys and values (heads, tokens, size), of tokens that were computed together."""

    def __init__(self, layers: list[Pair]) -> None:
        self.layers = layers
        self.nbytes = sum(t.nbytes for pair in layers for t in pair)

    @classmethod
    def of(cls, layers: Sequence[Any], pieces: Sequence[tuple[int, int, int]]) -> Slab:
        """A copy of the `pieces` (row, first column, last column + 1) of layers with keys and values (R, heads, T,
        size), one after the other."""
        def joined(states: torch.Tensor) -> torch.Tensor:
            return torch.cat([states[row, :, start:stop] for row, start, stop in pieces], 1)

        return cls([(joined(layer.keys), joined(layer.values)) for layer in layers])


class Span(NamedTuple):
    """Tokens start to stop of a slab."""

    slab: Slab
    start: int
    stop: int


def aligned(columns: int) -> int:
    """As many or a few more: GPUs have no fast products of 16-bit numbers whose rows don't begin at every 16 bytes."""
    return -(-columns // 8) * 8


def length(spans: Sequence[Span]) -> int:
    """Tokens of a text."""
    return sum(span.stop - span.start for span in spans)


def write(texts: Sequence[Sequence[Span]], buffers: Sequence[Buffer], row: int, width: int) -> None:
    """Copy texts into rows `row`, `row` + 1, …, aligned to the right of the first `width` columns."""
    for r, spans in enumerate(texts, start=row):
        column = width - length(spans)
        for slab, start, stop in spans:
            end = column + stop - start
            for buffer, (keys, values) in zip(buffers, slab.layers, strict=True):
                buffer.all_keys[r, :, column:end] = keys[:, start:stop]
                buffer.all_values[r, :, column:end] = values[:, start:stop]
            column = end
