"""`rrr eval`: two or more tries of one or more models on the test split, with the controls that a second try needs.

Reads a task's test split and models; writes `evaluations`, a row a problem and model, and `later_tries`. Knowing that a
first try failed improves any second sample, so every second try is compared with a blind resample and a retry without a
reflection, sampled in the same run at the same temperature, at an equal number of tries and at equal tokens. Refuses a
model name whose rows have other weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rrr_cli import options as shared
from rrr_cli.errors import NOTHING, USAGE, RrrError
from rrr_cli.flow import Flow
from rrr_cli.options import DEFAULT_MODEL, SamplingOptions, option
from rrr_cli.progress import Work
from rrr_cli.prompts import REPAIRING, RETRY_AFTER_REFLECTION
from rrr_cli.records import Evaluation, Problem, content_id
from rrr_cli.rollout import Loop
from rrr_cli.stages import Stage, cross_curves, gate
from rrr_cli.stages.cross import check_cross, cross_table, crossed, drop_crossed
from rrr_cli.stages.curves import CONTROLS, curve_summary
from rrr_cli.stages.identity import identity
from rrr_cli.stages.later_tries import Tested, next_wave, write_later_tries
from rrr_cli.stages.mined import limits, mining, not_recorded, same_task, task_of
from rrr_cli.stages.models import Model, check_names, dates, open_models, parse_models, weights, with_dates
from rrr_cli.stages.rendering import as_rendered
from rrr_cli.stages.repair import check_feedback
from rrr_cli.stages.setup import open_loop, window
from rrr_cli.stages.summary import VOTES, summarise
from rrr_cli.stages.tries import ARMS
from rrr_cli.stages.two_tries import shared_failure, stories
from rrr_cli.stages.unanswered import count, counts, finish, record
from rrr_cli.stages.votes import FEEDBACK
from rrr_cli.tasks import load_task
from rrr_cli.tasks.base import Task
from rrr_cli.tasks.protocol import problems_of

if TYPE_CHECKING:
    from rich.console import Console

    from rrr_cli.store.artifacts import Writer

REFLECTOR = "--reflector"  # among the models by name; no --model's name begins so


@dataclass(frozen=True)
class Options(SamplingOptions):
    """Flags of `rrr eval`."""

    model: tuple[str, ...] = option(
        (f"base={DEFAULT_MODEL}",), "NAME=MODEL, once a model; all are compared with the first.", identity=False)
    max_tokens: int | None = shared.max_tokens("an answer")
    reflection_tokens: int | None = shared.reflection_tokens("those of the run, else 512")
    retry_context: str = shared.retry_context()
    feedback: str | None = shared.reflect_feedback("the one trained with, else that of reflect, else binary")
    self_consistency: int | None = option(
        None, "Sample each problem this many times, the first try among them, and take the most frequent answer.",
        least=2, panel="Votes")
    reflect_all: bool = option(
        False, "Let the reflector repair each of these samples as if it had failed, and vote on the repairs: no ground "
        "truth is used.", panel="Votes")
    oracle: bool = option(
        False, "Repair only the failed first tries: an upper bound, because it needs to know them.", panel="Votes")
    reflector: str | None = option(None, "The model that repairs.  [default: each model itself]", panel="Votes")
    tries: int = option(
        2, "Most tries of a problem, each after a reflection on the one before. Blind tries and retries without a "
        "reflection go on until they have spent as many tokens.", least=2, identity=False)
    cross: bool = option(
        False, "Who earned it: every model also retries after every other model's reflection on the first model's "
        "failures.", identity=False)
    fail_under: str | None = option(
        None, "MEASURE=RATE: exit 5 if the last model is below, such as second_try=0.5.", identity=False)
    in_flight: int | None = shared.in_flight("Problems")
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
        shown = {name: models[name].shown for name in specs}
        return {"problems": len(problems), "models": shown, "tries": options.tries}
    from rrr_cli.extras import require
    from rrr_cli.store.artifacts import Writer

    require("train", "scipy")
    first = next(iter(models))
    models = with_dates(models, options.run)
    hashes, day = weights(models), dates(models.values())
    reflector = models.pop(REFLECTOR, None)
    compared = {"first model": hashes[first]} | ({"reflector": hashes.pop(REFLECTOR)} if reflector else {})
    repairs = REPAIRING if options.reflect_all or options.oracle else ()
    depends_on = identity(models[first].options, task, compared, (*RETRY_AFTER_REFLECTION, *repairs), first=first,
                          reflector=reflector and reflector.shown)
    origin: Any = ("eval", depends_on, None, options.overwrite, options.seed)
    with Writer(options.run, "evaluations", *origin) as rows, Writer(options.run, "later_tries", *origin) as later:
        later.done("try_id")  # from here on a part may be missing: its rows are written again
        rows.done("evaluation_id")
        check_names(options.run, "evaluations", hashes)
        rows.note(**day)
        # Greedy, and shown the problem alone, a retry is the first try again.
        ended = ("plain",) if not options.temperature and options.retry_context == "reflection" else ()
        asked, asked_later = list[Loop](), list[Loop]()
        for name, model in models.items():
            tested = Tested(options.run, name, hashes[name], {p.problem_id: p for p in problems}, options.tries,
                            options.temperature, options.seed, ended)
            remaining, shared_rows = unevaluated(tested, rows, first)
            if not remaining and next_wave(tested.arms(), options.tries) is None:
                continue
            loops = opened(task, model, reflector if remaining else None)
            asked += loops
            write_evaluations(rows, loops, options, tested, model.shown, remaining, shared_rows)
            asked_later.append(write_later_tries(later, loops[0], tested, options))
            for engine in {id(loop.engine): loop.engine for loop in loops}.values():
                engine.close()
        missing = counts(*asked, tried=len(problems)) | counts(*asked_later, tried=len(problems), later=True)
    earned = who_earned(task, models, hashes, problems, origin, ended)
    return summary(options, models, {p.problem_id for p in problems}) | missing | earned


def opened(task: Task, model: Model[Options], reflector: Model[Options] | None) -> tuple[Loop, Loop]:
    """The loops that try and that repair: the same one without a reflector."""
    options = model.options
    loop = repairing = open_loop(
        options, task, model.path, options.retry_context, options.reflection_tokens, options.feedback)
    if reflector is not None:
        repairing = open_loop(reflector.options, task, reflector.path)
    return loop, repairing


def who_earned(
    task: Task, models: dict[str, Model[Options]], hashes: dict[str, str], problems: Sequence[Problem], origin: Any,
    ended: tuple[str, ...],
) -> dict[str, Any]:
    """`cross` of the summary, with --cross; without, {}, and retries that an --overwrite made obsolete are removed.

    The first model's blind tries and plain retries go on until they spend as much as any reflector with it as actor.
    """
    from rrr_cli.store.artifacts import Writer, read

    first, options = next(iter(models)), next(iter(models.values())).options
    depends_on = origin[1]
    if not options.cross:
        if options.overwrite:
            drop_crossed(options.run, depends_on)
        return {}
    by_id = {p.problem_id: p for p in problems}
    rows = [r for r in read(options.run, "evaluations", {"model": list(models)}) if r.problem_id in by_id]
    firsts = [r for r in rows if r.model == first]
    failed = [shared_failure(by_id[r.problem_id], r) for r in firsts if not r.first_success]
    cross, retries = crossed(task, list(models.values()), hashes, rows, failed, depends_on)
    arms = cross_curves.reflector_arms(firsts, retries)
    tested = Tested(options.run, first, hashes[first], by_id, options.tries, options.temperature, options.seed, ended,
                    cross_curves.most_spent(arms))
    if next_wave(tested.arms(), options.tries, goal=tested.goal) is not None:
        with Writer(options.run, "later_tries", origin[0], depends_on, seed=options.seed) as later:
            later.done("try_id")
            loop, _ = opened(task, models[first], None)
            asked = write_later_tries(later, loop, tested, options)
            loop.engine.close()
        cross |= counts(asked, tried=len(problems), later=True)
    controls = {arm: tries for arm, tries in tested.arms().items() if arm in CONTROLS}
    return {"cross": cross | cross_curves.against_own_tries(first, arms, controls)}


def unevaluated(tested: Tested, rows: Writer, first: str) -> tuple[list[Problem], dict[str, Evaluation] | None]:
    """The problems without a row, and the first model's rows; None of those where this is the first model."""
    from rrr_cli.store.artifacts import read

    done = rows.done("evaluation_id")
    remaining = [p for p in tested.problems.values() if row_id(tested, p.problem_id) not in done]
    if not remaining or tested.name == first:
        return remaining, None
    shared_rows = {row.problem_id: row for row in read(tested.run, "evaluations", {"model": first})}
    return [p for p in remaining if p.problem_id in shared_rows], shared_rows  # a server refused the others


def row_id(tested: Tested, problem_id: str) -> str:
    """The id of a model's row of a problem."""
    return content_id("evaluation", problem_id, tested.name, tested.weights)


def write_evaluations(
    rows: Writer, loops: tuple[Loop, Loop], options: Options, tested: Tested, path: str, remaining: Sequence[Problem],
    shared_rows: dict[str, Evaluation] | None,
) -> None:
    """Write one model's rows of `evaluations`, a part at a time."""
    if not remaining:
        return
    stamp: dict[str, Any] = {"model": tested.name, "model_path": path, "model_fingerprint": tested.weights,
                             "temperature": options.temperature, "seed": options.seed}
    votes = (options.self_consistency, options.reflect_all, options.oracle)
    total = len(tested.problems)
    with Work(f"evaluating {tested.name}", total, total - len(remaining)) as work:
        flow: Flow[dict[str, Any] | None] = Flow(window(options, loops[0]))
        for part in flow.parts(stories(*loops, remaining, shared_rows, votes), options.part):
            columns = [r for r in part if r is not None]
            record(rows, *loops)
            rows.append([Evaluation(evaluation_id=row_id(tested, r["problem_id"]), **stamp, **r) for r in columns])
            count(work, len(part), "", *loops)
        finish(work, *loops)


def summary(options: Options, models: Mapping[str, object], problem_ids: set[str]) -> dict[str, Any]:
    """What `--json` prints, from the rows of these models and problems. Raises RrrError (exit 5): a model has none."""
    from rrr_cli.store.artifacts import read

    results = [r for r in read(options.run, "evaluations") if r.problem_id in problem_ids and r.model in models]
    if unanswered := models.keys() - {r.model for r in results}:
        raise RrrError(f"the server answered no problem whole as {', '.join(sorted(unanswered))}", NOTHING)
    tried = {(r.model, r.problem_id) for r in results}
    arms = {"model": list(models), "arm": list(ARMS)}
    later = [r for r in read(options.run, "later_tries", arms) if (r.model, r.problem_id) in tried]
    return summarise(results, list(models)) | curve_summary(results, later, list(models), options.tries)


def checked(options: Options) -> Options:
    """The options; without level and data, with those of mining. Raises RrrError (exit 2): options that don't fit."""
    wanted = gate.parse_gate(options.fail_under)
    if wanted is not None and wanted[0] in VOTES and not getattr(options, wanted[0]):
        raise RrrError(f"--fail-under {options.fail_under}: type --{wanted[0].replace('_', '-')} too, so that it is "
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
    recorded = not_recorded(options) | limits(options, options.run, own="evaluations")
    return as_rendered(replace(options, task=task_of(options, mined, options.run), **recorded), mined)


def show(result: dict[str, Any], console: Console) -> None:
    """The summary as tables and sentences."""
    from rrr_cli.stages.tables import evaluation_table

    evaluation_table(result, console)
    if "cross" in result:
        cross_table(result["cross"], console)


def check_gate(result: dict[str, Any], options: Options) -> None:
    """Raise RrrError (exit 5) if the last model's rate is below --fail-under."""
    gate.check(result, options.fail_under)


STAGE = Stage(
    Options, run, "rrr eval --model base=tiny --limit 100 --max-tokens 64 --reflection-tokens 64", show, check_gate)
