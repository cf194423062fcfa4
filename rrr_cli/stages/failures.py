"""The failed attempts of a run with their problems: what reflect and grpo start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rrr_cli.errors import RrrError
from rrr_cli.records import Attempt, Problem, content_id


def failures(run: Path, task: str, per_problem: int = 1) -> Iterator[tuple[Problem, Attempt]]:
    """The first `per_problem` failed first tries of each problem, in the order they were mined.

    Raises RrrError (exit 3) when the run holds no attempts, or those of another task.
    """
    from pyarrow.compute import field

    from rrr_cli.artifacts import exists, read

    if not exists(run, "attempts"):
        raise RrrError(f"{run} holds no attempts. Type: rrr mine-failures --run {run}")
    taken: dict[str, int] = {}
    problems: dict[str, Problem] = {}
    for attempt in read(run, "attempts", where=(field("phase") == "first") & ~field("success")):
        if attempt.task != task:
            raise RrrError(f"{run} holds attempts at {attempt.task}, not {task}. Type: --task {attempt.task}, or --run")
        if taken.get(attempt.problem_id, 0) >= per_problem:
            continue
        problems = problems or {p.problem_id: p for p in read(run, "problems")}
        taken[attempt.problem_id] = taken.get(attempt.problem_id, 0) + 1
        yield problems[attempt.problem_id], attempt


def mining_fingerprint(run: Path) -> str:
    """A hash of how the run was mined. More problems mined in the same way leave it as it is: rows are keyed by
    attempt, so they stay true when others join them."""
    from rrr_cli.artifacts import provenance

    return content_id([p["config"] for p in provenance(run, "attempts") if p["stage"] == "mine-failures"])
