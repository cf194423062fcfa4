"""Calls within the marks of a model's family, wherever they stand in a text; other text may stand around them.

- Qwen and Hermes: `<tool_call>…</tool_call>`; Qwen3-Coder and Llama 3.1: `<function=name>`, then JSON or one
  `<parameter=key>value</parameter>` an argument, then `</function>`; GLM: `<arg_key>` and `<arg_value>`.
- Mistral: `[TOOL_CALLS]`; Llama: `<|python_tag|>`, `<|python_start|>`; Granite and Phi: `<|tool_call|>`. Calls after
  these end the text.
- DeepSeek and Kimi: a name and JSON between marks of a call's begin and end; gpt-oss: `to=functions.name`, then JSON.

A mark inside a JSON value is text. Refused, never repaired: a mark without a readable call after it, or never closed.
"""

from __future__ import annotations

import re
from typing import Any

from rrr_cli.tasks.function_calling.bare import calls_at
from rrr_cli.tasks.function_calling.calls import Call, Tools
from rrr_cli.tasks.function_calling.literals import typed
from rrr_cli.tasks.function_calling.strict_json import Refused, parse_at, property_schema, skip_space
from rrr_cli.thoughts import outside_json

MARK = re.compile(
    r"(?P<tag><tool_call>)|(?P<function><function=)|(?P<last>\[TOOL_CALLS\]|<\|python_(?:tag|start)\|>|<\|tool_call\|>)|"
    r"(?P<begin><[|｜]tool[_▁]call[_▁]begin[|｜]>)|(?P<to>\bto=functions\.)")
_FUNCTION = re.compile(r"\s*<function=([^<>\n]{1,200})>\s*")
_PARAMETER = re.compile(r"\s*<parameter=([^<>\n]{1,200})>\n?")
_GLM_NAME = re.compile(r"\s*([^\s<>{}()\[\]]{1,200})\s*(?=<arg_key>|</tool_call>)")
_GLM_ARGUMENT = re.compile(r"\s*<arg_key>([^<>]{1,200})</arg_key>\s*<arg_value>\n?")
_LAST = re.compile(
    r"\s*(?:\Z|</s>|(?=\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_call\|>)|"
    r"<\|(?:/tool_call|python_end|eom|eot|eom_id|eot_id|im_end)\|>)")
_BEGIN = re.compile(
    r"\s*(?:function<｜tool▁sep｜>)?(?:functions\.)?([^\n<>]{1,200}?)(?::\d+)?\s*"
    r"(?:<｜tool▁sep｜>|<\|tool_call_argument_begin\|>|```json)\s*")
_BEGIN_END = re.compile(r"\s*(?:```)?\s*<[|｜]tool[_▁]call[_▁]end[|｜]>")
_TO = re.compile(
    r"([^\s<>{]{1,200}?)(?:(?:commentary|analysis)?\s|(?=<\|))"
    r"(?:<\|\w{1,20}\|>|commentary|json|code|\s){0,9}(?=\{)")


def is_marked(text: str) -> bool:
    """Whether a mark of a call stands in the text, outside JSON."""
    return MARK.search(text) is not None and MARK.search(outside_json(text)) is not None


def marked_calls(text: str, tools: Tools) -> list[Call]:
    """The calls in marks, in order. Raises Refused."""
    outside, calls, at = outside_json(text), list[Call](), 0
    while mark := MARK.search(outside, at):
        read, at = marked_at(text, mark, tools)
        calls += read
    return calls


def marked_at(text: str, mark: re.Match[str], tools: Tools) -> tuple[list[Call], int]:
    """The calls of the mark that `MARK` matched, and where they end. Raises Refused."""
    if mark.lastgroup == "tag":
        return _tag(text, mark.end(), tools)
    if mark.lastgroup == "function":
        return _functions(text, mark.start(), tools)
    if mark.lastgroup == "last":
        calls, at = calls_at(text, mark.end(), tools)
        return calls, _expect(_LAST, text, at, "something follows the calls")
    if mark.lastgroup == "begin":
        call, at = _name_and_object(_BEGIN, text, mark.end())
        return [call], _expect(_BEGIN_END, text, at, "a call is never closed")
    call, at = _name_and_object(_TO, text, mark.end())
    return [call], at


def _tag(text: str, at: int, tools: Tools) -> tuple[list[Call], int]:
    if _FUNCTION.match(text, at):
        calls, at = _functions(text, at, tools)
    elif name := _GLM_NAME.match(text, at):
        arguments, at = _arguments(_GLM_ARGUMENT, "</arg_value>", text, name.end(), tools.schema(name[1]))
        calls = [Call(name[1], arguments)]
    else:
        calls, at = calls_at(text, at, tools)
    at = skip_space(text, at)
    if text.startswith("</tool_call>", at):
        return calls, at + len("</tool_call>")
    closed = text.find("</tool_call>", at) >= 0
    raise Refused("something else stands in a <tool_call>" if closed else "a <tool_call> is never closed")


def _functions(text: str, at: int, tools: Tools) -> tuple[list[Call], int]:
    calls = []
    while head := _FUNCTION.match(text, at):
        if text.startswith("{", head.end()):
            arguments, at = parse_at(text, head.end())
        else:
            arguments, at = _arguments(_PARAMETER, "</parameter>", text, head.end(), tools.schema(head[1]))
        at = skip_space(text, at)
        if not text.startswith("</function>", at):
            raise Refused("a <function=…> isn't closed after its arguments")
        at += len("</function>")
        calls.append(Call(head[1], arguments))
    if not calls:
        raise Refused("a <function=…> has no name")
    return calls, at


def _arguments(opening: re.Pattern[str], closing: str, text: str, at: int, schema: Any) -> tuple[dict[str, Any], int]:
    """Arguments in tags, one after the other; a closing tag that more text of the value follows is text."""
    arguments: dict[str, Any] = {}
    while head := opening.match(text, at):
        if head[1] in arguments:
            raise Refused("an argument occurs twice in one call")
        end = text.find(closing, head.end())
        while end >= 0 and not text.startswith("<", skip_space(text, end + len(closing))):
            end = text.find(closing, end + 1)
        if end < 0:
            raise Refused("an argument is never closed")
        value = text[head.end() : end - 1 if text[end - 1] == "\n" and end > head.end() else end]
        arguments[head[1]] = typed(value, property_schema(schema, head[1]))
        at = end + len(closing)
    return arguments, at


def _name_and_object(head: re.Pattern[str], text: str, at: int) -> tuple[Call, int]:
    """A name and a JSON object after it."""
    name = head.match(text, at)
    if name is None or not text.startswith("{", name.end()):
        raise Refused("a call's mark has no name and JSON object after it")
    arguments, end = parse_at(text, name.end())
    return Call(name[1], arguments), end


def _expect(pattern: re.Pattern[str], text: str, at: int, reason: str) -> int:
    match = pattern.match(text, at)
    if match is None:
        raise Refused(reason)
    return match.end()
