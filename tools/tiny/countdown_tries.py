"""What a try at Countdown can be made of: candidates with their working, and the ways in which a try goes wrong.

A candidate is an expression over the three numbers in whole steps from 0 to LARGEST. A slip is what a small model
writes besides: a wrong sum, a fraction taken for a whole number, a number that isn't there. Reads and writes nothing;
no slip solves a problem that is held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import combinations
from random import Random

from rrr_cli.tasks.countdown.problem import problem_key
from rrr_cli.tasks.splits import split_of

LARGEST = 120  # the largest number that is a word; of a larger one each digit is a word
HELD_OUT_SHARE = 0.30  # the test split, and above it the dev split on which the recipe was tuned
WRONG_NUMBER = 0.3  # of slips: a number that the problem doesn't have; the rest are wrong sums
BELIEVED = 0.4  # of wrong sums: those that claim the target


@dataclass(frozen=True)
class Candidate:
    """An expression over three numbers, its working and its value."""

    expression: tuple[str, ...]  # ( 3 * 7 ) + 8
    working: tuple[str, ...]  # 3 * 7 = 21 + 8 = 29
    value: int  # what the working claims; of a slip it is wrong


@cache
def held_out(numbers: tuple[int, ...], target: int) -> bool:
    """Whether a problem belongs to the test split or to the dev split."""
    return split_of(problem_key(numbers, target), HELD_OUT_SHARE) == "test"


@cache
def candidates(numbers: tuple[int, ...]) -> list[Candidate]:
    """What three sorted numbers can make in whole steps from 0 to LARGEST, the larger operand of a pair first."""
    found: dict[tuple[str, ...], Candidate] = {}
    for i, j in combinations(range(3), 2):
        small, large, third = numbers[i], numbers[j], numbers[3 - i - j]
        for inner in "+-*/":
            middle = _whole(inner, large, small)
            if middle is None:
                continue
            for outer in "+-*/":
                value = _whole(outer, middle, third)
                if value is not None:
                    candidate = _written(large, inner, small, middle, outer, third, value, pair_first=True)
                    found[candidate.expression] = candidate
                value = _whole(outer, third, middle)
                if value is not None and outer in "-/":
                    candidate = _written(large, inner, small, middle, outer, third, value, pair_first=False)
                    found[candidate.expression] = candidate
    return list(found.values())


def slip(numbers: Sequence[int], target: int, random: Random) -> tuple[Candidate, list[str]]:
    """A wrong answer whose working is wrong too, and the words for what it really comes to."""
    while True:
        used, claimed = list(numbers), None
        if random.random() < WRONG_NUMBER:
            used[random.randrange(3)] = random.randint(1, 12)
        elif random.random() < BELIEVED:
            claimed = target
        a, b, c = random.sample(used, 3)
        inner, outer = random.choices("+-*/", k=2)
        pair_first = outer in "+*" or random.random() < 0.5
        middle = _exact(inner, a, b)
        value = _exact(outer, middle, c) if pair_first else _exact(outer, c, middle)
        near = _near(value) + random.randint(-2, 2)
        claimed = max(0, near) if claimed is None else claimed
        if value == target or claimed == value or (claimed == target and sorted(used) != sorted(numbers)):
            continue
        if value is not None and value.denominator == 1 and held_out(tuple(sorted(used)), int(value)):
            continue
        words = number_words(Fraction(claimed) if value is None else value)
        return _written(a, inner, b, _near(middle), outer, c, min(claimed, LARGEST), pair_first), words


def broken(answer: Sequence[str], random: Random) -> list[str]:
    """The words of an answer without a word of its expression, or broken off while it thinks."""
    if random.random() < 0.5:
        return list(answer[:random.randrange(2, answer.index("</think>"))])
    left_out = random.randrange(answer.index("<answer>") + 1, len(answer) - 1)
    return [*answer[:left_out], *answer[left_out + 1:]]


def number_words(value: Fraction) -> list[str]:
    """-7/2 is - 7 / 2, and 150 is 1 5 0."""
    parts = [abs(value.numerator)] if value.denominator == 1 else [abs(value.numerator), value.denominator]
    spelled = [[str(n)] if n <= LARGEST else list(str(n)) for n in parts]
    return [*["-"][:value < 0], *spelled[0], *(word for n in spelled[1:] for word in ("/", *n))]


def _written(a: int, inner: str, b: int, middle: int, outer: str, c: int, value: int, pair_first: bool) -> Candidate:
    pair, (m, third, v) = (str(a), inner, str(b)), map(str, (middle, c, value))
    if pair_first:
        return Candidate(("(", *pair, ")", outer, third), (*pair, "=", m, outer, third, "=", v), value)
    return Candidate((third, outer, "(", *pair, ")"), (third, outer, "(", *pair, "=", m, ")", "=", v), value)


def _whole(operator: str, a: int, b: int) -> int | None:
    value = _exact(operator, a, b)
    return int(value) if value is not None and value.denominator == 1 and 0 <= value <= LARGEST else None


def _exact(operator: str, a: Fraction | int | None, b: Fraction | int | None) -> Fraction | None:
    """None: division by zero, here or before."""
    if a is None or b is None or (operator == "/" and b == 0):
        return None
    x, y = Fraction(a), Fraction(b)
    return {"+": x + y, "-": x - y, "*": x * y}[operator] if operator != "/" else x / y


def _near(value: Fraction | None) -> int:
    """The whole number that stands for a value which none can stand for."""
    return 1 if value is None else min(LARGEST, abs(int(value)))
