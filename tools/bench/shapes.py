"""Models with random weights, and chats of an exact number of tokens. What a token costs depends on neither.

The tokenizer is word-level: w0, w1, … are one token each, and a text that was sampled is read back as the same tokens.
Writes a model's folder, with the tokenizer in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

MARKS = ("<pad>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|> {{ message.content }} <|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}")
CONTEXT = 4096
WORDS = 198 - len(MARKS)  # that the chats are made of: those of the smallest vocabulary

# tiny: the embedded model. smollm2: SmolLM2-135M; smol3: 3 of its 30 layers. qwen: Qwen2.5-1.5B.
SMOLLM2 = {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9,
           "num_key_value_heads": 3, "head_dim": 64}
MODELS: dict[str, dict[str, int]] = {
    "tiny": {"vocab_size": 198, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
             "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 64},
    "smol3": SMOLLM2 | {"num_hidden_layers": 3},
    "smollm2": SMOLLM2 | {"num_hidden_layers": 30},
    "qwen": {"vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12,
             "num_key_value_heads": 2, "head_dim": 128, "num_hidden_layers": 28},
}


@dataclass(frozen=True)
class Shape:
    """A model, and tokens of prompt, reflection and retry; the prompt is problem, failed attempt and request."""

    model: str
    prompt: int
    reflection: int
    retry: int
    rows: int  # samples a step
    group: int = 8
    micro: int | None = None  # samples a forward pass in training; None: all
    gpu: bool = False

    def __str__(self) -> str:
        return f"{self.model} {self.prompt}/{self.reflection}/{self.retry}"

    def quick(self) -> Shape:
        """The same in small, to see whether it runs."""
        micro = self.micro and self.group
        return Shape("tiny", 64, 8, 8, 2 * self.group, self.group, micro, self.gpu)


def filler(seed: object, count: int) -> str:
    """`count` words of one token each."""
    draw = Random(str(seed))
    return " ".join(f"w{draw.randrange(WORDS)}" for _ in range(count))


def make_model(name: str, folder: Path) -> Path:
    """The folder of a model, written unless it is there. It is a Llama with tied embeddings, in float32."""
    target = folder / name
    if target.exists():
        return target
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        lm = LlamaForCausalLM(LlamaConfig(
            **MODELS[name], max_position_embeddings=CONTEXT, tie_word_embeddings=True, pad_token_id=0,
            bos_token_id=None, eos_token_id=MARKS.index("<|end|>")))
    part = target.with_name(f"{name}.part")
    lm.save_pretrained(part)
    make_tokenizer(MODELS[name]["vocab_size"]).save_pretrained(part)
    part.rename(target)
    return target


def make_tokenizer(vocabulary: int) -> Any:
    """Marks, and then a word for each other token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    texts = [*MARKS, *(f"w{i}" for i in range(vocabulary - len(MARKS)))]
    plain = Tokenizer(models.WordLevel({text: i for i, text in enumerate(texts)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", unk_token="<unk>", eos_token="<|end|>", chat_template=TEMPLATE,
        extra_special_tokens=list(MARKS[2:5]), model_max_length=CONTEXT)


def never_ends(lm: Any) -> None:
    """Let the model sample words alone, so that every text is as long as it may be. The same in each arm."""
    import torch

    def hide_marks(module: Any, inputs: Any, logits: Any) -> None:
        if not torch.is_grad_enabled():
            logits[..., : len(MARKS)] = -1e9

    lm.lm_head.register_forward_hook(hide_marks)
