"""What a function-calling problem is: its row, its gold, and the words that a model is shown.

Reads and writes nothing. The prompt is the user's request as it stands, so there is no wording of our own for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.function_calling.calls import Call
from rrr_cli.tasks.function_calling.match import Expected, exactly, first_accepted

NAME = "function_calling"
TEST_SHARE = 0.2  # RRR: 48,000 for training and 12,000 for test

WORDS: Mapping[str, str] = {
    # RRR, section 4.1, as we recall it: not checked word for word.
    "reflect": (
        "You tried performing the task, but failed in generating the correct tool call. Reflect on what went wrong and "
        "write a short explanation that will help you do better next time."
    ),
    # Ours.
    "retry": "Please try to perform the task again, with the correct tool calls.",
}


def gold(problem: Problem) -> tuple[str, list[Expected], dict[str, Any]]:
    """The rule, the expected calls, and tool name -> JSON schema of its parameters."""
    metadata = json.loads(problem.metadata)
    if metadata["match"] == "bfcl":
        expected = [Expected(name, accepted) for name, accepted in metadata["accepted"]]
    else:
        expected = [exactly(Call(**call)) for call in json.loads(problem.reference)]
    return metadata["match"], expected, parameters_of(json.loads(problem.tools or "[]"))


def parameters_of(tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Tool name -> JSON schema of its parameters."""
    return {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}


def make_problem(
    prompt: Sequence[Message], tools: Sequence[dict[str, Any]], expected: Sequence[Call] | Sequence[Expected],
    split: str, source: str,
) -> Problem:
    """The row of one problem. `expected` is calls, matched exactly, or `Expected`s, matched as BFCL does."""
    parameters = parameters_of(tools)
    accepted = [one for one in expected if isinstance(one, Expected)]
    calls = [one if isinstance(one, Call) else first_accepted(one, parameters.get(one.name)) for one in expected]
    reference = [{"name": call.name, "arguments": call.arguments} for call in calls]
    metadata: dict[str, Any] = {"match": "exact" if calls else "none"}
    if accepted:
        metadata = {"match": "bfcl", "accepted": [[one.name, one.accepted] for one in accepted]}
    return Problem(
        problem_id=content_id("function_calling", [[m.role, m.content] for m in prompt], tools, reference, metadata),
        task=NAME,
        split=split,
        difficulty=f"{source}-{metadata['match']}-{len(calls)}",
        prompt=list(prompt),
        tools=json.dumps(tools, ensure_ascii=False),
        reference=json.dumps(reference, ensure_ascii=False),
        metadata=json.dumps(metadata, ensure_ascii=False),
    )
