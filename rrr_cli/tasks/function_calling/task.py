"""Function calling: answer a request with the right calls of the tools that are offered (RRR, section 4.1).

Problems come from a generator (`generate.py`; levels easy and hard, for demonstrations) or from `data`, a local file of
xLAM's or BFCL's columns or the hub's data set (`data.py`). The tools reach the model through its own chat template;
`parse.py` reads its answer.

The form of the gold answer decides which rule judges: xLAM's is one answer and is matched exactly, as in the paper;
BFCL's is lists of accepted values and is matched as BFCL does, since nothing else can be done with it. So there is no
option to set: each problem's `difficulty` (such as data-bfcl-2: the source, the rule, the number of calls) and
`metadata` name its rule. A problem for which no call is right (BFCL's irrelevance; rule none) passes with an answer in
plain words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from rrr_cli.engines.fingerprints import content_of
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.function_calling.calls import Call, Tools, write_calls
from rrr_cli.tasks.function_calling.data import answers_files, check
from rrr_cli.tasks.function_calling.data import problems as data_problems
from rrr_cli.tasks.function_calling.generate import problems as generated_problems
from rrr_cli.tasks.function_calling.match import differences, judge_calls, verdict
from rrr_cli.tasks.function_calling.noted import noted_calls
from rrr_cli.tasks.function_calling.parse import calls_within, read_calls
from rrr_cli.tasks.function_calling.problem import NAME, WORDS, gold
from rrr_cli.tasks.function_calling.strict_json import Refused
from rrr_cli.tasks.rows import chosen_level
from rrr_cli.tasks.splits import check_split, last_reply
from rrr_cli.thoughts import answer_of

SAYS_SOMETHING = re.compile(r"\w|\[\s*\]")  # words, or the list of no calls
TAG = re.compile(r"<[|｜/]{0,2}[\w▁]{1,40}[|｜]?>")


class FunctionCalling:
    """The task; `levels` are of the generator, so `level` and `data` exclude each other.

    Raises RrrError: unknown level, or both given (exit 2); data that can't be read (exit 3), the hub's data set without
    the `datasets` package (exit 4).
    """

    name = NAME
    levels = ("easy", "hard")
    error_types = (
        "no_call", "format", "wrong_tool", "missing_argument", "unknown_argument", "wrong_value", "wrong_count",
        "extra_call",
    )
    words: Mapping[str, str] = WORDS

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        self.level = chosen_level(self.name, self.levels, level, data, check)
        self.data = data

    def settings(self) -> dict[str, str]:
        """The content of the files of answers beside `data`, which the verdicts depend on."""
        contents = [content_of(Path(name)) for name in answers_files(self.data)] if self.data else []
        return {"answers": " ".join(contents)} if contents else {}

    def problems(self, split: str) -> Iterator[Problem]:
        """Problems of `split`, "train" or "test"; the generator gives 4,000 and 1,000 at each level."""
        check_split(self.name, split)
        return generated_problems(self.level, split) if self.data is None else data_problems(self.data, split)

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Judge the last assistant turn. Total and pure."""
        text = last_reply(transcript)
        match, expected, parameters = gold(problem)
        try:
            calls = read_calls(text, Tools.of(parameters))
        except Refused as refused:
            return verdict(("format", f"The tool calls can't be read: {refused}."), None)
        if not expected and not calls and not SAYS_SOMETHING.search(TAG.sub("", answer_of(text))):
            return verdict(("format", "The answer is empty."), None)
        answer = json.dumps([{"name": call.name, "arguments": call.arguments} for call in calls], ensure_ascii=False)
        return verdict(judge_calls(calls, expected, parameters, match), answer)

    def right_turns(self, problem: Problem) -> list[str]:
        """The reference's calls in <tool_call> tags, or plain words where no call is right."""
        calls = [Call(**call) for call in json.loads(problem.reference)]
        return [write_calls(calls) or "None of the tools can do that."]

    def answers_in(self, problem: Problem, text: str) -> Iterator[list[str]]:
        """The expected calls as they stand in `text`, in any form that is read or noted (`noted.py`), whatever stands
        around them: the first right one of each, and the last. Where no call is right, nothing is an answer, since any
        words pass."""
        match, expected, parameters = gold(problem)
        tools = Tools.of(parameters)
        for reading in (calls_within, noted_calls) if expected else ():
            calls = list(reading(text, tools))
            for order in (calls, calls[::-1]) if calls else ():
                taken: list[int] = []
                for one in expected:
                    right = (i for i, call in enumerate(order) if i not in taken
                             and not differences(call, one, parameters.get(one.name), match))
                    taken += islice(right, 1)
                if len(taken) == len(expected):
                    yield [write_calls([order[i] for i in taken])]
