"""The commands that stand in a free text, and the ways in which they complete a game. Reads and writes nothing.

A text may hold other commands too: those of the failed try, of a search, of another plan. So the commands are played
from the start, from each of them on, without those that do nothing; where that meets the goal, whatever isn't needed is
left out. What is left is an answer if the turns suffice for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from rrr_cli.tasks.household.parse import ARTICLES, PUT
from rrr_cli.tasks.household.simulator import NAME, NOTHING, House

MAX_READ = 60_000  # characters of a text that are looked at, from its start
MAX_COMMANDS = 100  # of a text, the first
MAX_PLANS = 4  # that are shortened
#: The commands that change anything; `look`, `inventory` and `examine` only cost turns.
CHANGES = re.compile(rf"\b(?:go to {NAME}|(?:open|close|use) {NAME}|take {NAME} from {NAME}|move {NAME} to {NAME}|"
                     rf"(?:heat|cool|clean) {NAME} with {NAME})\b")
WORD = re.compile(r"[a-z]+|[0-9]+")


def commands_in(text: str) -> list[str]:
    """The commands in a text that change anything, in the form that the room takes, whatever stands around them."""
    words = " ".join(word for word in WORD.findall(text[:MAX_READ].lower()) if word not in ARTICLES)
    return [match[0] for match in CHANGES.finditer(PUT.sub(r"move \1 to \2", words))][:MAX_COMMANDS]


def can_complete(commands: Sequence[str]) -> bool:
    """Whether there may be a whole solution among the commands: one takes a thing, and a later one uses it or puts it
    down, or a lamp is used, before or after."""
    verbs = [command.partition(" ")[0] for command in commands]
    return "take" in verbs and ("use" in verbs or "move" in verbs[verbs.index("take"):])


def completing(game: dict[str, Any], commands: Sequence[str], most: int) -> Iterator[list[str]]:
    """The first plan of at most `most` commands, these in their order and others left out, that meets the goal."""
    plans: list[list[str]] = []
    for start in range(len(commands)):
        plan = _played(game, commands[start:])
        if plan is not None and plan not in plans and len(plans) < MAX_PLANS:
            plans.append(plan)
            needed = _needed(game, plan)
            if len(needed) <= most:
                yield needed
                return


def _played(game: dict[str, Any], commands: Sequence[str]) -> list[str] | None:
    """The commands up to the one that meets the goal, without those that do nothing; None where none does."""
    house, done = House(game), []
    for command in commands:
        if house.act(command) != NOTHING:
            done.append(command)
            if house.done():
                return done
    return None


def _needed(game: dict[str, Any], plan: Sequence[str]) -> list[str]:
    """The plan without what it can do without: first without stretches of it, then without single commands."""
    kept, width = list(plan), len(plan) // 2
    while width:
        start = 0
        while start < len(kept):
            shorter = _played(game, kept[:start] + kept[start + width:])
            if shorter is None:
                start += width
            else:
                kept = shorter
        width //= 2
    return kept
