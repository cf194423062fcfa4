"""A second Countdown verifier, written apart from the first so that the two can be compared, and a source of texts.

It reads characters and descends recursively where the package has a tokenizer and a shunting yard. Shared by
test_countdown.py and tools/fuzz/countdown.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from random import Random


class _Bad(Exception):
    pass


def oracle(text: str, numbers: Sequence[int], target: int) -> str | None:
    """The error type of an answer text, None where it is right."""
    head, closing, _ = text.rpartition("</answer>")
    _, opening, answer = head.rpartition("<answer>")
    answer = answer.strip(" \t\r\n")
    if not closing or not opening or not answer:
        return "no_answer"
    try:
        tokens = _split(_as_typed(answer, target))
        value, used, rest = _sum(tokens)
        if rest:
            raise _Bad("malformed")
    except _Bad as bad:
        return str(bad)
    if Counter(used) != Counter(numbers):
        return "wrong_numbers"
    if value is None:
        return "division_by_zero"
    return None if value == target else "wrong_value"


def _as_typed(answer: str, target: int) -> str:
    """What the signs of `SOUP` that a reader takes for others mean: ×, −, x, a comma, `= target`, **, a full stop."""
    if len(answer) > 512:
        return answer
    answer = answer.replace("×", "*").replace("−", "-")
    for i, c in enumerate(answer):
        if c == "x" and 0 < i < len(answer) - 1 and answer[i - 1] in " \t\n)" and answer[i + 1] in " \t\n(":
            answer = f"{answer[:i]}*{answer[i + 1:]}"
    answer = re.sub(r"(?<![\d,])[1-9][0-9]{0,2}(,[0-9]{3})+(?![\d,])", lambda m: m[0].replace(",", ""), answer)
    bold = answer.removesuffix(".").rstrip()
    if len(bold) > 3 and bold.startswith("**") and bold.endswith("**"):
        answer = bold[2:-2]
    sides = [side.strip(" \t\r\n") for side in answer.strip(" \t\r\n").removesuffix(".").split("=", 1)]
    if len(sides) == 1 or sides[1] == str(target):
        return sides[0]
    return sides[1] if sides[0] == str(target) else answer


def _split(answer: str) -> list[str]:
    if len(answer) > 512:
        raise _Bad("too_long")
    tokens: list[str] = []
    glue = False  # whether a digit continues the number before it
    for i, c in enumerate(answer):
        if c in "0123456789":
            tokens[-1:] = [tokens[-1] + c] if glue else [*tokens[-1:], c]
            glue = True
            if i + 1 == len(answer) or answer[i + 1] not in "0123456789":
                if len(tokens[-1]) > 9:
                    raise _Bad("too_long")
                if str(int(tokens[-1])) != tokens[-1]:
                    raise _Bad("malformed")
            continue
        glue = False
        if c in "+-*/()":
            tokens.append(c)
        elif c not in " \t\r\n":
            raise _Bad("malformed")
    if len(tokens) > 64:
        raise _Bad("too_long")
    return tokens


Part = tuple[Fraction | None, list[int], list[str]]  # value (None: it divides by zero), numbers used, tokens left


def _sum(tokens: list[str]) -> Part:
    value, used, rest = _product(tokens[1:] if tokens[:1] == ["+"] and tokens[1:2] != ["-"] else tokens)
    while rest and rest[0] in "+-":
        other, more, after = _product(rest[1:])
        if value is not None:
            value = None if other is None else value + other if rest[0] == "+" else value - other
        used, rest = used + more, after
    return value, used, rest


def _product(tokens: list[str]) -> Part:
    value, used, rest = _atom(tokens)
    while rest and rest[0] in "*/":
        other, more, after = _atom(rest[1:])
        if value is None or other is None or (rest[0] == "/" and other == 0):
            value = None
        else:
            value = value * other if rest[0] == "*" else value / other
        used, rest = used + more, after
    return value, used, rest


def _atom(tokens: list[str]) -> Part:
    if tokens[:1] == ["-"] and tokens[1:2] != ["-"]:
        value, used, rest = _atom(tokens[1:])
        return value and -value, used, rest
    if tokens and tokens[0] == "(":
        value, used, rest = _sum(tokens[1:])
        if not rest or rest[0] != ")":
            raise _Bad("malformed")
        return value, used, rest[1:]
    if tokens and tokens[0].isdigit():
        return Fraction(tokens[0]), [int(tokens[0])], tokens[1:]
    raise _Bad("malformed")


SOUP = [*"0123456789+-*/()=., \t\n_^x#eE%", "**", "//", "<answer>", "</answer>", "٣", "×", "−", "\x00", "\ud800", "１"]


def random_tree(random: Random, numbers: Sequence[int]) -> str:
    """A random expression over `numbers`, in order, with random spaces and needless parentheses."""
    if len(numbers) == 1:
        text = str(numbers[0])
    else:
        cut = random.randrange(1, len(numbers))
        space = random.choice(["", " "])
        left, right = random_tree(random, numbers[:cut]), random_tree(random, numbers[cut:])
        text = f"({left}){space}{random.choice('+-*/')}{space}({right})"
        if random.random() < 0.3:
            text = text.replace("(", "").replace(")", "")
    return f"({text})" if random.random() < 0.1 else text


def random_case(random: Random) -> tuple[str, list[int], int]:
    """An answer text, numbers and a target: right now and then, nearly right often, hopeless sometimes."""
    numbers = [random.randint(0 if random.random() < 0.2 else 1, 12) for _ in range(random.randint(2, 4))]
    used = random.sample(numbers, len(numbers))
    if random.random() < 0.1:
        used = random.choices(numbers, k=random.randint(1, 5))
    text = random_tree(random, used)
    if random.random() < 0.05:
        text = "".join(random.choices(SOUP, k=random.randint(0, 40)))
    elif random.random() < 0.02:
        text = random.choice(["(", "1+", "9", "(1+"]) * random.randint(5, 200) + text
    pieces = list(text)
    for _ in range(random.choice([0, 0, 0, 1, 1, 2, 4])):
        at = random.randrange(len(pieces) + 1)
        pieces[at:at + random.randint(0, 1)] = random.choice([[], [random.choice(SOUP)]])
    text = "".join(pieces)
    wrapped = f"<answer>{text}</answer>"
    if random.random() < 0.1:
        wrapped = random.choice([
            text, f"<answer>{text}", wrapped + wrapped, wrapped + "<answer>", wrapped + "</answer>",
            f"<answer>{wrapped}", f"so {wrapped} it is", wrapped.replace("answer", "ANSWER"),
        ])
    return wrapped, numbers, _value_or(random, text, random.randint(1, 30))


def _value_or(random: Random, text: str, other: int) -> int:
    """The integer value of `text` where it has one (most of the time), so that many cases are right."""
    try:
        value = _sum(_split(text))[0]
    except _Bad:
        return other
    return int(value) if value is not None and value.denominator == 1 and random.random() < 0.7 else other
