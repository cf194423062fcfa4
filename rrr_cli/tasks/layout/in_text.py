"""The layouts that stand in a free text. Reads and writes nothing; the work is bounded.

A box is four whole numbers in parentheses after a name: of the words before them the longest that the caption names,
else the last one. Boxes with nothing but marks between them are a group: `hat (10, 20, 30, 40), cat (…)`. A layout is a
group, or all boxes of the text, or of each name those of its last group (a plan that words explain); and each of them
without the boxes that the caption doesn't name, which a text may show as what was wrong.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import groupby
from typing import NamedTuple

from rrr_cli.tasks.layout.boxes import MAX_BOXES, MAX_CHARACTERS
from rrr_cli.tasks.typed import ascii_signs

MAX_READ = 60_000  # characters of a text that are looked at, from its start
MAX_GROUPS = 20  # of a text, the last
BOX = re.compile(r"\(\s{0,9}(-?[0-9]{1,6}\s{0,9}(?:,\s{0,9}-?[0-9]{1,6}\s{0,9}){3})\)")
WORD = re.compile(r"[a-z][a-z'-]*")
LONGEST = 4  # words of a name
FAR = 200  # characters between two boxes of one group, at most
ASIDE = {"a", "an", "the", "and"}  # words that part no boxes


class Placed(NamedTuple):
    """A box in the text: its name, its numbers, and the group that it stands in."""

    name: str
    numbers: str
    group: int


def layouts_in(text: str, nouns: Collection[str]) -> Iterator[str]:
    """The layouts as lines, those that stand last first; `nouns` are the names that the caption asks for."""
    boxes = list(_boxes(ascii_signs(text[:MAX_READ]).lower(), nouns))
    groups = [list(one) for _, one in groupby(boxes, key=lambda box: box.group)]
    last = {box.name: box.group for box in boxes}
    seen: set[str] = set()
    for layout in (*groups[: -MAX_GROUPS - 1 : -1], boxes, [box for box in boxes if last[box.name] == box.group]):
        for kept in (layout, [box for box in layout if box.name in nouns]):
            lines = "\n".join(f"{box.name} ({box.numbers})" for box in kept)
            if 0 < len(kept) <= MAX_BOXES and len(lines) <= MAX_CHARACTERS and lines not in seen:
                seen.add(lines)
                yield lines


def _boxes(text: str, nouns: Collection[str]) -> Iterator[Placed]:
    end = group = 0
    for box in BOX.finditer(text):
        words = WORD.findall(text[max(end, box.start() - FAR) : box.start()])
        names = [" ".join(words[i:]) for i in range(max(0, len(words) - LONGEST), len(words))]
        name = next((one for one in names if one in nouns), names[-1] if names else "")
        group += box.start() - end > FAR or not ASIDE.issuperset(words[: len(words) - len(name.split())])
        end = box.end()
        if name:
            yield Placed(name, box[1], group)
