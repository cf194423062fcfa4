"""Calls without a mark around them, read at a place of a text: JSON, `name(key=value)` and `name{…}`.

- JSON: an object or a list of them, one after the other, with white space or `;` between them.
- Pythonic: `[name(key=value, …), …]`, or such calls one after the other.
- Mistral from its tokenizer 11 on: `name[ARGS]{…}`, also without the mark, which some decoding drops.

Reads and writes nothing. Raises Refused where none of these stands there.
"""

from __future__ import annotations

import re
from typing import Any

from rrr_cli.tasks.function_calling.calls import Call, Tools, as_call
from rrr_cli.tasks.function_calling.literals import arguments_at
from rrr_cli.tasks.function_calling.strict_json import Refused, check, parse_at, skip_space

_NEXT_JSON = re.compile(r"\{|\[\s*\{")
_NAME = re.compile(r"[^\W\d][\w.-]*")  # of a tool that isn't offered
_TO_ARGUMENTS = re.compile(r"\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\]\s*)?(?=\{)|\s*(?=\()")


def calls_at(text: str, at: int, tools: Tools) -> tuple[list[Call], int]:
    """The calls that start at `at` or after white space, and where they end."""
    at = skip_space(text, at)
    try:
        values, end = json_at(text, at)
    except Refused:
        if text.startswith("{", at):
            raise
        return named_at(text, at, tools)
    return as_calls(values), end


def json_at(text: str, at: int) -> tuple[list[Any], int]:
    """JSON objects and lists, one after the other, and where they end."""
    if not text.startswith(("{", "["), at):
        raise Refused(f"no JSON object or list at character {at + 1}")
    values = []
    while True:
        value, end = parse_at(text, at)
        values.append(value)
        at = skip_space(text, end)
        if text.startswith(";", at):
            at = skip_space(text, at + 1)
        elif not _NEXT_JSON.match(text, at):
            return values, end


def as_calls(values: list[Any]) -> list[Call]:
    """The calls that JSON values are, those in lists too."""
    return [as_call(one) for value in values for one in (value if isinstance(value, list) else [value])]


def named_at(text: str, at: int, tools: Tools) -> tuple[list[Call], int]:
    """Calls of the forms `name(…)` and `name{…}`, in square brackets or one after the other, and where they
    end."""
    if text.startswith("[", at):
        calls, end = _listed(text, at + 1, tools)
        while text.startswith("[", at := skip_space(text, end)):
            more, end = _listed(text, at + 1, tools)
            calls += more
        return calls, end
    call, end = named_call_at(text, at, tools)
    calls = [call]
    while True:
        at = skip_space(text, end)
        at = skip_space(text, at + 1) if text.startswith((";", ","), at) else at
        try:
            call, end = named_call_at(text, at, tools)
        except Refused:
            return calls, end
        calls.append(call)


def _listed(text: str, at: int, tools: Tools) -> tuple[list[Call], int]:
    calls = []
    while True:
        call, at = named_call_at(text, skip_space(text, at), tools, listed=True)
        calls.append(call)
        at = skip_space(text, at)
        at = skip_space(text, at + 1) if (comma := text.startswith(",", at)) else at
        if text.startswith("]", at):
            return calls, at + 1
        if not comma:
            raise Refused(f"] or a comma is missing at character {at + 1}")


def named_call_at(text: str, at: int, tools: Tools, listed: bool = False) -> tuple[Call, int]:
    """One call of those forms. One without arguments, outside a list, has to be of a tool that is offered."""
    name, at = _name_at(text, at, tools)
    if text.startswith("{", at):
        arguments, end = parse_at(text, at)
    else:
        arguments, end = arguments_at(text, at + 1)
        check(arguments)
    if not arguments and not listed and name not in tools.names:
        raise Refused("no call of a tool that is offered")
    return Call(name, arguments), end


def _name_at(text: str, at: int, tools: Tools) -> tuple[str, int]:
    """A tool's name, and where the bracket after it stands: right after it, if no such tool is offered."""
    for name in tools.names:
        if text.startswith(name, at) and (bracket := _TO_ARGUMENTS.match(text, at + len(name))):
            return name, bracket.end()
    other = _NAME.match(text, at)
    bracket = _TO_ARGUMENTS.match(text, other.end()) if other else None
    if other and bracket and not text[other.end()].isspace():
        return other[0], bracket.end()
    raise Refused(f"no call at character {at + 1}")
