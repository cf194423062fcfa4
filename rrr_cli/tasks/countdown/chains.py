"""The arithmetic that stands in a free text: chains of expressions and results, such as `3 * 7 = 21 + 8 = 29`.

A chain is sides with `=` between them (or an arrow, `is`, `equals`, `gives`, `makes`); a side is one expression,
without what stands around it: list marks, parentheses that aren't closed. What stands in parentheses with a result of
its own, `8 - ( 3 * 2 = 6 )`, is a chain of its own, and its result stays in its place. Words, commas and full stops end
a chain, and so does a number right after another one. Pure; the work grows with the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from rrr_cli.tasks.countdown.arithmetic import MAX_DIGITS, MAX_TOKENS, Refused, evaluate, parse
from rrr_cli.tasks.countdown.typography import ascii_signs

MAX_READ = 30_000  # characters of a text that are looked at, from its start
BREAK = "#"
LIST_MARK = re.compile(r"^[ \t]*[-*][ \t]+(?=\S)|\*\*", re.MULTILINE)  # and bold type
RESULT = re.compile(r"[-=]>|\u2192|\u21d2|\b(?:is|equals|gives|makes)\b|={2,}")
NOT_WHOLE = re.compile(r"(?<!\d)(?:\d*[^\W\d]\w*|\d+(?:[.,]\d+)+)")  # words, and numbers with points or commas within
TOKEN = re.compile(r"[0-9]+(?:\.[0-9]+)?|[-+*/()=]|\S")
NUMBER = re.compile(rf"-?[0-9]{{1,{MAX_DIGITS}}}(?:\.[0-9]{{1,{MAX_DIGITS}}})?")


@dataclass(frozen=True)
class Term:
    """One expression: its tokens, and what it comes to. A minus sign belongs to the number right after it."""

    tokens: tuple[str, ...]
    value: Fraction
    whole: bool  # it is all of its side


@dataclass(frozen=True)
class Side:
    """What stands on one side of a `=`: the first number in it, and the expressions."""

    first: Fraction | None
    terms: tuple[Term, ...]

    @property
    def number(self) -> Fraction | None:
        """The number that it is, where it is nothing else."""
        return next((term.value for term in self.terms if term.whole and len(term.tokens) == 1), None)


def chains(text: str, most: int) -> Iterator[list[Side]]:
    """The chains of a text in order, a chain in parentheses before the one around it. Expressions of more than `most`
    numbers are left out."""
    for tokens in _chains(_tokens(text)):
        sides: list[list[str]] = [[]]
        for token in tokens:
            if token == "=":
                sides.append([])
            else:
                sides[-1].append(token)
        yield [_side(side, most) for side in sides]


def _tokens(text: str) -> list[str]:
    text = LIST_MARK.sub(BREAK, RESULT.sub("=", ascii_signs(text[:MAX_READ])))
    text = NOT_WHOLE.sub(lambda match: match[0] if NUMBER.fullmatch(match[0]) else BREAK, text)
    return TOKEN.findall(text)


def _chains(tokens: Sequence[str]) -> Iterator[list[str]]:
    """The tokens of each chain; parentheses that aren't closed are left out."""
    open_groups: list[list[str]] = [[]]  # what stands around, and in each parenthesis that is still open
    for token in tokens:
        group = open_groups[-1]
        if token == "(" and (not group or group[-1] in "+-*/=("):
            open_groups.append([])
        elif token == ")" and len(open_groups) > 1:
            inside = open_groups.pop()
            if "=" in inside:
                yield inside
                inside = inside[len(inside) - inside[::-1].index("="):]
            open_groups[-1] += ["(", *inside, ")"] if len(inside) <= MAX_TOKENS else [BREAK]
        elif token in "+-*/=" and len(token) == 1:
            group.append(token)
        else:  # a number right after another one, or what no expression holds
            number = NUMBER.fullmatch(token)
            if not number or (group and (NUMBER.fullmatch(group[-1]) or group[-1] == ")")):
                yield from (one for one in open_groups if one)
                open_groups = [[]]
            if number:
                open_groups[-1].append(token)
            elif token == "(":
                open_groups.append([])
    yield from (one for one in open_groups if one)


def _side(tokens: Sequence[str], most: int) -> Side:
    joined = _signed(tokens)
    while joined and joined[-1] in "+-*/":
        joined.pop()
    start = next((i for i, token in enumerate(joined) if token not in "+-*/"), len(joined))
    joined = joined[start:]
    first = next((token for token in joined if NUMBER.fullmatch(token)), None)
    return Side(Fraction(first) if first else None, tuple(_terms(joined, most)))


def _signed(tokens: Sequence[str]) -> list[str]:
    """The tokens, with a minus sign where a number should stand as a part of the number after it."""
    joined: list[str] = []
    for token in tokens:
        sign = len(joined) > 0 and joined[-1] == "-" and (len(joined) == 1 or joined[-2] in "+-*/(")
        if sign and NUMBER.fullmatch(token):
            joined[-1] = f"-{token}"
        else:
            joined.append(token)
    return joined


def _terms(tokens: Sequence[str], most: int) -> Iterator[Term]:
    """The expression that the tokens are, also without a sign before it, and each one in parentheses within it."""
    starts, groups = list[int](), [(0, len(tokens))]
    if tokens and len(tokens[0]) > 1 and tokens[0][0] == "-":  # it may be a dash
        yield from _term((tokens[0][1:], *tokens[1:]), most, whole=False)
    for i, token in enumerate(tokens):
        if token == "(":
            starts.append(i + 1)
        elif token == ")":
            groups.append((starts.pop(), i))
    for start, end in groups:
        if end - start <= MAX_TOKENS:
            yield from _term(tuple(tokens[start:end]), most, whole=end - start == len(tokens))


def _term(tokens: tuple[str, ...], most: int, whole: bool) -> Iterator[Term]:
    values = [Fraction(token) for token in tokens if NUMBER.fullmatch(token)]
    if not 0 < len(values) <= most:
        return
    places = iter(range(len(values)))  # `parse` takes whole numbers alone
    try:
        postfix = parse(" ".join(str(next(places)) if NUMBER.fullmatch(token) else token for token in tokens))
        value = evaluate([values[item] if isinstance(item, int) else item for item in postfix])
    except (Refused, ZeroDivisionError):
        return
    yield Term(tokens, value, whole)
