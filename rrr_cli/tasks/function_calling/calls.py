"""A tool call, the tools that it may name, and a call as JSON: read from a parsed value, written as an answer.

Refused, never repaired: a call with other keys than a name and its arguments (but for an `id` and `"type": "function"`,
which models echo), arguments that aren't an object. Reads and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rrr_cli.tasks.function_calling import strict_json
from rrr_cli.tasks.function_calling.strict_json import Refused
from rrr_cli.tool_names import server_names


@dataclass(frozen=True)
class Call:
    """A tool's name and its arguments as parsed JSON."""

    name: str
    arguments: dict[str, Any]


class Tools(NamedTuple):
    """The tools that are offered."""

    schemas: Mapping[str, Any] = {}  # name -> JSON schema of its parameters
    renamed: Mapping[str, str] = {}  # a name as a server gets it -> the tool's own
    names: tuple[str, ...] = ()  # both, the longest first

    @classmethod
    def of(cls, schemas: Mapping[str, Any]) -> Tools:
        """The tools with these schemas."""
        renamed = {short: name for name, short in server_names(schemas).items() if short != name}
        return cls(schemas, renamed, tuple(sorted((*schemas, *renamed), key=len, reverse=True)))

    def schema(self, name: str) -> Any:
        """The schema of a tool's parameters, or None."""
        return self.schemas.get(self.renamed.get(name, name))

    def own_name(self, call: Call) -> Call:
        """The call under the name that the tool has in the problem."""
        return Call(self.renamed.get(call.name, call.name), call.arguments)


def as_call(value: Any) -> Call:
    """The call that a JSON value is, in the form of any family. Raises Refused."""
    if not isinstance(value, dict):
        raise Refused("a call isn't an object")
    keys = set(value) - {"id"} - ({"type"} if value.get("type") == "function" else set())
    if keys == {"function"} and isinstance(value["function"], dict) and "function" not in value["function"]:
        return as_call(with_parsed_arguments(value["function"]))  # OpenAI's form, where arguments are text
    if keys not in ({"name", "arguments"}, {"name", "parameters"}):
        raise Refused('a call doesn\'t have "name" and "arguments" as its keys')
    arguments = value["arguments" if "arguments" in keys else "parameters"]
    if not isinstance(value["name"], str) or not isinstance(arguments, dict):
        raise Refused("a call's name isn't a string or its arguments aren't an object")
    return Call(value["name"], arguments)


def with_parsed_arguments(value: dict[str, Any]) -> dict[str, Any]:
    """A call whose arguments, if they are JSON as text, are that JSON; none, if it is empty. Raises Refused."""
    text = value.get("arguments")
    return {**value, "arguments": strict_json.parse(text.strip() or "{}")} if isinstance(text, str) else value


def write_calls(calls: Sequence[Call]) -> str:
    """The calls as an answer: JSON, each in its <tool_call> tag, one a line."""
    return "\n".join(f'<tool_call>{{"name": {_json(call.name)}, "arguments": {_json(call.arguments)}}}</tool_call>'
                     for call in calls)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
