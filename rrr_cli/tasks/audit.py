"""A verifier audits itself: each reference passes; nothing, the prompt's own words and another row's reference don't.

Reads a task's problems, both splits; writes nothing. A row whose reference is empty ("do nothing" is right) isn't tried
with nothing and with the prompt, and another row's reference is one that differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from rrr_cli.errors import NOTHING, USAGE, RrrError
from rrr_cli.records import Problem
from rrr_cli.tasks.base import Task, played

PROBES = ("reference", "empty", "echo", "other_reference")
EMPTY = ("[]", '""', "null", "{}")  # references that ask for nothing, as JSON
SHOWN = 5  # problems named among the surprises


def audit(task: Task, limit: int | None = None) -> dict[str, Any]:
    """Counts over the first `limit` problems of each split: of each probe how many were tried and how many passed.

    `surprises` names the first problems where a reference failed or another probe passed.
    Raises RrrError: a task without `right_turns` (exit 2), or without a problem (5).
    """
    if not hasattr(task, "right_turns"):
        raise RrrError(f"task {task.name} has no right_turns(problem): add it, as rrr_cli/tasks/base.py says", USAGE)
    problems = [p for split in ("train", "test") for p in islice(task.problems(split), limit)]
    if not problems:
        raise RrrError(f"task {task.name} has no problem to check", NOTHING)
    tried, passed = dict.fromkeys(PROBES, 0), dict.fromkeys(PROBES, 0)
    surprises: list[str] = []
    for problem, other in zip(problems, _others(problems), strict=True):
        for probe, turns in _probes(task, problem, other):
            success = task.verify(problem, played(task, problem, turns)).success
            tried[probe] += 1
            passed[probe] += success
            if success != (probe == "reference"):
                surprises.append(f"{probe} of {problem.problem_id}")
    return {
        "task": task.name, "problems": len(problems),
        "empty_references": sum(p.reference in EMPTY for p in problems),
        **{probe: {"tried": tried[probe], "passed": passed[probe]} for probe in PROBES},
        "wrong": len(surprises), "surprises": surprises[:SHOWN],
    }


def check(result: dict[str, Any]) -> None:
    """Raises RrrError (exit 5) where the audit found something wrong."""
    if result["wrong"]:
        raise RrrError(
            f"the verifier of {result['task']} is wrong {result['wrong']} times: {', '.join(result['surprises'])}: a "
            "reference has to pass, and nothing, the prompt or another reference must not", NOTHING)


def _probes(task: Task, problem: Problem, other: Problem | None) -> Iterator[tuple[str, list[str]]]:
    """Of each probe its name and the model's turns."""
    yield "reference", task.right_turns(problem)
    if problem.reference not in EMPTY:
        yield "empty", [""]
        yield "echo", ["\n".join(message.content for message in problem.prompt)]
    if other is not None:
        yield "other_reference", task.right_turns(other)


def _others(problems: list[Problem]) -> list[Problem | None]:
    """For each problem the next one, around the end, whose reference differs."""
    others: list[Problem | None] = [None] * len(problems)
    following: list[Problem] = []  # the next problem, and the next one whose reference differs from that one's
    for i in reversed(range(2 * len(problems))):
        problem = problems[i % len(problems)]
        found = next((p for p in following if p.reference != problem.reference), None)
        if i < len(problems):
            others[i] = found
        following = [problem, *([found] if found else [])]
    return others
