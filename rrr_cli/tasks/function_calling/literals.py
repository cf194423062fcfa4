"""Python's literals as a model may write them in a call, and values without quotes; nothing is ever evaluated.

Read: strings, numbers, True, False, None, lists, tuples (as lists) and dicts with strings as keys. Refused, each with
its reason: any other expression, a key that occurs twice, nesting deeper than `strict_json.MAX_DEPTH`.
"""

from __future__ import annotations

import re
from typing import Any

from rrr_cli.tasks.function_calling.strict_json import MAX_DEPTH, Refused, TooDeep, finite, parse, says, skip_space

_STRING = re.compile(
    r"""([rRuU]?)('''(?:[^\\]|\\.)*?'''|"{3}(?:[^\\]|\\.)*?"{3}|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")""", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9](?:_?[0-9])*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.])")
_CONSTANT = re.compile(r"(True|False|None)\b")
_CONSTANTS = {"True": True, "False": False, "None": None}
_KEY = re.compile(r"(\w[\w.-]*)\s*=(?!=)")
_ESCAPE = re.compile(
    r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\n": "", "\\": "\\", "'": "'",
    '"': '"',
}
_KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def arguments_at(text: str, at: int) -> tuple[dict[str, Any], int]:
    """The keyword arguments of a call, and where it ends; `at` stands after its opening bracket. Raises Refused."""
    arguments: dict[str, Any] = {}
    at = skip_space(text, at)
    while not text.startswith(")", at):
        key = _KEY.match(text, at)
        if key is None:
            raise Refused(f"an argument without a name at character {at + 1}")
        if key[1] in arguments:
            raise Refused("an argument occurs twice in one call")
        arguments[key[1]], at = value_at(text, key.end())
        at = _after_item(text, at, ")")
    return arguments, at + 1


def value_at(text: str, at: int, depth: int = 0) -> tuple[Any, int]:
    """The literal that starts at `at` or after white space, and where it ends. Raises Refused."""
    at = skip_space(text, at)
    if string := _STRING.match(text, at):
        return _string(string), string.end()
    if number := _NUMBER.match(text, at):
        return _number(number[0]), number.end()
    if constant := _CONSTANT.match(text, at):
        return _CONSTANTS[constant[0]], constant.end()
    bracket = text[at : at + 1]
    if bracket and bracket in "[({":
        if depth == MAX_DEPTH:
            raise TooDeep
        return _dict(text, at + 1, depth + 1) if bracket == "{" else _list(text, at, depth + 1)
    raise Refused(f"a value that isn't a literal at character {at + 1}")


def typed(text: str, schema: Any) -> Any:
    """A value that is written without quotes, by its schema: text where that says string, else JSON or Python."""
    if says(schema, "string") and not isinstance(schema["type"], list):
        return text
    for read in (parse, _literal):
        try:
            value = read(text)
        except Refused:
            continue
        kinds = [kind for kind in ("array", "boolean", "integer", "null", "number", "object") if says(schema, kind)]
        fits = _KINDS.get(type(value), "null") in kinds or (type(value) is int and "number" in kinds)
        return value if fits or not says(schema, "string") else text
    return {"true": True, "false": False}.get(text.strip().lower(), text) if says(schema, "boolean") else text


def _literal(text: str) -> Any:
    value, end = value_at(text, 0)
    if skip_space(text, end) != len(text):
        raise Refused("something follows the value")
    return value


def _list(text: str, at: int, depth: int) -> tuple[Any, int]:
    """A list or tuple; a value in round brackets without a comma is that value."""
    closing = "]" if text[at] == "[" else ")"
    items: list[Any] = []
    at = skip_space(text, at + 1)
    comma = closing == "]"
    while not text.startswith(closing, at):
        item, end = value_at(text, at, depth)
        items.append(item)
        at = _after_item(text, end, closing)
        comma = comma or "," in text[end:at]
    return (items if comma or not items else items[0]), at + 1


def _dict(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    value: dict[str, Any] = {}
    at = skip_space(text, at)
    while not text.startswith("}", at):
        key, at = value_at(text, at, depth)
        if not isinstance(key, str):
            raise Refused("a key that isn't a string")
        if key in value:
            raise Refused("a key occurs twice in one object")
        at = skip_space(text, at)
        if not text.startswith(":", at):
            raise Refused(f"a key without a value at character {at + 1}")
        value[key], at = value_at(text, at + 1, depth)
        at = _after_item(text, at, "}")
    return value, at + 1


def _after_item(text: str, at: int, closing: str) -> int:
    """Where the next item or the closing bracket stands."""
    at = skip_space(text, at)
    if text.startswith(",", at):
        return skip_space(text, at + 1)
    if text.startswith(closing, at):
        return at
    raise Refused(f"{closing} or a comma is missing at character {at + 1}")


def _string(match: re.Match[str]) -> str:
    quotes = 3 if match[2].startswith(("'''", '"""')) else 1
    text = match[2][quotes:-quotes]
    return text if match[1] in ("r", "R") else _ESCAPE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = match[1]
    if code in _ESCAPES:
        return _ESCAPES[code]
    if code[0] in "01234567":
        return chr(int(code, 8))
    return chr(int(code[1:], 16)) if len(code) > 1 else match[0]  # Python keeps an unknown escape as it is


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        if not re.search(r"[.eE]", text):
            raise Refused("it has a number with too many digits") from None
    return finite(float(text))
