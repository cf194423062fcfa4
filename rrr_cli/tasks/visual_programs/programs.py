"""The programs that stand in a free text. Reads and writes nothing; the work is bounded.

A program stands between marks (`judge.py`), or in the text itself: a call of a function of the language with its
brackets, alone or after `answer =`, and the statements before it whose names it uses. Each such call may be the answer,
but one that sets another name isn't. What doesn't parse is left out, and so is what is the same but for white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rrr_cli.tasks.typed import ascii_signs
from rrr_cli.tasks.visual_programs.language import FUNCTIONS, MAX_TOKENS, TOKEN, Wrong, parse

MAX_READ = 60_000  # characters of a text that are looked at, from its start
MAX_CALLS = 200  # of a text
MAX_TRIES = 200  # places where a call may begin but none can be read
BLOCK = re.compile(r"<program>((?:(?!<program>).)*?)</program>|```\w{0,20}\n(.*?)```", re.DOTALL)
CALL = re.compile(rf"(?:\b([A-Za-z_]\w*)\s{{0,3}}=\s{{0,3}})?(?<!\w)((?:{'|'.join(FUNCTIONS)})\s{{0,3}}\()|"
                  r"\banswer\s{0,3}=\s{0,3}([A-Za-z_]\w*)", re.ASCII)
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def programs_in(text: str) -> Iterator[str]:
    """The programs, those between marks first."""
    text = ascii_signs(text[:MAX_READ])
    seen: set[str] = set()
    for program in (*_between_marks(text), *_of_statements(text)):
        key = "".join(program.split())
        if key not in seen and _parses(program):
            seen.add(key)
            yield program


def _between_marks(text: str) -> Iterator[str]:
    for block in BLOCK.finditer(text):
        yield (block[1] or block[2] or "").strip().strip("`").strip()


def _of_statements(text: str) -> Iterator[str]:
    """For each call that may be the answer, the program that it ends."""
    before: dict[str, str] = {}  # name -> its statements, and those that they need
    for name, expression in _statements(text):
        needs = dict.fromkeys(one for one in NAME.findall(expression) if one in before)
        lines = "\n".join(dict.fromkeys(line for one in needs for line in before[one].split("\n")))
        if name in (None, "answer"):
            yield f"{lines}\nanswer = {expression}".strip()
        else:
            before[name] = f"{lines}\n{name} = {expression}".strip()


def _statements(text: str) -> Iterator[tuple[str | None, str]]:
    """The outermost calls in order, each with the name that is set to it, if any; and names that answer is set to."""
    at = calls = tries = 0
    while (call := CALL.search(text, at)) and calls < MAX_CALLS and tries < MAX_TRIES:
        end = call.end() if call[3] else _end(text, call.end())
        if end is None:
            at, tries = call.end(), tries + 1
        else:
            yield ("answer", call[3]) if call[3] else (call[1], " ".join(text[call.start(2) : end].split()))
            at, calls = end, calls + 1


def _end(text: str, at: int) -> int | None:
    """Where the bracket that was opened before `at` is closed."""
    depth = 1
    for _ in range(MAX_TOKENS):
        token = TOKEN.match(text, at)
        if token is None:
            return None
        at = token.end()
        depth += {"(": 1, ")": -1}.get(token[5] or "", 0)
        if not depth:
            return at
    return None


def _parses(program: str) -> bool:
    try:
        parse(program)
    except Wrong:
        return False
    return True
