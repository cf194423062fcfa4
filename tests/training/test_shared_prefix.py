"""A prompt that a group shares is computed once in training: the same gradient as without, in each family of models."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

import torch
from grpo_runs import mine
from test_grpo import disturb, trainer_of
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.sdpa_attention import repeat_kv
from trl.trainer.utils import add_fused_lm_head

from rrr_cli.training import group_attention
from rrr_cli.training.group_attention import ByParts, Flash, Layout, Texts, by_masks
from rrr_cli.training.shared_prefix import log_probabilities, longest, pack
from rrr_cli.training.trainer import PolicyTrainer

LENGTHS = (5, 1, 4, 5, 3, 2)  # of completions: four of the first prompt, two of the second
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 1}, "qwen2": {}, "qwen3": {"head_dim": 16}, "mistral": {"sliding_window": None},
    "gemma": {"head_dim": 16}, "gemma3_text": {"head_dim": 16, "sliding_window": 32}, "phi3": {}, "olmo2": {},
    "granite": {"logits_scaling": 4.0}, "stablelm": {}, "cohere": {}, "gpt_neox": {}, "gpt2": {},
}


def model_of(kind: str, **changes: Any) -> Any:
    """A random model of a family, with TRL's head: temperature 2."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        **({"num_key_value_heads": 2, "initializer_range": 0.3} | changes))
    model = AutoModelForCausalLM.from_config(config, attn_implementation=changes.get("attn_implementation", "sdpa"))
    add_fused_lm_head(model, temperature=2.0, outputs=("log_probs", "entropy"))
    return model.eval()  # GPT-2 drops out


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Two prompts of 7 and 4 tokens, padded on the left, and completions padded on the right: ids and mask (6, 12)."""
    ids = torch.randint(3, 50, (6, 12), generator=torch.Generator().manual_seed(1))
    ids[:4, :7], ids[4:, :7] = ids[0, :7], ids[4, :7].clone()
    mask = torch.ones_like(ids)
    mask[4:, :3] = 0
    for row, length in enumerate(LENGTHS):
        mask[row, 7 + length :] = 0
    return ids, mask


def relative(ours: Any, theirs: Any) -> float:
    """How far two lists of gradients are apart, as a share of their size."""
    ours, theirs = (torch.cat([part.flatten() for part in parts]) for parts in (ours, theirs))
    return float((ours - theirs).norm() / theirs.norm())


def gradients(model: Any, logps: torch.Tensor) -> list[torch.Tensor]:
    weights = torch.linspace(-1, 1, logps.numel()).view(logps.shape)
    return list(torch.autograd.grad((logps * weights).sum(), list(model.parameters())))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_the_gradient_of_the_plain_pass(family: str) -> None:
    model, (ids, mask) = model_of(family, **FAMILIES[family]), batch()
    assert longest(model) > 12
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :7] = -100
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    out = model(input_ids=ids, attention_mask=mask, position_ids=positions, labels=labels, fused_lm_head=True)
    plain, plain_entropies = out.log_probs[:, -5:], out.entropy[:, -5:]
    logps, entropies = log_probabilities(model, ids, mask, 5)
    torch.testing.assert_close(logps, plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropies, plain_entropies, atol=1e-5, rtol=1e-5)
    assert relative(gradients(model, logps), gradients(model, plain)) < 1e-5


def test_gradient_checkpointing_and_an_adapter_change_no_gradient() -> None:
    from peft import LoraConfig, get_peft_model

    base, (ids, mask) = model_of("llama"), batch()
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(base, lora).train()
    adapter = [weight for weight in model.parameters() if weight.requires_grad]
    assert longest(model) == math.inf
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
            model.enable_input_require_grads()
        losses = [log_probabilities(model, ids[rows], mask[rows], 5)[0].sum() for rows in ([0, 1, 4], [2, 3, 5])]
        found.append(torch.autograd.grad(sum(losses), adapter))
    assert relative(*found) < 1e-5


@pytest.mark.parametrize(("kind", "changes", "length"), [
    ("mistral", {"sliding_window": 16}, 16),
    ("gemma3_text", {"head_dim": 16, "sliding_window": 12}, 12),
    ("qwen3", {"head_dim": 16, "layer_types": ["full_attention", "chunked_attention"]}, 0),
    ("llama", {"attn_implementation": "eager"}, 0),
])
def test_a_model_shares_prompts_of_texts_that_its_attention_sees_whole(
    kind: str, changes: dict[str, Any], length: int
) -> None:
    assert longest(model_of(kind, **changes)) == length


@pytest.mark.parametrize("half", [False, True])
def test_a_model_whose_layers_carry_one_completion_into_the_next_shares_none(half: bool) -> None:
    model = model_of("llama", initializer_range=0.02)
    mix = model.model.layers[1].register_forward_hook(lambda layer, inputs, output: output + output.cumsum(1))
    with torch.autocast("cpu", torch.bfloat16, half):
        assert longest(model) == 0
        mix.remove()
        assert longest(model) == math.inf


def test_every_kind_of_group_attention_is_attention_with_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_attention, "flash", flash)
    monkeypatch.setattr(group_attention, "flash_backward", flash_backward)
    layout = Layout(((0, 4, 6, 7, 10), (10, 10, 12, 13)))  # the second prompt has one token: nothing is shared
    inputs = [torch.randn(1, heads, 13, 8, generator=torch.Generator().manual_seed(heads)) for heads in (4, 2, 2)]
    query, key, value = (part.requires_grad_() for part in inputs)
    seen = torch.zeros(13, 13, dtype=torch.bool)
    for rows, columns, causal in layout.parts():
        part = torch.ones(rows.stop - rows.start, columns.stop - columns.start, dtype=torch.bool)
        seen[rows, columns] |= part.tril() if causal else part
    keys, values = repeat_kv(key, 2), repeat_kv(value, 2)
    expected = torch.nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=seen)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9))
    for out in (
        ByParts.apply(query, key, value, layout, None), by_masks(query, keys, values, layout, 0.0, None),
        Flash.apply(query, key, value, layout, None),
    ):
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
        found, wanted = (
            torch.autograd.grad((one * weights).sum(), (query, key, value), retain_graph=True)
            for one in (out, expected))
        assert relative(found, wanted) < 1e-5


def flash(texts: Texts, inputs: Any, causal: bool, scale: None) -> tuple[torch.Tensor, torch.Tensor]:
    """What a GPU's kernel gives, of which tests/test_gpu.py proves it."""
    query, key, value = inputs
    outs, logsumexps = [], []
    for (a, b), (c, d) in zip(pairwise(texts.queries.tolist()), pairwise(texts.keys.tolist()), strict=True):
        scores = torch.einsum("qhd,khd->hqk", query[a:b], key[c:d].repeat_interleave(2, 1)) * query.shape[-1] ** -0.5
        if causal:
            scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), -torch.inf)
        outs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), value[c:d].repeat_interleave(2, 1)))
        logsumexps.append(scores.logsumexp(-1))
        assert max(b - a, 0) <= texts.longest[0] >= 1
        assert max(d - c, 0) <= texts.longest[1]
    return torch.cat(outs), torch.cat(logsumexps, 1)


def flash_backward(
    texts: Texts, gradient: torch.Tensor, inputs: Any, out: torch.Tensor, logsumexp: torch.Tensor, causal: bool,
    scale: None,
) -> tuple[torch.Tensor, ...]:
    """Its gradients, by the output and log-sum-exp that it is given."""
    query, key, value = inputs
    found = tuple(torch.zeros_like(part) for part in inputs)
    size = query.shape[-1] ** -0.5
    for (a, b), (c, d) in zip(pairwise(texts.queries.tolist()), pairwise(texts.keys.tolist()), strict=True):
        keys, values = key[c:d].repeat_interleave(2, 1), value[c:d].repeat_interleave(2, 1)
        weights = (torch.einsum("qhd,khd->hqk", query[a:b], keys) * size - logsumexp[:, a:b, None]).exp()
        weights = weights.tril() if causal else weights
        through = torch.einsum("qhd,khd->hqk", gradient[a:b], values)
        scores = weights * (through - (gradient * out)[a:b].sum(-1).t()[..., None]) * size
        found[0][a:b] += torch.einsum("hqk,khd->qhd", scores, keys)
        found[1][c:d] += torch.einsum("hqk,qhd->khd", scores, query[a:b]).unflatten(1, (-1, 2)).sum(2)
        found[2][c:d] += torch.einsum("hqk,qhd->khd", weights, gradient[a:b]).unflatten(1, (-1, 2)).sum(2)
    return found


def test_nothing_is_padded_and_the_head_sees_completions_alone() -> None:
    packed = pack(*batch(), 5)
    assert packed.input_ids.shape == (1, 6 + 15 + 3 + 5)
    assert packed.labels.shape == (1, 20)
    assert packed.layout.bounds == ((0, 6, 11, 12, 16, 21), (21, 24, 27, 29))


def step(trainer: PolicyTrainer) -> tuple[list[torch.Tensor], int]:
    """One step's gradient, and how many tokens the model computed for it."""
    rows = next(iter(trainer.get_train_dataloader()))
    computed = 0

    def count(module: Any, arguments: Any, fields: dict[str, Any]) -> None:
        nonlocal computed
        computed += fields["input_ids"].numel() * torch.is_grad_enabled()

    hook = trainer.model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    trainer.training_step(trainer.model, rows, None)
    hook.remove()
    return [weight.grad for weight in trainer.model.parameters()], computed


@pytest.mark.parametrize("objective", ["reflection", "attempts"])
def test_micro_batches_hold_whole_groups(tmp_path: Path, random_model: Path, objective: str) -> None:
    mine(tmp_path)
    found = {}
    for size in (16, 8, 4, 2):  # groups of 4
        trainer = trainer_of(tmp_path, random_model, objective=objective, beta=0.1, micro_batch=size)
        disturb(trainer.model)
        found[size] = step(trainer)
    whole, computed = found[16]
    for size, (gradient, tokens) in found.items():
        assert relative(gradient, whole) < 1e-5
        # a part of a group computes its prompt too, next to the other part's
        assert (tokens == computed) if size >= 4 else computed < tokens < 1.5 * computed
