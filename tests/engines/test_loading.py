"""What loads is the model, whole: damaged folders and adapters of 12 architectures, third parties' errors, devices."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from rrr_cli.engines import load_engine, weights
from rrr_cli.engines.base import Sampling
from rrr_cli.engines.models import ResolvedModel, load_tokenizer, resolve
from rrr_cli.engines.transformers import load_model
from rrr_cli.errors import BAD_INPUT, NO_BACKEND, USAGE, RrrError

SIZES: dict[str, Any] = dict(
    vocab_size=90, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2)
GPT: dict[str, Any] = dict(n_embd=32, n_layer=2, n_head=2, n_positions=128)
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {}, "qwen2": {}, "mistral": {"sliding_window": 16}, "gemma2": {"head_dim": 16}, "phi3": {}, "olmo2": {},
    "gpt2": GPT, "gpt_neox": {}, "bloom": GPT, "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "mixtral": {"num_local_experts": 2}, "gptj": {**GPT, "rotary_dim": 8},
}
UNREADABLE: dict[str, dict[str, Any]] = {  # they keep something else than keys and values, or count positions otherwise
    "recurrent_gemma": {}, "mamba": {}, "openai-gpt": GPT, "roberta": {"is_decoder": True}}


def make(folder: Path, kind: str, about: dict[str, Any]) -> Path:
    """A model of `kind` with random weights, strong enough to differ from one that isn't loaded."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    lm = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **SIZES | about), attn_implementation="eager")
    for weight in lm.parameters():
        if weight.dim() > 1:
            weight.data.normal_(0, 0.4)
    lm.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder an architecture."""
    root = tmp_path_factory.mktemp("architectures")
    return {kind: make(root / kind, kind, about) for kind, about in ARCHITECTURES.items()}


def rewritten(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        path = next(folder.glob("*.safetensors"))
        save_file(change(load_file(path)), path, metadata={"format": "pt"})

    return damage


def cut(folder: Path) -> None:
    path = next(folder.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])


def without_its_largest(tensors: dict[str, Any]) -> dict[str, Any]:
    gone = max((key for key in tensors if ".1." in key), key=lambda key: (tensors[key].numel(), key))
    return {key: tensor for key, tensor in tensors.items() if key != gone}


DAMAGES = {
    "missing key": (rewritten(without_its_largest), "1 tensors aren't in its files|is it whole"),
    "prefixed keys": (rewritten(lambda t: {f"module.{k}": v for k, v in t.items()}), r"are unknown to its model \(mod"),
    "shorter tensor": (rewritten(lambda t: {k: v[:-1].clone() if v.dim() > 1 else v for k, v in t.items()}),
                       "another shape|is it whole"),
    "truncated file": (cut, "is cut"),
}


def refused(call: Callable[[], object], says: str, code: int = BAD_INPUT) -> str:
    with pytest.raises(RrrError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == code
    return str(caught.value)


def test_a_whole_model_of_each_architecture_writes_its_own_tokens(models):
    for folder in models.values():
        load_model(resolve(str(folder)), "float32", "cpu")
        weights.prove(resolve(str(folder)))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_of_no_architecture_runs(models, damage, tmp_path):
    spoil, says = DAMAGES[damage]
    for kind, folder in models.items():
        broken = shutil.copytree(folder, tmp_path / kind)
        spoil(broken)
        refused(lambda broken=broken: load_model(resolve(str(broken)), "float32", "cpu"), says)
        refused(lambda broken=broken: weights.prove(resolve(str(broken))), says)


def test_an_adapter_of_another_base_never_runs(models, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    for kind, folder in models.items():
        lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
        right, wrong = tmp_path / kind, tmp_path / f"{kind}-of-another"
        get_peft_model(AutoModelForCausalLM.from_pretrained(folder), lora).save_pretrained(right)
        shutil.copytree(right, wrong)
        rewritten(lambda t: {k.replace(".1.", ".7."): v for k, v in t.items()})(wrong)  # of a base with more layers
        load_model(resolve(str(right)), "float32", "cpu")
        says = "are unknown to its model .*name the base"
        refused(lambda wrong=wrong: load_model(resolve(str(wrong)), "float32", "cpu"), says)
    weights.prove(resolve(str(right)))
    refused(lambda: weights.prove(resolve(str(wrong))), says)


def test_an_adapter_without_some_of_its_tensors_never_runs(random_adapter, tmp_path):
    lacking = shutil.copytree(random_adapter, tmp_path / "lacking")
    rewritten(without_its_largest)(lacking)
    refused(lambda: load_engine("transformers", str(lacking)), "1 tensors aren't in its files")
    ranked = shutil.copytree(random_adapter, tmp_path / "ranked")
    about = json.loads((ranked / "adapter_config.json").read_text())
    (ranked / "adapter_config.json").write_text(json.dumps(about | {"r": 2}))
    refused(lambda: load_engine("transformers", str(ranked)), "size mismatch")
    (ranked / "adapter_config.json").write_text(json.dumps(about | {"modules_to_save": ["lm_head"]}))
    refused(lambda: load_engine("transformers", str(ranked)), "lm_head|doesn't load")


def test_an_adapter_of_unknown_strength_or_without_its_own_template_never_runs(random_adapter, tmp_path):
    folder = shutil.copytree(random_adapter, tmp_path / "adapter")
    (folder / "chat_template.jinja").write_text("its own {{ messages[0].content }}")
    assert load_tokenizer(resolve(str(folder))).chat_template.startswith("its own")
    config = folder / "adapter_config.json"
    about = json.loads(config.read_text())
    del about["lora_alpha"]
    config.write_text(json.dumps(about))
    refused(lambda: load_engine("transformers", str(folder)), "has no lora_alpha")


def test_an_adapter_on_an_embedding_that_is_the_output_too_computes_as_peft(random_model, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(2)
    base = AutoModelForCausalLM.from_pretrained(random_model, tie_word_embeddings=True)
    base.save_pretrained(tmp_path / "base")
    lora = LoraConfig(r=4, target_modules=["embed_tokens"], task_type="CAUSAL_LM", init_lora_weights=False)
    own = get_peft_model(base, lora).eval()
    own.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    config = tmp_path / "adapter/adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "../base"}))
    lm = load_model(resolve(str(tmp_path / "adapter")), "float32", "cpu")
    ids = torch.tensor([[5, 9, 33, 7]])
    with torch.no_grad():
        assert torch.allclose(lm(input_ids=ids).logits, own(input_ids=ids).logits, atol=1e-5)


@pytest.mark.parametrize(("dtype", "says"), [("int8", "of I8 numbers"), ("float8_e4m3fn", "of F8_E4M3 numbers")])
def test_numbers_without_their_scales_never_run(models, tmp_path, dtype, says):
    import torch

    folder = shutil.copytree(models["llama"], tmp_path / "model")
    rewritten(lambda t: {k: v.to(getattr(torch, dtype)) if "up_proj" in k else v for k, v in t.items()})(folder)
    refused(lambda: load_model(resolve(str(folder)), "float32", "cpu"), says)
    refused(lambda: weights.prove(resolve(str(folder))), says)


def test_weights_that_are_not_numbers_never_run(models, tmp_path):
    folder = shutil.copytree(models["llama"], tmp_path / "model")
    rewritten(lambda t: {k: v * float("nan") if "layers.1.mlp" in k else v for k, v in t.items()})(folder)
    refused(lambda: load_model(resolve(str(folder)), "float32", "cpu"), "probabilities aren't finite")


def test_an_index_names_files_of_its_own_folder_alone(random_model, tmp_path):
    folder = shutil.copytree(random_model, tmp_path / "model")
    shutil.copy(folder / "model.safetensors", tmp_path / "outside.safetensors")
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    index = {"weight_map": {"model.norm.weight": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(lambda: resolve(str(folder)), "names ../outside.safetensors, which isn't a file of its folder")


@pytest.mark.parametrize("template", ["{{ 1 // 0 }}", "{{ messages + 1 }}"])
def test_a_template_that_fails_is_one_line(template):
    from test_tools_in_prompts import tokenizer_of

    from rrr_cli.engines.render import render
    from rrr_cli.records import Message

    refused(lambda: render(tokenizer_of(template), [Message("user", "1")]), "chat template fails")
    refused(lambda: render(tokenizer_of({"rag": "1", "tools": "2"}), [Message("user", "1")]), "no default")


def test_an_end_of_turn_that_is_no_token_is_one_line(random_model, tmp_path):
    folder = shutil.copytree(random_model, tmp_path / "model")
    (folder / "generation_config.json").write_text('{"eos_token_id": "</s>"}')
    refused(lambda: load_engine("transformers", str(folder)), "eos_token_id '</s>'")


def test_buffers_that_a_model_computes_may_be_in_its_file(models, tmp_path):
    import torch

    old = shutil.copytree(models["llama"], tmp_path / "old")
    rewritten(lambda t: t | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})(old)
    load_model(resolve(str(old)), "float32", "cpu")


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_model_that_decodes_otherwise_is_refused_in_one_line(kind, tmp_path):
    resolved = ResolvedModel(kind, make(tmp_path / kind, kind, UNREADABLE[kind]), None)
    refused(lambda: load_model(resolved, "float32", "cpu"), "use --engine vllm")


def test_a_soft_cap_is_computed_and_attention_falls_back(models, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    from rrr_cli.engines.decoding import sample

    capped = make(tmp_path / "capped", "gemma2", {"head_dim": 16, "attn_logit_softcapping": 0.5})
    lm = load_model(resolve(str(capped)), "float32", "cpu")
    own = AutoModelForCausalLM.from_pretrained(capped, attn_implementation="eager").eval()
    prompt = [5, 9, 33, 47, 12, 80, 3]
    (((*written,),),) = (sample(lm, [prompt], [(0,)], Sampling(temperature=0.0, max_tokens=12), ()),)
    with torch.no_grad():
        ids = list(prompt)
        for _ in range(12):
            ids.append(int(own(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    assert list(written[0]) == ids[len(prompt):]
    kinds = {kind: load_model(resolve(str(models[kind])), "float32", "cpu").config._attn_implementation
             for kind in ("llama", "bloom", "gptj")}
    assert kinds == {"llama": "sdpa", "bloom": "eager", "gptj": "eager"}


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0d1e\nsize 77\n"


@pytest.mark.parametrize(("name", "content", "says"), [
    ("model.safetensors", POINTER, "pointer of git-lfs.* lfs pull"), ("model.safetensors", "", "is cut"),
    ("model.safetensors", "x" * 300, "not a safetensors file"), ("tokenizer.json", POINTER, "lfs pull"),
    ("chat_template.jinja", POINTER, "lfs pull"), ("generation_config.json", '{"eos_token_id": ', "not whole JSON"),
    ("config.json", "[]", "not a JSON object"), ("tokenizer_config.json", '{"a"', "not whole JSON"),
    ("tokenizer.json", '{"version": "1.0", "model"', "tokenizer in .* doesn't load"),
    ("config.json", '{"model_type": "later9"}', "later9"),
])
def test_a_damaged_file_is_named_in_one_line(random_model, tmp_path, name, content, says):
    folder = shutil.copytree(random_model, tmp_path / "model")
    (folder / name).write_text(content)
    refused(lambda: load_engine("transformers", str(folder)), says)


def test_weights_in_parts_are_all_there_or_refused(random_model, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = shutil.copytree(random_model, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(random_model).save_pretrained(folder, max_shard_size="60KB")
    load_model(resolve(str(folder)), "float32", "cpu")
    index, parts = folder / "model.safetensors.index.json", sorted(folder.glob("model-*.safetensors"))
    parts[1].rename(folder / "elsewhere.safetensors")
    refused(lambda: resolve(str(folder)), f"lacks {parts[1].name}")
    index.unlink()
    refused(lambda: resolve(str(folder)), "no model.safetensors or model.safetensors.index.json")


@pytest.mark.parametrize(("about", "says"), [
    ({"peft_type": "LATER"}, "KeyError: 'LATER'"), ({"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 2}, "soft pr"),
    ({"base_model_name_or_path": "/no/such/base"}, "adapter_config.json names /no/such/base"),
])
def test_an_adapter_of_another_kind_or_a_moved_base_is_one_line(random_adapter, tmp_path, about, says):
    folder = shutil.copytree(random_adapter, tmp_path / "adapter")
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | about))
    refused(lambda: load_engine("transformers", str(folder)), says)


@pytest.mark.parametrize("method", ["hqq", "awq", "torchao", "quark"])
def test_quantised_weights_say_what_to_install(random_model, tmp_path, method):
    folder = shutil.copytree(random_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    about = {"quant_method": method, "bits": 4, "group_size": 64}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": about}))
    refused(lambda: load_engine("transformers", str(folder)), "pip install", NO_BACKEND)


@pytest.mark.parametrize("device", ["gpu", "mps:3", "xpu", "cuda:97", "cpu:2", "meta", "CPU", ""])
def test_a_device_that_is_not_here_is_a_usage_error(random_model, device):
    refused(lambda: load_engine("transformers", str(random_model), device=device), "--device .*one of cpu", USAGE)


def test_a_tokenizer_of_another_model_is_one_line(models, random_model, tmp_path):
    from rrr_cli.engines.base import Prompt
    from rrr_cli.records import Message

    folder = shutil.copytree(models["llama"], tmp_path / "model")
    for path in random_model.glob("tokenizer*"):
        shutil.copy(path, folder)
    engine = load_engine("transformers", str(folder))
    refused(lambda: engine.generate([Prompt((Message("user", "100"),), (0,))], Sampling()), "tokenizer is of another")


def test_memory_that_ran_out_is_said():
    from rrr_cli.engines.loading import loading

    def fill() -> None:
        with loading("--model huge doesn't load"):
            bytearray(2**62)

    refused(fill, "isn't enough memory.*smaller --model")


def test_a_tokenizer_of_a_later_kind_is_one_line(random_model, tmp_path):
    folder = shutil.copytree(random_model, tmp_path / "model")
    about = json.loads((folder / "tokenizer.json").read_text())
    about["model"]["type"] = "Later"
    (folder / "tokenizer.json").write_text(json.dumps(about))
    refused(lambda: load_tokenizer(resolve(str(folder))), "is it whole, and of a kind that transformers")


def test_commands_refuse_a_model_that_lacks_a_layer(rrr, random_model, tmp_path):
    folder = shutil.copytree(random_model, tmp_path / "model")
    rewritten(lambda t: {k: v for k, v in t.items() if ".layers.1." not in k})(folder)
    for command in (("mine-failures", "--limit", 2), ("eval", "--limit", 2)):
        model = f"base={folder}" if command[0] == "eval" else folder
        ran = rrr(*command, "--model", model, "--task", "countdown", "--run", tmp_path / "run")
        assert (ran.code, ran.out) == (BAD_INPUT, "")
        assert "rrr: " in ran.err.splitlines()[-1]
        assert "weights don't all load" in ran.err.splitlines()[-1]
        assert "Traceback" not in ran.err
