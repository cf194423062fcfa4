"""The action in a model's turn: `Action: Search[…]`, `Lookup[…]` or `Finish[…]`. Reads and writes nothing.

The first closed action counts; labels and the marks around them are read as in `actions.py`, case doesn't matter. Its
argument ends at the bracket that closes it on its line (`Finish[Alien [film]] (page [1])`); where its brackets don't
match, at the last one of the line. Full-width brackets will do.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from rrr_cli.tasks.actions import ACTION, GAP, before_observation
from rrr_cli.tasks.hotpotqa.corpus import one_line
from rrr_cli.thoughts import answer_of

OPENING, CLOSING = "[\uff3b\u3010", "]\uff3d\u3011"
MARKER = re.compile(
    rf"{ACTION}{GAP}(search|lookup|finish)[*_~`]{{0,3}}[ \t]{{0,3}}[*_~`]{{0,3}}[{re.escape(OPENING)}]",
    re.IGNORECASE | re.MULTILINE)

LINE_BREAK = re.compile(r"[\r\n]")


class Action(NamedTuple):
    """A model's action and where it ends in the answer."""

    name: str  # search, lookup or finish
    argument: str  # on one line
    end: int


def action_of(turn: str) -> tuple[str, str] | None:
    """The first closed action of a turn, its thought left out: search, lookup or finish, and its argument."""
    action = first_action(answer_of(turn))
    return action[:2] if action else None


@lru_cache(maxsize=256)  # each observation and the verdict read all turns again
def first_action(answer: str) -> Action | None:
    """The first closed action of an answer, if it stands before an observation of the model's own."""
    text = before_observation(answer)
    end = 0
    for marker in MARKER.finditer(text):
        start = marker.end()
        if start > end:  # on another line than the marker before it
            end = next((i.start() for i in LINE_BREAK.finditer(text, start)), len(text))
            last = max(text.rfind(bracket, start, end) for bracket in CLOSING)
        if last >= start:
            close = _closing(text, start, last)
            return Action(marker[1].lower(), one_line(text[start:close]), close + 1)
    return None


def _closing(text: str, start: int, last: int) -> int:
    """Where the argument that begins at `start` ends, at the `last` closing bracket of its line at the latest."""
    depth = 1
    for i in range(start, last):
        depth += (text[i] in OPENING) - (text[i] in CLOSING)
        if not depth:
            return i
    return last
