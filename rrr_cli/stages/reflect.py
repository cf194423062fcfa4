"""`rrr reflect`: writes reflections on each failed attempt, and retries after each reflection.

Reads `problems` and failed `attempts`; writes `reflections` and `attempts` (phase retry). Nothing is trained. The unit
of resume is the single text: reflections are written before their retries, and a run that was killed, or left some
without an answer by a server, uses the stored reflections again. Refuses a run without failed attempts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrr_cli import options as shared
from rrr_cli.failures import Failure
from rrr_cli.flow import Flow
from rrr_cli.options import option
from rrr_cli.progress import Work
from rrr_cli.prompts import RETRY_AFTER_REFLECTION
from rrr_cli.records import Attempt, Reflection
from rrr_cli.rollout import Loop
from rrr_cli.stages import Stage
from rrr_cli.stages.identity import identity
from rrr_cli.stages.mined import (
    Chosen,
    FailureOptions,
    base_pass_rate,
    check_same_judge,
    chosen_failures,
    copy_failures,
)
from rrr_cli.stages.rendering import dated
from rrr_cli.stages.setup import open_loop, weights_of, window
from rrr_cli.stages.unanswered import answered, by_missing, count, counts, finish, indices, missing, record
from rrr_cli.stories import Story
from rrr_cli.tasks.base import Task

Written = tuple[list[Reflection], list[Attempt]]  # on one failure


@dataclass(frozen=True)
class Options(FailureOptions):
    """Flags of `rrr reflect`."""

    model: str | None = shared.model(None, "retries")
    reflector: str | None = option(None, "The model that reflects.  [default: --model]")
    reflections: int = option(1, "Reflections on each failed attempt.", least=1)
    retries: int = option(1, "Retries after each reflection.", least=1)
    reflection_tokens: int | None = shared.reflection_tokens("those of the run, else 512")
    retry_context: str = shared.retry_context()
    feedback: str | None = shared.reflect_feedback("that of the run, else binary")


def run(options: Options) -> dict[str, Any]:
    """Reflect and retry; return the summary that `--json` prints.

    Raises RrrError: bad options (exit 2), unfit attempts or table (3), a missing extra (4), no failures (5), stopped.
    """
    chosen = chosen_failures(options)
    options, failed = chosen.options, chosen.failures
    model, reflector = str(options.model), options.reflector or str(options.model)
    if options.dry_run:
        planned = len(failed) * options.reflections
        return {"failed_attempts": len(failed), "reflections": planned, "retries": planned * options.retries}
    from rrr_cli.store.artifacts import Writer

    options = dated(options, (model, reflector), chosen.source, options.run)
    weights = {"model": weights_of(options, model), "reflector": weights_of(options, reflector)}
    depends_on = identity(options, chosen.task, weights, RETRY_AFTER_REFLECTION, reflector=reflector)

    check_same_judge(chosen.source, depends_on)

    def writer(table: str) -> Writer:
        return Writer(options.run, table, "reflect", depends_on, chosen.inputs, options.overwrite, options.seed)

    copy_failures(chosen.source, options.run, failed)
    with writer("attempts") as attempt_rows, writer("reflections") as reflection_rows:
        reflected, retried = indices(reflection_rows, "attempt_id"), indices(attempt_rows, "reflection_id")
        finished = Counter(attempt_rows.stored("parent_id"))
        remaining = [
            f for f in failed if finished[(f.attempt_id,)] < options.reflections * options.retries
            or len(reflected.get(f.attempt_id, ())) < options.reflections  # their part was removed
        ]
        if not remaining:
            return summarise(options, chosen)
        retrying, reflecting = open_loops(options, chosen.task, model, reflector)
        stored = written_before(options.run, remaining) if reflected else {}
        flow: Flow[Written] = Flow(window(options, reflecting))
        written = stories(retrying, reflecting, remaining, options, stored, retried)
        with Work("reflecting", len(failed), len(failed) - len(remaining)) as work:
            for part in flow.parts(written, options.part):
                record(reflection_rows, reflecting)
                reflection_rows.append([r for reflections, _ in part for r in reflections])
                record(attempt_rows, retrying)
                retries = [a for _, of_failure in part for a in of_failure]
                attempt_rows.append(retries)
                note = f"{sum(a.success for a in retries)}/{len(retries)} retries passed"
                count(work, len(part), note, retrying, reflecting)
            finish(work, reflecting, retrying)
        for loop in {id(loop): loop for loop in (retrying, reflecting)}.values():
            loop.engine.close()
    without = counts(retrying, reflecting, tried=len({f.problem.problem_id for f in failed}))
    return summarise(options, chosen) | without


def open_loops(options: Options, task: Task, model: str, reflector: str) -> tuple[Loop, Loop]:
    """(the loop that retries, the loop that reflects): the same one if one model does both."""
    names = dict.fromkeys((model, reflector))
    loops = {
        n: open_loop(options, task, n, options.retry_context, options.reflection_tokens, options.feedback)
        for n in names
    }
    return loops[model], loops[reflector]


def written_before(run: Path, failed: list[Failure]) -> dict[str, list[Reflection]]:
    """attempt_id -> its stored reflections, for these failed attempts."""
    from rrr_cli.store.artifacts import read

    stored: dict[str, list[Reflection]] = {}
    for r in read(run, "reflections", where={"attempt_id": [f.attempt_id for f in failed]}):
        stored.setdefault(r.attempt_id, []).append(r)
    return stored


def stories(
    retrying: Loop, reflecting: Loop, failures: Iterable[Failure], options: Options,
    stored: Mapping[str, list[Reflection]], retried: Mapping[str, set[int]],
) -> Iterator[Story[Written]]:
    """A story a failure."""
    for failure in failures:
        yield story(retrying, reflecting, failure, options, stored.get(failure.attempt_id, []), retried)


def story(
    retrying: Loop, reflecting: Loop, failure: Failure, options: Options, stored: Sequence[Reflection],
    retried: Mapping[str, set[int]],
) -> Story[Written]:
    """The reflections that a failure doesn't have yet, and the retries that its reflections don't have yet."""
    written: list[Reflection] = []
    if samples := missing(options.reflections, {r.sample_index for r in stored}):
        (rows,) = yield from reflecting.reflecting([failure], samples)
        written = answered(rows)
    pairs = [(failure, r) for r in (*stored, *written)]
    retries: list[Attempt] = []
    for samples, group in by_missing(pairs, options.retries, lambda pair: retried.get(pair[1].reflection_id, ())):
        retries += [a for rows in (yield from retrying.retrying(group, samples)) for a in answered(rows)]
    return written, retries


def summarise(options: Options, chosen: Chosen[Options]) -> dict[str, Any]:
    """Counts over the chosen failed attempts."""
    from rrr_cli.store.artifacts import read

    ids = {f.attempt_id for f in chosen.failures}
    retries = passed = 0
    for row in read(options.run, "attempts", columns=["parent_id", "phase", "success"]):
        if row["phase"] == "retry" and row["parent_id"] in ids:
            retries, passed = retries + 1, passed + row["success"]
    reflections = solving = 0
    tokens: list[int] = []
    for row in read(options.run, "reflections", columns=["attempt_id", "tokens", "solves"]):
        if row["attempt_id"] in ids:
            reflections, solving = reflections + 1, solving + bool(row["solves"])
            tokens += [] if row["tokens"] is None else [row["tokens"]]  # a server may not count them
    return {
        "failed_attempts": len(ids), "problems": len({f.problem.problem_id for f in chosen.failures}),
        "base_pass_rate": base_pass_rate(chosen.source, chosen.failures), "reflections": reflections,
        "mean_reflection_tokens": round(sum(tokens) / len(tokens), 1) if tokens else None,
        "reflections_that_solve": solving,
        "retries": retries, "retries_passed": passed,
    }


STAGE = Stage(
    Options, run, "rrr reflect --model tiny --reflections 2 --limit 100 --max-tokens 64 --reflection-tokens 64")
