"""A layout as text: boxes, how they are written and how a model's are read.

Reads and writes nothing. Boxes must have a size, lie in the picture and not all be the same one; anything else is
`Refused` with the error type and a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rrr_cli.tasks.reading import shown

MAX_CHARACTERS, MAX_BOXES = 4000, 64
SIDE = 100  # hundredths
OBJECT_NAME = re.compile(r"[a-z][a-z '-]{0,39}")
_NUMBER = re.compile(r"-?[0-9]{1,6}")


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
    if not OBJECT_NAME.fullmatch(name):
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
