"""Visual programs: answer a question about a picture by a program that looks at it (Re-ReST's GQA, arXiv 2406.01495).

As in VisProg the model is shown the question and the language, never the picture: the program sees it, as a scene graph
(`scene_graphs.py`; `language.py` has the language). Problems come from a generator (`generate.py`; levels easy, full)
or from `data`, a folder with GQA's own files (`data.py`).

The verifier runs the program of the last assistant turn (`judge.py`). A generated problem has 6 pictures, on which the
same question has different answers, and a program passes only if it is right on each: a guessed answer passes nowhere.
A problem of GQA has its one picture, as GQA does; there a program can still be right by luck, about half the time where
the answer is yes or no. A written-down answer fails everywhere (`constant`). The reference is one program among
several; any that is right passes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from rrr_cli.records import Message, Problem
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.rows import chosen_level
from rrr_cli.tasks.splits import check_split, last_reply
from rrr_cli.tasks.visual_programs.data import check
from rrr_cli.tasks.visual_programs.data import problems as data_problems
from rrr_cli.tasks.visual_programs.generate import problems as generated_problems
from rrr_cli.tasks.visual_programs.judge import judge
from rrr_cli.tasks.visual_programs.problem import NAME, WORDS
from rrr_cli.tasks.visual_programs.programs import programs_in
from rrr_cli.tasks.visual_programs.scene_graphs import from_json


class VisualPrograms:
    """The task; `levels` are of the generator, so `level` and `data` exclude each other.

    Raises RrrError: unknown level, or both given (exit 2); data that can't be read (exit 3).
    """

    name = NAME
    levels = ("easy", "full")
    error_types = (
        "no_program", "malformed", "type_error", "constant", "unknown_object", "unknown_attribute", "ambiguous",
        "wrong_answer",
    )
    words: Mapping[str, str] = WORDS

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        self.level = chosen_level(self.name, self.levels, level, data, check)
        self.data = data

    def problems(self, split: str) -> Iterator[Problem]:
        """Problems of `split`, "train" or "test"."""
        check_split(self.name, split)
        if self.data is None:
            return generated_problems(self.level, split, self.words)
        return data_problems(self.data, split, self.words)

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Judge the last assistant turn. Total and pure."""
        pictures = json.loads(problem.metadata)["pictures"]
        return judge(last_reply(transcript), [(from_json(scene), answer) for scene, answer in pictures])

    def right_turns(self, problem: Problem) -> list[str]:
        """The reference between the tags."""
        return [f"<program> answer = {json.loads(problem.reference)} </program>"]

    def answers_in(self, problem: Problem, text: str) -> Iterator[list[str]]:
        """The programs in `text`: those between marks, and those that its statements and calls make up."""
        for program in programs_in(text):
            yield [f"<program>\n{program}\n</program>"]
