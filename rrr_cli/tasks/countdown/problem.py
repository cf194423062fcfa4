"""What a Countdown problem is: its key, its row, and the words that a model is shown. Reads and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rrr_cli.records import Message, Problem, content_id

NAME = "countdown"
TEST_SHARE = 1 / 30  # of the paper's problems, and of data without a split

WORDS: Mapping[str, str] = {
    # TinyZero's prompt, verbatim.
    "prompt": (
        "Using the numbers {numbers}, create an equation that equals {target}. You can use basic arithmetic operations "
        "(+, -, *, /) and each number can only be used once. Show your work in <think> </think> tags. And return the "
        "final answer in <answer> </answer> tags, for example <answer> (1 + 2) / 3 </answer>."
    ),
    # RRR, section 4.2, verbatim.
    "reflect": (
        "You tried solving the problem and got the wrong answer. Reflect on what went wrong and write a short "
        "explanation that will help you do better next time."
    ),
    # Ours: the paper doesn't publish its retry wording. The same words ask for a retry with and without a reflection,
    # so that the control differs from the method by the reflection alone.
    "retry": "Please try to solve the problem again. Return the final answer in <answer> </answer> tags.",
}


def problem_key(numbers: Sequence[int], target: int) -> str:
    """What makes two problems the same: the id of the sorted numbers and the target."""
    return content_id("countdown", sorted(numbers), target)


def make_problem(
    numbers: Sequence[int], target: int, split: str, level: str, reference: str, words: Mapping[str, str] = WORDS
) -> Problem:
    """The row of one problem; the prompt shows the numbers in the order given."""
    nums = list(numbers)
    return Problem(
        problem_id=problem_key(nums, target),
        task=NAME,
        split=split,
        difficulty=f"{level}-{len(nums)}",
        prompt=[Message("user", words["prompt"].format(numbers=nums, target=target))],
        tools=None,
        reference=json.dumps(reference),
        metadata=json.dumps({"nums": nums, "target": target}),
    )
