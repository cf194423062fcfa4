"""Chats to token ids and token ids to text: the one renderer of the transformers and vLLM engines and of GRPO.

Engines get token ids, so that the same chat is the same prompt everywhere. A tokenizer without a chat template gets
`plain_chat`; a template that refuses the chat (unknown role) is an error, never a guess. Tools go through the template
if it shows them, else into a system turn (`prompts.TOOLS`), else before the user's first words. Thoughts of earlier
turns that the template would drop are shown as plain words (`prompts.THOUGHT`). Text that spells a special token stays
text (`special_tokens.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rrr_cli.engines.special_tokens import Spelled, decode
from rrr_cli.engines.template import DEFAULT, Template, drops_thoughts, opened_thought
from rrr_cli.errors import RrrError
from rrr_cli.prompts import TOOLS, thoughts_as_text
from rrr_cli.records import Message
from rrr_cli.thoughts import PAIRS, parts

PROBE = "probe_tool"


@dataclass(frozen=True)
class Renderer:
    """A tokenizer, and how its chat template is used."""

    tokenizer: Any
    template: Template = DEFAULT

    def render(self, messages: Sequence[Message], tools: str | None = None) -> list[int]:
        """See `render`."""
        return render(self.tokenizer, messages, tools, self.template)

    def read(self, ids: Sequence[int]) -> str:
        """A turn of the model as text, with the mark of its thought where the chat template has written that; "" where
        the model wrote nothing."""
        return opened_thought(self.tokenizer, self.template) + decode(self.tokenizer, ids) if ids else ""

    def write(self, text: str) -> list[int]:
        """The tokens of a turn after the prompt that asks for it, as the model would have written them."""
        opened = opened_thought(self.tokenizer, self.template)
        if text.startswith(opened.strip()):
            text = text.removeprefix(opened) if text.startswith(opened) else text[len(opened.strip()):].lstrip()
        elif parts(text).thought is None:  # it didn't think
            text = f"\n{dict(PAIRS)[opened.strip()]}\n\n{text}"
        spelled = Spelled(self.tokenizer, [text])
        return spelled.ids(spelled.hide(text, own=True))

    @property
    def drops_thoughts(self) -> bool:
        """Whether the chat template leaves out the thoughts of earlier turns."""
        return drops_thoughts(self.tokenizer, self.template)


def render(
    tokenizer: Any, messages: Sequence[Message], tools: str | None = None, template: Template = DEFAULT
) -> list[int]:
    """Token ids of the chat, ending where the assistant's next turn begins. At most one BOS.

    `tools` is a JSON list of tool schemas. Raises RrrError (exit 3): the template refused.
    """
    source = getattr(tokenizer, "chat_template", None)
    if source and any(m.role == "assistant" and parts(m.content).thought is not None for m in messages):
        messages = _with_thoughts(tokenizer, messages, template)
    spelled = Spelled(tokenizer, [*(m.content for m in messages), tools or ""])
    messages = [Message(m.role, spelled.hide(m.content, m.role == "assistant")) for m in messages]
    tools = spelled.hide(tools) if tools else None
    if not source:
        return spelled.ids(plain_chat(messages, tools), add_special_tokens=True)
    if tools and (place := tools_place(tokenizer, str(source), template)) != "template":
        messages, tools = with_tools(messages, tools, place), None
    return spelled.ids(template.text(tokenizer, messages, tools))


def _with_thoughts(tokenizer: Any, messages: Sequence[Message], template: Template) -> Sequence[Message]:
    """The chat, its thoughts as plain words where the template would drop them, or (gpt-oss) refuse them."""
    if drops_thoughts(tokenizer, template) and template.keep_thoughts:
        return thoughts_as_text(messages)
    return [m if "<|channel|>" not in m.content else thoughts_as_text([m], False)[0] for m in messages]


@lru_cache(maxsize=32)
def tools_place(tokenizer: Any, source: str, template: Template = DEFAULT) -> str:
    """Where the tools of a chat go: "template" if the chat template shows them, else "system" or, if it refuses or
    drops a system turn, "user". Decided by rendering a tool with a unique name and searching for that name.
    """
    def shows(messages: Sequence[Message], tools: str | None) -> bool:
        try:
            return PROBE in template.text(tokenizer, messages, tools)
        except RrrError:
            return False

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
