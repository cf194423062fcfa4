"""What a layout problem is: what its caption asks for, its key, its row, and the words that a model is shown.

Reads and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.layout.boxes import Box, write

NAME = "layout"
SPATIAL = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
SCALE = {"bigger": "bigger than", "smaller": "smaller than", "same": "the same size as"}

WORDS: Mapping[str, str] = {
    # Ours, after VPGen (arXiv 2305.15328), which writes objects and boxes as text; the form of the lines is ours.
    "prompt": (
        "Plan this picture: {caption}\n"
        "Give each object a line: its name in the singular and its box (x, y, w, h), in hundredths of the picture: x "
        "from the left and y from the top to the box's corner, its width and its height. Draw nothing else. For "
        "example:\n<layout>\nhat (10, 20, 30, 40)\n</layout>"
    ),
    "prompt_easy": "Plan: {caption}\nFor example <layout> hat (10, 20, 30, 40) </layout>",
    # Ours, in the form of RRR's.
    "reflect": (
        "You tried to plan the picture, and the plan failed. Reflect on what went wrong and write a short explanation "
        "that will help you do better next time."
    ),
    "retry": "Please plan the picture again. Put the boxes between <layout> and </layout>.",
}


@dataclass(frozen=True)
class Requirement:
    """What a caption asks for. `kind` is object or count (of `noun`), or a relation of `noun` to `other`."""

    kind: str
    noun: str
    count: int = 1
    other: str = ""


def key_of(requirements: Sequence[Requirement]) -> str:
    """What makes two captions ask for the same."""
    turned = {"right": "left", "below": "above", "smaller": "bigger"}
    parts = [
        (turned[one.kind], one.other, one.count, one.noun) if one.kind in turned
        else (one.kind, *sorted((one.noun, one.other)), one.count) if one.kind == "same"
        else (one.kind, one.noun, one.count, one.other) for one in requirements
    ]
    return content_id("layout", sorted(map(str, parts)))


def requirements_of(problem: Problem) -> list[Requirement]:
    """What the problem's caption asks for."""
    return [Requirement(**entry) for entry in json.loads(problem.metadata)["requirements"]]


def make_problem(
    caption: str, requirements: Sequence[Requirement], reference: Sequence[Box], split: str, difficulty: str,
    words: Mapping[str, str] = WORDS,
) -> Problem:
    """The row of one problem."""
    template = words["prompt_easy" if difficulty.startswith("easy") else "prompt"]
    metadata = {"caption": caption, "requirements": [asdict(one) for one in requirements]}
    return Problem(
        problem_id=content_id("layout", metadata),
        task=NAME,
        split=split,
        difficulty=difficulty,
        prompt=[Message("user", template.format(caption=caption))],
        tools=None,
        reference=json.dumps(write(reference)),
        metadata=json.dumps(metadata),
    )
