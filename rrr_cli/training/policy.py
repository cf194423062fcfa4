"""The model that is trained, as text: its tokenizer, renderer and context window. TRL loads its weights, and those of
the reference again: `how` says in which way, once it is proved that all of them load.

Reads a model's folder. Refuses a LoRA adapter: what is trained is a whole model, or a new adapter on one.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from rrr_cli.engines import weights
from rrr_cli.engines.models import ResolvedModel, load_tokenizer, resolve
from rrr_cli.engines.render import Renderer
from rrr_cli.engines.special_tokens import kept_in_text, special_tokens
from rrr_cli.engines.template import DEFAULT, Template
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import Message
from rrr_cli.training.memory import Shape

ANSWER = "probe_answer"


class Policy:
    """What `--model` names. Raises RrrError: not found (exit 3), an adapter (2)."""

    def __init__(self, name: str, template: Template = DEFAULT, proved: bool = True) -> None:
        """`proved`: also that every tensor would load, which takes torch; a plan needs the texts alone."""
        resolved = resolve(name)
        config = weights.config_of(resolved)
        if resolved.adapter is not None:
            raise RrrError(
                f"--model {name} is a LoRA adapter: name its base model {resolved.path}, or merge the two first",
                USAGE,
            )
        self.path, self.fingerprint = resolved.path, resolved.fingerprint
        check_class(resolved, config)
        self.shape, self.capped = Shape.of(config), weights.capped(config)
        if proved:
            weights.prove(resolved)
            self.how = weights.how(config) | {"dtype": "float32"}  # RRR's rate of 5e-7 is lost in bfloat16 weights
        # How an adapter trained on this model names it: a name that other machines know, or else a folder of this one.
        self.name = str(self.path) if Path(name).expanduser().is_dir() else name
        self.tokenizer = load_tokenizer(resolved)
        self.chat = Renderer(self.tokenizer, template)
        # Hidden states and logits past it mean nothing, so no text may be longer.
        self.window = window(config, self.tokenizer)

    def render(self, messages: tuple[Message, ...], tools: str | None) -> list[int]:
        """Token ids of a chat that the model is to continue."""
        return self.chat.render(messages, tools)

    def write(self, text: str) -> list[int]:
        """Token ids of a turn as the model would have written it, the end of the turn included."""
        return [*self.chat.write(text), self.end_of_turn]

    @cached_property
    def end_of_turn(self) -> int:
        """The token that ends the model's turn in its chat template; the tokenizer's own end where there is none."""
        tokenizer, end = self.tokenizer, int(self.tokenizer.eos_token_id)
        if not getattr(tokenizer, "chat_template", None):
            return end
        turns = [Message("user", "1"), Message("assistant", ANSWER)]
        after = self.chat.template.text(tokenizer, turns, to_continue=False).rpartition(ANSWER)[2]
        ends = set(special_tokens(tokenizer).values()) - kept_in_text(tokenizer) - {tokenizer.unk_token_id}
        return next((int(i) for i in tokenizer(after, add_special_tokens=False).input_ids if i in ends), end)

    def decode(self, ids: list[int]) -> str:
        """The text of a completion."""
        return self.chat.read(ids)


def window(config: Any, tokenizer: Any) -> int:
    """The most tokens of a text. Raises RrrError (exit 3): neither the model nor its tokenizer says."""
    limit = getattr(config.get_text_config(), "max_position_embeddings", None) or tokenizer.model_max_length
    if not 0 < limit < 2**31:
        raise RrrError(f"{config.model_type} has no context length: set model_max_length in its tokenizer_config.json")
    return int(limit)


def check_class(resolved: ResolvedModel, config: Any) -> None:
    """Raise RrrError (exit 3) unless config.json names the class that the engines load: TRL loads what it names."""
    # By name: the class itself would take torch.
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CLASSES

    cls, named = CLASSES.get(config.model_type), (config.architectures or ["nothing"])[0]
    if cls is None or named != cls:
        wanted = f'"architectures": ["{cls}"]' if cls else "a causal language model"
        raise RrrError(f"{resolved.path / 'config.json'} names {named} as its architecture: training needs {wanted}")
