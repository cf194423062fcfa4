"""The verdict on one Countdown answer. Reads and writes nothing; never raises.

The last `</answer>` counts, with the nearest `<answer>` before it; what stands around them is ignored, and an answer
that isn't closed is no answer. Between the tags stands one expression as people type it (`typography.py`), and nothing
else.
"""

from __future__ import annotations

from collections.abc import Sequence

from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.countdown.arithmetic import Refused, evaluate, parse
from rrr_cli.tasks.countdown.typography import expression


def judge(text: str, numbers: Sequence[int], target: int) -> Verdict:
    """The verdict on one answer text. Checks in this order: is there an answer, its form, its numbers, its value."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    answer = text[start + len("<answer>"):end].strip(" \t\r\n") if start >= 0 else ""
    if not answer:
        return _failed("no_answer", "No answer was found: put one expression between <answer> and </answer>.")
    try:
        postfix = parse(expression(answer, target))
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
