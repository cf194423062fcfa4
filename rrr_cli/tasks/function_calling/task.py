"""Function calling: answer a request with the right calls of the tools that are offered (RRR, section 4.1).

Problems come from a generator (`synthetic_tools.py`; levels easy and hard, made for demonstrations) or from `data`, a
local file of xLAM's or BFCL's columns or the hub's data set (`function_calling_data.py`). The tools reach the model
through its own chat template; `tool_calls.py` reads its answer.

Which rule judges hangs on the gold: xLAM's is one answer and is matched exactly, as in the paper; BFCL's is lists of
accepted values and is matched as BFCL does, for nothing else can be done with it. So there is no option to set: each
problem's `difficulty` (such as data-bfcl-2: the source, the rule, the number of calls) and `metadata` name its rule.
A problem that wants no call (BFCL's irrelevance; rule none) passes with an answer in plain words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from rrr_cli import prompts
from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.function_calling.match import (
    Wanted,
    differences,
    first_accepted,
    judge_calls,
    verdict,
    wanted_exactly,
)
from rrr_cli.tasks.function_calling.parse import Call, calls_within, read_calls, write_calls
from rrr_cli.tasks.function_calling.strict_json import Refused
from rrr_cli.tasks.rows import check_source, check_split, chosen_level

TEST_SHARE = 0.2  # RRR: 48,000 for training and 12,000 for test


class FunctionCalling:
    """The task; `levels` are of the generator, so `level` and `data` exclude each other.

    Raises RrrError: unknown level, or both given (exit 2); data that can't be read (exit 3), the hub's data set without
    the `datasets` package (exit 4).
    """

    name = "function_calling"
    levels = ("easy", "hard")
    error_types = (
        "no_call", "format", "wrong_tool", "missing_argument", "unknown_argument", "wrong_value", "wrong_count",
        "extra_call",
    )
    words: Mapping[str, str] = {"reflect": prompts.FUNCTION_CALLING_REFLECT, "retry": prompts.FUNCTION_CALLING_RETRY}

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        from rrr_cli.tasks.function_calling.data import HUB_NAME

        self.level = chosen_level(self.name, self.levels, level, data, partial(check_source, hub_name=HUB_NAME))
        self.data = data

    def problems(self, split: str) -> Iterator[Problem]:
        """Problems of `split`, "train" or "test"; the generator gives 4,000 and 1,000 at each level."""
        check_split(self.name, split)
        if self.data is not None:
            from rrr_cli.tasks.function_calling.data import data_problems

            return data_problems(self.data, split)
        from rrr_cli.tasks.function_calling.generate import synthetic_problems

        return synthetic_problems(self.level, split)

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Judge the last assistant turn. Total and pure."""
        text = next((m.content for m in reversed(transcript) if m.role == "assistant"), "")
        match, wanted, parameters = gold(problem)
        try:
            calls = read_calls(text)
        except Refused as refused:
            return verdict(("format", f"The tool calls can't be read: {refused}."), None)
        if not wanted and not text.strip():
            return verdict(("format", "The answer is empty."), None)
        answer = json.dumps([{"name": call.name, "arguments": call.arguments} for call in calls])
        return verdict(judge_calls(calls, wanted, parameters, match), answer)

    def right_turns(self, problem: Problem) -> list[str]:
        """The reference's calls in <tool_call> tags, or plain words where no call is wanted."""
        calls = [Call(**call) for call in json.loads(problem.reference)]
        return [write_calls(calls) or "None of the tools can do that."]

    def leaks(self, problem: Problem, text: str) -> bool:
        """Whether each wanted call stands in `text` as JSON, in any form and whatever stands around it."""
        match, wanted, parameters = gold(problem)
        found = list(calls_within(text)) if wanted else []
        return bool(wanted) and all(
            any(not differences(call, one, parameters.get(one.name), match) for call in found) for one in wanted
        )


def gold(problem: Problem) -> tuple[str, list[Wanted], dict[str, Any]]:
    """The rule, the wanted calls, and tool name -> JSON schema of its parameters."""
    metadata = json.loads(problem.metadata)
    if metadata["match"] == "bfcl":
        wanted = [Wanted(name, accepted) for name, accepted in metadata["accepted"]]
    else:
        wanted = [wanted_exactly(Call(**call)) for call in json.loads(problem.reference)]
    return metadata["match"], wanted, parameters_of(json.loads(problem.tools or "[]"))


def parameters_of(tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Tool name -> JSON schema of its parameters."""
    return {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}


def make_problem(
    prompt: Sequence[Message], tools: Sequence[dict[str, Any]], wanted: Sequence[Call] | Sequence[Wanted], split: str,
    source: str,
) -> Problem:
    """The row of one problem. `wanted` is calls, matched exactly, or `Wanted`s, matched as BFCL does."""
    parameters = parameters_of(tools)
    accepted = [one for one in wanted if isinstance(one, Wanted)]
    calls = [one if isinstance(one, Call) else first_accepted(one, parameters.get(one.name)) for one in wanted]
    reference = [{"name": call.name, "arguments": call.arguments} for call in calls]
    metadata: dict[str, Any] = {"match": "exact" if calls else "none"}
    if accepted:
        metadata = {"match": "bfcl", "accepted": [[one.name, one.accepted] for one in accepted]}
    return Problem(
        problem_id=content_id("function_calling", [[m.role, m.content] for m in prompt], tools, reference, metadata),
        task=FunctionCalling.name,
        split=split,
        difficulty=f"{source}-{metadata['match']}-{len(calls)}",
        prompt=list(prompt),
        tools=json.dumps(tools),
        reference=json.dumps(reference),
        metadata=json.dumps(metadata),
    )
