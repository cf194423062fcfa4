"""What a visual-program problem is: its row, and the words that a model is shown. Reads and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.visual_programs.scene_graphs import Scene, to_json

NAME = "visual_programs"

# Ours: the language, whole; `prompt_easy` is for the easy level. As in VisProg the picture isn't shown.
PROMPT = """Answer the question about a picture with a program. You don't see the picture; the program does.
A program is lines that set a name; the last one sets answer. These functions are all there is:
find("dog"): the objects of that name; find("object"): all of them; find("scene"): the picture itself
filter(x, "red"): those of x that are so (a name, a color, left, right, top, bottom); reject(x, "red"): the others
subjects(x, "on"): what is on one of x; objects(x, "wearing"): what one of x is wearing
like(x, "color"): other objects of the same color as x
exists(x): yes or no; count(x): a number; more(n, m): is n more than m
and(a, b), or(a, b), not(a): of yes and no
query(x, "color"): the color of x, or its "name", "material" and so on
choose(x, "red", "blue"): which of the two x is
relation(x, y, "on", "under"): which of the two x is to y
same(x, y, "color"): have all of x and y the same color; common(x, y): what they share, such as color
For example:
<program>
kites = filter(find("kite"), "old")
answer = count(kites)
</program>

Question: {question}"""

WORDS: Mapping[str, str] = {
    "prompt": PROMPT,
    "prompt_easy": (
        "Answer with a program of find , filter , reject , exists , count , query , choose , for example <program> "
        'answer = count(filter(find("kite"), "old")) </program> .\nQuestion: {question}'
    ),
    # Ours, in the form of RRR's.
    "reflect": (
        "You tried to answer the question with a program, and it failed. Reflect on what went wrong and write a short "
        "explanation that will help you do better next time."
    ),
    "retry": "Please try again. Put the program between <program> and </program>.",
}


def make_problem(
    question: str, expression: str, pictures: Sequence[tuple[Scene, str]], split: str, difficulty: str, image: str = "",
    words: Mapping[str, str] = WORDS,
) -> Problem:
    """The row of one problem: the expression is of the reference, each picture a scene with its answer."""
    metadata = json.dumps({"question": question, "image": image, "pictures": [[to_json(s), a] for s, a in pictures]})
    template = words["prompt_easy" if difficulty.startswith("easy") else "prompt"]
    return Problem(
        problem_id=content_id("visual_programs", metadata),
        task=NAME,
        split=split,
        difficulty=difficulty,
        prompt=[Message("user", template.format(question=question))],
        tools=None,
        reference=json.dumps(expression),
        metadata=metadata,
    )
