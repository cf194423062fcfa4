"""Layouts: plan a picture as boxes, the step of VPGen that a language model makes (Re-ReST's text-to-image task).

The model is shown a caption and writes `<layout>` with entries `name (x, y, w, h)` and `</layout>`: whole hundredths of
the picture, x and y of the top left corner, width, height (VPGen quantises to 100 bins as well; it writes corners). No
picture is drawn. What VPEval asks of a detector's boxes is asked of these: object (it is there), count (so many of it),
spatial (centres more than 1 hundredth apart on the axis), scale (areas that differ by more than 5 %, or by no more
where the size is to be the same). Left, right, above and below only: in front and behind need depth. A relation holds
between every two of its objects (VPEval: between at least two); with one of each, that is the same.

Problems come from a generator (levels easy, full; `generate.py`) or from `data` (`data.py`). The score is the share of
the caption's requirements that are met, each kind of object that wasn't asked for counting as one that isn't; from
`threshold` up it is a success: 1.0, unless a subclass says otherwise. Boxes must have a size, lie in the picture and
not all be the same one; boxes of one name that cover each other (IoU over 0.9) count once. Any layout that meets the
requirements passes; the reference is one. What stands around the last closed <layout> block is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from rrr_cli.records import Message, Problem
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.layout.data import check
from rrr_cli.tasks.layout.data import problems as data_problems
from rrr_cli.tasks.layout.generate import problems as generated_problems
from rrr_cli.tasks.layout.in_text import layouts_in
from rrr_cli.tasks.layout.judge import judge, spellings
from rrr_cli.tasks.layout.problem import NAME, WORDS, requirements_of
from rrr_cli.tasks.rows import chosen_level
from rrr_cli.tasks.splits import check_split, last_reply


class Layout:
    """The task; `levels` are of the generator, so `level` and `data` exclude each other.

    Raises RrrError: unknown level, or both given (exit 2); data that can't be read (exit 3).
    """

    name = NAME
    levels = ("easy", "full")
    threshold = 1.0  # least score that is a success
    error_types = (
        "no_layout", "malformed", "bad_box", "missing_object", "wrong_object", "wrong_count", "wrong_relation",
        "wrong_scale",
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
        return judge(last_reply(transcript), requirements_of(problem), self.threshold)

    def right_turns(self, problem: Problem) -> list[str]:
        """The reference between the tags."""
        return [f"<layout>\n{json.loads(problem.reference)}\n</layout>"]

    def answers_in(self, problem: Problem, text: str) -> Iterator[list[str]]:
        """The layouts that the boxes in `text` make up."""
        requirements = requirements_of(problem)
        nouns = {name for one in requirements for noun in (one.noun, one.other) if noun for name in spellings(noun)}
        for boxes in layouts_in(text, nouns):
            yield [f"<layout>\n{boxes}\n</layout>"]
