"""Where a model's thought ends and its answer begins: the one rule for every task, engine and table.

A thought is what stands before the last `</think>` (or another model family's mark, see `PAIRS`) outside JSON, with or
without a mark that opens it: some chat templates write the opening mark into the prompt. A thought that is opened and
never closed was cut: it has no answer after it. In gpt-oss's channels the answer is what stands on the last `final`
channel, and a call to a function; all else is thought. Pure; reads and writes nothing.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

#: What opens and what closes a thought: Qwen and DeepSeek, Mistral, Seed, Kimi, Cohere, Gemma, Apertus, others.
PAIRS = (
    ("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"), ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"), ("<|channel>thought", "<channel|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"), ("<thinking>", "</thinking>"), ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
)
OPEN, CLOSE = (re.compile("|".join(map(re.escape, marks))) for marks in zip(*PAIRS, strict=True))
# gpt-oss: a message is `assistant to=functions.F<|channel|>NAME to=functions.F<|message|>TEXT<|end|>`, with one `to`.
CHANNEL = re.compile(
    r"(?:assistant(?: to=(?P<to>[^<\s]+))?)?<\|channel\|>(?P<name>\w+)\b(?P<rest>[^<]*(?:<\|constrain\|>[^<]*)?)"
    r"<\|message\|>(?P<text>.*?)"
    r"(?=<\|(?:end|return|call|start|channel)\|>|assistant(?: to=[^<\s]+)?<\|channel\|>|\Z)", re.S)
ARGUMENT = re.compile(r"""[(,]\s*\w+\s*=\s*(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")""")
JSON_STARTS = re.compile(r"[{\[]")
MOST_READ = 1000  # how often a text may be read over in search of JSON, so that no text takes quadratic time


class Parts(NamedTuple):
    """A model's turn."""

    thought: str | None  # without its marks; None where there is none
    answer: str  # what a verifier judges


def parts(turn: str) -> Parts:
    """The thought and the answer of one turn of a model."""
    if not ("<|channel|>" in turn or CLOSE.search(turn) or OPEN.search(turn)):
        return Parts(None, turn)
    outside = outside_json(turn)
    if CHANNEL.search(outside) or outside.lstrip().startswith("<|channel|>"):
        return _of_channels(turn, outside)
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


def first_outside(turn: str, words: str) -> int | None:
    """The first place of some words in a turn that isn't within a thought, where the mark before them opens one, or the
    mark after them closes one."""
    marks = sorted((mark.start(), kind is OPEN) for kind in (OPEN, CLOSE) for mark in kind.finditer(turn))
    for place in re.finditer(re.escape(words), turn):
        i = bisect_left(marks, (place.start(), False))
        opened, closes = i > 0 and marks[i - 1][1], i < len(marks) and not marks[i][1]
        if not (opened or closes):
            return place.start()
    return None


def _of_channels(turn: str, outside: str) -> Parts:
    """The parts of a turn in gpt-oss's channels; a call to a function becomes a `<tool_call>`."""
    thoughts: list[str] = []
    finals: list[str] = []
    calls: list[str] = []
    rest = ""
    for message in CHANNEL.finditer(outside):
        name, text = message["name"], turn[slice(*message.span("text"))].strip()
        function = re.search(r"functions\.([^\s<]+)", f"{message['to'] or ''} {message['rest']}")
        if function:
            calls.append(f'<tool_call>{{"name": {json.dumps(function[1])}, "arguments": {text or "{}"}}}</tool_call>')
        else:
            (finals if name == "final" else thoughts).append(text)
        rest = turn[message.end():]
    if "to=functions." in rest:  # a call after it whose marks were dropped
        calls.append(rest)
    return Parts("\n\n".join(thoughts) if thoughts else None, "\n".join([*finals[-1:], *calls]))


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
    """The text with blanks in place of its JSON objects and lists, and of strings that are arguments (`f(a="…")`)."""
    return ARGUMENT.sub(lambda match: " " * len(match[0]), "".join(_outside_json(text)))
