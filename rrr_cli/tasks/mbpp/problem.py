"""What a problem of MBPP is: its key, its row, and the words that a model is shown. Reads and writes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from rrr_cli import sandbox
from rrr_cli.records import Message, Problem, content_id

NAME = "mbpp"
MAX_CODE = 20_000  # characters of code that are run

WORDS: Mapping[str, str] = {
    # MBPP (arXiv 2108.07732, section 3), as we recall it: not checked word for word. The last line is ours.
    "prompt": (
        "You are an expert Python programmer, and here is your task: {text} Your code should pass these tests:\n\n"
        "{tests}\n\nWrite the code in a ```python block."
    ),
    # Ours: the same, short enough for a tiny model.
    "prompt_easy": "{text} Your code should pass these tests:\n\n{tests}",
    # Ours, in the form of RRR's.
    "reflect": (
        "You tried to write the code, but it doesn't pass the tests. Reflect on what went wrong and write a short "
        "explanation that will help you do better next time."
    ),
    "retry": "Please write the code again, in a ```python block.",
}


def problem_key(text: str, tests: Sequence[str]) -> str:
    """What makes two problems the same: the id of the text and the tests that are shown."""
    return content_id("mbpp", text, list(tests))


def make_problem(
    text: str, code: str, tests: Sequence[str], split: str, difficulty: str, level: str,
    hidden: Sequence[str] = (), imports: str = "", setup: str = "", words: Mapping[str, str] = WORDS,
) -> Problem:
    """The row of one problem. `imports` run before the code, `setup` after it; `hidden` tests aren't shown."""
    metadata: dict[str, object] = {"tests": list(tests), "hidden": list(hidden), "imports": imports, "setup": setup}
    if os.environ.get(sandbox.UNSAFE_VARIABLE) == "1" and sandbox.kind() == "unsafe":
        metadata["unsafe_exec"] = True  # so that the artifact says so
    template = words["prompt_easy" if level == "easy" else "prompt"]
    shown = template.format(text=text.strip(), tests="\n".join(tests))
    return Problem(
        problem_id=problem_key(text, tests), task=NAME, split=split, difficulty=difficulty,
        prompt=[Message("user", shown)], tools=None, reference=json.dumps(code.strip()), metadata=json.dumps(metadata),
    )
