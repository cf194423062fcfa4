"""Arithmetic as a model may write it: + - * / and parentheses over plain whole numbers, read and computed exactly.

Text from a model is hostile, so nothing here calls eval or ast, recurses, or computes before the text is known to be
short. One minus sign may stand before a number or parenthesis (`-(3 - 5) * 2`, `4 * -3`), a plus sign only at the start
of the expression or of what stands in parentheses. Refused, each with its reason: two signs, decimals, leading zeros,
`=`, `**`, `//`, `1(2)`, `1 2`, any digit or operator that isn't ASCII (`typography.py` comes first).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

MAX_CHARACTERS = 512
MAX_TOKENS = 64
MAX_DIGITS = 9

_TOKEN = re.compile(r"[0-9]+|[-+*/()]")
_SPACE = re.compile(r"[ \t\r\n]*")
NEGATIVE = "negative"  # a minus sign, as an operation on the one value before it
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, NEGATIVE: 3}


class Refused(Exception):
    """The text isn't an expression. `error_type` is "malformed" or "too_long"; the message says where and why."""

    def __init__(self, error_type: str, reason: str) -> None:
        super().__init__(reason)
        self.error_type = error_type


def tokenize(text: str) -> list[str]:
    """Numbers, operators and parentheses of `text`, in order. Raises Refused."""
    if len(text) > MAX_CHARACTERS:
        raise Refused("too_long", f"it has {len(text)} characters, and at most {MAX_CHARACTERS} are read")
    tokens: list[str] = []
    position = _skip_space(text, 0)
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise Refused("malformed", f"{text[position]!r} at character {position + 1} isn't allowed")
        token = match.group()
        if len(token) > MAX_DIGITS:
            raise Refused("too_long", f"it has a number of {len(token)} digits, and at most {MAX_DIGITS} are read")
        if len(token) > 1 and token[0] == "0":
            raise Refused("malformed", f"the number at character {position + 1} starts with a zero")
        tokens.append(token)
        position = _skip_space(text, match.end())
    if len(tokens) > MAX_TOKENS:
        raise Refused("too_long", f"it has {len(tokens)} tokens, and at most {MAX_TOKENS} are read")
    return tokens


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None  # the pattern matches the empty string
    return match.end()


def parse(text: str) -> list[int | str]:
    """The expression in postfix order, by Dijkstra's shunting yard; all operators group to the left. Raises Refused."""
    postfix: list[int | str] = []
    waiting: list[str] = []  # operators and open parentheses that still lack their right operand
    operand_next, before, signed = True, "", False
    for token in tokenize(text):
        signed, before = operand_next and _is_sign(token, before, signed), token
        if signed:
            waiting += [NEGATIVE] if token == "-" else []
            continue
        if operand_next != (token.isdigit() or token == "("):
            expected = "a number" if operand_next else "an operator"
            raise Refused("malformed", f"{expected} should stand where '{token}' is")
        if token.isdigit():
            postfix.append(int(token))
            operand_next = False
        elif token == "(":
            waiting.append(token)
        elif token == ")":
            while waiting and waiting[-1] != "(":
                postfix.append(waiting.pop())
            if not waiting:
                raise Refused("malformed", "a ')' has no '(' before it")
            waiting.pop()
        else:
            while waiting and _PRECEDENCE.get(waiting[-1], 0) >= _PRECEDENCE[token]:
                postfix.append(waiting.pop())
            waiting.append(token)
            operand_next = True
    if operand_next:
        raise Refused("malformed", "it ends where a number should stand")
    if "(" in waiting:
        raise Refused("malformed", "a '(' is never closed")
    return postfix + waiting[::-1]


def _is_sign(token: str, before: str, signed: bool) -> bool:
    """Whether a token where an operand should stand is a sign, after the token `before`, itself a sign or not."""
    return not signed and (token == "-" or (token == "+" and before in ("", "(")))


def evaluate(postfix: Sequence[int | Fraction | str]) -> Fraction:
    """The exact value of what `parse` returned. Raises ZeroDivisionError."""
    stack: list[Fraction] = []
    for item in postfix:
        if not isinstance(item, str):
            stack.append(Fraction(item))
            continue
        right = stack.pop()
        if item == NEGATIVE:
            stack.append(-right)
            continue
        left = stack.pop()
        if item == "+":
            stack.append(left + right)
        elif item == "-":
            stack.append(left - right)
        elif item == "*":
            stack.append(left * right)
        else:
            stack.append(left / right)
    return stack.pop()
