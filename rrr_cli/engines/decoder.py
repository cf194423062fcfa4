"""The rows being decoded, and their keys and values: pure tensors and token ids.

A prompt is prefilled once for all of its samples, from where an earlier text ends if there is a cache
(`prefix_cache.py`). Rows of different lengths decode side by side, right-aligned in one buffer of keys and values; a
step writes one column of it in place. When a quarter of the rows are done, the buffer is rebuilt: finished rows leave,
waiting ones enter. What many rows have in common is kept once, beside the buffer (`shared_attention.py`). Refuses a
model whose layers keep something else than keys and values of each token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch

from rrr_cli.engines.base import Sampling
from rrr_cli.engines.drawing import pick
from rrr_cli.engines.key_values import Buffer, Slab, Span, aligned, length, write
from rrr_cli.engines.prefill import prefill
from rrr_cli.engines.prefix_cache import PrefixCache
from rrr_cli.engines.shared_attention import Shared, SharedAttention, beginnings
from rrr_cli.engines.step import steps
from rrr_cli.errors import RrrError

ROOM = 64  # columns a rebuild leaves free, so that the buffer is copied once in 64 steps
SHARING = 2048  # keys that a step needn't read again, from which on a text that rows share is kept apart


@dataclass
class Row:
    """One sample being decoded."""

    index: int  # of its prompt, in prompts_B
    prompt: Sequence[int]
    uniforms: np.ndarray[Any, Any]  # one for each token that it may write
    ids: list[int]  # written so far
    done: bool = False
    shared: tuple[Span, ...] = ()  # the beginning of its prompt, where it is kept once for several rows
    apart: int = 0  # tokens of it
    first: int = 0  # column of its first token of its own

    @property
    def length(self) -> int:
        """Tokens whose keys and values are known: all but the last, which the next step feeds."""
        return len(self.prompt) + len(self.ids) - 1

    @property
    def own(self) -> int:
        """Those of them that are in its columns of the buffer."""
        return self.length - self.apart

    def share(self, spans: tuple[Span, ...]) -> None:
        """Keep the beginning of its prompt apart."""
        self.shared, self.apart = spans, length(spans)


class Decoder:
    """The rows being decoded and their keys and values."""

    def __init__(
        self, model: Any, sampling: Sampling, eos_ids: frozenset[int], context: int, cache: PrefixCache | None,
        attention: SharedAttention,
    ) -> None:
        check_cache(model)
        self.model, self.sampling, self.eos_ids, self.context = model, sampling, eos_ids, context
        self.cache, self.attention = cache, attention
        self.shares = False  # decided when rows enter; once it pays, until none is left
        self.rows: list[Row] = []
        self.buffers: list[Buffer] = []
        self.shared: Shared | None = None

    @property
    def live(self) -> list[Row]:
        return [row for row in self.rows if not row.done]

    def rebuild(self, entering: list[Row]) -> None:
        """Drop finished rows, prefill and add `entering`, align all to the right and leave ROOM columns free."""
        keep = [i for i, row in enumerate(self.rows) if not row.done]
        texts = self._texts(entering)
        self.rows = self.live + entering
        rows, width = len(self.rows), max(row.own for row in self.rows)
        room = aligned(width + ROOM) - width
        self.buffers = [buffer.rebuilt(keep, rows, width, room) for buffer in self.buffers] if keep else [
            Buffer.empty(pair, rows, width, room) for pair in texts[0][0].slab.layers]
        own = [spans[len(row.shared) :] for row, spans in zip(entering, texts, strict=True)]
        write(own, self.buffers, len(keep), width)
        self.shared = Shared([row.shared for row in self.rows]) if any(row.shared for row in self.rows) else None
        for row in self.rows:
            row.first = width - row.own

    def _texts(self, entering: list[Row]) -> list[list[Span]]:
        """The prompts of rows that enter, computed, without their last tokens; the rows know what they share."""
        entering_P = [list(of_prompt) for _, of_prompt in groupby(entering, key=lambda row: row.index)]
        prompts_P = [rows[0].prompt for rows in entering_P]
        spans_P = prefill(self.model, prompts_P, self.context, self.cache, self.attention)
        texts = [spans for spans, rows in zip(spans_P, entering_P, strict=True) for _ in rows]
        begun = beginnings(texts)
        if not (self.shares and self.live):  # rows that entered before keep their whole texts
            self.shares = self.attention.worth(begun)
        if self.shares:
            for row, spans in zip(entering, begun, strict=True):
                row.share(spans)
        return texts

    def keep_finished(self) -> None:
        """Give the cache what the finished rows have written, but for the last token, which no step has fed."""
        if self.cache is None:
            return
        done = [(r, row) for r, row in enumerate(self.rows) if row.done]
        pieces = [(r, row.first + len(row.prompt) - 1 - row.apart, row.first + row.own) for r, row in done]
        start, texts = 0, []
        for (_, row), (_, first, last) in zip(done, pieces, strict=True):
            texts.append(([*row.prompt, *row.ids[:-1]], len(row.prompt) - 1, start))
            start += last - first
        if done:
            self.cache.add(texts, Slab.of(self.buffers, pieces))

    def run(self, at_each_step: Callable[[], object]) -> None:
        """Decode until a rebuild pays: a quarter of the rows are done, or the buffer is full."""
        device = self.model.device
        length_R = torch.tensor([row.length for row in self.rows], device=device)
        first_R = torch.tensor([row.first for row in self.rows], device=device)
        token_R = torch.tensor([(row.ids or row.prompt)[-1] for row in self.rows], device=device)
        uniforms_R_T = torch.from_numpy(np.stack([_window(row) for row in self.rows])).to(device)
        fixed = self.attention.takes and device.type == "cuda"
        with steps(
            fixed, self.model, self.buffers, self.shared, self.attention, first_R, length_R, self.context
        ) as step:
            for t in range(ROOM):
                at_each_step()
                logits_R_V = step(token_R)
                token_R = pick(logits_R_V, uniforms_R_T[:, t], self.sampling)
                if self._write(token_R.tolist(), logits_R_V.shape[1]):
                    return

    def _write(self, tokens: list[int], vocabulary: int) -> bool:
        """Add a token to each row that isn't done; whether a quarter of the rows are."""
        if max(tokens) == vocabulary:  # NaN
            raise RrrError("the model's probabilities aren't finite: try --dtype float32, or check its training")
        for row, token in zip(self.rows, tokens, strict=True):
            if not row.done:
                row.ids.append(token)
                row.done = token in self.eos_ids or len(row.ids) >= len(row.uniforms)
        return sum(row.done for row in self.rows) >= -(-len(self.rows) // 4)  # rounded up


def _window(row: Row) -> np.ndarray[Any, Any]:
    """The row's next ROOM uniforms (ROOM,), padded with zeros, which are never used."""
    window = np.zeros(ROOM)
    block = row.uniforms[len(row.ids) : len(row.ids) + ROOM]
    window[: len(block)] = block
    return window


def check_cache(model: Any) -> None:
    """Raise RrrError (exit 3) for a model whose layers keep something else than keys and values of each token."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds or getattr(model, "_is_stateful", False):
        layers = ", ".join(sorted(kinds)) or "recurrent"
        raise RrrError(f"this model ({config.model_type}) has {layers} layers; use --engine vllm for it")
