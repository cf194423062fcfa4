"""Shared fixtures: a random-weights chat model, made on the spot; the tool that trains the embedded ones."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

CHAT_TEMPLATE = (
    "{{ bos_token }} {% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {{ eos_token }} {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)
# No marks of a thought: what follows them would be another text than what a random model wrote.
WORDS = (
    "system user assistant tool : Using the numbers create an equation that equals You tried again wrong Reflect short "
    "explanation Please try solve problem answer <answer> </answer> think <work> </work> + - * / ( ) = ; , . yes no"
)


@pytest.fixture(scope="module")
def train_tiny() -> Iterator[ModuleType]:
    """The tool that trains the embedded models."""
    folder = str(Path(__file__).parent.parent / "tools" / "tiny")
    sys.path.insert(0, folder)
    yield importlib.import_module("train_tiny")
    sys.path.remove(folder)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a word-level Llama with random weights, a chat template and a context of 256 tokens."""
    folder = tmp_path_factory.mktemp("random_model")
    make_random_model(folder)
    return folder


@pytest.fixture(scope="session")
def random_adapter(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a LoRA adapter of `random_model`, random as well."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    folder = tmp_path_factory.mktemp("random_adapter")
    get_peft_model(AutoModelForCausalLM.from_pretrained(random_model), config).save_pretrained(folder)
    return folder


def make_random_model(folder: Path, *, layers: int = 2, hidden: int = 64, heads: int = 2, context: int = 256) -> None:
    """Write the model into `folder`. Weights are large enough that the next token is neither certain nor uniform."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocab = ["<pad>", "<s>", "</s>", "<unk>", *dict.fromkeys(WORDS.split()), *map(str, range(101))]
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocab)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.decoder = decoders.WordPiece(prefix="##")  # joins words with spaces
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        chat_template=CHAT_TEMPLATE, model_max_length=context,
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocab), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=context, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


class Ran(NamedTuple):
    """What a command left: its exit code, and what it wrote to stdout and stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def rrr(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run a command line as the shell would, in this process: `rrr("eval", "--json")`."""
    from rrr_cli.cli import main

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["rrr", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Ran(code, *capfd.readouterr())

    return run
