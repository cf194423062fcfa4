"""What only a GPU shows: recorded steps, its attention, and what a training takes there. Skipped without one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

import torch

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.sdpa_attention import repeat_kv
from trl.trainer.utils import add_fused_lm_head

from rrr_cli.engines import step
from rrr_cli.engines.base import Sampling
from rrr_cli.engines.decoding import sample
from rrr_cli.engines.prefix_cache import PrefixCache
from rrr_cli.training.group_attention import Flash, Layout, by_flash, by_masks
from rrr_cli.training.memory import Cost, Shape, load_of, size_tiles
from rrr_cli.training.shared_prefix import log_probabilities, longest

FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma", "phi3", "olmo2", "granite", "gpt_neox")
GPU = torch.device("cuda")


def model_of(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{
        "vocab_size": 5000, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 2048,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.1, "sliding_window": None,
        **changes})
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval().to(GPU)


@pytest.mark.parametrize("sharing", [0, 10**9])
@pytest.mark.parametrize("kind", FAMILIES)
def test_recorded_steps_write_the_tokens_of_those_that_are_not(
    kind: str, sharing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(kind)
    prompts = [[(31 * i + 7 * b + 5) % 5000 for i in range(20 + 30 * b)] for b in range(3)]
    seeds = [tuple(range(8 * b, 8 * b + 5)) for b in range(3)]
    sampling = Sampling(temperature=1.0, top_p=0.95, max_tokens=90)  # more than between two rebuilds

    def written() -> list[list[int]]:
        cache = PrefixCache()
        first = sample(model, prompts, seeds, sampling, (7, 8, 9), cache=cache, sharing=sharing)
        later = [[*prompt, 8, 7, 6, 5] for prompt in prompts]
        then = sample(model, later, seeds, sampling, (7, 8, 9), cache=cache, sharing=sharing)
        return [ids for ids_N in first + then for ids in ids_N]

    replayed = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replayed.append(1), replay(graph)))
    recorded = written()
    assert len(replayed) > 100
    step.UNRECORDABLE.add(model)
    same = [one == other for one, other in zip(written(), recorded, strict=True)]
    assert sum(same) >= 0.8 * len(same)  # rounding changes a token now and then


def test_a_step_that_cannot_be_recorded_is_taken_all_the_same() -> None:
    model = model_of("llama")
    waits = model.model.layers[1].register_forward_hook(lambda module, given, out: out.sum().item() and None)
    prompts, seeds, stream = [[5, 6, 7, 8]], [(1, 2)], torch.cuda.current_stream()
    written = sample(model, prompts, seeds, Sampling(max_tokens=20), ())
    assert model in step.UNRECORDABLE
    assert torch.cuda.current_stream() == stream
    waits.remove()
    step.UNRECORDABLE.discard(model)
    assert sample(model, prompts, seeds, Sampling(max_tokens=20), ()) == written
    assert model not in step.UNRECORDABLE


@pytest.mark.parametrize("size", [64, 128, 256])
def test_flash_attention_of_groups_is_attention_with_a_mask(size: int) -> None:
    layout = Layout(((0, 40, 60, 61, 300), (300, 300, 420, 421, 450), (450, 1000, 1003, 1400)))
    inputs = [
        torch.randn(1, heads, 1400, size, generator=torch.Generator().manual_seed(heads)).to(GPU, torch.bfloat16)
        for heads in (6, 2, 2)]
    weights = torch.randn(1, 6, 1400, size, generator=torch.Generator().manual_seed(9)).to(GPU)

    def run(parts: list[torch.Tensor], flash: bool) -> list[torch.Tensor]:
        query, key, value = parts = [part.detach().requires_grad_() for part in parts]
        if flash:
            assert by_flash(query, value)
            out = Flash.apply(query, key, value, layout, None)
        else:
            out = by_masks(query, repeat_kv(key, 3), repeat_kv(value, 3), layout, 0.0, None)
        return [out, *torch.autograd.grad((out * weights).sum(), parts)]

    expected = run([part.double() for part in inputs], flash=False)
    for found, plain, exact in zip(run(inputs, True), run(inputs, False), expected, strict=True):
        apart, rounding = (float((one.double() - exact).norm() / exact.norm()) for one in (found, plain))
        assert apart < max(1.5 * rounding, 0.01)


@pytest.mark.parametrize("kind", FAMILIES)
def test_each_family_has_the_gradient_of_the_plain_pass_in_bfloat16(kind: str) -> None:
    model = model_of(kind)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    ids = torch.randint(3, 5000, (8, 96), generator=torch.Generator().manual_seed(1)).to(GPU)
    ids[:4, :64], ids[4:, :64] = ids[0, :64].clone(), ids[4, :64].clone()
    mask = torch.ones_like(ids)
    mask[1, 80:] = 0
    weights = torch.randn(8, 32, generator=torch.Generator().manual_seed(2)).to(GPU) * mask[:, 64:]

    def gradient(shared: bool, half: bool) -> torch.Tensor:
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, half):
            if shared:
                logps = log_probabilities(model, ids, mask, 32)[0]
            else:
                labels = ids.masked_fill(mask == 0, -100)
                logps = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True).log_probs[:, -32:]
        (logps * weights).sum().backward()
        return torch.cat([weight.grad.flatten().double() for weight in model.parameters()])

    with torch.autocast("cuda", torch.bfloat16):
        assert longest(model) > 0
    exact = gradient(False, False)
    plain, ours, full = (float((gradient(*how) - exact).norm() / exact.norm()) for how in (
        (False, True), (True, True), (True, False)))
    assert full < max(1e-4, 1e-3 * plain)  # float32 arithmetic, in which TF32 is off
    assert ours < 1.3 * plain + 0.005  # no further from float32 than bfloat16 is


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_the_estimate_is_no_less_than_a_measured_peak_and_at_most_twice_it(half: bool, checkpointing: bool) -> None:
    model = model_of("qwen2", hidden_size=512, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=8,
                     vocab_size=32000)
    size_tiles(gpu=True)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    with torch.autocast("cuda", torch.bfloat16, half):
        assert longest(model) > 0
    if checkpointing:
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = torch.randint(3, 5000, (32, 1024), generator=torch.Generator().manual_seed(1)).to(GPU)
    for group in range(4):
        ids[8 * group : 8 * group + 8, :512] = ids[8 * group, :512].clone()
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)

    def run() -> None:
        with torch.autocast("cuda", torch.bfloat16, half):
            logps = log_probabilities(model, ids, torch.ones_like(ids), 512)[0]
        logps.sum().backward()

    run()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    peak = torch.cuda.max_memory_allocated() - before
    cost = Cost(Shape.of(model.config), half, gpu=True, flash=half, checkpointing=checkpointing)
    cast = 2 * sum(weight.numel() for weight in model.parameters()) * half
    estimate = cost.of(load_of([[(512, 512)] * 8] * 4, shared=True), True) + cast
    assert 1 <= estimate / peak <= 2


@pytest.mark.parametrize(("objective", "more"), [
    ("reflection", []), ("reflection", ["--freeze-actor", "--beta", "0"]), ("answer", ["--lora", "0"]),
    ("reflection+answer", []), ("attempts", ["--max-tokens", "96"]), ("distil", [])])
def test_each_objective_trains_on_it(objective: str, more: list[str], tmp_path: Path) -> None:
    def rrr(*words: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "rrr_cli", *words, "--run", str(tmp_path / "run"), "--json"], capture_output=True,
            text=True)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    rrr("mine-failures", "--task", "countdown", "--model", "tiny", "--limit", "64")
    found = rrr("grpo", "--task", "countdown", "--model", "tiny", "--objective", objective, "--steps", "3", "--batch",
                "32", "--group", "8", "--lora", "8", *more)
    assert found["steps"] == 3
    rrr("eval", "--task", "countdown", "--model", "base=tiny", "--limit", "32", "--max-tokens", "64")
