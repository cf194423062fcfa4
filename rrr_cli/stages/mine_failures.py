"""`rrr mine-failures`: try each training problem, keep every attempt with its verdict.

Reads a task; writes `problems` and `attempts` (phase first). A problem's attempts are written together, so the unit of
resume is the problem. The failures are a view over the attempts: `rrr sql "select * from failures"`. Refuses
other options than those of the rows already written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from rrr_cli import options as shared
from rrr_cli.errors import NOTHING, RrrError
from rrr_cli.options import DEFAULT_TASK, SamplingOptions, option
from rrr_cli.progress import Work
from rrr_cli.prompts import TRY
from rrr_cli.records import Attempt, Problem
from rrr_cli.rollout import Loop
from rrr_cli.stages import Stage
from rrr_cli.stages.identity import identity
from rrr_cli.stages.rendering import dated
from rrr_cli.stages.setup import open_loop, weights_of
from rrr_cli.tasks import load_task
from rrr_cli.tasks.protocol import problems_of


@dataclass(frozen=True)
class Options(SamplingOptions):
    """Flags of `rrr mine-failures`."""

    model: str = shared.model(shared.DEFAULT_MODEL, "tries the problems")
    split: str = option(
        "train", "train, or test to look at pass rates; GRPO refuses failures of the test split.",
        choices=("train", "test"))
    samples: int = option(64, "Most attempts a problem (RRR section 4: up to 64).", least=1)
    stop_at_failure: int = option(
        1, "Stop sampling a problem at its Nth failure: the same failures for fewer samples. The failure rate is then "
        "(N-1)/(n-1), for N >= 2. 0: always take all --samples.", least=0,
    )
    part: int = shared.part("Problems")


def run(options: Options) -> dict[str, Any]:
    """Mine, and return the summary that `--json` prints.

    Raises RrrError: bad options (exit 2), unfit model or table (3), a missing extra (4), no failures (5), stopped.
    """
    options = replace(options, task=options.task or DEFAULT_TASK)
    task = load_task(str(options.task), options.level, options.data)
    problems = problems_of(task, options.split, options.limit)
    if not problems:
        raise RrrError(f"the task {task.name} has no {options.split} problems to try", NOTHING)
    if options.dry_run:
        return {"problems": len(problems), "attempts_at_most": len(problems) * options.samples}
    from rrr_cli.store.artifacts import Writer

    options = dated(options, [options.model], options.run)
    depends_on = identity(options, task, {"model": weights_of(options, options.model)}, TRY)

    def writer(table: str) -> Writer:
        return Writer(options.run, table, "mine-failures", depends_on, overwrite=options.overwrite, seed=options.seed)

    # The attempts first: with --overwrite they are deleted before the problems that they refer to.
    with writer("attempts") as attempt_rows, writer("problems") as problem_rows:
        stored, tried = problem_rows.done("problem_id"), attempt_rows.done("problem_id")
        remaining = [p for p in problems if p.problem_id not in tried]
        if not remaining:
            return summarise(options, problems)
        loop = open_loop(options, task, options.model)
        with Work("mining", len(problems), len(problems) - len(remaining)) as work:
            for start in range(0, len(remaining), options.part):
                part = remaining[start : start + options.part]
                attempts = mine(loop, part, options.samples, options.stop_at_failure)
                problem_rows.append([p for p in part if p.problem_id not in stored])
                attempt_rows.append(attempts)
                failed = len({a.problem_id for a in attempts if not a.success})
                work.advance(len(part), f"{failed}/{len(part)} problems failed")
        loop.engine.close()
    return summarise(options, problems)


def mine(loop: Loop, problems: list[Problem], samples: int, stop_at_failure: int) -> list[Attempt]:
    """Up to `samples` attempts at each problem, in the problems' order.

    Each wave samples only as many as a problem still needs to reach its Nth failure, so that no sample is taken after
    that failure, whatever the batch size: this is exact inverse binomial sampling.
    """
    attempts: dict[str, list[Attempt]] = {p.problem_id: [] for p in problems}
    failures = dict.fromkeys(attempts, 0)
    enough = stop_at_failure or samples
    active = problems
    while active:
        by_need: dict[tuple[int, int], list[Problem]] = {}
        for p in active:
            taken = len(attempts[p.problem_id])
            by_need.setdefault((taken, min(enough - failures[p.problem_id], samples - taken)), []).append(p)
        for (taken, need), group in by_need.items():
            for p, rows in zip(group, loop.attempt(group, range(taken, taken + need)), strict=True):
                attempts[p.problem_id] += rows
                failures[p.problem_id] += sum(not a.success for a in rows)
        active = [p for p in active if len(attempts[p.problem_id]) < samples and (
            not stop_at_failure or failures[p.problem_id] < stop_at_failure)]
    return [a for rows in attempts.values() for a in rows]


def summarise(options: Options, problems: list[Problem]) -> dict[str, Any]:
    """Counts over `problems`. Raises RrrError (exit 5) if the model failed none of them."""
    from rrr_cli.store.artifacts import read

    ids = {p.problem_id for p in problems}
    attempts = passed = 0
    failed: set[str] = set()
    errors: dict[str, int] = {}
    for row in read(options.run, "attempts", columns=["problem_id", "phase", "success", "error_type"]):
        if row["problem_id"] in ids and row["phase"] == "first":
            attempts, passed = attempts + 1, passed + row["success"]
            if not row["success"]:
                failed.add(row["problem_id"])
                errors[row["error_type"]] = errors.get(row["error_type"], 0) + 1
    if not failed:
        raise RrrError(
            f"no failures among {len(ids)} problems: there is nothing to learn from. Try a harder --level, a higher "
            "--samples, or another model", NOTHING,
        )
    return {
        "problems": len(ids), "attempts": attempts, "passed": passed,
        "problems_with_a_failure": len(failed), "errors": dict(sorted(errors.items(), key=lambda e: -e[1])),
    }


STAGE = Stage(Options, run, "rrr mine-failures --model tiny --limit 200 --max-tokens 64")
