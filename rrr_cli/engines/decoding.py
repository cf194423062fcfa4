"""Sampling from a transformers model in memory: prompts in, token ids out. No files, no text.

The rows of a batch and their keys and values are in `decoder.py`; here is what enters it, and when.

**What a seed promises.** Token t of a sample is drawn by inverting the cumulative distribution (float64, in the order
of the vocabulary) at uniform number t of `Philox(seed)`. So a sample is a function of its prompt, its seed, the options
and the weights: the batch size, the order, the neighbours and what a cache holds enter only through the rounding of
batched matrix products. In float32 this almost never changes a token (a uniform has to fall within ~1e-6 of a
boundary); in bfloat16 it sometimes does, and from that token on the text differs. Another device, dtype or library
version may change tokens too. vLLM has its own sampler and gives other texts.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from threading import Lock
from typing import Any

import torch
from numpy.random import Generator, Philox

from rrr_cli.engines.base import Sampling
from rrr_cli.engines.decoder import SHARING, Decoder, Row, check_cache
from rrr_cli.engines.devices import arithmetic
from rrr_cli.engines.prefix_cache import PrefixCache
from rrr_cli.engines.shared_attention import SharedAttention
from rrr_cli.errors import BUG, RrrError

WRITING = Lock()  # one model at a time: what `attention.in_use` changes is the process's


@dataclass(frozen=True)
class Asked:
    """A prompt that waits for its samples, one a seed; without a seed it is handed back at once."""

    number: int  # by which its samples are handed back
    ids: Sequence[int]
    seeds: Sequence[int]
    max_tokens: int


# As that of `base.py`, of token ids.
Feed = Callable[[int, bool], Sequence[Asked]]


def sample(
    model: Any, prompts_B: Sequence[Sequence[int]], seeds_B: Sequence[Sequence[int]], sampling: Sampling,
    eos_ids: Sequence[int], **options: Any,
) -> list[list[list[int]]]:
    """Token ids completions_B_N, one completion a seed; it ends with an end-of-turn token unless it was cut.

    `options`, and what it raises: see `stream`.
    """
    # neighbours have similar lengths: little padding
    order = sorted(range(len(prompts_B)), key=lambda b: len(prompts_B[b]))[::-1]
    waiting = [Asked(b, prompts_B[b], seeds_B[b], sampling.max_tokens) for b in order]

    def feed(free: int, idle: bool) -> Sequence[Asked]:
        given = waiting[:]
        waiting.clear()
        return given

    written = dict(stream(model, feed, sampling, eos_ids, **options))
    return [written.get(b, []) for b in range(len(prompts_B))]


def stream(
    model: Any, feed: Feed, sampling: Sampling, eos_ids: Sequence[int], *, batch_size: int = 256,
    max_model_len: int | None = None, cache: PrefixCache | None = None, sharing: int = SHARING,
) -> Iterator[tuple[int, list[list[int]]]]:
    """The numbers of prompts with their completions_N, as they are finished; new ones enter while others are written.

    At most `batch_size` rows decode at once. `cache`: texts that this model has computed before, to go on from and to
    add to. `sharing`: see SHARING. The model keeps its mode (train or eval). Raises RrrError (exit 3): a prompt is
    empty, holds a token that the model doesn't know, or leaves no room in the context, the model has other than plain
    attention layers, or its probabilities aren't finite.
    """
    if unknown := {f.name for f in fields(sampling)} - {"temperature", "top_p", "max_tokens"}:
        raise RrrError(f"decoding.py doesn't sample by {', '.join(sorted(unknown))} yet", BUG)
    context, attention = context_length(model, max_model_len), SharedAttention(model, sharing)
    decoder = Decoder(model, sampling, frozenset(eos_ids), context, cache, attention)
    queue: deque[tuple[Asked, int]] = deque()
    open_: dict[int, list[list[int]]] = {}
    left: Counter[int] = Counter()
    while True:
        live = len(decoder.live)
        given = feed(batch_size - live - len(queue), not live and not queue)
        for asked in given:
            if not asked.seeds:
                yield asked.number, []
                continue
            check_prompt(model, asked.ids, context)
            queue.extend((asked, n) for n in range(len(asked.seeds)))
            open_[asked.number], left[asked.number] = [[] for _ in asked.seeds], len(asked.seeds)
        if not queue and not live:
            if given:
                continue
            return
        entering = []
        for asked, n in _take(queue, batch_size - live, idle=not live):
            limit = min(asked.max_tokens, context - len(asked.ids))
            uniforms = Generator(Philox(key=asked.seeds[n])).random(limit)
            entering.append(Row(asked.number, asked.ids, uniforms, open_[asked.number][n]))
        with WRITING, _inference(model), attention.in_use():
            decoder.rebuild(entering)
            decoder.run(lambda: feed(0, False))
            decoder.keep_finished()
        for row in decoder.rows:
            left[row.index] -= row.done
            if row.done and not left[row.index]:
                del left[row.index]
                yield row.index, open_.pop(row.index)


def check_prompt(model: Any, ids: Sequence[int], context: int) -> None:
    """Raise RrrError (exit 3) for a prompt that can't be continued."""
    vocabulary = model.config.get_text_config().vocab_size
    if max(ids, default=0) >= vocabulary:
        raise RrrError(f"a prompt has token {max(ids)}, and the model knows {vocabulary}: its tokenizer is of another "
                       "model")
    if not 0 < len(ids) < context:
        raise RrrError(
            f"a prompt is {len(ids)} tokens long; this model's context takes 1 to {context - 1} and an answer: "
            "choose a model with a longer context, or raise --max-model-len if that is what limits it")


def context_length(model: Any, max_model_len: int | None = None) -> int:
    """The most tokens of prompt and answer together."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(n for n in (limit, max_model_len, 2**31) if n)


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
    within = 0.02 if arithmetic(model) == torch.float32 else 0.5  # standard deviations of the logits: rounding
    with _inference(model):
        fed = torch.tensor([[*prompt, *ids[:-1]]], device=model.device)
        logits_T_V = model(input_ids=fed, use_cache=False).logits[0, len(prompt) - 1 :].float()
        chosen_T = logits_T_V.gather(1, torch.tensor(ids, device=model.device)[:, None])[:, 0]
        return not bool(((logits_T_V.amax(-1) - chosen_T) > within * logits_T_V.std(-1)).any())


def _take(queue: deque[tuple[Asked, int]], free: int, idle: bool) -> list[tuple[Asked, int]]:
    """The next samples, at most `free`; those of one prompt enter together, unless a whole batch can't hold them."""
    whole = most = min(free, len(queue))
    while 0 < whole < len(queue) and queue[whole][0] is queue[whole - 1][0]:
        whole -= 1
    return [queue.popleft() for _ in range(whole or (most if idle else 0))]


@contextmanager
def _inference(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():  # not inference_mode: a model in training must not be left holding inference tensors
            yield
    finally:
        model.train(training)
