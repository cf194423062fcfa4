"""`rrr reflect`: for each failed attempt reflections, and retries after each; or, with `--mode repair`, repairs.

Reads `problems` and failed `attempts`; writes `reflections` and `attempts` (phase retry), or `attempts` alone (phase
repair, see `repair.py`). Nothing is trained. The unit of resume is the failed attempt: its reflections are written
first, and a run that was killed before their retries takes the stored reflections up again.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rrr_cli.engines import model_fingerprint
from rrr_cli.errors import NOTHING, RrrError
from rrr_cli.options import option, own_samples, retry_context
from rrr_cli.progress import Work
from rrr_cli.records import Reflection, content_id
from rrr_cli.rollout import Failure
from rrr_cli.stages.mined import Copies, as_mined, failures, mining
from rrr_cli.stages.repair import repair
from rrr_cli.stages.setup import SamplingOptions, configuration, open_loop
from rrr_cli.tasks import load_task

EXAMPLE = "rrr reflect --model tiny --reflections 2 --limit 100 --max-tokens 64 --reflection-tokens 64"


@dataclass(frozen=True)
class Options(SamplingOptions):
    """Flags of `rrr reflect`."""

    mode: str = option(
        "retry", "retry: reflections, and retries after them. repair: the reflector writes its reasoning and the "
        "repaired output in one completion (Re-ReST).", choices=("retry", "repair"),
    )
    model: str | None = option(None, "Retries: tiny, a folder, or a hub id.  [default: the one mined]")
    reflector: str | None = option(None, "Reflects, or repairs: likewise.  [default: --model]")
    feedback: str = option(
        "verifier", "What a reflector that repairs is told: binary (it failed), verifier (what the verifier says) or "
        "gold (a right answer too; train split only).", choices=("binary", "verifier", "gold"),
    )
    input: Path | None = option(
        None, "Another run to read failed attempts from; they and their problems are copied.  [default: --run]"
    )
    reflections: int = option(1, "Reflections on each failed attempt.", least=1)
    retries: int = option(1, "Retries after each reflection; repairs of each failed attempt.", least=1)
    per_problem: int = option(1, "Failed attempts of a problem to reflect on.", least=1)
    own_samples: int | None = own_samples()
    reflection_tokens: int = option(512, "Most tokens of a reflection.", least=1)
    retry_context: str = retry_context()
    part: int = option(256, "Failed attempts written at a time: the most that a kill can lose.", least=1)


def run(options: Options) -> dict[str, Any]:
    """Reflect and retry; return the summary that `--json` prints."""
    from rrr_cli.store.artifacts import Writer, read

    source = options.input or options.run
    options = as_mined(options, source)
    model = options.model or "tiny"
    reflector = options.reflector or model
    task = load_task(options.task, options.level, options.data)
    found = failures(source, task.name, options.per_problem, options.own_samples)
    failed = list(islice(found, options.limit))
    if not failed:
        raise RrrError(f"{source} holds no failed attempt: there is nothing to reflect on. Mine more problems", NOTHING)
    if options.mode == "repair":
        return repair(options, task, reflector, failed, source)
    if options.dry_run:
        planned = len(failed) * options.reflections
        return {"failed_attempts": len(failed), "reflections": planned, "retries": planned * options.retries}
    config = configuration(options, task) | {
        "model": model, "model_fingerprint": model_fingerprint(options.engine, model, options.base_url),
        "reflector_fingerprint": model_fingerprint(options.engine, reflector, options.base_url),
        "reflections": options.reflections, "retries": options.retries, "per_problem": options.per_problem,
        "own_samples": options.own_samples, "retry_context": options.retry_context,
        "reflection_tokens": options.reflection_tokens,
    }
    inputs = {"attempts": content_id(mining(source))}

    def writer(table: str) -> Writer:
        return Writer(options.run, table, "reflect", config, inputs, options.overwrite, options.seed)

    copies = Copies(source, options.run, failed)
    with (
        writer("attempts") as attempt_rows, writer("reflections") as reflection_rows,
        writer("problems") if copies.needed else nullcontext() as problem_rows,
    ):
        retried = attempt_rows.done("parent_id")
        owed = [f for f in failed if f.attempt_id not in retried]
        if not owed:
            return summarise(options, failed)
        loop = reflecting = open_loop(options, task, model, options.retry_context, options.reflection_tokens)
        if reflector != model:
            reflecting = open_loop(options, task, reflector, options.retry_context, options.reflection_tokens)
        begun: dict[str, list[Reflection]] = {}
        if reflection_rows.done("attempt_id") - retried:
            for r in read(options.run, "reflections"):
                if r.attempt_id not in retried:
                    begun.setdefault(r.attempt_id, []).append(r)
        with Work("reflecting", len(failed), len(failed) - len(owed)) as work:
            for start in range(0, len(owed), options.part):
                part = owed[start : start + options.part]
                fresh = [f for f in part if f.attempt_id not in begun]
                written = reflecting.reflect(fresh, range(options.reflections))
                reflection_rows.append([r for rows in written for r in rows])
                reflections = begun | {f.attempt_id: rows for f, rows in zip(fresh, written, strict=True)}
                pairs = [(f, r) for f in part for r in reflections[f.attempt_id]]
                retries = [a for rows in loop.retry(pairs, range(options.retries)) for a in rows]
                if problem_rows:
                    problem_rows.append(copies.problems(part))
                attempt_rows.append([*copies.attempts(part), *retries])
                work.advance(len(part), f"{sum(a.success for a in retries)}/{len(retries)} retries passed")
    return summarise(options, failed)


def summarise(options: Options, failed: list[Failure]) -> dict[str, Any]:
    """Counts over the failed attempts asked for."""
    from rrr_cli.store.artifacts import read

    wanted = {f.attempt_id for f in failed}
    retries = passed = 0
    for row in read(options.run, "attempts", columns=["parent_id", "phase", "success"]):
        if row["phase"] == "retry" and row["parent_id"] in wanted:
            retries, passed = retries + 1, passed + row["success"]
    reflections = leaking = tokens = 0
    for row in read(options.run, "reflections", columns=["attempt_id", "tokens", "leaks_reference"]):
        if row["attempt_id"] in wanted:
            reflections, leaking, tokens = reflections + 1, leaking + row["leaks_reference"], tokens + row["tokens"]
    return {
        "failed_attempts": len(wanted), "reflections": reflections,
        "mean_reflection_tokens": round(tokens / reflections, 1), "reflections_holding_the_reference": leaking,
        "retries": retries, "retries_passed": passed,
    }
