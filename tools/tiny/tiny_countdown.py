"""What `--model tiny` is trained on: made-up transcripts of Countdown, in the very chats that the stages send.

A candidate is written `3 * 7 = 21 + 8 = 29 yes`, with the model's own mark; an answer thinks through a short series of
them and the last one counts; a reflection says what came out and tries some more. Many candidates are wrong and giving
up is a matter of chance, so the model fails often, and a reward for reflections has something to teach. Going on is a
comma and giving up a full stop, in answers and reflections alike, so what reflections learn reaches the answers too.

Refuses to learn from the test split: no transcript poses a problem that is held out, and none holds a candidate that
solves one, not even as a wrong candidate for another target.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, combinations_with_replacement, islice
from random import Random
from typing import Any

from rrr_cli import prompts
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.countdown import Countdown
from rrr_cli.tasks.countdown.problem import WORDS, problem_key
from rrr_cli.tasks.splits import split_of

TASK = "countdown"
MAX_TOKENS = 96
LARGEST = 120  # the largest number that is a word
NEAREST = 8  # wrong candidates whose values lie nearest to the target
HELD_OUT_SHARE = 0.30  # the test split, and above it the dev split on which the recipe was tuned

@dataclass(frozen=True)
class Recipe:
    """Every number that shapes the model. Shares and chances are probabilities."""

    steps: int = 3000
    batch_size: int = 32
    learning_rate: float = 2e-3  # after 50 steps of warm-up; cosine down to a tenth
    largest_number: int = 12  # of the wider problems, which keep the model from learning the easy ones by heart
    wide_share: float = 0.3  # of transcripts with a number above 10
    answer_only: float = 0.5  # transcripts that are a problem and its answer
    plain_retry: float = 0.1  # a failed answer, then another try without a reflection: the control of `rrr eval`
    right: float = 0.45  # chance that a candidate is right
    near: float = 0.5  # chance that a wrong one is among the NEAREST; unlikely ones teach little about what to try next
    give_up: tuple[float, ...] = (0.25, 0.8)  # of stopping after a wrong candidate; one of them for a whole transcript
    most: int = 6  # candidates in a series
    habit_steps: int = 300  # at the end: the habit of giving up early, which a reward can unlearn
    habit_learning_rate: float = 6e-4
    habit_give_up: tuple[float, ...] = (0.25, *[0.85] * 9)
    use_reflection: float = 0.9  # chance that a retry takes what its reflection found
    settle_steps: int = 300  # then: giving up isn't quite so usual, and a retry always takes what was found
    settle_give_up: tuple[float, ...] = (*[0.15] * 3, *[0.85] * 7)


@dataclass(frozen=True)
class Candidate:
    """An expression over three numbers, its working and its value."""

    expression: tuple[str, ...]  # ( 3 * 7 ) + 8
    working: tuple[str, ...]  # 3 * 7 = 21 + 8 = 29
    value: int


def phases(recipe: Recipe) -> list[Recipe]:
    """It learns to search, gets the habit of giving up early, and learns to trust what a reflection found."""
    habit = replace(
        recipe, steps=recipe.habit_steps, learning_rate=recipe.habit_learning_rate, give_up=recipe.habit_give_up
    )
    settle = replace(habit, steps=recipe.settle_steps, give_up=recipe.settle_give_up, use_reflection=1.0)
    return [recipe, habit, settle]


# The language --------------------------------------------------------------------------------------------------------

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|> {{ message.content }} <|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
CAME_TO, NOT, TRY = "That makes", ", not", ". Try:"  # of a reflection
SYMBOLS = ["[", "]", ",", ".", "+", "-", "*", "/", "(", ")", "=", "yes", "no"]
WORD = r"\d+|[A-Za-z]+|[^\dA-Za-z]"


def phrases() -> list[str]:
    """The fixed wording of every template, cut at its fields: one token each."""
    cut: list[str] = []
    for template, fields in (
        (WORDS["prompt"], ("{numbers}", "{target}")), (WORDS["reflect"], ()), (WORDS["retry"], ()),
        (prompts.REFLECTION_ONLY, ("{reflection}",)),
    ):
        rest = template
        for field in fields:
            head, _, rest = rest.partition(field)
            cut.append(head.strip())
        cut.append(rest.strip())
    return [phrase for phrase in cut if phrase]


def whole_words() -> list[str]:
    """What is one token though it holds spaces or symbols."""
    return [*TAGS, *phrases(), CAME_TO, NOT, TRY]


def words() -> list[str]:
    """All other words."""
    return [*SYMBOLS, *map(str, range(LARGEST + 1))]


def untrained(recipe: Recipe, tokenizer: Any, ids: Sequence[int]) -> Iterator[int]:
    """Places in a transcript that carry no loss: what a wrong candidate tries, but for its values and its mark.

    So the model learns to compute and to mark from wrong candidates, and to choose from right ones alone.
    """
    word = {name: tokenizer.convert_tokens_to_ids(name) for name in ("<think>", TRY, ",", "=", "no")}
    start = 0  # where the latest candidate begins
    for i, token in enumerate(ids):
        if token in (word["<think>"], word[TRY], word[","]):
            start = i + 1
        elif token == word["no"]:
            yield from (j for j in range(start, i) if ids[j - 1] != word["="])


# The transcripts -----------------------------------------------------------------------------------------------------


@cache
def candidates(numbers: tuple[int, ...]) -> list[Candidate]:
    """What three sorted numbers can make in whole steps from 0 to LARGEST, the larger operand of a pair first."""
    found: dict[tuple[str, ...], Candidate] = {}
    for i, j in combinations(range(3), 2):
        small, large, third = numbers[i], numbers[j], numbers[3 - i - j]
        for inner in "+-*/":
            middle = _apply(inner, large, small)
            if middle is None:
                continue
            pair = (str(large), inner, str(small))
            for outer in "+-*/":
                value = _apply(outer, middle, third)
                expression: tuple[str, ...]
                working: tuple[str, ...]
                if value is not None:
                    expression = ("(", *pair, ")", outer, str(third))
                    working = (*pair, "=", str(middle), outer, str(third), "=", str(value))
                    found[expression] = Candidate(expression, working, value)
                value = _apply(outer, third, middle)
                if value is not None and outer in "-/":
                    expression = (str(third), outer, "(", *pair, ")")
                    working = (str(third), outer, "(", *pair, "=", str(middle), ")", "=", str(value))
                    found[expression] = Candidate(expression, working, value)
    return list(found.values())


def _apply(operator: str, a: int, b: int) -> int | None:
    if operator == "/":
        return a // b if b and a % b == 0 else None
    value = {"+": a + b, "-": a - b, "*": a * b}[operator]
    return value if 0 <= value <= LARGEST else None


@cache
def held_out(numbers: tuple[int, ...], target: int) -> bool:
    """Whether a problem belongs to the test split or to the dev split."""
    return split_of(problem_key(numbers, target), HELD_OUT_SHARE) == "test"


def problems(largest_number: int) -> list[tuple[tuple[int, ...], int]]:
    """(sorted numbers, target from 1 to 100) of every solvable problem that isn't held out."""
    return [
        (numbers, target)
        for numbers in combinations_with_replacement(range(1, largest_number + 1), 3)
        for target in sorted({c.value for c in candidates(numbers)})
        if 1 <= target <= 100 and not held_out(numbers, target)
    ]


class Transcripts:
    """An endless stream of transcripts: chats whose assistant turns are marked for training or not."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe = recipe
        self.random = Random(seed)
        every = problems(recipe.largest_number)
        self.easy = [p for p in every if max(p[0]) <= 10]
        self.wide = [p for p in every if max(p[0]) > 10]

    def __iter__(self) -> Iterator[list[Message]]:
        while True:
            yield self.transcript()

    def _problem(self) -> tuple[tuple[int, ...], int, Message]:
        numbers, target = self.random.choice(
            self.wide if self.random.random() < self.recipe.wide_share else self.easy
        )
        shown = self.random.sample(numbers, 3)
        return numbers, target, Message("user", WORDS["prompt"].format(numbers=shown, target=target))

    def transcript(self) -> list[Message]:
        """A chat: an answer alone, or a failed one with a retry, after a reflection or (the control) without one."""
        recipe, random = self.recipe, self.random
        numbers, target, problem = self._problem()
        tried: set[Candidate] = set()
        give_up = random.choice(recipe.give_up)

        def series(right: float = recipe.right) -> list[Candidate]:
            return self._series(numbers, target, tried, right, give_up)

        kind = random.random()
        if kind < recipe.answer_only:
            return [problem, self._answer(series(), target)]
        failed = series(right=0.0)
        turns = [problem, self._answer(failed, target)]
        if failed[-1].value == target:  # nothing wrong was left to try
            return turns
        if kind < recipe.answer_only + recipe.plain_retry:
            return [*turns, Message("user", WORDS["retry"]), self._answer(series(), target)]
        reflected = series()
        words = [CAME_TO, str(failed[-1].value), NOT, str(target), TRY, *_marked(reflected, target)]
        turns += [Message("user", WORDS["reflect"]), Message("assistant", " ".join(words))]
        used = reflected[-1].value == target and random.random() < recipe.use_reflection
        retry = self._answer(reflected[-1:] if used else series(), target)
        return [*turns, Message("user", WORDS["retry"]), retry]

    def _series(self, numbers: tuple[int, ...], target: int, tried: set[Candidate], right: float,
                give_up: float) -> list[Candidate]:
        """Wrong candidates that weren't `tried`, until a right one, giving up, or the most that a series may hold."""
        good = [c for c in candidates(numbers) if c.value == target]
        good = [c for c in good if "/" not in c.working] or good  # one way to solve most problems is enough to learn
        bad = [c for c in candidates(numbers) if c.value != target and not held_out(numbers, c.value)]
        bad.sort(key=lambda c: abs(c.value - target))
        series: list[Candidate] = []
        while True:
            left = [c for c in bad if c not in tried]
            if not left or self.random.random() < right:
                return [*series, self.random.choice(good)]
            series.append(self.random.choice(left[:NEAREST] if self.random.random() < self.recipe.near else left))
            tried.add(series[-1])
            if len(series) >= self.recipe.most or self.random.random() < give_up:
                return series

    def _answer(self, series: list[Candidate], target: int) -> Message:
        words = ["<think>", *_marked(series, target), "</think>", "<answer>", *series[-1].expression, "</answer>"]
        return Message("assistant", " ".join(words))


def _marked(series: Sequence[Candidate], target: int) -> list[str]:
    words = [word for c in series for word in (*c.working, "yes" if c.value == target else "no", ",")]
    return [*words[:-1], "."]


def check_problems(count: int) -> dict[str, list[Problem]]:
    """Problems that training posed ("seen") and problems of the dev split ("dev"), `count` of each at most."""
    def is_dev(problem: Problem) -> bool:
        posed = json.loads(problem.metadata)
        return held_out(tuple(sorted(posed["nums"])), posed["target"])

    every = list(Countdown().problems("train"))
    return {name: list(islice((p for p in every if is_dev(p) is dev), count))
            for name, dev in (("seen", False), ("dev", True))}
