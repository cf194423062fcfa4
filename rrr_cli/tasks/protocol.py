"""Is an object a task? What `load_task` checks before a stage generates anything, and the defaults that it fills in.

Reads and writes nothing. Refused, in one line with exit code 2: a class that can't be built from `level` and `data`, or
whose constructor fails; a task that lacks a part of the protocol, or has one of another form.
"""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from rrr_cli import prompts
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.plugs import blame, reason
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.base import JUDGE_CRASHED, Task, Verdict
from rrr_cli.tasks.solves import default_answers, solves

WHERE = "the protocol is in rrr_cli/tasks/base.py"
OLD_NAMES = {"reflect_request": "reflect", "retry_request": "retry"}
ENVIRONMENT = ("max_turns", "observe")


def build(spec: str, cls: Any, level: str | None, data: str | None) -> Task:
    """The task of class `cls`, checked and complete: `words` has "reflect" and "retry", and there is an `answers_in`.

    Raises RrrError: what the constructor raises, or (exit 2) the class isn't a task.
    """
    task = _constructed(spec, cls, level, data)
    try:
        fault = next(_faults(task), None)
        if fault is None:
            _complete(task)
    except Exception as error:  # of a property
        fault = f"to look at it raises {reason(error)}"
    if fault is not None:
        raise RrrError(f"--task {spec}: {fault}", USAGE)
    return task  # type: ignore[no-any-return]


def _complete(task: Any) -> None:
    """Fill in the defaults. A frozen dataclass may be a task as well, so they are set past its own `__setattr__`."""
    words = getattr(task, "words", {})
    if not {"reflect", "retry"} <= words.keys():
        object.__setattr__(task, "words", {"reflect": prompts.REFLECT, "retry": prompts.RETRY, **words})
    if not hasattr(task, "answers_in"):
        object.__setattr__(task, "answers_in", default_answers(task))
    if not hasattr(task, "leaks"):  # the older name, for scripts that call it
        object.__setattr__(task, "leaks", partial(solves, task))


def _constructed(spec: str, cls: Any, level: str | None, data: str | None) -> Any:
    try:
        inspect.signature(cls).bind(level=level, data=data)
    except TypeError as error:
        raise RrrError(
            f"--task {spec}: a task is a class with __init__(self, level=None, data=None); this isn't ({error})", USAGE,
        ) from None
    except ValueError:
        pass  # a class written in C has no signature
    try:
        return cls(level=level, data=data)
    except RrrError:
        raise
    except Exception as error:
        raise RrrError(f"--task {spec}: its constructor raises {reason(error)}", USAGE) from None


def _faults(task: Any) -> Iterator[str]:
    """What isn't as the protocol says, a clause each."""
    for old, new in OLD_NAMES.items():
        if hasattr(task, old):
            yield f'{old} is now words["{new}"]: put it into the dict `words` of the class'
    several = any(hasattr(task, name) for name in ENVIRONMENT)
    required = ("name", "levels", "error_types", "problems", "verify", "right_turns", *(ENVIRONMENT if several else ()))
    missing = [name for name in required if not hasattr(task, name)]
    if missing:
        kind = "a task of several turns" if set(missing) <= set(ENVIRONMENT) else "a task"
        yield f"{kind} has {' and '.join(missing)}, and this one doesn't; {WHERE}"
    own_part = ("own_part",) if hasattr(task, "own_part") else ()
    for name in ("problems", "verify", "right_turns", *(("observe", *own_part) if several else ())):
        if not callable(getattr(task, name)):
            yield f"{name} isn't a method; {WHERE}"
    if not isinstance(task.name, str) or not task.name:
        yield f"its name is {task.name!r}, not a text; {WHERE}"
    for name in ("levels", "error_types"):
        if not _are_texts(getattr(task, name)):
            yield f"its {name} are {getattr(task, name)!r}, not a tuple of texts; {WHERE}"
    words = getattr(task, "words", {})
    if not isinstance(words, Mapping) or not _are_texts([*words.keys(), *words.values()]):
        yield f"its words are {words!r}, not a dict of texts; {WHERE}"


def _are_texts(values: Any) -> bool:
    return isinstance(values, (tuple, list)) and all(isinstance(value, str) for value in values)


def problems_of(task: Task, split: str, limit: int | None = None) -> list[Problem]:
    """The first problems of a split, each one checked.

    Raises RrrError (exit 2): something that isn't a problem of this task and split, or an id that comes twice.
    """
    with blame("task", task, "problems()"):
        return list(checked(islice(iter(task.problems(split)), limit), task, split))


def checked(problems: Iterable[Any], task: Task, split: str) -> Iterator[Problem]:
    """The problems, each one checked when it comes. Raises RrrError (exit 2) as `problems_of`."""
    ids: set[str] = set()
    for problem in problems:
        fault = _fault_of(problem, task, split)
        if fault is None and problem.problem_id in ids:
            fault = f"two problems with the id {problem.problem_id}: make it a hash of all that makes them differ"
        if fault is not None:
            raise RrrError(f"the task {type(task).__name__}: problems() yields {fault}", USAGE)
        ids.add(problem.problem_id)
        yield problem


def _fault_of(problem: Any, task: Task, split: str) -> str | None:
    if not isinstance(problem, Problem):
        return f"{reprlib.repr(problem)}, not a Problem (rrr_cli/records.py)"
    if not isinstance(problem.prompt, list) or not all(isinstance(turn, Message) for turn in problem.prompt):
        return f"the prompt {reprlib.repr(problem.prompt)}, not a list of Message"
    for name in ("problem_id", "difficulty", "reference", "metadata"):
        if not isinstance(getattr(problem, name), str):
            return f"the {name} {reprlib.repr(getattr(problem, name))}, not text (JSON in reference and metadata)"
    if (problem.task, problem.split) != (task.name, split):
        return f"a problem of task {problem.task!r} and split {problem.split!r}, not {task.name!r} and {split!r}"
    return None


def check_verdicts(task: Task, verdicts: Sequence[Any]) -> None:
    """Raises RrrError (exit 2) where one of them isn't what `Task.verify` promises."""
    for verdict in verdicts:
        fault = None
        if not isinstance(verdict, Verdict):
            fault = f"{reprlib.repr(verdict)}, not a Verdict (rrr_cli/tasks/base.py)"
        elif not isinstance(verdict.success, bool) or not isinstance(verdict.score, float | int):
            fault = f"success {verdict.success!r} and score {verdict.score!r}: they are a bool and a number"
        elif not 0 <= verdict.score <= 1:
            fault = f"the score {verdict.score!r}: it is from 0 to 1"
        elif not verdict.success and verdict.error_type not in (*task.error_types, JUDGE_CRASHED):
            fault = f"the error_type {verdict.error_type!r}, which isn't among its error_types"
        if fault is not None:
            raise RrrError(f"the task {type(task).__name__}: verify() returns {fault}", USAGE)


def check_observation(task: Task, observation: Any) -> None:
    """Raises RrrError (exit 2) unless it is what `Environment.observe` promises: a user's turn, or None at the end."""
    if observation is not None and not isinstance(observation, Message):
        raise RrrError(
            f"the task {type(task).__name__}: observe() returns {reprlib.repr(observation)}: it is "
            'Message("user", TEXT), or None at the end', USAGE)
