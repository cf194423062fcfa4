"""Layouts: plan a picture as boxes, the step of VPGen that a language model makes (Re-ReST's text-to-image task).

The model is shown a caption and writes `<layout>` with entries `name (x, y, w, h)` and `</layout>`: whole hundredths
of the picture, x and y of the top left corner, width, height (VPGen quantises to 100 bins as well; it writes corners).
No picture is made. What VPEval asks of a detector's boxes is asked of these: object (it is there), count (so many of
it), spatial (centres more than 1 hundredth apart on the axis), scale (areas that differ by more than 5 %, or by no more
where the size is to be the same). Left, right, above and below only: in front and behind need depth. A relation holds
between every two of its objects (VPEval: some two); with one of each, that is the same.

Problems come from a generator (levels easy, full; `layout_made.py`) or from `data` (`layout_data.py`). The score is the
share of the caption's requirements that are met, each kind of object that wasn't asked for counting as one that
isn't; it is a success from `threshold` up: 1.0, unless a subclass says otherwise. Boxes must have a size, lie in the
picture and not all be the same one; boxes of one name that cover each other (IoU over 0.9) count once. Any layout that
meets the requirements passes; the reference is one. What stands around the last closed <layout> block is ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from rrr_cli import prompts
from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.nouns import plural, with_article
from rrr_cli.tasks.rows import check_split, chosen_level, shown

MAX_CHARACTERS, MAX_BOXES = 4000, 64
SIDE = 100  # hundredths
SAME_BOX = 0.9  # IoU above which two boxes of one name are one object
APART, LARGER = 1, 1.05  # VPEval's 5 pixels of 512, and its 5 % of the area
SPATIAL = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
SCALE = {"bigger": "bigger than", "smaller": "smaller than", "same": "the same size as"}


@dataclass(frozen=True)
class Box:
    """One object of a layout, in hundredths of the picture."""

    name: str
    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True)
class Requirement:
    """What a caption asks for. `kind` is object or count (of `noun`), or a relation of `noun` to `other`."""

    kind: str
    noun: str
    count: int = 1
    other: str = ""


class Refused(Exception):
    """A layout that can't be read or isn't one; the message is a sentence."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


class Layout:
    """The task; `levels` are of the generator, so `level` and `data` exclude each other.

    Raises RrrError: unknown level, or both given (exit 2); data that can't be read (exit 3).
    """

    name = "layout"
    levels = ("easy", "full")
    threshold = 1.0  # least score that is a success
    error_types = (
        "no_layout", "malformed", "bad_box", "missing_object", "wrong_object", "wrong_count", "wrong_relation",
        "wrong_scale",
    )
    words: Mapping[str, str] = {"reflect": prompts.LAYOUT_REFLECT, "retry": prompts.LAYOUT_RETRY}

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        from rrr_cli.tasks.layout.data import check_file

        self.level = chosen_level(self.name, self.levels, level, data, check_file)
        self.data = data

    def problems(self, split: str) -> Iterator[Problem]:
        """Problems of `split`, "train" or "test"."""
        check_split(self.name, split)
        if self.data is not None:
            from rrr_cli.tasks.layout.data import data_problems

            return data_problems(self.data, split)
        from rrr_cli.tasks.layout.generate import made_problems

        return made_problems(self.level, split)

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Judge the last assistant turn. Total and pure."""
        text = next((m.content for m in reversed(transcript) if m.role == "assistant"), "")
        return judge(text, requirements_of(problem), self.threshold)

    def right_turns(self, problem: Problem) -> list[str]:
        """The reference between the tags."""
        return [f"<layout>\n{json.loads(problem.reference)}\n</layout>"]

    def leaks(self, problem: Problem, text: str) -> bool:
        """Whether every box of the reference stands in `text`, white space aside."""
        lines = json.loads(problem.reference).splitlines()
        spaced = _spaced(text)
        return all(_spaced(line) in spaced for line in lines)


def requirements_of(problem: Problem) -> list[Requirement]:
    """What the problem's caption asks for."""
    return [Requirement(**entry) for entry in json.loads(problem.metadata)["requirements"]]


def make_problem(
    caption: str, requirements: Sequence[Requirement], reference: Sequence[Box], split: str, difficulty: str
) -> Problem:
    """The row of one problem."""
    template = prompts.LAYOUT_EASY if difficulty.startswith("easy") else prompts.LAYOUT
    metadata = {"caption": caption, "requirements": [asdict(one) for one in requirements]}
    return Problem(
        problem_id=content_id("layout", metadata),
        task=Layout.name,
        split=split,
        difficulty=difficulty,
        prompt=[Message("user", template.format(caption=caption))],
        tools=None,
        reference=json.dumps(write(reference)),
        metadata=json.dumps(metadata),
    )


def write(boxes: Sequence[Box]) -> str:
    """Boxes as lines that `read` reads."""
    return "\n".join(f"{b.name} ({b.x}, {b.y}, {b.w}, {b.h})" for b in boxes)


# Read ----------------------------------------------------------------------------------------------------------------

NAME = re.compile(r"[a-z][a-z '-]{0,39}")
_NUMBER = re.compile(r"-?[0-9]{1,6}")


def read(text: str) -> list[Box]:
    """The boxes of the last closed <layout> block, names in lower case without an article.

    Raises Refused: no_layout, malformed, or bad_box.
    """
    end = text.rfind("</layout>")
    start = text.rfind("<layout>", 0, max(end, 0))
    inside = text[start + len("<layout>"):end].strip() if start >= 0 else ""
    if not inside:
        raise Refused("no_layout", "No layout was found: put the boxes between <layout> and </layout>.")
    if len(inside) > MAX_CHARACTERS:
        raise Refused("malformed", f"The layout is longer than {MAX_CHARACTERS} characters.")
    *pieces, rest = re.split(r"\(([^()]*)\)", inside)
    if len(pieces) > 2 * MAX_BOXES:
        raise Refused("malformed", f"The layout has more than {MAX_BOXES} boxes.")
    if rest.strip(" \t\r\n,;.") or not pieces:
        raise Refused("malformed", f"The layout ends in {shown(rest.strip()[:40])}, which is no name (x, y, w, h).")
    boxes = [_box(name, numbers) for name, numbers in zip(pieces[::2], pieces[1::2], strict=True)]
    if len(boxes) > 1 and len({(b.x, b.y, b.w, b.h) for b in boxes}) == 1:
        raise Refused("bad_box", "All boxes are the same.")
    return boxes


def _box(name: str, numbers: str) -> Box:
    name = " ".join(name.lower().strip(" \t\r\n,;.-").split())
    name = re.sub(r"\A(?:an?|the) ", "", name)
    if not NAME.fullmatch(name):
        raise Refused("malformed", f"The layout has {shown(name[:40])} where the name of an object should stand.")
    values = [number.strip() for number in numbers.split(",")]
    if len(values) != 4 or not all(_NUMBER.fullmatch(value) for value in values):
        raise Refused("malformed", f"The box of {name} is ({shown(numbers[:40])[1:-1]}), not four whole numbers.")
    box = Box(name, *map(int, values))
    if box.w <= 0 or box.h <= 0:
        raise Refused("bad_box", f"A box of {name} has no size: {box.w} by {box.h}.")
    if min(box.x, box.y) < 0 or max(box.x + box.w, box.y + box.h) > SIDE:
        raise Refused("bad_box", f"A box of {name} isn't within the picture, which is {SIDE} by {SIDE}.")
    return box


# Judge ---------------------------------------------------------------------------------------------------------------


def judge(text: str, requirements: Sequence[Requirement], threshold: float = 1.0) -> Verdict:
    """The verdict on one answer text: how many of the requirements its layout meets, and the first that it doesn't."""
    try:
        boxes = read(text)
    except Refused as refused:
        return Verdict(False, 0.0, refused.error_type, str(refused), None)
    nouns = dict.fromkeys(noun for one in requirements for noun in (one.noun, one.other) if noun)
    found = {noun: distinct([b for b in boxes if b.name in spellings(noun)]) for noun in nouns}
    known = {name for noun in nouns for name in spellings(noun)}
    unasked = sorted({b.name for b in boxes} - known)
    unmet = [failure for failure in (failed(one, found) for one in requirements) if failure]
    unmet += [("wrong_object", f"There should be no {plural(name)} in the picture.") for name in unasked]
    score = (len(requirements) + len(unasked) - len(unmet)) / (len(requirements) + len(unasked))
    answer = write(boxes)
    if not unmet:
        return Verdict(True, 1.0, None, "The layout meets the caption.", answer)
    error_type, feedback = unmet[0]
    success = score >= threshold
    return Verdict(success, score, None if success else error_type, feedback, answer)


def spellings(noun: str) -> tuple[str, ...]:
    """The names that a box of `noun` may have: a plural is no error."""
    return noun, plural(noun), f"{noun}s"


def distinct(boxes: Sequence[Box]) -> list[Box]:
    """Boxes without those that cover an earlier one."""
    kept: list[Box] = []
    for box in boxes:
        if all(overlap(box, other) <= SAME_BOX for other in kept):
            kept.append(box)
    return kept


def overlap(a: Box, b: Box) -> float:
    """Intersection over union, in [0, 1]."""
    wide = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    high = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    shared = max(wide, 0) * max(high, 0)
    return shared / (a.w * a.h + b.w * b.h - shared)


def failed(one: Requirement, found: dict[str, list[Box]]) -> tuple[str, str] | None:
    """The error type and what is said where a requirement isn't met."""
    number = len(found[one.noun])
    if one.kind == "object":
        said = f"There should be {with_article(one.noun)}; none was found."
        return None if number else ("missing_object", said)
    if one.kind == "count":
        said = f"There should be {counted(one.count, one.noun)}; {number} {'was' if number == 1 else 'were'} found."
        return None if number == one.count else ("wrong_count", said)
    pairs = [(a, b) for a in found[one.noun] for b in found[one.other]]
    if pairs and all(_holds(one.kind, a, b) for a, b in pairs):
        return None
    said = f"The {one.noun} should be {(SPATIAL | SCALE)[one.kind]} the {one.other}; it isn't."
    return ("wrong_relation" if one.kind in SPATIAL else "wrong_scale", said)


def counted(count: int, noun: str) -> str:
    """`1 apple`, `3 apples`."""
    return f"{count} {noun if count == 1 else plural(noun)}"


def _holds(kind: str, a: Box, b: Box) -> bool:
    right = a.x + a.w / 2 - b.x - b.w / 2
    down = a.y + a.h / 2 - b.y - b.h / 2
    ratio = a.w * a.h / (b.w * b.h)
    return {
        "left": right < -APART, "right": right > APART, "above": down < -APART, "below": down > APART,
        "bigger": ratio > LARGER, "smaller": ratio < 1 / LARGER, "same": 1 / LARGER <= ratio <= LARGER,
    }[kind]


def _spaced(text: str) -> str:
    words = re.findall(r"[a-z]+|[0-9]+|[^a-z0-9,\s]", text.lower())
    return f" {' '.join(words)} "
