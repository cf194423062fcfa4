"""Generated programming problems, small ones: the task's levels without a data set. For demonstrations; MBPP is harder.

`easy`: a function of two arithmetic steps. `hard`: choose, change and combine the items of a list, the words of a text
or the digits of a number. Tests are computed from the reference; three are shown and nine more decide as well, so that
the shown answers can't be learnt in place of the function. What a function gives on 40 inputs says which split it
belongs to, so that no function stands in both in other words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from random import Random
from typing import Any

from rrr_cli.records import Problem, content_id
from rrr_cli.tasks.mbpp.problem import WORDS, make_problem
from rrr_cli.tasks.splits import split_of

LIMITS = {"train": 2000, "test": 500}
TEST_SHARE = 0.2
SHOWN_TESTS, HIDDEN_TESTS = 3, 9

#: Words and code of a step; x is what it is done to.
STEPS = {
    "add": ("adds {n}", "{x} + {n}"),
    "subtract": ("subtracts {n}", "{x} - {n}"),
    "multiply": ("multiplies by {n}", "{x} * {n}"),
    "divide": ("divides by {n} without remainder", "{x} // {n}"),
    "remainder": ("takes the remainder by {n}", "{x} % {n}"),
}
#: Pairs that are one step in two, or that leave nothing.
IDLE = {("add", "subtract"), ("subtract", "add"), ("remainder", "divide")}

#: family -> its head, and of each part (words, code) with {n}, a number, or {c}, a letter, to fill in.
FAMILIES: dict[str, dict[str, Any]] = {
    "list": {
        "head": "def from_list(numbers):\n    items = numbers\n", "of": "numbers in a list",
        "choose": [("divisible by {n}", "x % {n} == 0"), ("not divisible by {n}", "x % {n} != 0"),
                   ("greater than {n}", "x > {n}"), ("smaller than {n}", "x < {n}")],
        "change": [("left as they are", "x"), ("squared", "x * x"), ("multiplied by {n}", "x * {n}"),
                   ("made larger by {n}", "x + {n}"), ("reduced to their remainder by {n}", "x % {n}")],
        "combine": [("the sum", "sum(items)"), ("the largest, or 0", "max(items, default=0)"),
                    ("the smallest, or 0", "min(items, default=0)"), ("how many differ", "len(set(items))"),
                    ("a sorted list", "sorted(items)"), ("a list in reverse order", "items[::-1]")],
    },
    "text": {
        "head": "def from_text(text):\n    items = text.split()\n", "of": "words of a text",
        "choose": [("longer than {n} letters", "len(x) > {n}"), ("with the letter '{c}' in them", "'{c}' in x"),
                   ("without the letter '{c}'", "'{c}' not in x")],
        "change": [("written backwards", "x[::-1]"), ("in capital letters", "x.upper()"), ("doubled", "x + x"),
                   ("rid of each '{c}'", "x.replace('{c}', '')"), ("cut to {n} letters", "x[:{n}]")],
        "combine": [("joined by a dash", "'-'.join(items)"), ("a sorted list", "sorted(items)"),
                    ("the number of their letters", "sum(len(x) for x in items)"),
                    ("the last in the alphabet, or ''", "max(items, default='')")],
    },
    "number": {
        "head": "def from_number(number):\n    items = [int(digit) for digit in str(number)]\n",
        "of": "digits of a whole number",
        "choose": [("even", "x % 2 == 0"), ("odd", "x % 2 == 1"), ("other than {n}", "x != {n}"),
                   ("not greater than {n}", "x <= {n}")],
        "change": [("squared", "x * x"), ("multiplied by {n}", "x * {n}"), ("made larger by {n}", "x + {n}")],
        "combine": [("the sum", "sum(items)"), ("the largest, or 0", "max(items, default=0)"),
                    ("a list", "items"), ("how many differ", "len(set(items))")],
    },
}
LETTERS = "aeioursntldgmb"
VOCABULARY = (
    "apple bread river stone cloud winter summer garden window letter music table island forest silver planet rabbit "
    "tunnel orange candle market bridge castle pencil mirror basket school engine violin desert"
)


def problems(level: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """Problem i depends on the level, the split and i alone; one that was drawn before is left out."""
    seen: set[str] = set()
    index = 0
    while len(seen) < LIMITS[split]:
        random = Random(f"mbpp/{level}/{split}/{index}")
        index += 1
        text, code, kind, tests, behaviour = _draw(random, level, split)
        if behaviour not in seen:
            seen.add(behaviour)
            shown, hidden = tests[:SHOWN_TESTS], tests[SHOWN_TESTS:]
            yield make_problem(text, code, shown, split, f"{level}-{kind}", level, hidden, words=words)


def _draw(random: Random, level: str, split: str) -> tuple[str, str, str, list[str], str]:
    """A problem whose function belongs to `split`, and whose shown tests expect different values: its text, reference,
    kind, tests, and the hash of what the function does."""
    while True:
        text, code, kind = _easy(random) if level == "easy" else _hard(random)
        scope: dict[str, Any] = {}
        exec(code, scope)  # of this file's templates, never of a model
        name = code[len("def "):code.index("(")]
        inputs = _inputs(random, kind, SHOWN_TESTS + HIDDEN_TESTS)
        expected = [scope[name](value) for value in inputs]
        if len({repr(value) for value in expected[:SHOWN_TESTS]}) < SHOWN_TESTS:
            continue
        behaviour = content_id("mbpp", kind, [scope[name](value) for value in _probes(kind)])
        if split_of(behaviour, TEST_SHARE) == split:
            tests = [f"assert {name}({i!r}) == {w!r}" for i, w in zip(inputs, expected, strict=True)]
            return text, code, kind, tests, behaviour


@lru_cache
def _probes(kind: str) -> tuple[Any, ...]:
    return tuple(_inputs(Random(f"mbpp/{kind}"), kind, 40))


def _easy(random: Random) -> tuple[str, str, str]:
    while True:
        first, second = random.choices(list(STEPS), k=2)
        if first != second and (first, second) not in IDLE:
            break
    n, m = random.randint(2, 25), random.randint(2, 25)
    words = f"{STEPS[first][0].format(n=n)} and then {STEPS[second][0].format(n=m)}"
    inner = STEPS[first][1].format(x="x", n=n)
    code = f"def f(x): return {STEPS[second][1].format(x=f'({inner})', n=m)}"
    return f"Write a function f of x that {words}.", code, "2"


def _hard(random: Random) -> tuple[str, str, str]:
    kind = random.choice(list(FAMILIES))
    family = FAMILIES[kind]
    parts = []
    for part in ("choose", "change", "combine"):
        words, code = random.choice(family[part])
        filled = {"n": random.randint(2, 9), "c": random.choice(LETTERS)}
        parts.append((words.format(**filled), code.format(**filled)))
    (chosen, test), (changed, expression), (combined, result) = parts
    text = f"Write a function that takes the {family['of']} that are {chosen}, {changed}, and returns {combined}."
    code = (f"{family['head']}    items = [x for x in items if {test}]\n    items = [{expression} for x in items]\n"
            f"    return {result}")
    return text.replace("that are with", "with").replace("that are without", "without"), code, kind


def _inputs(random: Random, kind: str, count: int) -> list[Any]:
    if kind == "list":
        return [[random.randint(-9, 30) for _ in range(random.randint(5, 8))] for _ in range(count)]
    if kind == "text":
        return [" ".join(random.choices(VOCABULARY.split(), k=6)) for _ in range(count)]
    return random.sample(range(1, 100), count) if kind == "2" else random.sample(range(100, 1_000_000), count)
