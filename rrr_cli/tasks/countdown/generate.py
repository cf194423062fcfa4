"""Generated Countdown problems. Level `easy`: every solvable problem of 3 numbers 1 to 10 and a target 1 to 100.

Level `paper`: 3 or 4 numbers 1 to 99 and a target 10 to 100, as many as in the data of RRR (arXiv 2505.24726, section
4.2). A problem's key says which split it belongs to. Left out is the problem that the prompt's own example solves (with
TinyZero's, 1 from 1, 2 and 3): who copies the example must not pass. Reads and writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations_with_replacement
from random import Random

from rrr_cli.records import Problem
from rrr_cli.tasks.countdown.arithmetic import Refused, evaluate, parse
from rrr_cli.tasks.countdown.problem import TEST_SHARE, WORDS, make_problem, problem_key
from rrr_cli.tasks.countdown.solver import solutions, values
from rrr_cli.tasks.splits import split_of

TEST_SHARES = {"easy": 0.23, "paper": TEST_SHARE}
LIMITS = {"train": 450_000, "test": 15_000}  # of the paper level: the sizes of RRR's splits


def problems(level: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The problems of `split`: of level easy 2,914 in both splits, of level paper as many as RRR has."""
    return _easy_problems(split, words) if level == "easy" else _paper_problems(split, words)


def _easy_problems(split: str, words: Mapping[str, str]) -> Iterator[Problem]:
    """Every solvable problem of 3 numbers 1..10 and a target 1..100, by key, which is as good as shuffled."""
    solvable: dict[str, tuple[list[int], int, str]] = {}
    for numbers in combinations_with_replacement(range(1, 11), 3):
        for (value, denominator), expressions in values(numbers).items():
            if denominator == 1 and 1 <= value <= 100:
                solvable[problem_key(numbers, value)] = (list(numbers), value, expressions[0][0])
    for key in sorted(solvable.keys() - {_example_key(words["prompt"])}):
        if split_of(key, TEST_SHARES["easy"]) == split:
            nums, target, reference = solvable[key]
            Random(f"countdown/easy/{key}").shuffle(nums)
            yield make_problem(nums, target, split, "easy", reference, words)


def _paper_problems(split: str, words: Mapping[str, str]) -> Iterator[Problem]:
    """Problem i depends on the split and i alone, except that a problem that was drawn before is left out."""
    seen: set[str] = set()
    example = _example_key(words["prompt"])
    index = 0
    while len(seen) < LIMITS[split]:
        numbers, target, reference = _draw(Random(f"countdown/paper/{split}/{index}"), split)
        index += 1
        key = problem_key(numbers, target)
        if key not in seen and key != example:
            seen.add(key)
            yield make_problem(numbers, target, split, "paper", reference, words)


def _draw(random: Random, split: str) -> tuple[list[int], int, str]:
    """A solvable problem of `split`. The count and the target are drawn first and kept, so both stay uniform."""
    count = random.choice((3, 4))
    target = random.randint(10, 100)
    while True:
        numbers = random.choices(range(1, 100), k=count)
        if split_of(problem_key(numbers, target), TEST_SHARES["paper"]) == split:
            reference = next(solutions(numbers, target), None)
            if reference is not None:
                return numbers, target, reference


def _example_key(prompt: str) -> str | None:
    """The key of the problem that the example in the prompt solves; None where there is no example."""
    try:
        postfix = parse(re.findall("<answer>(.*?)</answer>", prompt)[-1])
        return problem_key([item for item in postfix if isinstance(item, int)], int(evaluate(postfix)))
    except (IndexError, Refused, ZeroDivisionError):
        return None
