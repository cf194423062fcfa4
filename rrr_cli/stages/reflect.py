"""`rrr reflect`: writes reflections on each failed attempt, and retries after each reflection.

Reads `problems` and failed `attempts`; writes `reflections` and `attempts` (phase retry). Nothing is trained. The unit
of resume is the failed attempt: its reflections are written first, and a run that was killed before their retries uses
the stored reflections again. Refuses a run without failed attempts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrr_cli import options as shared
from rrr_cli.options import option
from rrr_cli.progress import Work
from rrr_cli.prompts import RETRY_AFTER_REFLECTION
from rrr_cli.records import Attempt, Reflection
from rrr_cli.rollout import Failure, Loop
from rrr_cli.stages import Stage
from rrr_cli.stages.identity import identity
from rrr_cli.stages.mined import FailureOptions, check_same_judge, chosen_failures, copy_failures
from rrr_cli.stages.rendering import dated
from rrr_cli.stages.setup import open_loop, weights_of
from rrr_cli.tasks.base import Task


@dataclass(frozen=True)
class Options(FailureOptions):
    """Flags of `rrr reflect`."""

    model: str | None = shared.model(None, "retries")
    reflector: str | None = option(None, "The model that reflects.  [default: --model]")
    reflections: int = option(1, "Reflections on each failed attempt.", least=1)
    retries: int = option(1, "Retries after each reflection.", least=1)
    reflection_tokens: int | None = shared.reflection_tokens("those of the run, else 512")
    retry_context: str = shared.retry_context()


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
        retried = attempt_rows.done("parent_id")
        remaining = [f for f in failed if f.attempt_id not in retried]
        if not remaining:
            return summarise(options, failed)
        retrying, reflecting = open_loops(options, chosen.task, model, reflector)
        stored = unfinished(options.run, retried) if reflection_rows.done("attempt_id") - retried else {}
        with Work("reflecting", len(failed), len(failed) - len(remaining)) as work:
            for start in range(0, len(remaining), options.part):
                part = remaining[start : start + options.part]
                fresh = [f for f in part if f.attempt_id not in stored]
                written = reflecting.reflect(fresh, range(options.reflections))
                reflection_rows.append([r for rows in written for r in rows])
                reflections = stored | {f.attempt_id: rows for f, rows in zip(fresh, written, strict=True)}
                retries = retry(retrying, part, reflections, options.retries)
                attempt_rows.append(retries)
                work.advance(len(part), f"{sum(a.success for a in retries)}/{len(retries)} retries passed")
        for loop in {id(loop): loop for loop in (retrying, reflecting)}.values():
            loop.engine.close()
    return summarise(options, failed)


def open_loops(options: Options, task: Task, model: str, reflector: str) -> tuple[Loop, Loop]:
    """(the loop that retries, the loop that reflects): the same one if one model does both."""
    names = dict.fromkeys((model, reflector))
    loops = {n: open_loop(options, task, n, options.retry_context, options.reflection_tokens) for n in names}
    return loops[model], loops[reflector]


def unfinished(run: Path, retried: set[str]) -> dict[str, list[Reflection]]:
    """attempt_id -> its stored reflections, for the attempts without a retry."""
    from rrr_cli.store.artifacts import read

    stored: dict[str, list[Reflection]] = {}
    for r in read(run, "reflections"):
        if r.attempt_id not in retried:
            stored.setdefault(r.attempt_id, []).append(r)
    return stored


def retry(
    loop: Loop, part: list[Failure], reflections: dict[str, list[Reflection]], retries: int
) -> list[Attempt]:
    """`retries` retries after each reflection on each failure, in order."""
    pairs = [(f, r) for f in part for r in reflections[f.attempt_id]]
    return [a for rows in loop.retry(pairs, range(retries)) for a in rows]


def summarise(options: Options, failed: list[Failure]) -> dict[str, Any]:
    """Counts over the given failed attempts."""
    from rrr_cli.store.artifacts import read

    ids = {f.attempt_id for f in failed}
    retries = passed = 0
    for row in read(options.run, "attempts", columns=["parent_id", "phase", "success"]):
        if row["phase"] == "retry" and row["parent_id"] in ids:
            retries, passed = retries + 1, passed + row["success"]
    reflections = leaking = tokens = 0
    for row in read(options.run, "reflections", columns=["attempt_id", "tokens", "leaks_reference"]):
        if row["attempt_id"] in ids:
            reflections, leaking, tokens = reflections + 1, leaking + row["leaks_reference"], tokens + row["tokens"]
    return {
        "failed_attempts": len(ids), "reflections": reflections,
        "mean_reflection_tokens": round(tokens / reflections, 1), "reflections_holding_the_reference": leaking,
        "retries": retries, "retries_passed": passed,
    }


STAGE = Stage(
    Options, run, "rrr reflect --model tiny --reflections 2 --limit 100 --max-tokens 64 --reflection-tokens 64")
