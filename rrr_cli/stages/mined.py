"""What was mined in a run, and how: the failed attempts with their problems, which reflect, repair and grpo start from.

Reads `problems`, `attempts` and their provenance; writes nothing. Refuses a run without attempts or of another task."""

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
    """The options of reflect and repair: which failed attempts they start from."""

    input: Path | None = shared.input_run("failed attempts")
    per_problem: int = option(1, "Failed attempts of a problem to start from.", least=1)
    own_samples: int | None = shared.own_samples()
    part: int = shared.part("Failed attempts")


@dataclass(frozen=True)
class Chosen(Generic[F]):
    """The failed attempts that a stage starts from, and how they were mined."""

    options: F  # with the level, data and model of mining
    source: Path  # the run with their rows
    task: Task
    failures: list[Failure]

    @property
    def inputs(self) -> dict[str, str]:
        """For provenance. Mining more problems with the same options doesn't change it."""
        return {"attempts": content_id(mining(self.source))}


def chosen_failures(options: F) -> Chosen[F]:
    """The failures that the options select. Raises RrrError: none (exit 5), or as `as_mined`, `failures`."""
    source = options.input or options.run
    options = as_mined(options, source)
    task = load_task(options.task, options.level, options.data)
    rows = failures(source, task.name, options.per_problem, options.own_samples)
    failed = list(islice(rows, options.limit))
    if not failed:
        raise RrrError(f"{source} has no failed attempt to start from. Mine more problems", NOTHING)
    return Chosen(options, source, task, failed)


def failures(
    run: Path, task: str, per_problem: int = 1, own_samples: int | None = None
) -> Iterator[Failure]:
    """The first `per_problem` failed first tries of each problem, in the order they were mined; with `own_samples`,
    only those with a smaller sample index.

    Raises RrrError (exit 3): no attempts in the run, or attempts at another task.
    """
    from rrr_cli.store.artifacts import exists, read

    if not exists(run, "attempts"):
        raise RrrError(f"{run} has no attempts. Type: rrr mine-failures --run {run}")
    taken: dict[str, int] = {}
    problems: dict[str, Problem] = {}
    for attempt in read(run, "attempts", where={"phase": "first", "success": False}):
        if attempt.task != task:
            raise RrrError(f"{run} has attempts at {attempt.task}, not {task}. Type: --task {attempt.task}, or --run")
        if taken.get(attempt.problem_id, 0) >= per_problem:
            continue
        if own_samples is not None and attempt.sample_index >= own_samples:
            continue
        problems = problems or {p.problem_id: p for p in read(run, "problems")}
        taken[attempt.problem_id] = taken.get(attempt.problem_id, 0) + 1
        yield Failure.of(problems[attempt.problem_id], attempt)


class Copies:
    """The problems and attempts of failures that are copied into another run, each once, so that every run is complete
    by itself. Nothing is copied if `source` is `run`."""

    def __init__(self, source: Path, run: Path, failures: Iterable[Failure]) -> None:
        self.needed = source != run
        if self.needed:
            from rrr_cli.store.artifacts import read

            self._problems = stored(run, "problems", "problem_id")
            missing = {f.attempt_id for f in failures} - stored(run, "attempts", "attempt_id")
            rows = read(source, "attempts", where={"phase": "first", "success": False})
            self._attempts = {a.attempt_id: a for a in rows if a.attempt_id in missing}

    def problems(self, failures: Sequence[Failure]) -> list[Problem]:
        """The problems of `failures` that aren't in the run yet."""
        if not self.needed:
            return []
        fresh = {f.problem.problem_id: f.problem for f in failures if f.problem.problem_id not in self._problems}
        self._problems |= fresh.keys()
        return list(fresh.values())

    def attempts(self, failures: Sequence[Failure]) -> list[Attempt]:
        """The attempts of `failures` that weren't in the run."""
        return [self._attempts[f.attempt_id] for f in failures if self.needed and f.attempt_id in self._attempts]


def stored(run: Path, table: str, column: str) -> set[str]:
    """The values of a column in the whole table, whichever stage wrote the rows."""
    from rrr_cli.store.artifacts import read

    return {row[column] for row in read(run, table, columns=[column])}


def mining(run: Path) -> dict[str, Any]:
    """How the run was mined: the configuration with the seed; {} if it wasn't mined.

    Mining more problems with the same options doesn't change it.
    """
    from rrr_cli.store.artifacts import provenance

    entries = [p for p in provenance(run, "attempts") if p["stage"] == "mine-failures"]
    return {**entries[0]["config"], "seed": entries[0]["seed"]} if entries else {}


def as_mined(options: Anything, source: Path) -> Anything:
    """The options; where level, data or model isn't given, with that of mining.

    Raises RrrError (exit 2): another level or data than in mining, on which verifier and test split depend; a server's
    model, whose weights aren't here.
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
