"""Countdown: which answers stand in a free text such as a reflection, as expressions and as chains of steps."""

from __future__ import annotations

import time
from fractions import Fraction
from random import Random
from typing import Any

import pytest

from rrr_cli.tasks.countdown import Countdown, chains, make_problem
from rrr_cli.tasks.countdown.arithmetic import evaluate
from rrr_cli.tasks.solves import solves


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Try (1 + 2) * 3.", True),
        ("so ((1+2)*3)=9", True),
        ("(1 +\n2) *3", True),
        ("(11 + 2) * 3", False),
        ("(1 + 2) * 34", False),
        ("3 * (1 + 2)", True),
        ("- 3×(2+1)", True),
        ("$\\left(1 + 2\\right) \\times 3$", True),
        ("1 + 2 = 3 * 3", True),
        ("1 * 2 * 3", False),
        ("version 1.2 * 3", False),
        ("1 + 2 * 3 = 7", False),
        ("add 1 and 2, then multiply", False),
        ("", False),
    ],
)
def test_any_right_expression_solves(text: str, right: bool):
    assert solves(Countdown(), make_problem([1, 2, 3], 9, "train", "easy", "(1 + 2) * 3"), text) is right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("3 * 7 = 21 + 8 = 29 yes", True), ("Try: 3 * 7 = 21 , 21 + 8 = 29 .", True), ("3*7=21. Then 8 + 21", True),
        ("( 3 * 7 = 21 ) + 8 = 29", True), ("21 + 8 = 29, since 21 = 3 * 7", True), ("29 = 8 + 7 * 3", True),
        ("1. 3 × 7 = 21\n2. 21 + 8 = 29", True), ("- 3 * 7 = 21\n- 21 + 8 = 29", True), ("3 * 7 -> 21 -> 21 + 8", True),
        ("3 * 7 is 21, and 21 + 8 makes 29", True), ("**3 * 7 + 8**", True), ("3*7 = 21 - 8 = 13, 21 + 8 yes", True),
        ("3 * 7 = 22 + 8 = 29 yes", False), ("21 + 8 = 29", False), ("3 * 7 = 21", False), ("3 * 7 + 8 - 1", False),
        ("2 + 3 * 7 + 8", False), ("3 * 7 = 21 + 7 = 28", False), ("3 * 7 = 21 + 7 + 1 = 29", False),
        ("multiply 3 and 7, then add 8", False), ("3 , 7 , 8 = 29", False),
    ],
)
def test_a_chain_of_steps_that_comes_to_the_target_solves(text: str, right: bool):
    assert solves(Countdown(), make_problem([3, 7, 8], 29, "train", "easy", "3 * 7 + 8"), text) is right


@pytest.mark.parametrize(
    ("text", "numbers", "target", "right"),
    [
        ("8 - ( 3 * 2 = 6 ) = 2", [2, 3, 8], 2, True), ("3 + 5 = 8 / ( 7 - 3 ) = 2", [3, 3, 5, 7], 2, True),
        ("7 - 3 = 4 , 3 + 5 = 8 , 8 / 4 = 2", [3, 3, 5, 7], 2, True), ("7 / 2 = 3.5 * 8 = 28", [2, 7, 8], 28, True),
        ("3 - 8 = -5 + 7 = 2", [3, 7, 8], 2, True), ("7 * 6 = 42 + 7 = 43 yes", [7, 7, 6], 43, False),
        # A number of the problem's own is the result before it, or the end of a chain, and no other result.
        ("8 - 4 = 4 + 8 = 12", [8, 8, 4], 12, True), ("8 - 4 = 4, 4 + 8 = 12", [8, 8, 4], 12, True),
        ("3 / 1 = 3 - 3 = 0 no , 3 * 3 = 9 - 1 = 8 no", [3, 1, 3], 9, False),
    ],
)
def test_a_result_stands_for_its_expression(text: str, numbers: list[int], target: int, right: bool):
    assert solves(Countdown(), make_problem(numbers, target, "train", "easy", "0"), text) is right


def chain_of(tree: Any, random: Random) -> tuple[str, Fraction]:
    """A tree of (operator, left, right) as one chain, inner results in parentheses or before it, and its value."""
    if isinstance(tree, int):
        return str(tree), Fraction(tree)
    sign, left, right = tree
    (a, x), (b, y) = chain_of(left, random), chain_of(right, random)
    value = {"+": x + y, "-": x - y, "*": x * y}[sign]
    b = b if isinstance(right, int) else f"( {b} )"
    return f"{a} {sign} {b} = {value}", value


def random_tree(numbers: list[int], random: Random) -> Any:
    if len(numbers) == 1:
        return numbers[0]
    cut = random.randrange(1, len(numbers))
    return random.choice("+-*"), random_tree(numbers[:cut], random), random_tree(numbers[cut:], random)


def test_every_expression_written_as_a_chain_solves_where_it_is_right():
    for i in range(400):
        random = Random(i)
        numbers = [random.randrange(1, 13) for _ in range(random.choice((3, 3, 4, 5)))]
        chain, value = chain_of(random_tree(numbers, random), random)
        problem = make_problem(random.sample(numbers, len(numbers)), int(value), "train", "easy", "0")
        text = f"That makes 7 , not {value} . Try: {chain} yes ."
        assert solves(Countdown(), problem, text), (text, numbers)
        other = make_problem(numbers, int(value) + 1000, "train", "easy", "0")
        assert not solves(Countdown(), other, f"{text} = {int(value) + 1000}"), (text, numbers)
        more = make_problem([*numbers, 97], int(value), "train", "easy", "0")
        assert not solves(Countdown(), more, text), (text, numbers)


@pytest.mark.parametrize("text", [
    "1 " * 50_000, "1+2*" * 25_000, "1" * 100_000, "(" * 50_000 + "1+2+3", "1," * 50_000, "1=1=" * 25_000,
    "1+1=2 " * 17_000, "1+1=2=2=1+1=2*1=2=" * 5_500, "((1+1=2)=2)" * 9_000, "(" * 50_000 + "1" + ")" * 50_000,
])
@pytest.mark.parametrize("numbers", [[1, 1, 2], [1, 1, 1, 2, 2, 2]])
def test_looking_for_answers_is_bounded(monkeypatch: pytest.MonkeyPatch, text: str, numbers: list[int]):
    computed = 0

    def counted(postfix: Any) -> Fraction:
        nonlocal computed
        computed += 1
        return evaluate(postfix)

    monkeypatch.setattr(chains, "evaluate", counted)
    start = time.process_time()
    assert not solves(Countdown(), make_problem(numbers, 900, "train", "easy", "0"), text)
    assert computed <= chains.MAX_READ
    assert time.process_time() - start < 3
