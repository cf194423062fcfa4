"""Tool names for servers: OpenAI's API takes letters, digits, _ and -, at most 64 of them; data sets hold any text.

Each name that doesn't fit gets one of its own that does, and what a server answers gets the tools' own names back. The
same set of names gives the same renaming, in whatever order they come. Pure; reads and writes nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

LONGEST = 64
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
_NAME = re.compile(r'("name"\s*:\s*)"([A-Za-z0-9_-]{1,64})"')


def server_names(names: Iterable[str]) -> dict[str, str]:
    """Tool name -> its name on a server. One that fits stays; else _ stands for what doesn't fit, and a hash is added
    where that is longer than `LONGEST`, empty, or the same for two tools.
    """
    plain = {name: _UNFIT.sub("_", name) for name in sorted(set(names))}
    shared = Counter(plain.values())
    given = {name: name for name, short in plain.items() if name == short and 0 < len(name) <= LONGEST}
    taken = set(plain.values())
    for name, short in plain.items():
        if name not in given:
            alone = shared[short] == 1 and 0 < len(short) <= LONGEST
            given[name] = short if alone else next(s for s in _hashed(name, short) if s not in taken)
            taken.add(given[name])
    return given


def for_server(tools: str) -> list[Any]:
    """The tools of a prompt, a JSON list of schemas in OpenAI's form, with names that servers take."""
    schemas: list[Any] = json.loads(tools)
    names = server_names(filter(None, map(_name, schemas)))
    return [
        {**schema, "function": {**schema["function"], "name": names[name]}} if (name := _name(schema)) else schema
        for schema in schemas
    ]


def from_server(text: str, tools: str) -> str:
    """What a model wrote on a server, with the tools' own names in its calls."""
    names = server_names(filter(None, map(_name, json.loads(tools))))
    own = {short: json.dumps(name, ensure_ascii=False) for name, short in names.items() if short != name}
    return _NAME.sub(lambda m: m[1] + own[m[2]] if m[2] in own else m[0], text)


def _name(schema: Any) -> str | None:
    """A tool's name; None where the schema is of another form, and goes as it is."""
    function = schema.get("function") if isinstance(schema, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def _hashed(name: str, short: str) -> Iterator[str]:
    for salt in count():
        digest = hashlib.sha256(f"{salt}{name}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
        yield f"{short[:LONGEST - 9] or 'tool'}_{digest}"
