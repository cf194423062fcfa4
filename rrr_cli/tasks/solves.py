"""Does a text hold a right answer? Every answer that a task sees in it is judged by the task's own verifier.

So a reflection is known to answer, rather than to inform, whatever form the answer has. Pure; reads and writes nothing.
The work is bounded: of a text at most `MOST` answers are judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from rrr_cli.records import Problem
from rrr_cli.tasks.base import Task, played, verify_all

MOST = 64  # answers of one text


def solves(task: Task, problem: Problem, text: str) -> bool:
    """Whether a right answer stands in `text`."""
    return solve_all(task, [(problem, text)])[0]


def solve_all(task: Task, pairs: Sequence[tuple[Problem, str]]) -> list[bool]:
    """For each problem and text whether a right answer stands in it; all are judged together."""
    if not hasattr(task, "answers_in"):
        return [task.leaks(problem, text) for problem, text in pairs]
    answers = [
        (i, problem, played(task, problem, turns))
        for i, (problem, text) in enumerate(pairs) for turns in islice(task.answers_in(problem, text), MOST)
    ]
    verdicts = verify_all(task, [(problem, transcript) for _, problem, transcript in answers])
    right = {i for (i, _, _), verdict in zip(answers, verdicts, strict=True) if verdict.success}
    return [i in right for i in range(len(pairs))]
