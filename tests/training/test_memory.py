"""What a step's training takes in memory is estimated right, and a step is split so that it fits: the same gradient."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest

pytest.importorskip("trl")

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from rrr_cli.training.memory import TILE_WORDS, Cost, Shape, size_tiles
from rrr_cli.training.parts import Texts
from rrr_cli.training.shared_prefix import log_probabilities, longest


def peak(run: Callable[[], object]) -> int:
    """The most bytes that PyTorch's CPU allocator held at once for `run`, by its own events: no clock, no other
    process changes them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


SHAPES: dict[str, dict[str, Any]] = {
    "small": {},
    "wide": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6},
    "words": {"vocab_size": 8000, "num_hidden_layers": 2},
    "few keys": {"kind": "qwen2", "num_key_value_heads": 1},
    "norms of queries": {"kind": "qwen3", "head_dim": 32},
    "wide heads": {"kind": "gemma", "head_dim": 64},
    "lora": {"rank": 8},
    "bfloat16": {"half": True},
    "lora in bfloat16": {"rank": 8, "half": True},
    "checkpointing": {"checkpointing": True, "num_hidden_layers": 6},
    "no gradient": {"gradient": False},
    "no shared prompt": {"shared": False},
    "scores kept": {"shared": False, "attention": "eager"},
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_estimate_is_no_less_than_a_measured_peak_and_at_most_twice_it(name: str) -> None:
    changes = dict(SHAPES[name])
    own = {"kind": "llama", "rank": 0, "half": False, "checkpointing": False, "gradient": True, "shared": True,
           "attention": "sdpa"}
    own |= {key: changes.pop(key) for key in own.keys() & changes.keys()}
    torch.manual_seed(0)
    config = AutoConfig.for_model(own["kind"], **{
        "vocab_size": 150, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 4,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": True, **changes})
    model = AutoModelForCausalLM.from_config(config, attn_implementation=own["attention"])
    size_tiles(gpu=False)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if own["rank"]:
        model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert bool(longest(model)) == (own["attention"] == "sdpa")
    if own["checkpointing"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = torch.randint(3, 150, (16, 192))
    ids[:8, :128], ids[8:, :128] = ids[0, :128].clone(), ids[8, :128].clone()
    mask = torch.ones_like(ids)
    mask[3, 160:] = 0
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight) if weight.requires_grad else None

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, own["half"]), torch.set_grad_enabled(own["gradient"]):
            if own["shared"]:
                logps = log_probabilities(model, ids, mask, 64)[0]
            else:
                labels = ids.masked_fill(mask == 0, -100)
                logps = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True).log_probs
        if own["gradient"]:
            logps.sum().backward()

    run()  # what is made once for good isn't of a pass
    rows = [(128, 64 - 32 * (row == 3)) for row in range(16)]
    cost = Cost(
        Shape.of(config), own["half"], shared=own["shared"], eager=own["attention"] == "eager",
        trains_head=not own["rank"], checkpointing=own["checkpointing"])
    estimate = cost.of(Texts(rows, [0, 8]).load(slice(0, 16), own["shared"]), own["gradient"])
    labelled = 16 * 191 if not own["shared"] else 16 * 64 - 32  # positions that go through the head
    narrow = max(0, TILE_WORDS[False] - config.vocab_size)
    untouched = labelled * narrow * (2 if own["half"] else 4)  # of TRL's buffer for a tile's words
    measured = peak(run) - untouched
    assert measured <= estimate <= 2 * measured, estimate / measured
