"""`rrr mine-failures`: try each training problem, keep every attempt with its verdict.

Reads a task; writes `problems` and `attempts` (phase first). A problem's attempts are written together; where a server
left some of them without an answer, the same command asks for those alone. The failures are a view over the attempts:
`rrr sql "select * from failures"`. Refuses other options than those of the rows already written.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from rrr_cli import options as shared
from rrr_cli.errors import NOTHING, RrrError
from rrr_cli.flow import Flow
from rrr_cli.options import DEFAULT_TASK, SamplingOptions, option
from rrr_cli.progress import Work
from rrr_cli.prompts import TRY
from rrr_cli.records import Attempt, Problem
from rrr_cli.rollout import Loop
from rrr_cli.stages import Stage
from rrr_cli.stages.identity import identity
from rrr_cli.stages.rendering import dated
from rrr_cli.stages.setup import open_loop, weights_of, window
from rrr_cli.stages.unanswered import answered, count, counts, finish, is_answered, record
from rrr_cli.stories import Story
from rrr_cli.tasks import load_task
from rrr_cli.tasks.protocol import problems_of

if TYPE_CHECKING:
    from rrr_cli.store.artifacts import Writer

Tries = dict[int, bool]  # of a problem: sample index -> whether it passed
Mined = tuple[Problem, list[Attempt]]


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
    in_flight: int | None = shared.in_flight("Problems")
    part: int = shared.part("Problems")


def run(options: Options) -> dict[str, Any]:
    """Mine, and return the summary that `--json` prints.

    Raises RrrError: bad options (exit 2), unfit model or table (3), a missing extra (4), no problems (5), stopped.
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
        stored = problem_rows.done("problem_id")
        finished, tries = tries_so_far(attempt_rows, options)
        remaining = [p for p in problems if p.problem_id not in finished]
        lost = (finished | tries.keys()) - stored  # with a part that was removed
        problem_rows.append([p for p in problems if p.problem_id in lost])
        stored |= lost
        if not remaining:
            return summarise(options, problems)
        loop = open_loop(options, task, options.model)
        flow: Flow[Mined] = Flow(window(options, loop))
        begun = deque[Problem]()  # that aren't written yet, in their order, which readers keep
        mined = stories(loop, watched(remaining, begun), options, tries, flow.spare)
        with Work("mining", len(problems), len(problems) - len(remaining)) as work:
            for part in flow.parts(mined, options.part):
                record(attempt_rows, loop)
                problem_rows.append([p for p in begun if p.problem_id not in stored])
                begun.clear()
                attempt_rows.append([row for _, rows in part for row in rows])
                failed = sum(any(not row.success for row in rows) for _, rows in part)
                count(work, len(part), f"{failed}/{len(part)} problems failed", loop)
            finish(work, loop)
        loop.engine.close()
    missing = counts(loop, tried=len(problems))
    return summarise(options, problems) | missing


def tries_so_far(rows: Writer, options: Options) -> tuple[set[str], dict[str, Tries]]:
    """The problems that have all their tries, and the tries of those where a server left some without an answer."""
    counts: dict[str, list[int]] = {}  # problem_id -> tries and failures
    for problem_id, success in rows.stored("problem_id", "success"):
        count = counts.setdefault(problem_id, [0, 0])
        count[0], count[1] = count[0] + 1, count[1] + (not success)
    enough = options.stop_at_failure or options.samples + 1
    finished = {name for name, (n, failures) in counts.items() if n >= options.samples or failures >= enough}
    begun: dict[str, Tries] = {name: {} for name in counts.keys() - finished}
    if begun:
        where = {"problem_id": sorted(begun)}
        for problem_id, index, success in rows.stored("problem_id", "sample_index", "success", where=where):
            begun[problem_id][index] = success
    return finished, begun


def watched(problems: Iterable[Problem], begun: deque[Problem]) -> Iterator[Problem]:
    """The problems, each of which is added to `begun` when it is asked for."""
    for problem in problems:
        begun.append(problem)
        yield problem


def stories(
    loop: Loop, problems: Iterable[Problem], options: Options, tries: Mapping[str, Tries],
    spare: Callable[[Loop, int], int],
) -> Iterator[Story[Mined]]:
    """A story a problem; `tries`: those that some have already."""
    for p in problems:
        yield story(loop, p, options.samples, options.stop_at_failure, tries.get(p.problem_id, {}), spare)


def story(
    loop: Loop, problem: Problem, samples: int, stop_at_failure: int, begun: Tries, spare: Callable[[Loop, int], int]
) -> Story[Mined]:
    """The tries at a problem, up to its Nth failure: exact inverse binomial sampling.

    Each wave samples as many as are needed to reach it, and where the engine has places free as many more as `spare`
    says; tries after the failure are dropped. A problem whose prompt gets no answer isn't asked further.
    """
    attempts: list[Attempt] = []
    tries = dict(begun)
    while problem.problem_id not in loop.unanswered.reasons:
        ahead = spare(loop, len(tries) - failures(tries))
        wave = next_samples(tries, samples, stop_at_failure, ahead)
        if not wave:
            break
        (rows,) = yield from loop.attempting([problem], wave)
        # Ahead of need, nothing counts after a try that is still to be asked for.
        for row in takewhile(is_answered, rows) if ahead else answered(rows):
            if failures(tries) < (stop_at_failure or samples + 1):
                attempts.append(row)
                tries[row.sample_index] = row.success
    return problem, attempts


def next_samples(tries: Tries, samples: int, stop_at_failure: int, spare: int = 0) -> tuple[int, ...]:
    """The indices of the tries to take next; () if a problem has all of them."""
    missing = samples - len(tries)
    if stop_at_failure:
        needed = stop_at_failure - failures(tries)
        missing = min(missing, needed and needed + spare)
    return tuple(islice((i for i in range(samples) if i not in tries), max(0, missing)))


def failures(tries: Tries) -> int:
    return sum(not success for success in tries.values())


def summarise(options: Options, problems: list[Problem]) -> dict[str, Any]:
    """Counts over `problems`. Says on stderr if the model failed none of them."""
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
        print(f"rrr: no failures among {len(ids)} problems: there is nothing to reflect on. Try a harder --level, a "
              "higher --samples, or another model", file=sys.stderr)
    return {
        "problems": len(ids), "attempts": attempts, "passed": passed,
        "problems_with_a_failure": len(failed), "errors": dict(sorted(errors.items(), key=lambda e: (-e[1], e[0]))),
    }


STAGE = Stage(Options, run, "rrr mine-failures --model tiny --limit 200 --max-tokens 64")
