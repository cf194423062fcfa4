"""A verifier audits itself: each reference passes; nothing, the prompt's own words and another row's reference don't.

Reads a task's problems, both splits; writes nothing. A row whose reference is empty ("do nothing" is right) isn't tried
with nothing and with the prompt, and another row's reference is one that differs. Problems are read and judged in
parts, so that a task of any size fits in memory. A method of the task that raises stops the audit, in one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from rrr_cli.errors import NOTHING, USAGE, RrrError
from rrr_cli.plugs import reason
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.base import Task, played, verify_all
from rrr_cli.tasks.protocol import check_verdicts, checked

PROBES = ("reference", "empty", "echo", "other_reference")
EMPTY = ("[]", '""', "null", "{}")  # references that ask for nothing, as JSON
SHOWN = 5  # problems named among the surprises
PART = 512  # problems judged at a time


def audit(task: Task, limit: int | None = None) -> dict[str, Any]:
    """Counts over the first `limit` problems of each split: of each probe how many were tried and how many passed.

    `surprises` names the first problems where a reference failed or another probe passed.
    Raises RrrError: a method of the task raises (exit 2), or there is no problem (5).
    """
    tried, passed = dict.fromkeys(PROBES, 0), dict.fromkeys(PROBES, 0)
    count = empty_references = wrong = 0
    surprises: list[str] = []
    pairs = _with_others(_problems(task, limit))
    while part := list(islice(pairs, PART)):
        count += len(part)
        empty_references += sum(problem.reference in EMPTY for problem, _ in part)
        for probe, problem, success in _judged(task, part):
            tried[probe] += 1
            passed[probe] += success
            if success != (probe == "reference"):
                wrong += 1
                surprises += [f"{probe} of {problem.problem_id}"] if len(surprises) < SHOWN else []
    if not count:
        raise RrrError(f"task {task.name} has no problem to check", NOTHING)
    return {
        "task": task.name, "problems": count, "empty_references": empty_references,
        **{probe: {"tried": tried[probe], "passed": passed[probe]} for probe in PROBES},
        "wrong": wrong, "surprises": surprises,
    }


def check(result: dict[str, Any]) -> None:
    """Raises RrrError (exit 5) where the audit found something wrong."""
    if result["wrong"]:
        raise RrrError(
            f"the verifier of {result['task']} is wrong {result['wrong']} times: {', '.join(result['surprises'])}: a "
            "reference has to pass, and nothing, the prompt or another reference must not", NOTHING)


def _problems(task: Task, limit: int | None) -> Iterator[Problem]:
    for split in ("train", "test"):
        with _named(task, "problems"):
            yield from checked(islice(task.problems(split), limit), task, split)


def _with_others(problems: Iterable[Problem]) -> Iterator[tuple[Problem, Problem | None]]:
    """Each problem with the next one, around the end, whose reference differs; None where all are the same."""
    first: list[Problem] = []  # the first problem, and the first that differs from it: for the way around the end
    waiting: list[Problem] = []  # problems of one reference, for which no other has come yet
    for problem in problems:
        if not first or (len(first) == 1 and problem.reference != first[0].reference):
            first.append(problem)
        if waiting and problem.reference != waiting[0].reference:
            yield from ((p, problem) for p in waiting)
            waiting = []
        waiting.append(problem)
    for problem in waiting:
        yield problem, next((p for p in first if p.reference != problem.reference), None)


def _judged(task: Task, part: Sequence[tuple[Problem, Problem | None]]) -> Iterator[tuple[str, Problem, bool]]:
    """Of each problem and probe: the probe's name, the problem, and whether it passed."""
    probes = [(probe, problem, turns) for problem, other in part for probe, turns in _probes(task, problem, other)]
    pairs: list[tuple[Problem, Sequence[Message]]] = []
    for _, problem, turns in probes:
        with _named(task, "observe", problem):
            pairs.append((problem, played(task, problem, turns)))
    with _named(task, "verify"):
        verdicts = verify_all(task, pairs)
        check_verdicts(task, verdicts)
    return ((probe, problem, v.success) for (probe, problem, _), v in zip(probes, verdicts, strict=True))


def _probes(task: Task, problem: Problem, other: Problem | None) -> Iterator[tuple[str, list[str]]]:
    """Of each probe its name and the model's turns."""
    with _named(task, "right_turns", problem):
        right, wrong = task.right_turns(problem), task.right_turns(other) if other is not None else None
    yield "reference", right
    if problem.reference not in EMPTY:
        yield "empty", [""]
        yield "echo", ["\n".join(message.content for message in problem.prompt)]
    if wrong is not None:
        yield "other_reference", wrong


@contextmanager
def _named(task: Task, method: str, problem: Problem | None = None) -> Iterator[None]:
    """Say which method of the task raised, and for which problem. Raises RrrError (exit 2)."""
    try:
        yield
    except RrrError:
        raise
    except Exception as error:
        of = f" on problem {problem.problem_id}" if problem is not None else ""
        raise RrrError(f"task {task.name}: {method} raises {reason(error)}{of}", USAGE) from None
