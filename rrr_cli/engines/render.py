"""Chats to token ids and token ids to text: the one renderer of every engine and of GRPO.

Both engines are given token ids, so that the same chat is the same prompt everywhere. A tokenizer without a chat
template gets the plain one below; a template that refuses the chat (unknown role, tools) is an error, never a guess.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rrr_cli.errors import RrrError
from rrr_cli.records import Message


def render(tokenizer: Any, messages: Sequence[Message], tools: str | None = None) -> list[int]:
    """Token ids of the chat, ending where the assistant's next turn begins. At most one BOS.

    `tools` is a JSON list of tool schemas, handed to the template. Raises RrrError (exit 3): the template refused.
    """
    if not getattr(tokenizer, "chat_template", None):
        return list(tokenizer(plain_chat(messages, tools)).input_ids)
    from jinja2 import TemplateError

    turns = [{"role": m.role, "content": m.content} for m in messages]
    try:
        encoded = tokenizer.apply_chat_template(
            turns, tools=json.loads(tools) if tools else None, add_generation_prompt=True, return_dict=True
        )
    except TemplateError as error:
        roles = ", ".join(dict.fromkeys(m.role for m in messages))
        raise RrrError(
            f"the model's chat template refused a chat of roles {roles}: {error}; use an instruction-tuned model"
        ) from None
    return list(encoded["input_ids"])


def plain_chat(messages: Sequence[Message], tools: str | None = None) -> str:
    """`role: text` paragraphs, for a tokenizer without a chat template."""
    head = [f"tools: {tools}"] if tools else []
    return "\n\n".join([*head, *(f"{m.role}: {m.content}" for m in messages), "assistant:"])


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of a completion, without special tokens."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
