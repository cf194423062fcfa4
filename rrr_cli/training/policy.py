"""The model that is trained, as text: its tokenizer, renderer and context window. Its weights are TRL's to load.

Reads a model's folder. Refuses a LoRA adapter: GRPO trains a whole model, or a new adapter on one.
"""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig

from rrr_cli.engines.models import load_tokenizer, resolve
from rrr_cli.engines.render import decode, render
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import Message


class Policy:
    """What `--model` names. Raises RrrError: not found (exit 3), an adapter (2)."""

    def __init__(self, name: str) -> None:
        resolved = resolve(name)
        if resolved.adapter is not None:
            raise RrrError(
                f"--model {name} is a LoRA adapter: name its base model {resolved.path}, or merge the two first",
                USAGE,
            )
        self.path, self.fingerprint = resolved.path, resolved.fingerprint
        # How an adapter trained on this model names it: a name that other machines know, or else a folder of this one.
        self.name = str(self.path) if Path(name).expanduser().is_dir() else name
        self.tokenizer = load_tokenizer(resolved)
        # Hidden states and logits past it mean nothing, so no text may be longer.
        self.window = int(AutoConfig.from_pretrained(str(self.path)).get_text_config().max_position_embeddings)

    def render(self, messages: tuple[Message, ...], tools: str | None) -> list[int]:
        """Token ids of a chat that the model is to go on with."""
        return render(self.tokenizer, messages, tools)

    def decode(self, ids: list[int]) -> str:
        """The text of a completion."""
        return decode(self.tokenizer, ids)
