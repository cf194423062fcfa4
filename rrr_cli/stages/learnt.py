"""What train-reflector and self-train learn from: the attempts of a run, grouped by problem.

Reads `problems`, `attempts` and `reflections`; writes nothing. Refuses attempts at the test split or another task, and
a run without attempts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rrr_cli.errors import NOTHING, RrrError
from rrr_cli.records import Attempt, Problem
from rrr_cli.stages.mined import problem_of


@dataclass
class Tried:
    """A problem with the agent's own first tries by index, later tries, and second tries after failed own ones: repairs
    or retries after a reflection."""

    problem: Problem
    first: list[Attempt] = field(default_factory=list)
    later: list[Attempt] = field(default_factory=list)
    second: list[Attempt] = field(default_factory=list)


def tried(
    run: Path, task: str, limit: int | None, own_samples: int | None, repairs_by: str | None = None,
    second: str = "repair",
) -> list[Tried]:
    """The run's problems, ordered by id. `own_samples`: first tries from this index on are `later` and have no second
    ones; `second`: the phase of those, repair or retry; `repairs_by`: only those by this model.

    Raises RrrError (exit 3): no attempts, another task's, or the test split's.
    """
    from rrr_cli.store.artifacts import exists, read

    if not exists(run, "attempts"):
        raise RrrError(f"{run} has no attempts. Type: rrr mine-failures --run {run} --stop-at-failure 0 --samples 8")
    problems = {p.problem_id: Tried(p) for p in read(run, "problems")}
    reflectors = reflectors_of(run) if second == "retry" else {}
    others = ("reflect",) if second == "repair" else ("repair-",)
    for attempt in read(run, "attempts", where={"phase": ["first", second]}, regardless_of=others):
        if attempt.task != task:
            raise RrrError(f"{run} has attempts at {attempt.task}, not {task}. Type: --task {attempt.task}, or --run")
        if attempt.split != "train":
            raise RrrError(f"{run} has attempts at the {attempt.split} split, and training on it would spoil the "
                           "test: mine the train split in a run of its own, and name it with --input")
        if attempt.phase == "first":
            one = problem_of(attempt, problems, run)
            own = own_samples is None or attempt.sample_index < own_samples
            (one.first if own else one.later).append(attempt)
        elif attempt.problem_id in problems:
            by = attempt.model if second == "repair" else reflectors.get(str(attempt.reflection_id))
            if by is not None and repairs_by in (None, by):
                problems[attempt.problem_id].second.append(attempt)
    for one in problems.values():
        one.first.sort(key=lambda a: a.sample_index)
        one.later.sort(key=lambda a: a.sample_index)
        one.second = in_order(one.second, {a.attempt_id: a.sample_index for a in one.first})
    found = [one for one in problems.values() if one.first or one.later]  # the others were begun, and never tried
    return sorted(found, key=lambda one: one.problem.problem_id)[:limit]


def in_order(tries: Iterable[Attempt], parents: Mapping[str, int]) -> list[Attempt]:
    """The second tries after those of `parents`, attempt_id -> sample index, whatever order they were written in."""
    of_parents = [a for a in tries if a.parent_id in parents]
    return sorted(of_parents, key=lambda a: (parents[str(a.parent_id)], str(a.reflection_id), a.sample_index))


def repairers(run: Path, second: str = "repair") -> list[str]:
    """The names of the models whose repairs the run has, or after whose reflections it has retries."""
    from rrr_cli.store.artifacts import read

    if second == "retry":
        return sorted(set(reflectors_of(run).values()))
    rows = read(run, "attempts", columns=["phase", "model"])
    return sorted({row["model"] for row in rows if row["phase"] == "repair"})


def reflectors_of(run: Path) -> dict[str, str]:
    """reflection_id -> the model that reflected."""
    from rrr_cli.store.artifacts import read

    rows = read(run, "reflections", columns=["reflection_id", "reflector"])
    return {row["reflection_id"]: row["reflector"] for row in rows}


def distinct(attempts: Iterable[Attempt]) -> list[Attempt]:
    """The attempts without exact repetitions of an earlier text."""
    by_text: dict[tuple[str, ...], Attempt] = {}
    for attempt in attempts:
        by_text.setdefault(tuple(m.content for m in attempt.transcript), attempt)
    return list(by_text.values())


def require_rows(rows: Sequence[object], reason: str, advice: str) -> None:
    """Raise RrrError (exit 5) if `rows` is empty."""
    if not rows:
        raise RrrError(f"there is nothing to learn from: {reason}. {advice}", NOTHING)
