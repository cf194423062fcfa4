"""The tool calls in a model's answer, in the form of its family.

- Qwen and Hermes: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, one or more.
- Mistral: `[TOOL_CALLS] [{…}, …]`, to the end of the text.
- Llama 3.1: `{"name": …, "parameters": {…}}`, several with `;` between them, after `<|python_tag|>` or bare.
- any: bare JSON, an object or a list, alone or in one ```json fence.

A leading `<think>…</think>` isn't read. Around a tagged form other text may stand; around JSON without a tag it may
not. Text with nothing like a call in it makes no call. Refused, never repaired: whatever isn't strict JSON
(`strict_json.py`), a call with other keys than these (but for an `id` and `"type": "function"`, which models echo),
arguments that aren't an object, a tag that is never closed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rrr_cli.tasks.function_calling import strict_json
from rrr_cli.tasks.function_calling.strict_json import Refused, TooDeep

MAX_DEEP = 100  # places that are nested too deep, each of which costs as much as the depth that Python allows
_THINKING = re.compile(r"\s*<think>(.*?)(</think>|\Z)", re.DOTALL)
_TAG = re.compile(r"<tool_call>(.*?)(</tool_call>|\Z)", re.DOTALL)
_FENCE = re.compile(r"```json\s(.*)```", re.DOTALL)
_NAME_KEY = re.compile(r'"name"\s*:')
_SPACE = " \t\r\n"


@dataclass(frozen=True)
class Call:
    """A tool's name and its arguments as parsed JSON."""

    name: str
    arguments: dict[str, Any]


def read_calls(text: str) -> list[Call]:
    """The calls in `text`, in order; none where nothing in it is like a call. Raises Refused: meant, but unreadable."""
    thinking = _THINKING.match(text)
    if thinking:
        text = text[thinking.end():]
    if "<tool_call>" in text:
        return [call for block in _TAG.finditer(text) for call in _calls([_block(block)])]
    for tag in ("[TOOL_CALLS]", "<|python_tag|>"):
        if tag in text:
            return _calls(strict_json.parse_series(text.partition(tag)[2]))
    text = text.strip(_SPACE)
    fence = _FENCE.fullmatch(text)
    if fence:
        return _calls(strict_json.parse_series(fence.group(1)))
    try:
        values = strict_json.parse_series(text)
    except Refused:
        if text.startswith(("{", "```json")) or _NAME_KEY.search(text):
            raise
        return []  # prose
    return _calls(values) if any(isinstance(value, (dict, list)) for value in values) else []


def calls_within(text: str) -> Iterator[Call]:
    """Every call that stands anywhere in `text` as JSON, whatever stands around it. Gives up on deep nesting."""
    position, deep = text.find("{"), 0
    while position >= 0 and deep < MAX_DEEP:
        try:
            value, end = strict_json.parse_at(text, position)
            yield _call(value)
            position = end
        except Refused as refused:  # try again one character on: prose may hold a brace
            position += 1
            deep += isinstance(refused, TooDeep)
        position = text.find("{", position)


def write_calls(calls: Sequence[Call]) -> str:
    """The calls as an answer: JSON, each in its <tool_call> tag, one a line."""
    return "\n".join(
        f'<tool_call>{{"name": {json.dumps(call.name)}, "arguments": {json.dumps(call.arguments)}}}</tool_call>'
        for call in calls
    )


def _block(block: re.Match[str]) -> Any:
    if not block.group(2):
        raise Refused("a <tool_call> is never closed")
    return strict_json.parse(block.group(1))


def _calls(values: Sequence[Any]) -> list[Call]:
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    return [_call(value) for value in values]


def _call(value: Any) -> Call:
    if not isinstance(value, dict):
        raise Refused("a call isn't an object")
    keys = set(value) - {"id"} - ({"type"} if value.get("type") == "function" else set())
    if keys not in ({"name", "arguments"}, {"name", "parameters"}):
        raise Refused('a call doesn\'t have "name" and "arguments" as its keys')
    arguments = value["arguments" if "arguments" in keys else "parameters"]
    if not isinstance(value["name"], str) or not isinstance(arguments, dict):
        raise Refused("a call's name isn't a string or its arguments aren't an object")
    return Call(value["name"], arguments)
