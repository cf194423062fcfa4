"""Verdicts in a training: a task whose judge crashes must neither end a long run nor pass for a wrong answer."""

from __future__ import annotations

from collections.abc import Sequence

from rrr_cli.errors import RrrError
from rrr_cli.records import Attempt, Message, Problem
from rrr_cli.tasks.base import JUDGE_CRASHED, Task, Verdict, verify_all


def judge(task: Task, pairs: Sequence[tuple[Problem, Sequence[Message]]]) -> list[Verdict]:
    """The verdicts, together; where that crashes, one by one, with JUDGE_CRASHED for those that crash.

    Raises RrrError: the task can't judge here.
    """
    try:
        return verify_all(task, pairs)
    except RrrError:
        raise
    except Exception as error:
        if len(pairs) == 1:
            return [Verdict(False, 0.0, JUDGE_CRASHED, f"The judge crashed: {type(error).__name__}.", None)]
        return [verdict for pair in pairs for verdict in judge(task, [pair])]


def verdict_of(attempt: Attempt) -> bool | None:
    """Whether a try passed; None where it couldn't be judged."""
    return None if attempt.error_type == JUDGE_CRASHED else attempt.success
