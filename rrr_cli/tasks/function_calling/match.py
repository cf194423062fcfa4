"""Do a model's tool calls match the expected ones? By one of two rules; the form of the gold answer decides which.

- `exact`, RRR's: tool, arguments and values are all the same (`strict_json.same`), nothing added, nothing left out. To
  leave an argument out is to give its default, where the schema has one and doesn't require it.
- `bfcl`, BFCL's: each argument has a list of accepted values, "" in it means that it may be left out, and strings are
  folded. An empty list accepts an empty value, or none. Inside an accepted object each key has such a list as well.

Calls are a multiset: their order never counts, their number does. Unlike BFCL's own checker this one finds a pairing of
the calls where there is one (BFCL takes the first that fits), and 1.0 isn't 1 where the schema says integer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.function_calling.calls import Call
from rrr_cli.tasks.function_calling.strict_json import item_schema, property_schema, same, says

_NAME = re.compile(r"[\w.][\w. \-]{0,63}")


@dataclass(frozen=True)
class Expected:
    """A call that is right: its tool, and for each argument the values that are accepted."""

    name: str
    accepted: dict[str, list[Any]]


def exactly(call: Call) -> Expected:
    """The call and nothing else."""
    return Expected(call.name, {name: [value] for name, value in call.arguments.items()})


def judge_calls(
    calls: Sequence[Call], expected: Sequence[Expected], parameters: dict[str, Any], match: str
) -> tuple[str, str] | None:
    """None where the calls are right, else (error type, one sentence that never has an expected value in it).

    `parameters` is tool name -> JSON schema of its parameters, of the tools that were offered.
    """
    if not expected:
        return ("extra_call", "No tool was to be called, and one was.") if calls else None
    if not calls:
        return "no_call", "No tool call was found."
    for call in calls:
        if call.name not in parameters:
            return "wrong_tool", f"A tool{_quoted(call.name)} isn't among the tools that were offered."
    if len(calls) != len(expected):
        if len(calls) > len(expected):
            return "extra_call", "There are more calls than the request asks for."
        return "wrong_count", "There are fewer calls than the request asks for."
    extra = Counter(call.name for call in calls) - Counter(call.name for call in expected)
    if extra:
        return "wrong_tool", f"The tool{_quoted(next(iter(extra)))} isn't the right one here."
    wrong = [[differences(c, w, parameters.get(c.name), match) for w in expected] for c in calls]
    unpaired = _unpaired(wrong)
    if unpaired is None:
        return None
    error_type, argument = min((errors for errors in wrong[unpaired] if errors), key=_cost)[0]
    return error_type, _sentence(error_type, calls[unpaired].name, argument)


def differences(call: Call, expected: Expected, schema: Any, match: str) -> list[tuple[str, str]]:
    """What is wrong with `call` where `expected` is right: (error type, argument) pairs, none where nothing is."""
    if call.name != expected.name:
        return [("wrong_tool", "")]
    errors = [
        ("unknown_argument", name) for name, value in call.arguments.items() if name not in expected.accepted
        and not (match == "exact" and _is_default(value, property_schema(schema, name)))
    ]
    for name, values in expected.accepted.items():
        own = property_schema(schema, name)
        if name in call.arguments:
            if not accepts(call.arguments[name], values, own, match):
                errors.append(("wrong_value", name))
        elif _requires(schema, name) or not (_is_default(values[0], own) if match == "exact" else _optional(values)):
            errors.append(("missing_argument", name))
    return errors


def _requires(schema: Any, name: str) -> bool:
    required = schema.get("required") if isinstance(schema, dict) else None
    return isinstance(required, list) and name in required


def _optional(accepted: Sequence[Any]) -> bool:
    return not accepted or "" in accepted


def _is_default(value: Any, schema: Any) -> bool:
    """Whether it is the default that the schema gives."""
    return isinstance(schema, dict) and "default" in schema and same(value, schema["default"], schema)


def accepts(value: Any, accepted: Sequence[Any], schema: Any, match: str) -> bool:
    """Whether `value` is one of the accepted values."""
    if match == "exact":
        return any(same(value, one, schema) for one in accepted)
    if not accepted:
        return value in _empties(schema)
    return any(_fits(value, one, schema) for one in accepted if one != "" or says(schema, "string"))


def _fits(value: Any, one: Any, schema: Any) -> bool:
    """BFCL's rule: an accepted object has a list of accepted values for each key, also as an item of a list."""
    if isinstance(one, dict):
        return isinstance(value, dict) and value.keys() <= one.keys() and all(
            accepts(value[key], _listed(values), property_schema(schema, key), "bfcl") if key in value
            else _optional(_listed(values))
            for key, values in one.items()
        )
    if isinstance(one, list) and any(isinstance(item, dict) for item in one):
        items = item_schema(schema)
        return isinstance(value, list) and len(value) == len(one) and all(
            _fits(a, b, items) for a, b in zip(value, one, strict=True)
        )
    return same(value, one, schema, fold=True)


def first_accepted(expected: Expected, schema: Any) -> Call:
    """One right call: the first accepted value of each argument, and none where it may be left out."""
    kept = {
        name: values or _empties(property_schema(schema, name)) or [""] for name, values in expected.accepted.items()
        if not _optional(values) or _requires(schema, name)
    }
    return Call(expected.name, {name: _first(values) for name, values in kept.items()})


def _empties(schema: Any) -> list[Any]:
    """The empty values of a type; of any type where the schema names none."""
    kinds: dict[str, Any] = {"array": [], "object": {}, "string": ""}
    typed = isinstance(schema, dict) and "type" in schema
    return [value for kind, value in kinds.items() if not typed or says(schema, kind)]


def verdict(error: tuple[str, str] | None, answer: str | None) -> Verdict:
    """The verdict for the error that `judge_calls` returned; None: a pass."""
    if error is None:
        return Verdict(True, 1.0, None, "The tool calls are right.", answer)
    return Verdict(False, 0.0, error[0], error[1], answer)


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]


def _first(values: Sequence[Any]) -> Any:
    value = next((one for one in values if one != ""), "")
    return _plain(value)


def _plain(value: Any) -> Any:
    """An accepted value without the lists of alternatives inside it."""
    if isinstance(value, dict):
        return {key: _first(_listed(values)) for key, values in value.items() if not _optional(_listed(values))}
    return [_plain(item) if isinstance(item, dict) else item for item in value] if isinstance(value, list) else value


def _unpaired(wrong: Sequence[Sequence[list[tuple[str, str]]]]) -> int | None:
    """The first call that finds no partner of its own, or None: a bipartite matching by augmenting paths.

    `wrong` is (calls, expected); a pair fits where it is empty.
    """
    partner: dict[int, int] = {}  # expected -> call
    for call in range(len(wrong)):
        reached: dict[int, int] = {}  # expected -> the call that it was reached from
        front, end = [call], None
        while front and end is None:
            here = front.pop()
            for other, errors in enumerate(wrong[here]):
                if not errors and other not in reached:
                    reached[other] = here
                    if other not in partner:
                        end = other
                        break
                    front.append(partner[other])
        if end is None:
            return call
        while end is not None:
            here = reached[end]
            before = next((w for w, c in partner.items() if c == here), None)
            partner[end] = here
            end = before
    return None


def _cost(errors: list[tuple[str, str]]) -> tuple[bool, int]:
    return errors[0][0] == "wrong_tool", len(errors)


def _quoted(name: str) -> str:
    """A name that the model wrote, where it is one; anything else stays out of the feedback."""
    return f" '{name}'" if _NAME.fullmatch(name) else ""


def _sentence(error_type: str, tool: str, argument: str) -> str:
    call = f"The call of{_quoted(tool)}" if _quoted(tool) else "A call"
    if error_type == "missing_argument":  # the model didn't write its name, so feedback doesn't either
        return f"{call} lacks an argument."
    if error_type == "unknown_argument":
        return f"{call} has an argument{_quoted(argument)} that it shouldn't have."
    return f"{call} has a wrong value for its argument{_quoted(argument)}."
