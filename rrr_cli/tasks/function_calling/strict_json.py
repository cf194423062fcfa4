"""JSON as a model may write it, read strictly, and the comparison of what was read.

Refused, each with its reason: a key that occurs twice, NaN and Infinity, a number that overflows (1e999), half of a
surrogate pair, nesting deeper than 32, more than 64 KiB. Nothing is ever repaired, and nothing is evaluated.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_BYTES = 64 * 2**10
MAX_DEPTH = 32

_SPACE = re.compile(r"[ \t\r\n]*")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Refused(Exception):
    """The text isn't JSON of this kind; the message says why and never quotes the text."""


class TooDeep(Refused):
    """It is nested deeper than `MAX_DEPTH`."""

    def __init__(self) -> None:
        super().__init__(f"it is nested deeper than {MAX_DEPTH}")


def parse(text: str) -> Any:
    """The one JSON value that `text` is. Raises Refused."""
    if too_long(text):
        raise Refused(f"it is longer than {MAX_BYTES // 1024} KiB")
    value, end = parse_at(text, skip_space(text, 0))
    position = skip_space(text, end)
    if position < len(text):
        raise Refused(f"something follows the JSON at character {position + 1}")
    return value


def too_long(text: str) -> bool:
    """Whether it is longer than `MAX_BYTES`."""
    return len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES


def parse_at(text: str, position: int) -> tuple[Any, int]:
    """The JSON value that starts at `position`, and where it ends. Raises Refused."""
    try:
        value, end = _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        raise Refused(f"{error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise TooDeep from None
    except ValueError:
        raise Refused("it has a number with too many digits") from None
    check(value)
    return value, end


def check(value: Any, depth: int = 0) -> None:
    """Raises Refused where a parsed value is too deep or holds what strict JSON can't: NaN, half a surrogate pair."""
    if isinstance(value, str):
        if _LONE_SURROGATE.search(value):
            raise Refused("it has half of a surrogate pair")
    elif isinstance(value, float):
        finite(value)
    elif isinstance(value, (dict, list)):
        if depth == MAX_DEPTH:
            raise TooDeep
        for item in value.items() if isinstance(value, dict) else value:
            for part in item if isinstance(item, tuple) else (item,):
                check(part, depth + 1)


def same(left: Any, right: Any, schema: Any = None, fold: bool = False) -> bool:
    """Whether two JSON values are the same. Types count (true, 1 and "1" differ), list order does, key order doesn't.

    1 is 1.0 only where the JSON schema says number. `fold` compares strings as BFCL does.
    """
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(
            same(left[key], right[key], property_schema(schema, key), fold) for key in left
        )
    if isinstance(left, list) and isinstance(right, list):
        items = item_schema(schema)
        return len(left) == len(right) and all(same(a, b, items, fold) for a, b in zip(left, right, strict=True))
    if type(left) is not type(right):
        numbers = {type(left), type(right)} == {int, float}
        return bool(numbers and says(schema, "number") and left == right)
    if fold and isinstance(left, str):
        return folded(left) == folded(right)
    return bool(left == right)


def folded(text: str) -> str:
    """A string as BFCL compares it: lower case, without spaces and ,./-_*^ and with one kind of quote."""
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')


def says(schema: Any, kind: str) -> bool:
    """Whether a JSON schema names this type, alone or among others."""
    kinds = schema.get("type") if isinstance(schema, dict) else None
    return kind in kinds if isinstance(kinds, list) else kinds == kind


def property_schema(schema: Any, key: str) -> Any:
    """The schema of an object's property, or None."""
    if not isinstance(schema, dict):
        return None
    properties = schema.get("properties")
    return properties.get(key) if isinstance(properties, dict) and key in properties else schema.get(
        "additionalProperties")


def item_schema(schema: Any) -> Any:
    """The schema of an array's items, or None."""
    return schema.get("items") if isinstance(schema, dict) else None


def skip_space(text: str, position: int) -> int:
    """Where the white space at `position` ends."""
    match = _SPACE.match(text, position)
    assert match is not None  # the pattern matches the empty string
    return match.end()


def finite(number: float) -> float:
    """The number. Raises Refused: it is infinite or not a number."""
    if not math.isfinite(number):
        raise Refused("it has a number that isn't finite")
    return number


def _constant(name: str) -> Any:
    raise Refused(f"{name} isn't JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise Refused("a key occurs twice in one object")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=lambda text: finite(float(text)), parse_constant=_constant
)
