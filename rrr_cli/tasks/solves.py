"""Does a text hold a right answer? Every answer that a task sees in it is judged by the task's own verifier.

So a reflection is known to answer, rather than to inform, whatever form the answer has. Reads and writes nothing. The
work is bounded: of a text at most `MOST` answers are judged. A judge that crashes on an answer ends no run: where no
other answer is right, it isn't known whether one stands in the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from rrr_cli.errors import RrrError
from rrr_cli.plugs import blame
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.base import Task, played, verify_all

MOST = 64  # answers of one text
NOTHING_SAID = "I don't know."

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


def default_answers(task: Any) -> Callable[[Problem, str], Iterator[list[str]]]:
    """The default of `answers_in`: the right turns, where they stand in the text in their order, white space aside; and
    the text itself, unless the verifier passes a text that says nothing (`NOTHING_SAID`), so that to pass is no proof.

    An older task that has a `leaks` says by that whether the right turns stand in the text.
    """
    older: Callable[[Problem, str], bool] | None = getattr(task, "leaks", None)
    holds, lenient = older or _holds_right_turns(task), dict[str, bool]()

    def answers_in(problem: Problem, text: str) -> Iterator[list[str]]:
        if holds(problem, text):
            yield task.right_turns(problem)
        if older is None and text.strip():
            if problem.problem_id not in lenient:
                lenient[problem.problem_id] = _passes_nothing_said(task, problem)
            if not lenient[problem.problem_id]:
                yield [text]

    return answers_in


def _passes_nothing_said(task: Any, problem: Problem) -> bool:
    """Whether the verifier passes a text that says nothing, or can't judge it."""
    try:
        return verify_all(task, [(problem, played(task, problem, [NOTHING_SAID]))])[0].success
    except RrrError:
        raise
    except Exception:
        return True


def _holds_right_turns(task: Any) -> Callable[[Problem, str], bool]:
    def holds(problem: Problem, text: str) -> bool:
        inside, at = "".join(text.split()), 0
        turns = ["".join(turn.split()) for turn in task.right_turns(problem)]
        for turn in turns:
            at = inside.find(turn, at) + len(turn)
            if at < len(turn) or not turn:
                return False
        return bool(turns)

    return holds
