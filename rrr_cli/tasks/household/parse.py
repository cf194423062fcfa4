"""The command in a model's turn, and the form in which the room takes it. Reads and writes nothing.

A turn's command is what stands first: its first line, where that reads as a command; else the first line with a mark
(`>`, or a label of `actions.py`), without it; else the first line that reads as a command; else the last line with
anything on it. A line of thought (it begins with `think:` or `Thought:`, with or without `>`) isn't a command, but may
end in one after `Action:`.

What a reader takes as the same command is one: case, white space, articles and a full stop don't matter, and
`put O in/on R`, with put or move and in, on, into, onto, to or in/on, is `move O to R`. Anything else has to stand as
the room's grammar has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from rrr_cli.tasks.actions import ACTION, MARKS, before_observation, up_to_observation
from rrr_cli.tasks.household.simulator import COMMANDS, NAME
from rrr_cli.thoughts import answer_of

MAX_COMMAND = 200  # characters
ARTICLES = {"a", "an", "the"}
PUT = re.compile(rf"\b(?:put|move) {NAME} (?:in ?/? ?on|into|onto|in|on|to) {NAME}")
THOUGHT = re.compile(rf"[\s>{MARKS}#-]{{0,8}}(?:think|thought)s?[{MARKS}]{{0,4}}[ \t]{{0,3}}\d{{0,3}}[{MARKS}]{{0,4}}"
                     r"[ \t]{0,3}[:\uff1a]", re.IGNORECASE)
LABEL = re.compile(rf"\A(?:{ACTION})", re.IGNORECASE | re.MULTILINE)
MARK = re.compile(rf"^[ \t{MARKS}\-+\u2022\d.)]{{0,8}}>|{ACTION}", re.IGNORECASE | re.MULTILINE)
LINE = re.compile(r"[^\n]+")
LIST_NUMBER = re.compile(r"\A(?:\d{1,2}[.)]|[-+\u2022])[ \t]+")
FENCE = re.compile(r"[ \t>]{0,4}```\w{0,12}\s*")
EMPTY = re.compile(rf"[\s>{MARKS}]*|{FENCE.pattern}")
BEFORE_MARK = f"{MARKS} \t>#-+\u2022.()0123456789"
AROUND = f"{MARKS} \t\r"


class Command(NamedTuple):
    """A turn's command as it was written, and where it ends in the answer."""

    text: str | None  # "" where the turn says nothing, None where it only thinks
    end: int | None  # None where no line is marked or reads as a command


def command_of(turn: str) -> str | None:
    """The turn's command, its thought left out; "" where it says nothing, None where it only thinks."""
    return read(answer_of(turn)).text


def canonical(command: str) -> str:
    """The command in the words of ALFWorld 0.4, where it is one."""
    words = " ".join(word for word in command.lower().rstrip(f"{AROUND}.,;!\u3002").split() if word not in ARTICLES)
    put = PUT.fullmatch(words)
    return f"move {put[1]} to {put[2]}" if put else words


def is_command(text: str | None) -> bool:
    """Whether a text reads whole as a command, in whatever state the room is."""
    words = canonical(text or "")
    pattern = COMMANDS.get(words.partition(" ")[0])
    return pattern is not None and pattern.fullmatch(words) is not None


@lru_cache(maxsize=256)  # each observation and the verdict read all turns again
def read(answer: str) -> Command:
    """The command of an answer, if it stands before an observation of the model's own."""
    text = before_observation(answer)
    lines = list(_plain_lines(text))
    if lines and is_command(lines[0].text):
        marked = (one for one in _marked(text[: lines[0].end]) if is_command(one.text))
        return next(marked, lines[0])
    command = next(_marked(text), None) or next((line for line in lines if is_command(line.text)), None)
    if command is not None:
        return command
    if lines:
        return lines[-1]._replace(end=None)
    return Command(None if any(THOUGHT.match(line[0]) for line in LINE.finditer(text)) else "", None)


def _plain_lines(text: str) -> Iterator[Command]:
    """Lines with anything on them and without a mark, thoughts aside."""
    for line in LINE.finditer(text):
        if not (THOUGHT.match(line[0]) or MARK.match(line[0]) or FENCE.fullmatch(line[0])) and (words := bare(line[0])):
            yield Command(words[:MAX_COMMAND], line.end())


def _marked(text: str) -> Iterator[Command]:
    """What stands after each mark, on its line or else on the next; within a line, only what reads as a command."""
    for mark in MARK.finditer(text):
        before = text[text.rfind("\n", 0, mark.start()) + 1 : mark.start()]
        line = next((line for line in LINE.finditer(text, mark.end()) if not EMPTY.fullmatch(line[0])), None)
        if line is None:
            return
        written = up_to_observation(line[0])
        words = bare(LABEL.sub("", bare(written.lstrip("> \t")), count=1))
        if words and not THOUGHT.match(words) and (not before.strip(BEFORE_MARK) or is_command(words)):
            yield Command(words[:MAX_COMMAND], line.start() + len(written))


def bare(text: str) -> str:
    """A text without bold type, backticks and quotes around it, and without the number of a list before it."""
    return LIST_NUMBER.sub("", text.strip(AROUND), count=1).strip(AROUND)
