"""What was mined in a run: its failed attempts with their problems, which reflect and grpo start from, and how."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from rrr_cli import options as shared
from rrr_cli.errors import NOTHING, USAGE, RrrError
from rrr_cli.options import DEFAULT_MODEL, SamplingOptions, TaskOptions, option
from rrr_cli.records import Attempt, Problem, content_id
from rrr_cli.rollout import Failure
from rrr_cli.tasks import load_task
from rrr_cli.tasks.base import Task

Anything = TypeVar("Anything", bound=TaskOptions)
F = TypeVar("F", bound="FailureOptions")


@dataclass(frozen=True)
class FailureOptions(SamplingOptions):
    """What reflect and repair have in common: which failed attempts they start from."""

    input: Path | None = shared.input_run("failed attempts")
    per_problem: int = option(1, "Failed attempts of a problem to start from.", least=1)
    own_samples: int | None = shared.own_samples()
    part: int = shared.part("Failed attempts")


@dataclass(frozen=True)
class Chosen(Generic[F]):
    """The failed attempts that a stage starts from, and how they were mined."""

    options: F  # with the mining's level, data and model
    source: Path  # the run that holds them
    task: Task
    failures: list[Failure]

    @property
    def inputs(self) -> dict[str, str]:
        """For provenance. More problems mined in the same way leave it as it is."""
        return {"attempts": content_id(mining(self.source))}


def chosen_failures(options: F) -> Chosen[F]:
    """The failures that the options ask for. Raises RrrError (exit 5) where there are none, and as `failures` does."""
    source = options.input or options.run
    options = as_mined(options, source)
    task = load_task(options.task, options.level, options.data)
    rows = failures(source, task.name, options.per_problem, options.own_samples)
    failed = list(islice(rows, options.limit))
    if not failed:
        raise RrrError(f"{source} holds no failed attempt: there is nothing to start from. Mine more problems", NOTHING)
    return Chosen(options, source, task, failed)


def failures(
    run: Path, task: str, per_problem: int = 1, own_samples: int | None = None
) -> Iterator[Failure]:
    """The first `per_problem` failed first tries of each problem, in the order they were mined; with `own_samples`,
    those among so many first tries.

    Raises RrrError (exit 3) when the run holds no attempts, or those of another task.
    """
    from rrr_cli.store.artifacts import exists, read

    if not exists(run, "attempts"):
        raise RrrError(f"{run} holds no attempts. Type: rrr mine-failures --run {run}")
    taken: dict[str, int] = {}
    problems: dict[str, Problem] = {}
    for attempt in read(run, "attempts", where={"phase": "first", "success": False}):
        if attempt.task != task:
            raise RrrError(f"{run} holds attempts at {attempt.task}, not {task}. Type: --task {attempt.task}, or --run")
        if taken.get(attempt.problem_id, 0) >= per_problem:
            continue
        if own_samples is not None and attempt.sample_index >= own_samples:
            continue
        problems = problems or {p.problem_id: p for p in read(run, "problems")}
        taken[attempt.problem_id] = taken.get(attempt.problem_id, 0) + 1
        yield Failure.of(problems[attempt.problem_id], attempt)


class Copies:
    """What failures of one run bring along into another, so that a run tells its stories by itself: their problems and
    attempts, each once. Nothing where the two runs are one."""

    def __init__(self, source: Path, run: Path, failures: Iterable[Failure]) -> None:
        self.needed = source != run
        if self.needed:
            from rrr_cli.store.artifacts import read

            self._problems = stored(run, "problems", "problem_id")
            missing = {f.attempt_id for f in failures} - stored(run, "attempts", "attempt_id")
            rows = read(source, "attempts", where={"phase": "first", "success": False})
            self._attempts = {a.attempt_id: a for a in rows if a.attempt_id in missing}

    def problems(self, failures: Sequence[Failure]) -> list[Problem]:
        """Those of `failures` that weren't given before."""
        if not self.needed:
            return []
        fresh = {f.problem.problem_id: f.problem for f in failures if f.problem.problem_id not in self._problems}
        self._problems |= fresh.keys()
        return list(fresh.values())

    def attempts(self, failures: Sequence[Failure]) -> list[Attempt]:
        """Likewise, the failed attempts themselves."""
        return [self._attempts[f.attempt_id] for f in failures if self.needed and f.attempt_id in self._attempts]


def stored(run: Path, table: str, column: str) -> set[str]:
    """The values of a column in the whole table, whichever stage wrote the rows."""
    from rrr_cli.store.artifacts import read

    return {row[column] for row in read(run, table, columns=[column])}


def mining(run: Path) -> dict[str, Any]:
    """How the run was mined: the configuration, the seed among it. Empty where it wasn't.

    More problems mined in the same way leave it as it is, and rows stay true when others join them.
    """
    from rrr_cli.store.artifacts import provenance

    found = [p for p in provenance(run, "attempts") if p["stage"] == "mine-failures"]
    return {**found[0]["config"], "seed": found[0]["seed"]} if found else {}


def as_mined(options: Anything, source: Path) -> Anything:
    """The options, with the mining's level, data and model where none was given.

    Raises RrrError (exit 2) for another level or data than the mining's: the verifier and the test split depend on it.
    """
    mined = mining(source)
    values: dict[str, Any] = {}
    if not getattr(options, "model", None) and mined.get("engine") == "openai" != getattr(options, "engine", None):
        raise RrrError(
            f"{source} was mined from a server, whose weights aren't here: name them with --model (a folder or a hub "
            "id), or, to reflect, type --engine openai --base-url URL", USAGE,
        )
    for name in ("level", "data", "model"):
        given, was = getattr(options, name), mined.get(name)
        if given is None:
            values[name] = was
        elif mined and given != was and name != "model":
            raise RrrError(f"--{name} {given}: {source} was mined with {was}; leave --{name} out", USAGE)
    values["model"] = values.get("model", options.model) or DEFAULT_MODEL  # type: ignore[attr-defined]
    return replace(options, **values)
