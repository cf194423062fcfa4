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

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from numpy.random import Generator, Philox

from rrr_cli.engines.base import Sampling
from rrr_cli.engines.decoder import SHARING, Decoder, Row, check_cache
from rrr_cli.engines.devices import arithmetic
from rrr_cli.engines.prefix_cache import PrefixCache
from rrr_cli.engines.shared_attention import SharedAttention
from rrr_cli.errors import BUG, RrrError


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
    attention = SharedAttention(model, sharing)
    with _inference(model), attention.in_use():
        decoder = Decoder(model, sampling, frozenset(eos_ids), context, cache, attention)
        while queue or decoder.live:
            entering = []
            for b, n in _take(queue, batch_size - len(decoder.live), idle=not decoder.live):
                limit = min(sampling.max_tokens, context - len(prompts_B[b]))
                uniforms = Generator(Philox(key=seeds_B[b][n])).random(limit)
                entering.append(Row(b, prompts_B[b], uniforms, ids_B_N[b][n]))
            decoder.rebuild(entering)
            decoder.run()
            decoder.keep_finished()
    return ids_B_N


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


def _take(queue: list[tuple[int, int]], free: int, idle: bool) -> list[tuple[int, int]]:
    """The next samples, at most `free`; those of one prompt enter together, unless a whole batch can't hold them."""
    whole = most = min(free, len(queue))
    while 0 < whole < len(queue) and queue[-whole][0] == queue[-whole - 1][0]:
        whole -= 1
    return [queue.pop() for _ in range(whole or (most if idle else 0))]


@contextmanager
def _inference(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():  # not inference_mode: a model in training must not be left holding inference tensors
            yield
    finally:
        model.train(training)
