"""Where a model's thought ends and its answer begins: the one rule for every task, engine and table.

A thought is what stands before the last `</think>` (or `[/THINK]`) outside JSON, with or without a mark that opens it:
some chat templates write the opening mark into the prompt. A thought that is opened and never closed was cut: it has
no answer after it. Pure; reads and writes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

OPEN = re.compile(r"<think>|\[THINK\]")
CLOSE = re.compile(r"</think>|\[/THINK\]")
JSON_STARTS = re.compile(r"[{\[]")
MOST_READ = 1000  # how often a text may be read over in search of JSON, so that no text takes quadratic time


class Parts(NamedTuple):
    """A model's turn."""

    thought: str | None  # without its marks; None where there is none
    answer: str  # what a verifier judges


def parts(turn: str) -> Parts:
    """The thought and the answer of one turn of a model."""
    outside = "".join(_outside_json(turn)) if CLOSE.search(turn) or OPEN.search(turn) else turn
    ends = [match.end() for match in CLOSE.finditer(outside)]
    start = ends[-1] if ends else 0
    cut = OPEN.search(outside, start)
    answer = turn[start : cut.start()] if cut else turn[start:]
    if not ends and not cut:
        return Parts(None, answer)
    thought = turn[:start] + (turn[cut.start():] if cut else "")
    return Parts(CLOSE.sub("", OPEN.sub("", thought)).strip(), answer)


def answer_of(turn: str) -> str:
    """What a verifier judges of a model's turn: all but its thought."""
    return parts(turn).answer


def _outside_json(text: str) -> Iterator[str]:
    """The text with blanks in place of its JSON objects and lists, so that places stay what they were."""
    decoder, at, budget = json.JSONDecoder(strict=False), 0, MOST_READ * len(text)
    while (found := JSON_STARTS.search(text, at)) and budget > 0:
        yield text[at : found.start()]
        try:
            at = decoder.raw_decode(text, found.start())[1]
            yield " " * (at - found.start())
        except (ValueError, RecursionError) as error:
            budget -= getattr(error, "pos", len(text))  # the error's line number is counted from the start
            yield found[0]
            at = found.end()
    yield text[at:]


def outside_json(text: str) -> str:
    """The text with blanks in place of its JSON objects and lists."""
    return "".join(_outside_json(text))
