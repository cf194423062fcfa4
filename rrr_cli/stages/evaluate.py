"""`rrr eval`: the two tries of one or more models on the test split, with the controls that a second try needs.

Reads a task's test split and models; writes `evaluations`, a row a problem and model. Knowing that a first try failed
improves any second sample, so every second try is compared with a blind resample and a retry without a reflection,
sampled in the same run at the same temperature. Refuses a model name whose rows have other weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rrr_cli import options as shared
from rrr_cli.errors import NOTHING, USAGE, RrrError
from rrr_cli.options import DEFAULT_MODEL, DEFAULT_TOKENS, SamplingOptions, option
from rrr_cli.progress import Work
from rrr_cli.prompts import REPAIRING, RETRY_AFTER_REFLECTION
from rrr_cli.records import Attempt, Evaluation, Message, Problem, Reflection, content_id
from rrr_cli.rollout import Failure, Loop, transcript_text
from rrr_cli.stages import Stage
from rrr_cli.stages.cross import check_cross, cross_table, crossed, drop_crossed
from rrr_cli.stages.identity import identity
from rrr_cli.stages.mined import LIMITS, limits, mining, same_task, task_of
from rrr_cli.stages.models import Model, check_names, dates, open_models, parse_models, weights, with_dates
from rrr_cli.stages.rendering import as_rendered
from rrr_cli.stages.repair import check_feedback
from rrr_cli.stages.setup import open_loop
from rrr_cli.stages.summary import MEASURES, VOTES, summarise
from rrr_cli.stages.unanswered import answered, counts, record, stop_if_failed
from rrr_cli.stages.votes import FEEDBACK, vote_columns
from rrr_cli.tasks import load_task
from rrr_cli.tasks.base import Task
from rrr_cli.tasks.protocol import problems_of

if TYPE_CHECKING:
    from rich.console import Console

REFLECTOR = "--reflector"  # among the models by name; no --model's name begins so

@dataclass(frozen=True)
class Options(SamplingOptions):
    """Flags of `rrr eval`."""

    model: tuple[str, ...] = option(
        (f"base={DEFAULT_MODEL}",), "NAME=MODEL, once a model; all are compared with the first. MODEL may begin with "
        "an engine of its own: vllm:FOLDER, openai:MODEL@URL.", identity=False)
    max_tokens: int | None = shared.max_tokens("an answer")
    reflection_tokens: int | None = shared.reflection_tokens("those of the run, else 512")
    retry_context: str = shared.retry_context()
    self_consistency: int | None = option(
        None, "Sample each problem this many times, the first try among them, and take the most frequent answer.",
        least=2, panel="Votes")
    reflect_all: bool = option(
        False, "Let the reflector repair each of these samples as if it had failed, and vote on the repairs: no ground "
        "truth is used.", panel="Votes")
    oracle: bool = option(
        False, "Repair only the failed first tries: an upper bound, because it needs to know them.", panel="Votes")
    reflector: str | None = option(None, "The model that repairs.  [default: each model itself]", panel="Votes")
    cross: bool = option(
        False, "Who earned it: every model also retries after every other model's reflection on the first model's "
        "failures.", identity=False)
    fail_under: str | None = option(
        None, "MEASURE=RATE: exit 5 if the last model is below, such as second_try=0.5.", identity=False)
    part: int = shared.part("Problems")


def run(options: Options) -> dict[str, Any]:
    """Evaluate every model, and return what `--json` prints.

    Raises RrrError: bad options (exit 2), unfit model or table (3), a missing extra (4), no problems (5), stopped.
    """
    specs = parse_models(options.model)
    options = checked(options)
    check_cross(options.cross, specs)
    models = open_models(options, specs | ({REFLECTOR: options.reflector} if options.reflector is not None else {}))
    task = load_task(str(options.task), options.level, options.data)
    problems = problems_of(task, "test", options.limit)
    if not problems:
        raise RrrError(f"--task {options.task} has no test problems", NOTHING)
    if options.dry_run:
        return {"problems": len(problems), "models": {name: models[name].shown for name in specs}}
    from rrr_cli.extras import require
    from rrr_cli.store.artifacts import Writer, read

    require("train", "scipy")
    first = next(iter(models))
    models = with_dates(models, options.run)
    hashes, day = weights(models), dates(models.values())
    reflector = models.pop(REFLECTOR, None)
    compared = {"first model": hashes[first]} | ({"reflector": hashes.pop(REFLECTOR)} if reflector else {})
    repairs = REPAIRING if options.reflect_all or options.oracle else ()
    depends_on = identity(models[first].options, task, compared, (*RETRY_AFTER_REFLECTION, *repairs), first=first,
                          reflector=reflector and reflector.shown)
    with Writer(options.run, "evaluations", "eval", depends_on, overwrite=options.overwrite, seed=options.seed) as rows:
        done, asked = rows.done("evaluation_id"), list[Loop]()
        check_names(options.run, "evaluations", hashes)
        rows.note(**day)
        for name, model in models.items():
            stamp: dict[str, Any] = {"model": name, "model_path": model.shown, "model_fingerprint": hashes[name],
                                     "temperature": options.temperature, "seed": options.seed}
            ids = {p.problem_id: content_id("evaluation", p.problem_id, name, hashes[name]) for p in problems}
            remaining = [p for p in problems if ids[p.problem_id] not in done]
            shared_rows = None
            if remaining and name != first:
                shared_rows = {row.problem_id: row for row in read(options.run, "evaluations", {"model": first})}
                remaining = [p for p in remaining if p.problem_id in shared_rows]  # a server refused the others
            if not remaining:
                continue
            with Work(f"evaluating {name}", len(problems), len(problems) - len(remaining)) as work:
                for columns, loops in judged(task, model, reflector, remaining, shared_rows):
                    record(rows, *loops)
                    rows.append([Evaluation(evaluation_id=ids[r["problem_id"]], **stamp, **r) for r in columns])
                    stop_if_failed(*loops)
                    work.advance(len(columns))
            asked += loops
        missing = counts(*asked, tried=len(problems))
    problem_ids = {p.problem_id for p in problems}
    results = [r for r in read(options.run, "evaluations") if r.problem_id in problem_ids and r.model in models]
    if unanswered := models.keys() - {r.model for r in results}:
        raise RrrError(f"the server answered no problem whole as {', '.join(sorted(unanswered))}", NOTHING)
    earned = who_earned(options, task, models, hashes, problems, depends_on)
    return summarise(results, list(models)) | missing | earned


def who_earned(
    options: Options, task: Task, models: dict[str, Model[Options]], hashes: dict[str, str],
    problems: Sequence[Problem], depends_on: dict[str, Any],
) -> dict[str, Any]:
    """`cross` of the summary, with --cross; without, {}, and retries that an --overwrite made obsolete are removed."""
    from rrr_cli.store.artifacts import read

    if not options.cross:
        if options.overwrite:
            drop_crossed(options.run, depends_on)
        return {}
    by_id, first = {p.problem_id: p for p in problems}, next(iter(models))
    rows = [r for r in read(options.run, "evaluations", {"model": list(models)}) if r.problem_id in by_id]
    failed = [shared_failure(by_id[r.problem_id], r) for r in rows if r.model == first and not r.first_success]
    return {"cross": crossed(task, list(models.values()), hashes, rows, failed, depends_on)}


def checked(options: Options) -> Options:
    """The options; without level and data, with those of mining. Raises RrrError (exit 2): options that don't fit."""
    gate = parse_gate(options.fail_under)
    if gate is not None and gate[0] in VOTES and not getattr(options, gate[0]):
        raise RrrError(f"--fail-under {options.fail_under}: type --{gate[0].replace('_', '-')} too, so that it is "
                       "measured", USAGE)
    if options.reflector is not None:
        check_feedback(options.reflector, FEEDBACK)
    if options.reflect_all and options.self_consistency is None:
        raise RrrError("--reflect-all votes on the samples of --self-consistency K: give both", USAGE)
    if options.reflector is not None and not (options.reflect_all or options.oracle):
        raise RrrError("--reflector repairs with --reflect-all or --oracle: give one of them", USAGE)
    mined = mining(options.run)
    if options.level is None and options.data is None and same_task(options, mined):
        options = replace(options, level=mined.get("level"), data=mined.get("data"))
    tokens: dict[str, Any] = {name: DEFAULT_TOKENS for name in LIMITS if getattr(options, name) is None}
    tokens |= limits(options, options.run, own="evaluations")
    return as_rendered(replace(options, task=task_of(options, mined, options.run), **tokens), mined)


def judged(
    task: Task, model: Model[Options], reflector: Model[Options] | None, problems: Sequence[Problem],
    shared: dict[str, Evaluation] | None,
) -> Iterator[tuple[list[dict[str, Any]], tuple[Loop, Loop]]]:
    """The columns of one model's rows, a part at a time, and the loops that try and repair; their memory is freed after
    the last. A problem of which any text got no answer has no row."""
    options = model.options
    loop = repairing = open_loop(options, task, model.path, options.retry_context, options.reflection_tokens)
    if reflector is not None:
        repairing = open_loop(reflector.options, task, reflector.path)
    for start in range(0, len(problems), options.part):
        part = problems[start : start + options.part]
        firsts = {a.problem_id: a for rows in loop.attempt(part, range(1)) for a in answered(rows)}
        part = [p for p in part if p.problem_id in firsts]
        votes = vote_columns(
            loop, repairing, part, firsts, options.self_consistency, options.reflect_all, options.oracle)
        rows_B = [{**row, **votes[row["problem_id"]]} for row in evaluate(loop, part, firsts, shared)]
        without = loop.unanswered.reasons.keys() | repairing.unanswered.reasons.keys()
        yield [row for row in rows_B if row["problem_id"] not in without], (loop, repairing)
    loop.engine.close()
    if repairing is not loop:
        repairing.engine.close()


def evaluate(
    loop: Loop, problems: Sequence[Problem], firsts: dict[str, Attempt], shared: dict[str, Evaluation] | None
) -> list[dict[str, Any]]:
    """One model's columns of `Evaluation` without the votes, a dict a problem.

    `firsts`: problem_id -> its first try. `shared`: problem_id -> the first model's row; None if this is the first
    model, whose own failures are the shared ones. All reflections go to the engine as one batch, then all retries.
    """
    own = [p for p in problems if not firsts[p.problem_id].success]
    common = [p for p in problems if shared is not None and not shared[p.problem_id].first_success]
    failures = [Failure.of(p, firsts[p.problem_id]) for p in own]
    failures += [shared_failure(p, shared[p.problem_id]) for p in common] if shared is not None else []
    reflections = [rows[0] for rows in loop.reflect(failures, range(1))]
    pairs: list[tuple[Failure, Reflection | None]] = list(zip(failures, reflections, strict=True))
    n, m = len(own), len(common)
    retries = [rows[0] for rows in loop.retry([*pairs, *((f, None) for f in failures[:n])], range(1))]
    # greedy, it would be the first try again
    resampled_B = own if loop.sampling.temperature else []
    blinds = [rows[0] for rows in loop.attempt(resampled_B, range(1, 2), phase="resample")]

    seconds = {p.problem_id: (r, a) for p, r, a in zip(own, reflections[:n], retries[:n], strict=True)}
    commons = {p.problem_id: (r, a) for p, r, a in zip(common, reflections[n:], retries[n : n + m], strict=True)}
    plains = {p.problem_id: a for p, a in zip(own, retries[n + m :], strict=True)}
    resampled = {p.problem_id: a for p, a in zip(resampled_B, blinds, strict=True)}
    rows = []
    for p in problems:
        first, own_try = firsts[p.problem_id], seconds.get(p.problem_id)
        common_try = own_try if shared is None else commons.get(p.problem_id)
        failed_text = shared[p.problem_id].first if shared is not None else transcript_text(first.transcript)
        controls = {"blind": resampled.get(p.problem_id), "plain": plains.get(p.problem_id)}
        rows.append(own_columns(p, first, own_try, controls) | shared_columns(failed_text, common_try))
    return rows


def own_columns(
    problem: Problem, first: Attempt, second_try: tuple[Reflection, Attempt] | None, controls: dict[str, Attempt | None]
) -> dict[str, Any]:
    """The columns of a model's own tries: first, reflection and second, and the controls; None if the first passed."""
    reflection, second = second_try or (None, None)
    columns: dict[str, Any] = {
        "problem_id": problem.problem_id, "task": problem.task, "difficulty": problem.difficulty,
        "first": transcript_text(first.transcript), "first_success": first.success, "first_error": first.error_type,
        "turns": first.transcript if len(first.transcript) > 1 else None,
        "reflection": reflection and reflection.text, "reflection_tokens": reflection and reflection.tokens,
        "solves": reflection and reflection.solves,
        "second": second and transcript_text(second.transcript),
        "second_success": second and second.success, "second_error": second and second.error_type,
    }
    for name, control in controls.items():
        columns |= {
            name: control and transcript_text(control.transcript), f"{name}_success": control and control.success}
    return columns


def shared_columns(failed_text: str, repaired: tuple[Reflection, Attempt] | None) -> dict[str, Any]:
    """The columns of the reflection and retry on the first model's failed attempt; None where that passed."""
    reflection, retry = repaired or (None, None)
    return {
        "shared_attempt": failed_text if repaired else None, "shared_reflection": reflection and reflection.text,
        "shared_retry": retry and transcript_text(retry.transcript), "shared_success": retry and retry.success,
    }


def shared_failure(problem: Problem, row: Evaluation) -> Failure:
    """The failed first try in a row of the first model, on which every model reflects."""
    return Failure(
        problem, content_id("shared", row.problem_id, row.first), row.turns or [Message("assistant", row.first)])


def parse_gate(spec: str | None) -> tuple[str, float] | None:
    """"second_try=0.5" -> ("second_try", 0.5). Raises RrrError (exit 2)."""
    if spec is None:
        return None
    measure, _, value = spec.partition("=")
    try:
        least = float(value)
    except ValueError:
        least = -1.0
    if measure not in (*MEASURES, *VOTES) or not 0 <= least <= 1:
        known = ", ".join((*MEASURES, *VOTES))
        raise RrrError(f"--fail-under {spec}: it must be MEASURE=RATE, RATE in 0..1, MEASURE one of {known}", USAGE)
    return measure, least


def check_gate(result: dict[str, Any], options: Options) -> None:
    """Raise RrrError (exit 5) if the last model's rate is below --fail-under."""
    gate = parse_gate(options.fail_under)
    if gate is None:
        return
    measure, least = gate
    last = result["models"][-1]
    value = last[measure]["value"] if last.get(measure) else 0.0
    if value < least:
        raise RrrError(f"{last['name']}: {measure} is {value:.3f}, below the {least:g} of --fail-under", NOTHING)


def show(result: dict[str, Any], console: Console) -> None:
    """The summary as tables and sentences."""
    from rrr_cli.stages.tables import evaluation_table

    evaluation_table(result, console)
    if "cross" in result:
        cross_table(result["cross"], console)


STAGE = Stage(
    Options, run, "rrr eval --model base=tiny --limit 100 --max-tokens 64 --reflection-tokens 64", show, check_gate)
