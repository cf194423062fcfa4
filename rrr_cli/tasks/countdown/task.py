"""Countdown: reach a target from a few numbers with + - * / and parentheses, each number used exactly once.

Problems come from a generator (`easy`, or `paper` with the semantics of the data in RRR, arXiv 2505.24726, section 4.2)
or from `data`, a local file or the hub's data set (see `countdown_data.py`). A problem is its sorted numbers and its
target: these make its id, and the id says which split it belongs to.

The verifier reads the last `</answer>` of the last assistant turn and the nearest `<answer>` before it; what stands
around them is ignored, and an answer that isn't closed is no answer. Between the tags stands one expression and nothing
else: no `=`, no sign. The reference is one solution among several; any right expression passes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations_with_replacement
from random import Random

from rrr_cli import prompts
from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.countdown.arithmetic import Refused, evaluate, parse
from rrr_cli.tasks.countdown.solver import solutions, values
from rrr_cli.tasks.rows import check_source, check_split, chosen_level

EASY_TEST_SHARE = 0.23
PAPER_TEST_SHARE = 1 / 30
PAPER_LIMITS = {"train": 450_000, "test": 15_000}  # sizes of the paper's splits


class Countdown:
    """The task; `levels` are of the generator, so `level` and `data` exclude each other.

    Raises RrrError: unknown level, or both given (exit 2); data that can't be read (exit 3), the hub's data set without
    the `datasets` package (exit 4).
    """

    name = "countdown"
    levels = ("easy", "paper")
    error_types = ("no_answer", "malformed", "too_long", "wrong_numbers", "division_by_zero", "wrong_value")
    words: Mapping[str, str] = {"reflect": prompts.COUNTDOWN_REFLECT, "retry": prompts.COUNTDOWN_RETRY}

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        from rrr_cli.tasks.countdown.data import HUB_NAME

        self.level = chosen_level(self.name, self.levels, level, data, partial(check_source, hub_name=HUB_NAME))
        self.data = data

    def problems(self, split: str) -> Iterator[Problem]:
        """Problems of `split`, "train" or "test"; the easy level has 2,915 in all, the paper level as many as RRR."""
        check_split(self.name, split)
        if self.data is not None:
            from rrr_cli.tasks.countdown.data import data_problems

            return data_problems(self.data, split)
        return _easy_problems(split) if self.level == "easy" else _paper_problems(split)

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Judge the last assistant turn. Total and pure."""
        metadata = json.loads(problem.metadata)
        return judge(next((m.content for m in reversed(transcript) if m.role == "assistant"), ""),
                     metadata["nums"], metadata["target"])

    def right_turns(self, problem: Problem) -> list[str]:
        """The reference between the tags."""
        return [f"<answer> {json.loads(problem.reference)} </answer>"]

    def leaks(self, problem: Problem, text: str) -> bool:
        """Whether the reference's tokens stand in `text` one after the other: `1+2` is in `(1 + 2)`, not in `11+2`."""
        return _spaced(json.loads(problem.reference)) in _spaced(text)


def problem_key(numbers: Sequence[int], target: int) -> str:
    """What makes two problems the same: the id of the sorted numbers and the target."""
    return content_id("countdown", sorted(numbers), target)


def split_of(key: str, test_share: float) -> str:
    """The split of a problem by its key. A smaller share's test split lies within a larger one's, so that the test
    problems of one source never stand in the train split of another with a larger share."""
    return "test" if int(key, 16) / 16 ** len(key) < test_share else "train"


def make_problem(numbers: Sequence[int], target: int, split: str, level: str, reference: str) -> Problem:
    """The row of one problem; the prompt shows the numbers in the order given."""
    nums = list(numbers)
    return Problem(
        problem_id=problem_key(nums, target),
        task=Countdown.name,
        split=split,
        difficulty=f"{level}-{len(nums)}",
        prompt=[Message("user", prompts.COUNTDOWN.format(numbers=nums, target=target))],
        tools=None,
        reference=json.dumps(reference),
        metadata=json.dumps({"nums": nums, "target": target}),
    )


def judge(text: str, numbers: Sequence[int], target: int) -> Verdict:
    """The verdict on one answer text. Checks in this order: answer found, its form, its numbers, its value."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    answer = text[start + len("<answer>"):end].strip(" \t\r\n") if start >= 0 else ""
    if not answer:
        return _failed("no_answer", "No answer was found: put one expression between <answer> and </answer>.")
    try:
        postfix = parse(answer)
    except Refused as refused:
        return _failed(refused.error_type, f"The answer isn't an expression that can be read: {refused}.")
    answer = " ".join(answer.split())
    used = [item for item in postfix if isinstance(item, int)]
    if sorted(used) != sorted(numbers):
        return _failed("wrong_numbers", f"The answer uses the numbers {_listed(used)}, "
                       f"but each of {_listed(numbers)} has to be used exactly once.", answer)
    try:
        value = evaluate(postfix)
    except ZeroDivisionError:
        return _failed("division_by_zero", "The answer divides by zero.", answer)
    if value != target:
        return _failed("wrong_value", f"The answer comes to {value}, not to {target}.", answer)
    return Verdict(True, 1.0, None, f"The answer comes to {target}.", answer)


def _failed(error_type: str, feedback: str, answer: str | None = None) -> Verdict:
    return Verdict(False, 0.0, error_type, feedback, answer)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _spaced(text: str) -> str:
    return " " + " ".join(re.findall(r"[0-9]+|[^\s0-9]", text)) + " "


def _easy_problems(split: str) -> Iterator[Problem]:
    """Every solvable problem of 3 numbers 1..10 and a target 1..100, by key, which is as good as shuffled."""
    found: dict[str, tuple[list[int], int, str]] = {}
    for numbers in combinations_with_replacement(range(1, 11), 3):
        for (value, denominator), expressions in values(numbers).items():
            if denominator == 1 and 1 <= value <= 100:
                found[problem_key(numbers, value)] = (list(numbers), value, expressions[0][0])
    for key in sorted(found):
        if split_of(key, EASY_TEST_SHARE) == split:
            nums, target, reference = found[key]
            Random(f"countdown/easy/{key}").shuffle(nums)
            yield make_problem(nums, target, split, "easy", reference)


def _paper_problems(split: str) -> Iterator[Problem]:
    """Problem i depends on the split and i alone, but that a problem met before is left out."""
    seen: set[str] = set()
    index = 0
    while len(seen) < PAPER_LIMITS[split]:
        numbers, target, reference = _draw(Random(f"countdown/paper/{split}/{index}"), split)
        index += 1
        key = problem_key(numbers, target)
        if key not in seen:
            seen.add(key)
            yield make_problem(numbers, target, split, "paper", reference)


def _draw(random: Random, split: str) -> tuple[list[int], int, str]:
    """A solvable problem of `split`. The count and the target are drawn first and kept, so both stay uniform."""
    count = random.choice((3, 4))
    target = random.randint(10, 100)
    while True:
        numbers = random.choices(range(1, 100), k=count)
        if split_of(problem_key(numbers, target), PAPER_TEST_SHARE) == split:
            reference = next(solutions(numbers, target), None)
            if reference is not None:
                return numbers, target, reference
