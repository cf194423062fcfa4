"""Texts that go on from the keys and values of earlier ones, and rows that share them: the same texts as without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from rrr_cli.engines.base import Prompt, Sampling
from rrr_cli.engines.decoding import sample
from rrr_cli.engines.key_values import Slab, Span
from rrr_cli.engines.prefix_cache import PrefixCache
from rrr_cli.engines.shared_attention import Shared
from rrr_cli.engines.transformers import TransformersEngine
from rrr_cli.records import Message

GREEDY, DRAWN = Sampling(temperature=0.0, max_tokens=12), Sampling(top_p=0.9, max_tokens=12)
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2}, "qwen2": {"num_key_value_heads": 1}, "gpt2": {"n_embd": 32, "n_head": 4},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 9}, "gemma2": {"num_key_value_heads": 2, "head_dim": 8},
}


@pytest.fixture(scope="module", params=KINDS)
def lm(request: pytest.FixtureRequest) -> Any:
    """A random model of 50 tokens; mistral and gemma2 see a window of 9 and, in every second layer, 9."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    about = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 4, "max_position_embeddings": 200, "pad_token_id": 0, "sliding_window": 9}
    if request.param == "qwen2":
        del about["sliding_window"]
    config = AutoConfig.for_model(request.param, **about | KINDS[request.param])
    attention = "eager" if request.param == "gemma2" else "sdpa"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data.normal_(0, 0.4)
    return model.eval()


@contextmanager
def computed(lm: Any) -> Iterator[list[int]]:
    """The tokens of each forward over more than one position, padding included."""
    fed: list[int] = []
    hook = lm.register_forward_pre_hook(
        lambda module, args, fields: fed.append(fields["input_ids"].numel())
        if fields["input_ids"].shape[1] > 1 else None, with_kwargs=True)
    yield fed
    hook.remove()


def prompts() -> list[list[int]]:
    random = np.random.default_rng(1)
    return [random.integers(3, 50, n).tolist() for n in (40, 1, 22, 31)]


def conversation(lm: Any, sampling: Sampling, **options: Any) -> list[list[list[list[int]]]]:
    """Three turns: the samples of each prompt, then one after each of them and a request, and so again."""
    texts, turns = prompts(), []
    seeds = [tuple(range(9 * b, 9 * b + n)) for b, n in enumerate((6, 2, 3, 1))]
    for turn in range(3):
        turns.append(sample(lm, texts, seeds, sampling, (2,), batch_size=7, **options))
        texts = [[*text, *ids, *range(10, 14 + turn)] for text, ids_N in zip(texts, turns[-1], strict=True)
                 for ids in ids_N]
        seeds = [(100 * turn + i,) for i in range(len(texts))]
    return turns


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_texts_are_the_same_with_a_cache_and_with_shared_keys(lm: Any, sampling: Sampling) -> None:
    plain = conversation(lm, sampling, sharing=10**9)
    assert conversation(lm, sampling, cache=PrefixCache(), sharing=10**9) == plain
    assert conversation(lm, sampling, sharing=0) == plain
    cache = PrefixCache()
    assert conversation(lm, sampling, cache=cache, sharing=0) == plain
    assert cache.reused > cache.prefilled
    assert conversation(lm, sampling, cache=PrefixCache(budget=20_000), sharing=0) == plain  # rows leave at each turn


def test_rows_see_their_own_text_in_whatever_order_they_share() -> None:
    texts = [(Span(slab(tokens), 0, tokens),) for tokens in (3, 5)]
    for order in ((0, 1, 0, 1), (0, 0, 1, 1), (1, 0, 0, 0)):
        shared = Shared([texts[i] for i in order])
        rows = torch.arange(4.0)[:, None, None, None].expand(4, 1, 2, 3)
        slots = shared.to_slots(rows)
        for slot, seen in zip(slots[:, 0], (~shared.mask.isinf()).sum(-1).flatten().tolist(), strict=True):
            assert {(3, 5)[order[int(row)]] for row in slot[:, 0]} == {seen}
        assert torch.equal(shared.to_rows(slots), rows)


def test_keys_are_kept_in_the_arithmetic_of_attention(random_model: Path) -> None:
    engine, cache = TransformersEngine(str(random_model)), PrefixCache()
    with torch.autocast("cpu", torch.bfloat16):
        sample(engine.lm, prompts(), [(1, 2)] * 4, DRAWN, (), cache=cache)
    held = {states.dtype for kept in cache._slabs for pair in kept.layers for states in pair}
    assert held == {torch.bfloat16}


def test_only_what_follows_an_earlier_text_is_computed(random_model: Path) -> None:
    engine = TransformersEngine(str(random_model))
    ask = (Message("user", "1 2 3 4 5 6 7 8"),)
    (first,) = engine.generate([Prompt(ask, (1, 2))], GREEDY)
    again = (*ask, Message("assistant", first[0].text), Message("user", "9"))
    with computed(engine.lm) as fed:
        (second,) = engine.generate([Prompt(again, (3, 4, 5))], GREEDY)
        engine.generate([Prompt(again, (6,))], DRAWN)  # the whole prompt is known
    asked, reply, longer = first[0].prompt_tokens, first[0].tokens, second[0].prompt_tokens
    assert fed == [longer - 1 - (asked + reply - 1)]
    assert (engine.cache.prefilled, engine.cache.reused) == (asked - 1 + fed[0], asked + reply - 1 + longer - 1)


def test_a_template_that_rewrites_earlier_turns_reuses_what_is_the_same(random_model: Path) -> None:
    engine = TransformersEngine(str(random_model))
    plain = TransformersEngine(str(random_model))
    for one in (engine, plain):  # earlier turns of the model are cut
        one.tokenizer.chat_template = (
            "{{ bos_token }} {% for m in messages %}{{ m['role'] }} : {% if m['role'] == 'user' %}{{ m['content'] }}"
            "{% else %}yes{% endif %} {{ eos_token }} {% endfor %}"
            "{% if add_generation_prompt %}assistant : {% endif %}")
    ask = (Message("user", "1 2 3 4 5 6 7 8"),)
    engine.generate([Prompt(ask, (1, 2))], DRAWN)
    again = Prompt((*ask, Message("assistant", "40 41 42"), Message("user", "9")), (3, 4, 5))
    assert engine.generate([again], DRAWN) == plain.generate([again], DRAWN)
    assert engine.cache.reused == 14  # <s> user : 1 … 8 </s> assistant : and no token of the turn


def slab(tokens: int) -> Slab:
    return Slab([(torch.zeros(1, tokens, 4), torch.zeros(1, tokens, 4))])  # 32 bytes a token


def test_what_was_used_longest_ago_leaves_first() -> None:
    cache = PrefixCache(budget=32 * 25)
    cache.add([([1] * 10, 0, 0)], slab(10))
    cache.add([([2] * 10, 0, 0)], slab(10))
    assert len(cache.match([1] * 10)) == 1
    cache.add([([3] * 10, 0, 0)], slab(10))
    assert [len(cache.match([token] * 10)) for token in (1, 2, 3)] == [1, 0, 1]
    assert cache.nbytes == 32 * 20
    cache.add([([4] * 30, 0, 0)], slab(30))  # more than there may be: not kept, and nothing leaves for it
    assert [len(cache.match([token] * 30)) for token in (1, 3, 4)] == [1, 1, 0]
    cache.clear()
    assert (cache.match([1] * 10), cache.nbytes) == ([], 0)


def test_a_text_leaves_with_its_beginning() -> None:
    cache = PrefixCache(budget=32 * 25)
    cache.add([([1, 2, 3], 0, 0)], slab(3))
    cache.add([([1, 2, 3, 4, 5], 3, 0), ([1, 2, 3, 4, 6], 3, 2), ([7, 8, 9], 2, 0)], slab(4))  # of 7, 8 nothing is here
    assert [[s.stop - s.start for s in cache.match(ids)] for ids in ([1, 2, 3, 4, 6, 9], [1, 2, 9], [7, 8, 9])] == [
        [3, 1, 1], [2], []]
    cache.add([([9] * 19, 0, 0)], slab(19))
    assert len(cache.match([1, 2, 3, 4])) == 1  # the beginning stays longest
