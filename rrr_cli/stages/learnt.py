"""What train-reflector and self-train learn from: the attempts of a run, sorted by problem.

Reads `problems` and `attempts`; writes nothing. Refuses attempts at the test split or another task, and none at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rrr_cli.errors import NOTHING, RrrError
from rrr_cli.records import Attempt, Problem


@dataclass
class Tried:
    """A problem with the agent's own first tries, by their index, the repairs of those that failed, and later tries."""

    problem: Problem
    first: list[Attempt] = field(default_factory=list)
    later: list[Attempt] = field(default_factory=list)
    repairs: list[Attempt] = field(default_factory=list)


def tried(
    run: Path, task: str, limit: int | None, own_samples: int | None, repairs_by: str | None = None
) -> list[Tried]:
    """The run's problems, ordered by id. Only the repairs by the model `repairs_by`, where one is named; never those of
    tries after the first `own_samples`.

    Raises RrrError (exit 3): no attempts, another task's, or the test split's.
    """
    from rrr_cli.store.artifacts import exists, read

    if not exists(run, "attempts"):
        raise RrrError(f"{run} holds no attempts. Type: rrr mine-failures --run {run} --stop-at-failure 0 --samples 8")
    found = {p.problem_id: Tried(p) for p in read(run, "problems")}
    for attempt in read(run, "attempts", where={"phase": ["first", "repair"]}):
        if attempt.task != task:
            raise RrrError(f"{run} holds attempts at {attempt.task}, not {task}. Type: --task {attempt.task}, or --run")
        if attempt.split != "train":
            raise RrrError(f"{run} holds attempts at the {attempt.split} split, and training on it would spoil the "
                           "test: mine the train split in a run of its own, and name it with --input")
        if attempt.phase == "first":
            one = found[attempt.problem_id]
            own = own_samples is None or attempt.sample_index < own_samples
            (one.first if own else one.later).append(attempt)
        elif attempt.problem_id in found and (repairs_by is None or attempt.model == repairs_by):
            found[attempt.problem_id].repairs.append(attempt)
    for one in found.values():
        one.first.sort(key=lambda a: a.sample_index)
        one.later.sort(key=lambda a: a.sample_index)
        own_ids = {a.attempt_id for a in one.first}
        one.repairs = [a for a in one.repairs if a.parent_id in own_ids]
    return sorted(found.values(), key=lambda one: one.problem.problem_id)[:limit]


def repairers(run: Path) -> list[str]:
    """The models whose repairs the run holds, as they were named."""
    from rrr_cli.store.artifacts import read

    rows = read(run, "attempts", columns=["phase", "model"])
    return sorted({row["model"] for row in rows if row["phase"] == "repair"})


def distinct(attempts: Iterable[Attempt]) -> list[Attempt]:
    """The attempts without those that say word for word what an earlier one says."""
    kept: dict[tuple[str, ...], Attempt] = {}
    for attempt in attempts:
        kept.setdefault(tuple(m.content for m in attempt.transcript), attempt)
    return list(kept.values())


def some(rows: Sequence[object], what: str, advice: str) -> None:
    """Raise RrrError (exit 5) where there are none to learn from."""
    if not rows:
        raise RrrError(f"there is nothing to learn from: {what}. {advice}", NOTHING)
