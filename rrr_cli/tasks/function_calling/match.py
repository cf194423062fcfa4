"""Do a model's tool calls match the wanted ones? By one of two rules, which the form of the gold decides.

- `exact`, RRR's: tool, arguments and values are all the same (`strict_json.same`), nothing added, nothing left out.
- `bfcl`, BFCL's: each argument has a list of accepted values, "" in it means that it may be left out, and strings are
  folded. Inside an accepted object each key has such a list as well.

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
from rrr_cli.tasks.function_calling.parse import Call
from rrr_cli.tasks.function_calling.strict_json import item_schema, property_schema, same, says

_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_. \-]{0,63}")


@dataclass(frozen=True)
class Wanted:
    """A call that is wanted: its tool, and for each argument the values that are accepted."""

    name: str
    accepted: dict[str, list[Any]]


def wanted_exactly(call: Call) -> Wanted:
    """The call and nothing else."""
    return Wanted(call.name, {name: [value] for name, value in call.arguments.items()})


def judge_calls(
    calls: Sequence[Call], wanted: Sequence[Wanted], parameters: dict[str, Any], match: str
) -> tuple[str, str] | None:
    """None where the calls are right, else (error type, one sentence that never holds a wanted value).

    `parameters` is tool name -> JSON schema of its parameters, of the tools that were offered.
    """
    if not wanted:
        return ("extra_call", "No tool was to be called, and one was.") if calls else None
    if not calls:
        return "no_call", "No tool call was found."
    for call in calls:
        if call.name not in parameters:
            return "wrong_tool", f"A tool{_quoted(call.name)} isn't among the tools that were offered."
    if len(calls) != len(wanted):
        if len(calls) > len(wanted):
            return "extra_call", "There are more calls than the request asks for."
        return "wrong_count", "There are fewer calls than the request asks for."
    extra = Counter(call.name for call in calls) - Counter(call.name for call in wanted)
    if extra:
        return "wrong_tool", f"The tool{_quoted(next(iter(extra)))} isn't the right one here."
    wrong = [[differences(c, w, parameters.get(c.name), match) for w in wanted] for c in calls]
    unpaired = _unpaired(wrong)
    if unpaired is None:
        return None
    error_type, argument = min((found for found in wrong[unpaired] if found), key=_cost)[0]
    return error_type, _sentence(error_type, calls[unpaired].name, argument)


def differences(call: Call, wanted: Wanted, schema: Any, match: str) -> list[tuple[str, str]]:
    """What is wrong with `call` as an answer to `wanted`: (error type, argument) pairs, none where it is right."""
    if call.name != wanted.name:
        return [("wrong_tool", "")]
    found = [("unknown_argument", name) for name in call.arguments if name not in wanted.accepted]
    required = schema.get("required") if isinstance(schema, dict) else None
    for name, values in wanted.accepted.items():
        own = property_schema(schema, name)
        if name in call.arguments:
            if not accepts(call.arguments[name], values, own, match):
                found.append(("wrong_value", name))
        elif match == "exact" or "" not in values or (isinstance(required, list) and name in required):
            found.append(("missing_argument", name))
    return found


def accepts(value: Any, accepted: Sequence[Any], schema: Any, match: str) -> bool:
    """Whether `value` is one of the accepted values."""
    if match == "exact":
        return any(same(value, one, schema) for one in accepted)
    return any(_fits(value, one, schema) for one in accepted if one != "" or says(schema, "string"))


def _fits(value: Any, one: Any, schema: Any) -> bool:
    """BFCL's rule: an accepted object has a list of accepted values for each key, also as an item of a list."""
    if isinstance(one, dict):
        return isinstance(value, dict) and value.keys() <= one.keys() and all(
            accepts(value[key], _listed(values), property_schema(schema, key), "bfcl") if key in value
            else "" in _listed(values)
            for key, values in one.items()
        )
    if isinstance(one, list) and any(isinstance(item, dict) for item in one):
        items = item_schema(schema)
        return isinstance(value, list) and len(value) == len(one) and all(
            _fits(a, b, items) for a, b in zip(value, one, strict=True)
        )
    return same(value, one, schema, fold=True)


def first_accepted(wanted: Wanted, schema: Any) -> Call:
    """One right call: the first accepted value of each argument, and none where it may be left out."""
    required = schema.get("required") if isinstance(schema, dict) else None
    kept = {
        name: values for name, values in wanted.accepted.items()
        if "" not in values or (isinstance(required, list) and name in required)
    }
    return Call(wanted.name, {name: _first(values) for name, values in kept.items()})


def verdict(found: tuple[str, str] | None, answer: str | None) -> Verdict:
    """The verdict that goes with what `judge_calls` found."""
    if found is None:
        return Verdict(True, 1.0, None, "The tool calls are right.", answer)
    return Verdict(False, 0.0, found[0], found[1], answer)


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]


def _first(values: Sequence[Any]) -> Any:
    value = next((one for one in values if one != ""), "")
    return _plain(value)


def _plain(value: Any) -> Any:
    """An accepted value without the lists of alternatives inside it."""
    if isinstance(value, dict):
        return {key: _first(_listed(values)) for key, values in value.items() if "" not in _listed(values)}
    return [_plain(item) if isinstance(item, dict) else item for item in value] if isinstance(value, list) else value


def _unpaired(wrong: Sequence[Sequence[list[tuple[str, str]]]]) -> int | None:
    """The first call that finds no partner of its own, or None: a bipartite matching by augmenting paths.

    `wrong` is (calls, wanted); a pair fits where it is empty.
    """
    partner: dict[int, int] = {}  # wanted -> call
    for call in range(len(wrong)):
        reached: dict[int, int] = {}  # wanted -> the call that it was reached from
        front, end = [call], None
        while front and end is None:
            here = front.pop()
            for other, found in enumerate(wrong[here]):
                if not found and other not in reached:
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


def _cost(found: list[tuple[str, str]]) -> tuple[bool, int]:
    return found[0][0] == "wrong_tool", len(found)


def _quoted(name: str) -> str:
    """A name that the model wrote, where it is one; anything else stays out of the feedback."""
    return f" '{name}'" if _NAME.fullmatch(name) else ""


def _sentence(error_type: str, tool: str, argument: str) -> str:
    call = f"The call of{_quoted(tool)}" if _quoted(tool) else "A call"
    if error_type == "missing_argument":  # the model didn't write its name, so it isn't told
        return f"{call} lacks an argument."
    if error_type == "unknown_argument":
        return f"{call} has an argument{_quoted(argument)} that it shouldn't have."
    return f"{call} has a wrong value for its argument{_quoted(argument)}."
