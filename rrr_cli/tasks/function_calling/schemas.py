"""Tool descriptions of xLAM and BFCL as the JSON schemas that chat templates take (OpenAI's form).

xLAM gives parameters as a flat object with Python's types (`{"n": {"type": "List[int], optional", …}}`), BFCL as a JSON
schema with types of its own ("dict", "float"). A type that JSON schema has no word for is left out.
"""

from __future__ import annotations

import re
from typing import Any

from rrr_cli.tasks.function_calling.literals import typed

_TYPES = {
    "str": "string", "string": "string", "int": "integer", "integer": "integer", "long": "integer", "float": "number",
    "double": "number", "number": "number", "bool": "boolean", "boolean": "boolean", "list": "array", "array": "array",
    "tuple": "array", "set": "array", "sequence": "array", "iterable": "array", "dict": "object", "object": "object",
    "mapping": "object", "hashmap": "object", "arraylist": "array", "none": "null", "null": "null", "char": "string",
    "short": "integer", "byte": "integer", "bigint": "integer",
}
_GENERIC = re.compile(r"(\w+)\s*\[(.*)\]", re.DOTALL)


def tool_schema(tool: Any) -> dict[str, Any]:
    """One tool in the form `{"type": "function", "function": {"name", "description", "parameters"}}`.

    Takes that form as well. Raises ValueError with what is wrong.
    """
    if isinstance(tool, dict) and isinstance(tool.get("function"), dict):
        tool = tool["function"]
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str) or not tool["name"]:
        raise ValueError("a tool has no name")
    parameters = tool.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise ValueError(f"tool {tool['name']!a}: its parameters aren't an object")
    is_schema = isinstance(parameters.get("properties"), dict) and isinstance(parameters.get("type"), str)
    schema = _json_schema(parameters) if is_schema else _flat_schema(parameters)
    description = tool.get("description")
    described = {"name": tool["name"], "description": description if isinstance(description, str) else ""}
    return {"type": "function", "function": {**described, "parameters": schema}}


def type_schema(text: str) -> dict[str, Any]:
    """The schema of a type as Python writes it, such as `List[float]` or `Union[int, str]`; {} where there is none."""
    text = text.strip()
    generic = _GENERIC.fullmatch(text)
    if generic is None:
        kind = _TYPES.get(text.lower())
        return {"type": kind} if kind else {}
    outer, inner = generic.group(1).lower(), [type_schema(part) for part in _split(generic.group(2))]
    if outer == "optional":
        return inner[0] if inner else {}
    if outer == "union":
        kinds = list(dict.fromkeys(schema.get("type") for schema in inner))
        if None in kinds or any(isinstance(kind, list) for kind in kinds):
            return {}
        kinds = [kind for kind in kinds if kind != "integer" or "number" not in kinds]  # a number may be whole
        return {"type": kinds[0] if len(kinds) == 1 else kinds}
    kind = _TYPES.get(outer)
    if kind == "array":
        alike = inner and all(schema == inner[0] for schema in inner)
        return {"type": "array", **({"items": inner[0]} if alike else {})}
    if kind == "object":
        return {"type": "object", **({"additionalProperties": inner[1]} if len(inner) == 2 else {})}
    return {"type": kind} if kind else {}


def _split(text: str) -> list[str]:
    """The parts between the commas that stand in no bracket."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]


def _flat_schema(parameters: dict[str, Any]) -> dict[str, Any]:
    """xLAM's form. An argument with a default, or whose type says optional, isn't required; a default of "" is none."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, given in parameters.items():
        if not isinstance(given, dict):
            raise ValueError(f"parameter {name!a} isn't an object")
        kind = given.get("type")
        kinds = kind if isinstance(kind, list) else [kind]
        head = [re.split(r",\s*(?:optional|default)", k)[0] if isinstance(k, str) else "" for k in kinds]
        schema = type_schema(f"Union[{', '.join(head)}]" if len(head) > 1 else head[0])
        if isinstance(given.get("description"), str):
            schema = {**schema, "description": given["description"]}
        if given.get("default", "") != "":
            default = given["default"]  # at times as text, of whatever type
            schema = {**schema, "default": typed(default, schema) if isinstance(default, str) and schema else default}
        properties[name] = schema
        optional = any(isinstance(k, str) and re.search(r"\boptional\b|^Optional\[", k) for k in kinds)
        if not optional and "null" not in kinds and "default" not in schema:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required}


def _json_schema(given: Any) -> Any:
    """BFCL's form with JSON schema's type names, at any depth. Raises ValueError where it isn't an object."""
    if not isinstance(given, dict):
        raise ValueError("a parameter's schema isn't an object")
    schema = {key: value for key, value in given.items() if key not in ("type", "optional")}
    kind = given.get("type")
    known = [_TYPES[k.lower()] for k in (kind if isinstance(kind, list) else [kind])
             if isinstance(k, str) and k.lower() in _TYPES]
    if known:
        schema = {"type": known if isinstance(kind, list) else known[0], **schema}
    if "items" in given:
        schema["items"] = _json_schema(given["items"])
    if "properties" in given:
        if not isinstance(given["properties"], dict):
            raise ValueError("its properties aren't an object")
        schema["properties"] = {name: _json_schema(value) for name, value in given["properties"].items()}
    return schema
