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
from transformers.cache_utils import Cache

from rrr_cli.engines.base import Sampling
from rrr_cli.engines.key_values import Buffer, Slab, Span, length, write
from rrr_cli.engines.prefill import prefill
from rrr_cli.engines.prefix_cache import PrefixCache
from rrr_cli.engines.shared_attention import Shared, SharedAttention, beginnings, takes_shared, tokens_saved
from rrr_cli.errors import BUG, RrrError

ROOM = 64  # columns a rebuild leaves free, so that the buffer is copied once in 64 steps
SHARING = 4096  # keys that a step needn't read again, from which on a text that rows share is kept apart


@dataclass
class _Row:
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


def sample(
    model: Any, prompts_B: Sequence[Sequence[int]], seeds_B: Sequence[Sequence[int]], sampling: Sampling,
    eos_ids: Sequence[int], *, batch_size: int = 256, max_model_len: int | None = None,
    cache: PrefixCache | None = None, sharing: int = SHARING,
) -> list[list[list[int]]]:
    """Token ids completions_B_N, one completion a seed; it ends with an end-of-turn token unless it was cut.

    At most `batch_size` rows decode at once. `cache`: texts that this model has computed before, to go on from and to
    add to. `sharing`: see SHARING. The model keeps its mode (train or eval). Raises RrrError (exit 3): a prompt is
    empty, holds a token that the model doesn't know, or leaves no room in the context, the model has other than plain
    attention layers, or its probabilities aren't finite.
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
    attention = SharedAttention()
    with _inference(model), attention.in_use():
        decoder = _Decoder(model, sampling, frozenset(eos_ids), context, cache, attention, sharing)
        while queue or decoder.live:
            entering = []
            for b, n in _take(queue, batch_size - len(decoder.live), idle=not decoder.live):
                limit = min(sampling.max_tokens, context - len(prompts_B[b]))
                uniforms = Generator(Philox(key=seeds_B[b][n])).random(limit)
                entering.append(_Row(b, prompts_B[b], uniforms, ids_B_N[b][n]))
            decoder.rebuild(entering)
            decoder.run()
            decoder.keep_finished()
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

    A few greedy tokens after short prompts of several lengths, then after what was written and a few more: an attention
    or positions of another kind show here.
    """
    check_cache(model)
    vocabulary, cache = model.config.get_text_config().vocab_size, PrefixCache()
    prompts_B = [[(31 * i + 7 * b + 5) % vocabulary for i in range(1 + 3 * b)] for b in range(4)]
    for tokens, seeds, sharing in ((4, (0,), SHARING), (2, (0, 1), 0)):
        greedy = Sampling(temperature=0.0, max_tokens=tokens)
        written_B = sample(model, prompts_B, [seeds] * 4, greedy, (), cache=cache, sharing=sharing)
        if not all(_likeliest(model, p, ids) for p, (ids, *_) in zip(prompts_B, written_B, strict=True)):
            raise RrrError(f"this model ({model.config.model_type}) has an attention or positions that this engine "
                           "doesn't compute as the model does; use --engine vllm for it")
        prompts_B = [
            [*p, *ids, *p[: 1 + 2 * b]] for b, (p, (ids, *_)) in enumerate(zip(prompts_B, written_B, strict=True))]


def _likeliest(model: Any, prompt: Sequence[int], ids: Sequence[int]) -> bool:
    """Whether no token would have been likelier, at any place, than the one that was written there."""
    within = 0.02 if model.dtype == torch.float32 else 0.5  # standard deviations of the logits: rounding
    with _inference(model):
        fed = torch.tensor([[*prompt, *ids[:-1]]], device=model.device)
        logits_T_V = model(input_ids=fed, use_cache=False).logits[0, len(prompt) - 1 :].float()
        chosen_T = logits_T_V.gather(1, torch.tensor(ids, device=model.device)[:, None])[:, 0]
        return not bool(((logits_T_V.amax(-1) - chosen_T) > within * logits_T_V.std(-1)).any())


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

    def __init__(
        self, model: Any, sampling: Sampling, eos_ids: frozenset[int], context: int, cache: PrefixCache | None,
        attention: SharedAttention, sharing: int,
    ) -> None:
        check_cache(model)
        self.model, self.sampling, self.eos_ids, self.context = model, sampling, eos_ids, context
        self.cache, self.attention, self.sharing = cache, attention, sharing
        self.shares: bool | None = None  # decided when the first rows enter
        self.rows: list[_Row] = []
        self.buffers: list[Buffer] = []
        self.shared: Shared | None = None

    @property
    def live(self) -> list[_Row]:
        return [row for row in self.rows if not row.done]

    def rebuild(self, entering: list[_Row]) -> None:
        """Drop finished rows, prefill and add `entering`, align all to the right and leave ROOM columns free."""
        keep = [i for i, row in enumerate(self.rows) if not row.done]
        texts = self._texts(entering)
        self.rows = self.live + entering
        rows, width = len(self.rows), max(row.own for row in self.rows)
        self.buffers = [buffer.rebuilt(keep, rows, width, ROOM) for buffer in self.buffers] if keep else [
            Buffer.empty(pair, rows, width, ROOM) for pair in texts[0][0].slab.layers]
        own = [spans[len(row.shared) :] for row, spans in zip(entering, texts, strict=True)]
        write(own, self.buffers, len(keep), width)
        self.shared = Shared([row.shared for row in self.rows]) if self.shares else None
        for row in self.rows:
            row.first = width - row.own

    def _texts(self, entering: list[_Row]) -> list[list[Span]]:
        """The prompts of rows that enter, computed, without their last tokens; the rows know what they share."""
        entering_P = [list(of_prompt) for _, of_prompt in groupby(entering, key=lambda row: row.index)]
        spans_P = prefill(self.model, [rows[0].prompt for rows in entering_P], self.context, self.cache)
        texts = [spans for spans, rows in zip(spans_P, entering_P, strict=True) for _ in rows]
        begun = beginnings(texts) if self.shares in (None, True) else []
        if self.shares is None:
            calls = len(self.attention.layers) == self.model.config.get_text_config().num_hidden_layers
            self.shares = calls and takes_shared(self.model) and tokens_saved(begun) >= self.sharing
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

    def run(self) -> None:
        """Decode until a rebuild pays: a quarter of the rows are done, or the buffer is full."""
        device, width = self.model.device, self.buffers[0].get_seq_length()
        length_R = torch.tensor([row.length for row in self.rows], device=device)
        first_R = torch.tensor([row.first for row in self.rows], device=device)
        mask_R_T = (torch.arange(width + ROOM, device=device) >= first_R[:, None]).long()
        token_R = torch.tensor([(row.ids or row.prompt)[-1] for row in self.rows], device=device)
        uniforms_R_T = torch.from_numpy(np.stack([_window(row) for row in self.rows])).to(device)
        cache = Cache(layers=list(self.buffers))
        enough = -(-len(self.rows) // 4)  # a quarter, rounded up
        for t in range(ROOM):
            # a finished row runs on until the rebuild: its position must stay inside the context
            position_R = (length_R + t).clamp(max=self.context - 1)
            with self.attention.seeing(self.shared):
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


def _take(queue: list[tuple[int, int]], free: int, idle: bool) -> list[tuple[int, int]]:
    """The next samples, at most `free`; those of one prompt enter together, unless a whole batch can't hold them."""
    whole = most = min(free, len(queue))
    while 0 < whole < len(queue) and queue[-whole][0] == queue[-whole - 1][0]:
        whole -= 1
    return [queue.pop() for _ in range(whole or (most if idle else 0))]


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
