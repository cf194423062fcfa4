"""Is an object a task? What `load_task` checks before a stage generates anything, and the defaults that it fills in.

Reads and writes nothing. Refused, in one line with exit code 2: a class that can't be built from `level` and `data`, or
whose constructor fails; a task that lacks a part of the protocol, or has one of another form.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rrr_cli import prompts
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.plugs import reason
from rrr_cli.records import Problem
from rrr_cli.tasks.base import Task

WHERE = "the protocol is in rrr_cli/tasks/base.py"
OLD_NAMES = {"reflect_request": "reflect", "retry_request": "retry"}
ENVIRONMENT = ("max_turns", "observe")


def build(spec: str, cls: Any, level: str | None, data: str | None) -> Task:
    """The task of class `cls`, checked and complete: `words` has "reflect" and "retry", and there is a `leaks`.

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
    if not hasattr(task, "leaks"):
        object.__setattr__(task, "leaks", _leaks(task))


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
    for name in ("problems", "verify", "right_turns", *(("observe",) if several else ())):
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


def _leaks(task: Any) -> Callable[[Problem, str], bool]:
    """The default of `leaks`: one of the right turns stands in the text, white space aside."""

    def leaks(problem: Problem, text: str) -> bool:
        inside = "".join(text.split())
        return any(turn in inside for turn in ("".join(turn.split()) for turn in task.right_turns(problem)) if turn)

    return leaks
