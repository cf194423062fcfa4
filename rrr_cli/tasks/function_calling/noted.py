"""Calls that a text notes rather than makes: `timer ( minutes = 24 )`, `lamp ok ( room = hall ok , hour = 9 - 2 = 7 )`.

No verifier takes these for calls; who reads them has the answer all the same. A noted call is the name of an offered
tool, up to two words, and in round brackets each argument's name, `=` or `:`, and its value: without quotes, of a
calculation its result, without words such as ok and bad at its end. The items of a list may stand side by side. The
schema says of which type a value is. Reads and writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from rrr_cli.tasks.function_calling.calls import Call, Tools
from rrr_cli.tasks.function_calling.literals import typed
from rrr_cli.tasks.function_calling.strict_json import MAX_BYTES, item_schema, property_schema, says

MOST = 500  # of a text
ARGUMENT = re.compile(r"\s*[\"'`]?([\w.-]{1,64})[\"'`]?\s*[=:]\s*([^=]*(?:=[^=]*)*)")
BETWEEN = re.compile(r",(?![^\[\]]*\])")
MARKED = re.compile(r"(?:\s+(?:ok|okay|right|correct|bad|wrong|yes|no))+\s*\Z", re.IGNORECASE)


def noted_calls(text: str, tools: Tools) -> Iterator[Call]:
    """The noted calls in a text, under the tools' own names. Looks at its first 64 KiB."""
    if not tools.names:
        return
    names = "|".join(map(re.escape, tools.names))
    call = re.compile(rf"(?<![\w.])({names})(?:\s{{1,3}}\w{{1,12}}){{0,2}}\s{{0,3}}\(([^()]{{1,1000}})\)")
    for place in islice(call.finditer(text[:MAX_BYTES]), MOST):
        pairs = [ARGUMENT.fullmatch(part) for part in BETWEEN.split(place[2])]
        read = {pair[1]: pair[2] for pair in pairs if pair}
        if len(read) == len(pairs):
            schema = tools.schema(place[1])
            yield tools.own_name(Call(place[1], {
                name: _value(written, property_schema(schema, name)) for name, written in read.items()}))


def _value(written: str, schema: Any) -> Any:
    bare = MARKED.sub("", written.rpartition("=")[2]).strip().strip("\"'`")
    if says(schema, "array") and not bare.startswith("["):
        return [typed(item, item_schema(schema)) for item in bare.split()]
    return typed(bare, schema)
