"""The transformers engine: what a seed promises, against a plain loop; contexts, adapters, model names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rrr_cli.engines import load_engine
from rrr_cli.engines.base import Prompt, Sampling
from rrr_cli.engines.fingerprints import fingerprint
from rrr_cli.engines.models import resolve
from rrr_cli.engines.transformers import TransformersEngine
from rrr_cli.errors import BAD_INPUT, NO_BACKEND, USAGE, RrrError
from rrr_cli.records import Message

NUMBERS = [" ".join(str((7 * i + j) % 101) for j in range(1 + 5 * i)) for i in range(5)]  # 1 to 21 words
PROMPTS = [
    Prompt((Message("user", text),), tuple(range(10 * i, 10 * i + n)))
    for i, (text, n) in enumerate(zip(NUMBERS, (5, 1, 3, 8, 2), strict=True))
]


@pytest.fixture(scope="module")
def engine(random_model: Path) -> TransformersEngine:
    return TransformersEngine(str(random_model))


@pytest.mark.parametrize("fixed", [False, True])
def test_sampling_equals_a_loop_without_cache(
    engine: TransformersEngine, fixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    import torch

    from rrr_cli.engines.decoding import sample
    from rrr_cli.engines.render import render
    from rrr_cli.engines.step import steps

    # in steps of one shape, as on a GPU, too
    monkeypatch.setattr("rrr_cli.engines.decoder.steps", lambda on_gpu, *given: steps(fixed, *given))
    sampling = Sampling(temperature=0.8, top_p=0.9, max_tokens=66)  # more tokens than between two rebuilds
    ids_B = [*(render(engine.tokenizer, p.messages) for p in PROMPTS), [5]]  # the last is one token: nothing to prefill
    seeds_B = [*(p.seeds for p in PROMPTS), (99,)]
    got = sample(engine.lm, ids_B, seeds_B, sampling, engine.eos_ids, batch_size=6)
    for prompt, seeds, got_N in zip(ids_B, seeds_B, got, strict=True):
        uniforms = np.random.Generator(np.random.Philox(key=seeds[0])).random(66)
        ids = list(prompt)
        for uniform in uniforms:
            with torch.no_grad():
                logits = engine.lm(torch.tensor([ids])).logits[0, -1].double()
            probs = (logits / 0.8).softmax(-1)
            ranked, order = probs.sort(descending=True)
            nucleus_size = int((ranked.cumsum(0) < 0.9).sum()) + 1  # the smallest set that holds 90 %
            nucleus = torch.zeros_like(probs).index_copy(0, order[:nucleus_size], ranked[:nucleus_size])
            cdf = nucleus.cumsum(0) / nucleus.sum()
            ids.append(int((cdf <= uniform).sum()))
            if ids[-1] in engine.eos_ids:
                break
        assert got_N[0] == ids[len(prompt) :]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batch_size_and_order_change_no_text(engine: TransformersEngine, random_model: Path, batch_size: int) -> None:
    sampling = Sampling(max_tokens=24)
    expected = engine.generate(PROMPTS, sampling)
    other = TransformersEngine(str(random_model), batch_size=batch_size)
    assert other.generate(PROMPTS, sampling) == expected
    assert other.generate(PROMPTS[::-1], sampling)[::-1] == expected


def test_samples_follow_the_distribution() -> None:
    import torch

    from rrr_cli.engines.drawing import pick

    logits = torch.tensor([[2.0, -torch.inf, 0.0, 1.0]])
    uniforms = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    counts = torch.bincount(pick(logits.expand(1000, 4), uniforms, Sampling(temperature=0.5)), minlength=4)
    assert torch.allclose(counts / 1000, (logits[0] / 0.5).softmax(-1), atol=1e-3)
    assert counts[1] == 0


@pytest.mark.parametrize("top_p", [1.0, 0.9])
@pytest.mark.parametrize("spread", [0.1, 4.0], ids=["flat", "peaked"])
def test_a_large_vocabulary_draws_the_tokens_of_one_sum_in_order(spread: float, top_p: float) -> None:
    import torch

    from rrr_cli.engines.drawing import pick

    torch.manual_seed(0)
    logits = (torch.randn(40, 5001) * spread).round(decimals=1)  # with equal ones
    logits[:20, :300] = logits[:20, 4900:] = -torch.inf
    uniforms = torch.rand(40, dtype=torch.float64)
    uniforms[:2], uniforms[2:4] = 0.0, 1 - 2**-53
    probs = logits.softmax(-1)
    if top_p < 1:
        ranked, order = probs.sort(dim=-1, descending=True, stable=True)
        above = ranked.cumsum(-1, dtype=torch.float64) - ranked
        probs = probs.scatter(-1, order, ranked.masked_fill(above >= top_p, 0.0))
    cdf = probs.cumsum(-1, dtype=torch.float64)
    expected = (cdf <= uniforms[:, None] * cdf[:, -1:]).sum(-1)
    got = pick(logits, uniforms, Sampling(top_p=top_p))
    assert (got == expected)[4:].all()
    assert (probs.gather(1, got[:, None]) > 0).all()
    logits[5, 7] = torch.nan
    assert pick(logits, uniforms, Sampling(top_p=top_p))[5] == 5001


def test_a_prompt_is_prefilled_once(engine: TransformersEngine) -> None:
    fed: list[int] = []  # tokens of each forward over more than one position

    def watch(module: object, args: object, kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].shape[1] > 1:
            fed.append(kwargs["input_ids"].numel())

    engine.cache.clear()
    hook = engine.lm.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        prompt = Prompt(PROMPTS[4].messages, tuple(range(12)))
        (row,) = engine.generate([prompt], Sampling(max_tokens=3))
    finally:
        hook.remove()
    assert fed == [row[0].prompt_tokens - 1]


def test_a_prompt_without_room_leaves_neighbours_alone(
    engine: TransformersEngine,
) -> None:
    long = Prompt((Message("user", "1 " * 300),), (0, 1))
    alone = engine.generate(PROMPTS[:1], Sampling(max_tokens=4))
    empty, served = engine.generate([long, PROMPTS[0]], Sampling(max_tokens=4))
    assert [(c.text, c.tokens, c.finish_reason) for c in empty] == [("", 0, "length")] * 2
    assert empty[0].prompt_tokens > 256
    assert [served] == alone


def test_sample_refuses_a_prompt_without_room(engine: TransformersEngine) -> None:
    from rrr_cli.engines.decoding import sample

    with pytest.raises(RrrError, match=r"300 tokens long.*1 to 255") as caught:
        sample(engine.lm, [[5] * 300], [(0,)], Sampling(), engine.eos_ids)
    assert caught.value.exit_code == BAD_INPUT


def test_an_answer_ends_where_the_context_does(engine: TransformersEngine) -> None:
    prompt = Prompt((Message("user", "1 " * 240),), tuple(range(8)))
    (row,) = engine.generate([prompt], Sampling(max_tokens=500))
    assert max(c.prompt_tokens + c.tokens for c in row) == 256
    assert all(c.finish_reason == "stop" or c.prompt_tokens + c.tokens == 256 for c in row)


def test_training_mode_survives(engine: TransformersEngine) -> None:
    engine.lm.train()
    engine.generate(PROMPTS[:1], Sampling(max_tokens=2))
    assert engine.lm.training
    engine.lm.eval()


def test_an_adapter_changes_the_text_and_the_fingerprint(engine: TransformersEngine, random_adapter: Path) -> None:
    plain = engine.generate(PROMPTS, Sampling(max_tokens=8))
    for dtype in ("float32", "bfloat16"):  # merged, and not
        adapted = load_engine("transformers", str(random_adapter), dtype=dtype)
        assert adapted.fingerprint != engine.fingerprint
        assert adapted.generate(PROMPTS, Sampling(max_tokens=8)) != plain


def test_a_merged_adapter_computes_what_peft_computes(random_model: Path, random_adapter: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from rrr_cli.engines.transformers import load_model

    merged = load_model(resolve(str(random_adapter)), "float32")
    unmerged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(random_model), random_adapter).eval()
    ids = torch.tensor([[1, 5, 9, 14]])
    assert torch.allclose(merged(ids).logits, unmerged(ids).logits, atol=1e-3)
    with unmerged.disable_adapter():
        assert not torch.allclose(merged(ids).logits, unmerged(ids).logits, atol=0.1)


def test_the_fingerprint_follows_weights_and_template(random_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(random_model, copy)
    for name in ("README.md", "rrr.json", "provenance.json"):
        (copy / name).write_text("{}")
    assert fingerprint(copy) == fingerprint(random_model)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed = fingerprint(copy)
    assert changed != fingerprint(random_model)
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    assert fingerprint(copy) != changed


@pytest.mark.parametrize("name", ["./nowhere", "no/such/folder", "nobody/no-such-model-at-all", "README.md"])
def test_an_unknown_model_is_named_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RrrError) as caught:
        resolve(name)
    assert caught.value.exit_code == BAD_INPUT
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(RrrError, match="safetensors"):
        resolve(str(tmp_path))


def test_an_adapter_without_a_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4}))
    with pytest.raises(RrrError, match="base_model_name_or_path"):
        resolve(str(tmp_path))


def test_a_missing_extra_says_what_to_install(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for engine, extra in (("transformers", "train"), ("vllm", "vllm")):
        with pytest.raises(RrrError, match=rf"pip install 'rrr_cli\[{extra}\]'") as caught:
            load_engine(engine, str(random_model))
        assert caught.value.exit_code == NO_BACKEND


def test_an_unknown_dtype_or_engine_is_refused(random_model: Path) -> None:
    for engine, dtype in (("transformers", "float8"), ("llama", "auto")):
        with pytest.raises(RrrError) as caught:
            load_engine(engine, str(random_model), dtype=dtype)
        assert caught.value.exit_code == USAGE


def test_a_tokenizer_without_a_template_gets_plain_turns(random_model: Path) -> None:
    from transformers import AutoTokenizer

    from rrr_cli.engines.render import render

    tokenizer = AutoTokenizer.from_pretrained(random_model)
    with_template = render(tokenizer, [Message("user", "1 2")])
    assert tokenizer.decode(with_template) == "<s> user : 1 2 </s> assistant :"
    tokenizer.chat_template = None
    # a word-level vocabulary has no "user:", so only the content is known
    assert tokenizer.decode(render(tokenizer, [Message("user", "1 2")])) == "<unk> 1 2 <unk>"


def test_a_template_that_refuses_is_an_error(random_model: Path) -> None:
    from transformers import AutoTokenizer

    from rrr_cli.engines.render import render

    tokenizer = AutoTokenizer.from_pretrained(random_model)
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(RrrError, match="no system role"):
        render(tokenizer, [Message("system", "1")])


def test_a_models_own_code_never_runs(random_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(random_model, copy)
    config = json.loads((copy / "config.json").read_text())
    classes = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": classes}))
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(RrrError):
        load_engine("transformers", str(copy))
    assert not (tmp_path / "ran").exists()
