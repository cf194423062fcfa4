"""Chats to token ids and token ids to text: the one renderer of the transformers and vLLM engines and of GRPO.

Engines get token ids, so that the same chat is the same prompt everywhere. A tokenizer without a chat template gets
`plain_chat`; a template that refuses the chat (unknown role) is an error, never a guess. Tools go through the template
if it shows them, else into a system turn (`prompts.TOOLS`), else before the user's first words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from rrr_cli.errors import RrrError
from rrr_cli.prompts import TOOLS
from rrr_cli.records import Message

PROBE = "probe_tool"


def render(tokenizer: Any, messages: Sequence[Message], tools: str | None = None) -> list[int]:
    """Token ids of the chat, ending where the assistant's next turn begins. At most one BOS.

    `tools` is a JSON list of tool schemas. Raises RrrError (exit 3): the template refused.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return list(tokenizer(plain_chat(messages, tools)).input_ids)
    from jinja2 import TemplateError

    if tools:
        place = tools_place(tokenizer, str(template))
        if place != "template":
            messages, tools = with_tools(messages, tools, place), None
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


@lru_cache(maxsize=32)
def tools_place(tokenizer: Any, template: str) -> str:
    """Where the tools of a chat go: "template" if the chat template shows them, else "system" or, if it refuses or
    drops a system turn, "user". Decided by rendering a tool with a unique name and searching for that name.
    """
    from jinja2 import TemplateError

    def shows(messages: Sequence[Message], tools: str | None) -> bool:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            text = tokenizer.apply_chat_template(
                turns, tools=json.loads(tools) if tools else None, tokenize=False, add_generation_prompt=True)
        except TemplateError:
            return False
        return PROBE in text

    parameters = {"type": "object", "properties": {"a": {"type": "string", "description": "a"}}, "required": ["a"]}
    probe = json.dumps([{
        "type": "function", "function": {"name": PROBE, "description": "b", "parameters": parameters}
    }])
    chat = (Message("user", "hello"),)
    if shows(chat, probe):
        return "template"
    return "system" if shows(with_tools(chat, probe, "system"), None) else "user"


def with_tools(messages: Sequence[Message], tools: str, place: str) -> tuple[Message, ...]:
    """The chat with the tools as text: in its system turn ("system"), or before its first turn's words ("user")."""
    text = TOOLS.format(tools=tools)
    first = messages[0]
    if place == "system" and first.role != "system":
        return (Message("system", text), *messages)
    parts = (first.content, text) if first.role == "system" else (text, first.content)
    return (Message(first.role, "\n\n".join(parts)), *messages[1:])


def plain_chat(messages: Sequence[Message], tools: str | None = None) -> str:
    """`role: text` paragraphs, for a tokenizer without a chat template."""
    turns = with_tools(messages, tools, "system") if tools else messages
    return "\n\n".join([*(f"{m.role}: {m.content}" for m in turns), "assistant:"])


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of a completion, without special tokens."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
