"""The tool calls in a model's answer, in the form of its family: `bare.py` and `marked.py` say which are read.

What a model thought isn't read (`thoughts.py`). Around calls in marks or in a ``` fence other text may stand; around
bare ones it may not. Refused, never repaired, and never taken for an answer without a call: a call that isn't strict
(`strict_json.py`, `literals.py`, `calls.py`), and an offered tool that is called in a form that isn't read: its name
and an opening bracket with arguments after it, in tags, or beside a word for arguments. To mention a tool's name, also
as `name()` or `name(city)` in a sentence, isn't to call it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from rrr_cli.tasks.function_calling.bare import as_calls, calls_at, json_at, named_at, named_call_at
from rrr_cli.tasks.function_calling.calls import Call, Tools, as_call
from rrr_cli.tasks.function_calling.marked import MARK, is_marked, marked_at, marked_calls
from rrr_cli.tasks.function_calling.strict_json import MAX_BYTES, Refused, TooDeep, parse_at, skip_space, too_long
from rrr_cli.thoughts import answer_of

MAX_TRIES = 1000  # places of a text where a call may start but can't be read
MAX_DEEP = 100  # of those, places that are nested too deep: each costs as much as the depth that Python allows
_NAME_KEY = re.compile(r'"name"\s*:')
_FENCE = re.compile(r"(?:^|(?<=\n))[ \t]*(`{3,}|~{3,})[\w+.-]*[ \t]*")
# Marks of families that aren't read.
_OTHER_MARK = re.compile(
    r"[<\[][|｜/]?\w{0,20}:?(?:tool|function)[ _▁-]?calls?(?:[_▁]?\w{0,20})[|｜]?[>\]]|"
    r"<(?:[|｜]\w{1,20}[|｜])?(?:invoke\b|(?:function|tool)_calls?>)|<tool_code>|```tool_c|"
    r"functools\[|<\|action_start\|>|<\|START_ACTION\|>", re.IGNORECASE)
_SPACE = " \t\r\n"


def read_calls(text: str, tools: Tools = Tools()) -> list[Call]:  # noqa: B008 (immutable)
    """The calls in an answer, in order, under the tools' own names; none where none is meant.

    Raises Refused: one is meant, and can't be read.
    """
    return [tools.own_name(call) for call in _read(answer_of(text).strip(_SPACE), tools)]


def _read(text: str, tools: Tools) -> list[Call]:
    if too_long(text):
        if text.startswith("{") or MARK.search(text) or like_call(text, tools):
            raise Refused(f"it is longer than {MAX_BYTES // 1024} KiB")
        return []
    refused = Refused("a tool is called in a form that isn't read")
    try:
        values, end = json_at(text, 0)
    except Refused as reason:
        refused = reason if text.startswith("{") else refused
    else:
        if end == len(text):
            return as_calls(values)
    try:
        calls, end = named_at(text, 0, tools)
        if end == len(text):
            return calls
    except Refused:
        pass
    calls = marked_calls(text, tools) if is_marked(text) else _fenced(text, tools)
    if not calls and (text.startswith(("{", "```json")) or like_call(text, tools) or _OTHER_MARK.search(text)):
        raise refused
    return calls


def like_call(text: str, tools: Tools) -> bool:
    """Whether a call seems to be meant, in any form."""
    return bool(_NAME_KEY.search(text) or (tools.names and _calling(tools.names).search(text)))


def _fenced(text: str, tools: Tools) -> list[Call]:
    """The calls in ``` fences. A fence with anything else in it is prose."""
    calls: list[Call] = []
    at = 0
    while fence := _FENCE.search(text, at):
        try:
            read, end = calls_at(text, fence.end(), tools)
            closing = skip_space(text, end)
            closed = text.startswith(fence[1], closing)
        except Refused:
            closed = False
        if not closed:
            end = text.find("\n" + fence[1], fence.end())
            closing = end + 1 if end >= 0 else len(text)
        if like_call(text[fence.end() : closing], tools):
            if not closed:
                raise Refused("a call in a code fence can't be read")
            calls += read
        at = closing + len(fence[1])
    return calls


@lru_cache(maxsize=512)
def _calling(names: tuple[str, ...]) -> re.Pattern[str]:
    """Finds one of the names with something that makes it a call."""
    name = f"(?:{'|'.join(map(re.escape, names))})"
    own = rf"(?:(?<![\w\\])|(?<=function)|(?<=functions)){name}"  # marks that decoding dropped leave such a word
    keyword = r"\w[\w.-]*\s*=(?!=)"
    words = r"(?i:action[ _]input|tool[ _]input|arguments|parameters|args|params|input)"
    fence = r"(?:```\w*\s*)?"
    special = r"(?:<[|｜][^<>\n]{1,40}[|｜]>\s*)?"
    to_object = rf"(?:[\"'*]{{0,3}}{words}[\"'`*:=\s]{{0,12}}{fence})?\{{\s*[\"'}}]"
    keys = r"(?i:tool|tool_name|function|function_name|recipient_name|action|name)"
    return re.compile("|".join((
        rf"{own}\(\s*(?:[\"'\d\[{{-]|\*\*|(?:[Tt]rue|[Ff]alse|None|null)\b)",
        rf"{own}\s*\(\s*{keyword}",
        rf"{own}\[\s*(?:[\"'{{\[]|{keyword}|ARGS\]|CALL_ID\])",
        rf"{own}[\"'`*:,=>\s-]{{0,12}}(?:(?:with|using)\s+)?{special}{fence}{to_object}",
        rf"{own}[\"'`*,;\s]{{1,12}}(?:with\s+)?{words}[\"'*]{{0,3}}\s{{0,3}}[:=]",
        rf"{own}[\"'`*]{{0,3}}(?:[ \t]+--\w|[ \t]*:?[ \t]*\n[ \t]+\w[\w.-]*\s*[:=])",  # a command line, YAML
        rf"(?m:^)[`\[ \t]*{name}[ \t]*\((?:[^()\n]|\([^()\n]*\))*\)[\]`;. \t]*(?m:$)",  # a line that is nothing else
        rf"\A[`\[\s]*{name}\s*[({{\[]?\s*\Z",  # cut right after the name
        rf"<\s*{name}(?=[\s/>])",
        rf"<(?i:function|tool|tool_name|name|call|action)\b[^<>\n]{{0,40}}[>=\"']\s*{name}(?!\w)",
        rf"<[^<>\n]{{1,60}}\s\w{{1,20}}=[\"']{name}[\"']",
        rf"[\"']{keys}[\"']\s*:\s*[\"']{name}[\"']",
    )))


def calls_within(text: str, tools: Tools = Tools()) -> Iterator[Call]:  # noqa: B008 (immutable)
    """Every call that stands anywhere in a text, whatever stands around it. Looks at its first 64 KiB."""
    text = text[:MAX_BYTES]
    start = re.compile("|".join([MARK.pattern, r"\{", *(rf"{re.escape(name)}(?=\s*[(\[{{])" for name in tools.names)]))
    at = tries = deep = 0
    while (place := start.search(text, at)) and tries < MAX_TRIES and deep < MAX_DEEP:
        try:
            calls, at = _calls_from(text, place, tools)
            yield from map(tools.own_name, calls)
        except Refused as refused:  # try again one character on: prose may hold a brace
            at = place.start() + 1
            tries += 1
            deep += isinstance(refused, TooDeep)


def _calls_from(text: str, place: re.Match[str], tools: Tools) -> tuple[list[Call], int]:
    if place.lastgroup:
        return marked_at(text, place, tools)
    if place[0] == "{":
        value, end = parse_at(text, place.start())
        return [as_call(value)], end
    call, end = named_call_at(text, place.start(), tools)
    return [call], end
