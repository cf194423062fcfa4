"""Sampling from a transformers model in memory: prompts in, token ids out. No files, no text.

A prompt is prefilled once for all of its samples. Rows of different lengths decode side by side, right-aligned in one
buffer of keys and values; a step writes one column of it in place. When a quarter of the rows are done, the buffer is
rebuilt: finished rows leave, waiting ones enter.

**What a seed promises.** Token t of a sample is drawn by inverting the cumulative distribution (float64, in the order
of the vocabulary) at uniform number t of `Philox(seed)`. So a sample is a function of its prompt, its seed, the options
and the weights: the batch size, the order and the neighbours enter only through the rounding of batched matrix
products. In float32 this almost never changes a token (a uniform has to fall within ~1e-6 of a boundary); in bfloat16
it sometimes does, and from that token on the text differs. Another device, dtype or library version may change tokens
too. vLLM has its own sampler and gives other texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.random import Generator, Philox
from transformers.cache_utils import Cache, DynamicLayer

from rrr_cli.engines.base import Sampling
from rrr_cli.errors import BUG, RrrError

ROOM = 64  # columns a rebuild leaves free, so that the buffer is copied once in 64 steps
PREFILL_TOKENS = 16384  # of one prefill forward; bounds its memory


@dataclass
class _Row:
    """One sample being decoded."""

    index: int  # of its prompt, in prompts_B
    prompt: Sequence[int]
    uniforms: np.ndarray[Any, Any]  # one for each token that it may write
    ids: list[int]  # written so far
    done: bool = False

    @property
    def length(self) -> int:
        """Tokens whose keys and values are known: all but the last, which the next step feeds."""
        return len(self.prompt) + len(self.ids) - 1


class _Buffer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values (R, heads, width + room, size): a step fills a column instead of copying them all."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, width: int) -> None:
        super().__init__()
        self.all_keys, self.all_values = keys, values
        self.is_initialized, self.dtype, self.device = True, keys.dtype, keys.device
        self._show(width)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values (R, heads, 1, size)."""
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        self.all_keys[:, :, start:end] = key_states
        self.all_values[:, :, start:end] = value_states
        self._show(end)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Columns in use. (The base class treats an empty tensor as an uninitialised layer.)"""
        return int(self.keys.shape[2])

    def _show(self, width: int) -> None:
        self.keys, self.values = self.all_keys[:, :, :width], self.all_values[:, :, :width]


def sample(
    model: Any, prompts_B: Sequence[Sequence[int]], seeds_B: Sequence[Sequence[int]], sampling: Sampling,
    eos_ids: Sequence[int], *, batch_size: int = 256, max_model_len: int | None = None,
) -> list[list[list[int]]]:
    """Token ids completions_B_N, one completion a seed; it ends with an end-of-turn token unless it was cut.

    At most `batch_size` rows decode at once. The model keeps its mode (train or eval). Raises RrrError (exit 3): a
    prompt is empty, holds a token that the model doesn't know, or leaves no room in the context, the model has other
    than plain attention layers, or its probabilities aren't finite.
    """
    if unknown := {f.name for f in fields(sampling)} - {"temperature", "top_p", "max_tokens"}:
        raise RrrError(f"decoding.py doesn't sample by {', '.join(sorted(unknown))} yet", BUG)
    context, vocabulary = context_length(model, max_model_len), model.config.get_text_config().vocab_size
    for prompt in prompts_B:
        if max(prompt, default=0) >= vocabulary:
            raise RrrError(f"a prompt has token {max(prompt)}, and the model knows {vocabulary}: its tokenizer is of "
                           "another model")
        if not 0 < len(prompt) < context:
            raise RrrError(
                f"a prompt is {len(prompt)} tokens long; this model's context takes 1 to {context - 1} and an answer: "
                "choose a model with a longer context, or raise --max-model-len if that is what limits it"
            )
    # neighbours in the queue have similar lengths: little padding
    order = sorted(range(len(prompts_B)), key=lambda b: len(prompts_B[b]))
    queue = [(b, n) for b in order for n in reversed(range(len(seeds_B[b])))]  # taken from the end
    ids_B_N: list[list[list[int]]] = [[[] for _ in seeds] for seeds in seeds_B]
    with _inference(model):
        decoder = _Decoder(model, sampling, frozenset(eos_ids), context)
        while queue or decoder.live:
            entering = []
            for b, n in _take(queue, batch_size - len(decoder.live), idle=not decoder.live):
                limit = min(sampling.max_tokens, context - len(prompts_B[b]))
                uniforms = Generator(Philox(key=seeds_B[b][n])).random(limit)
                entering.append(_Row(b, prompts_B[b], uniforms, ids_B_N[b][n]))
            decoder.rebuild(entering)
            decoder.run()
    return ids_B_N


def context_length(model: Any, max_model_len: int | None = None) -> int:
    """The most tokens of prompt and answer together."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(n for n in (limit, max_model_len, 2**31) if n)


def check_cache(model: Any) -> None:
    """Raise RrrError (exit 3) for a model whose layers keep something else than keys and values of each token."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds or getattr(model, "_is_stateful", False):
        layers = ", ".join(sorted(kinds)) or "recurrent"
        raise RrrError(f"this model ({config.model_type}) has {layers} layers; use --engine vllm for it")


def check_own_tokens(model: Any) -> None:
    """Raise RrrError (exit 3) unless this decoding writes the model's own tokens, as it does without cache and padding.

    A few greedy tokens after short prompts of several lengths: an attention or positions of another kind show here.
    """
    check_cache(model)
    vocabulary = model.config.get_text_config().vocab_size
    prompts_B = [[(31 * i + 7 * b + 5) % vocabulary for i in range(1 + 3 * b)] for b in range(4)]
    written_B = sample(model, prompts_B, [(0,)] * 4, Sampling(temperature=0.0, max_tokens=4), ())
    within = 0.02 if model.dtype == torch.float32 else 0.5  # standard deviations of the logits: rounding
    with _inference(model):
        for prompt, (ids,) in zip(prompts_B, written_B, strict=True):
            fed = torch.tensor([[*prompt, *ids[:-1]]], device=model.device)
            logits_T_V = model(input_ids=fed, use_cache=False).logits[0, len(prompt) - 1 :].float()
            chosen_T = logits_T_V.gather(1, torch.tensor(ids, device=model.device)[:, None])[:, 0]
            if ((logits_T_V.amax(-1) - chosen_T) > within * logits_T_V.std(-1)).any():
                raise RrrError(f"this model ({model.config.model_type}) has an attention or positions that this engine "
                               "doesn't compute as the model does; use --engine vllm for it")


def pick(logits_R_V: torch.Tensor, uniforms_R: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Tokens (R,) from logits (R, V): argmax at temperature 0, else the inverse of the cumulative distribution at (R,)
    uniforms. V, which is no token, where a probability isn't a number."""
    if sampling.temperature == 0:
        tokens_R = logits_R_V.argmax(-1)
        return tokens_R.masked_fill(logits_R_V.gather(-1, tokens_R[:, None])[:, 0].isnan(), logits_R_V.shape[1])
    probs = torch.softmax(logits_R_V.float() / sampling.temperature, -1)
    if sampling.top_p < 1:
        ranked, order = probs.sort(dim=-1, descending=True, stable=True)
        above = ranked.cumsum(-1, dtype=torch.float64) - ranked
        probs = probs.scatter(-1, order, ranked.masked_fill(above >= sampling.top_p, 0.0))
    cdf = probs.cumsum(-1, dtype=torch.float64)
    # the first token whose share of the cumulative sum exceeds the uniform; never one of probability 0
    return torch.searchsorted(cdf, uniforms_R[:, None] * cdf[:, -1:], right=True)[:, 0]


class _Decoder:
    """The rows being decoded and their keys and values."""

    def __init__(self, model: Any, sampling: Sampling, eos_ids: frozenset[int], context: int) -> None:
        check_cache(model)
        self.model, self.sampling, self.eos_ids, self.context = model, sampling, eos_ids, context
        self.layers: int = model.config.get_text_config().num_hidden_layers
        self.rows: list[_Row] = []
        self.buffers: list[_Buffer] = []

    @property
    def live(self) -> list[_Row]:
        return [row for row in self.rows if not row.done]

    def rebuild(self, entering: list[_Row]) -> None:
        """Drop finished rows, prefill and add `entering`, align all to the right and leave ROOM columns free."""
        keep = [i for i, row in enumerate(self.rows) if not row.done]
        self.rows = self.live + entering
        width = max(row.length for row in self.rows)
        self.buffers = [self._copied(buffer, keep, width) for buffer in self.buffers] if keep else []
        start = len(keep)
        for rows_P in _prefill_groups(entering):
            for i, layer in enumerate(self._prefill([rows[0].prompt for rows in rows_P])):
                if i == len(self.buffers):
                    keys, values = self._empty(layer.keys, width), self._empty(layer.values, width)
                    self.buffers.append(_Buffer(keys, values, width))
                _spread(layer.keys, self.buffers[i].keys[start:], rows_P)
                _spread(layer.values, self.buffers[i].values[start:], rows_P)
            start += sum(len(rows) for rows in rows_P)

    def run(self) -> None:
        """Decode until a rebuild pays: a quarter of the rows are done, or the buffer is full."""
        device, width = self.model.device, self.buffers[0].get_seq_length()
        length_R = torch.tensor([row.length for row in self.rows], device=device)
        mask_R_T = (torch.arange(width + ROOM, device=device) >= width - length_R[:, None]).long()
        token_R = torch.tensor([(row.ids or row.prompt)[-1] for row in self.rows], device=device)
        uniforms_R_T = torch.from_numpy(np.stack([_window(row) for row in self.rows])).to(device)
        cache = Cache(layers=list(self.buffers))
        enough = -(-len(self.rows) // 4)  # a quarter, rounded up
        for t in range(ROOM):
            # a finished row runs on until the rebuild: its position must stay inside the context
            position_R = (length_R + t).clamp(max=self.context - 1)
            logits_R_V = self.model(
                input_ids=token_R[:, None], attention_mask=mask_R_T[:, : width + t + 1],
                position_ids=position_R[:, None], past_key_values=cache, use_cache=True, logits_to_keep=1,
            ).logits[:, -1]
            token_R = pick(logits_R_V, uniforms_R_T[:, t], self.sampling)
            tokens = token_R.tolist()
            if max(tokens) == logits_R_V.shape[1]:  # NaN
                raise RrrError("the model's probabilities aren't finite: try --dtype float32, or check its training")
            for row, token in zip(self.rows, tokens, strict=True):
                if not row.done:
                    row.ids.append(token)
                    row.done = token in self.eos_ids or len(row.ids) >= len(row.uniforms)
            if sum(row.done for row in self.rows) >= enough:
                return

    def _prefill(self, prompts_P: list[Sequence[int]]) -> list[Any]:
        """Each layer's keys and values (P, heads, T, size) of every prompt token but the last, which `run` feeds.

        Padded on the right: under a causal mask nothing sees the padding, so no mask is needed.
        """
        ids = torch.zeros(len(prompts_P), max(1, *(len(p) - 1 for p in prompts_P)), dtype=torch.long)
        for ids_T, prompt in zip(ids, prompts_P, strict=True):
            ids_T[: len(prompt) - 1] = torch.tensor(prompt[:-1])
        cache = Cache(layers=[DynamicLayer() for _ in range(self.layers)])
        self.model(input_ids=ids.to(self.model.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
        if any(layer.get_seq_length() != ids.shape[1] for layer in cache.layers):
            raise RrrError(f"this model ({self.model.config.model_type}) has layers that don't keep the keys and "
                           "values of each token; use --engine vllm for it")
        return list(cache.layers)

    def _copied(self, buffer: _Buffer, keep: list[int], width: int) -> _Buffer:
        """A buffer of `width` columns with the rows of `keep`, right-aligned, and room for entering ones."""
        index = torch.tensor(keep, device=buffer.keys.device)
        keys, values = self._empty(buffer.keys, width), self._empty(buffer.values, width)
        used = min(width, buffer.get_seq_length())  # columns further left are padding by now
        for new, old in ((keys, buffer.keys), (values, buffer.values)):
            new[: len(keep), :, width - used : width] = old[:, :, old.shape[2] - used :].index_select(0, index)
        return _Buffer(keys, values, width)

    def _empty(self, like: torch.Tensor, width: int) -> torch.Tensor:
        # zeros: masked values must be finite, or attention gives NaN
        return like.new_zeros(len(self.rows), like.shape[1], width + ROOM, like.shape[3])


def _take(queue: list[tuple[int, int]], free: int, idle: bool) -> list[tuple[int, int]]:
    """The next samples, at most `free`; those of one prompt enter together, unless a whole batch can't hold them."""
    whole = most = min(free, len(queue))
    while 0 < whole < len(queue) and queue[-whole][0] == queue[-whole - 1][0]:
        whole -= 1
    return [queue.pop() for _ in range(whole or (most if idle else 0))]


def _prefill_groups(rows: list[_Row]) -> Iterator[list[list[_Row]]]:
    """The rows of each prompt, in groups of prompts that are prefilled by one forward."""
    group: list[list[_Row]] = []
    for _, of_prompt in groupby(rows, key=lambda row: row.index):
        group.append(list(of_prompt))
        if sum(len(rows[0].prompt) for rows in group) >= PREFILL_TOKENS:
            yield group
            group = []
    if group:
        yield group


def _spread(states_P: torch.Tensor, columns_R: torch.Tensor, rows_P: list[list[_Row]]) -> None:
    """Copy prompt p's keys or values to each of its rows, aligned to the right."""
    start, width = 0, columns_R.shape[2]
    for states, rows in zip(states_P, rows_P, strict=True):
        length = rows[0].length
        columns_R[start : start + len(rows), :, width - length :] = states[:, :length]
        start += len(rows)


def _window(row: _Row) -> np.ndarray[Any, Any]:
    """The row's next ROOM uniforms (ROOM,), padded with zeros, which are never used."""
    window = np.zeros(ROOM)
    block = row.uniforms[len(row.ids) : len(row.ids) + ROOM]
    window[: len(block)] = block
    return window


@contextmanager
def _inference(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():  # not inference_mode: a model in training must not be left holding inference tensors
            yield
    finally:
        model.train(training)
