"""Does a text hold a right answer? Every answer that a task sees in it is judged by the task's own verifier.

So a reflection is known to answer, rather than to inform, whatever form the answer has. Reads and writes nothing. The
work is bounded: of a text at most `MOST` answers are judged. A judge that crashes on an answer ends no run: where no
other answer is right, it isn't known whether one stands in the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from rrr_cli.errors import RrrError
from rrr_cli.plugs import blame
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.base import Task, played, verify_all

MOST = 64  # answers of one text

Pair = tuple[Problem, Sequence[Message]]


def solves(task: Task, problem: Problem, text: str) -> bool | None:
    """Whether a right answer stands in `text`; None where that couldn't be judged. Raises RrrError as `solve_all`."""
    return solve_all(task, [(problem, text)])[0]


def solve_all(task: Task, pairs: Sequence[tuple[Problem, str]]) -> list[bool | None]:
    """For each problem and text whether a right answer stands in it, None where that couldn't be judged.

    All are judged together. Raises RrrError: `answers_in` or `observe` raises (exit 2), or the task can't judge here.
    """
    places: list[int] = []
    answers: list[Pair] = []
    for i, (problem, text) in enumerate(pairs):
        with blame("task", task, "answers_in()"):
            found = list(islice(task.answers_in(problem, text), MOST))
        with blame("task", task, "observe()"):
            answers += [(problem, played(task, problem, turns)) for turns in found]
        places += [i] * len(found)
    judged: list[set[bool | None]] = [set() for _ in pairs]
    for i, passed in zip(places, _judged(task, answers), strict=True):
        judged[i].add(passed)
    return [True if True in one else None if None in one else False for one in judged]


def _judged(task: Task, answers: Sequence[Pair]) -> list[bool | None]:
    """Whether each answer passes; None where the judge crashes on it."""
    try:
        return [verdict.success for verdict in verify_all(task, answers)] if answers else []
    except RrrError:
        raise
    except Exception:
        return [None] if len(answers) == 1 else [one for answer in answers for one in _judged(task, [answer])]
