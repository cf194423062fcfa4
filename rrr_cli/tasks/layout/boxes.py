"""A layout as text: boxes, how they are written and how a model's are read.

Reads and writes nothing. Boxes must have a size, lie in the picture and not all be the same one; anything else is
`Refused` with the error type and a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rrr_cli.tasks.typed import ascii_signs

MAX_CHARACTERS, MAX_BOXES = 4000, 64
SIDE = 100  # hundredths
OBJECT_NAME = re.compile(r"[a-z][a-z '-]{0,39}")
_NUMBER = re.compile(r"-?[0-9]{1,6}")
_FENCE = re.compile(r"```\w{0,20}[ \t]*(?:\r?\n|\Z)")
_LIST_NUMBER = re.compile(r"\A[0-9]{1,2}[.)][ \t]+")
AROUND = " \t\r\n,;.:-*_`\"'\u2022"  # around a name: what parts entries, list marks, bold type, backticks, quotes


@dataclass(frozen=True)
class Box:
    """One object of a layout, in hundredths of the picture."""

    name: str
    x: int
    y: int
    w: int
    h: int


class Refused(Exception):
    """A layout that can't be read or isn't one; the message is a sentence."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


def write(boxes: Sequence[Box]) -> str:
    """Boxes as lines that `read` reads."""
    return "\n".join(f"{b.name} ({b.x}, {b.y}, {b.w}, {b.h})" for b in boxes)


def read(text: str) -> list[Box]:
    """The boxes of the last closed <layout> block, names in lower case without an article. Fences, bold type,
    backticks, list marks, colons after a name and full-width signs don't matter.

    Raises Refused: no_layout, malformed, or bad_box.
    """
    text = ascii_signs(text)
    end = text.rfind("</layout>")
    start = text.rfind("<layout>", 0, max(end, 0))
    inside = text[start + len("<layout>"):end].strip() if start >= 0 else ""
    if not inside:
        raise Refused("no_layout", "No layout was found: put the boxes between <layout> and </layout>.")
    if len(inside) > MAX_CHARACTERS:
        raise Refused("malformed", f"The layout is longer than {MAX_CHARACTERS} characters.")
    inside = _FENCE.sub("", inside)
    *pieces, rest = re.split(r"\(([^()]*)\)", inside)
    if len(pieces) > 2 * MAX_BOXES:
        raise Refused("malformed", f"The layout has more than {MAX_BOXES} boxes.")
    if rest.strip(AROUND) or not pieces:
        raise Refused("malformed", f"The layout ends in {rest.strip()[:40]!r}, which is no name (x, y, w, h).")
    boxes = [_box(name, numbers) for name, numbers in zip(pieces[::2], pieces[1::2], strict=True)]
    if len(boxes) > 1 and len({(b.x, b.y, b.w, b.h) for b in boxes}) == 1:
        raise Refused("bad_box", "All boxes are the same.")
    return boxes


def _box(name: str, numbers: str) -> Box:
    name = _LIST_NUMBER.sub("", name.strip(AROUND)).strip(AROUND)
    name = " ".join(name.lower().split())
    name = re.sub(r"\A(?:an?|the) ", "", name)
    if not OBJECT_NAME.fullmatch(name):
        raise Refused("malformed", f"The layout has {name[:40]!r} where the name of an object should stand.")
    values = [number.strip() for number in numbers.split(",")]
    if len(values) != 4 or not all(_NUMBER.fullmatch(value) for value in values):
        raise Refused("malformed", f"The box of {name} is ({repr(numbers[:40])[1:-1]}), not four whole numbers.")
    box = Box(name, *map(int, values))
    if box.w <= 0 or box.h <= 0:
        raise Refused("bad_box", f"A box of {name} has no size: {box.w} by {box.h}.")
    if min(box.x, box.y) < 0 or max(box.x + box.w, box.y + box.h) > SIDE:
        raise Refused("bad_box", f"A box of {name} isn't within the picture, which is {SIDE} by {SIDE}.")
    return box
