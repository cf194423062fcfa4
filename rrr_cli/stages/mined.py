"""What was mined in a run, and how: the failed attempts with their problems, which reflect, repair and grpo start from.

Reads `problems`, `attempts` and their provenance; writes them into another run that starts from this one's failures.
Refuses a run without attempts, of another task, or of a task that was edited since."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from rrr_cli import options as shared
from rrr_cli.engines import engine_class
from rrr_cli.engines.fingerprints import content_of
from rrr_cli.errors import NOTHING, USAGE, RrrError
from rrr_cli.failures import Failure
from rrr_cli.options import (
    DEFAULT_FEEDBACK,
    DEFAULT_MODEL,
    DEFAULT_TASK,
    DEFAULT_TOKENS,
    SamplingOptions,
    TaskOptions,
    option,
)
from rrr_cli.plugs import names
from rrr_cli.records import Attempt, content_id
from rrr_cli.stages.identity import CONTENT
from rrr_cli.stages.rendering import as_rendered
from rrr_cli.tasks import TASKS, load_task
from rrr_cli.tasks.base import Task

TASKS_OWN = ("source of the task", "words of the task", CONTENT)
ASKED_LATER = ("words of the task: reflect", "words of the task: retry")
# One value each for a run, so that what is trained is what is tested; what each is where no run has recorded it.
LIMITS = {"max_tokens": DEFAULT_TOKENS, "reflection_tokens": DEFAULT_TOKENS, "feedback": DEFAULT_FEEDBACK}
COPIED = "copied"  # the stage of rows that another run's failures brought along

LATER = ("reflect", "repair-")  # stages that write attempts, but no first tries

Anything = TypeVar("Anything", bound=TaskOptions)
P = TypeVar("P")
F = TypeVar("F", bound="FailureOptions")


@dataclass(frozen=True)
class FailureOptions(SamplingOptions):
    """The options of reflect and repair: which failed attempts they start from."""

    input: Path | None = shared.input_run("failed attempts")
    max_tokens: int | None = shared.max_tokens("an answer")
    per_problem: int = option(1, "Failed attempts of a problem to start from.", least=1)
    sample_failures: str = shared.sample_failures()
    own_samples: int | None = shared.own_samples()
    in_flight: int | None = shared.in_flight("Failed attempts")
    part: int = shared.part("Failed attempts")


@dataclass(frozen=True)
class Chosen(Generic[F]):
    """The failed attempts that a stage starts from, and how they were mined."""

    options: F  # with the level, data and model of mining
    source: Path  # the run with their rows
    task: Task
    failures: list[Failure]

    @property
    def inputs(self) -> dict[str, str]:
        """For provenance. Mining more problems with the same options doesn't change it."""
        return {"attempts": content_id(mining(self.source))}


def chosen_failures(options: F) -> Chosen[F]:
    """The failures that the options select. Raises RrrError: none (exit 5), or as `as_mined`, `failures`."""
    source = options.input or options.run
    options = as_mined(options, source, "reflections")
    options = replace(options, **not_recorded(options))
    task = load_task(str(options.task), options.level, options.data)
    rows = failures(source, task.name, options.per_problem, options.own_samples, options.sample_failures)
    failed = list(islice(rows, options.limit))
    if not failed:
        raise RrrError(f"{source} has no failed attempt to start from. Mine more problems", NOTHING)
    return Chosen(options, source, task, failed)


def failures(
    run: Path, task: str, per_problem: int = 1, own_samples: int | None = None, sample_failures: str = "first"
) -> Iterator[Failure]:
    """The first `per_problem` failed first tries of each problem, in the problems' order; with `own_samples`, only
    those with a smaller sample index. `sample_failures` "on-policy": only those among the first `per_problem`.

    Raises RrrError (exit 3): no attempts in the run, or attempts at another task.
    """
    from rrr_cli.store.artifacts import exists, read

    if not exists(run, "attempts"):
        raise RrrError(f"{run} has no attempts. Type: rrr mine-failures --run {run}")
    chosen: dict[str, list[Attempt]] = {}
    tries = [own_samples, per_problem if sample_failures == "on-policy" else None]
    below = min((n for n in tries if n is not None), default=None)
    for attempt in read(run, "attempts", where={"phase": "first", "success": False}, regardless_of=LATER):
        if attempt.task != task:
            raise RrrError(f"{run} has attempts at {attempt.task}, not {task}. Type: --task {attempt.task}, or --run")
        if below is None or attempt.sample_index < below:
            of_problem = chosen.setdefault(attempt.problem_id, [])
            insort(of_problem, attempt, key=lambda a: a.sample_index)
            del of_problem[per_problem:]
    problems = {p.problem_id: p for p in read(run, "problems")} if chosen else {}
    for of_problem in chosen.values():
        problem_of(of_problem[0], problems, run)
    for name, problem in problems.items():
        for attempt in chosen.get(name, ()):
            yield Failure.of(problem, attempt)


def base_pass_rate(run: Path, failures: Sequence[Failure]) -> float | None:
    """How often the model that was mined passes the problems of `failures`: the mean over them of the share of passes
    among the tries after the failed one, which chose the problem and so says nothing of it.

    None where mining stopped at failures, which biases that share, where failures alone were copied here, or where
    there are no later tries.
    """
    from rrr_cli.store.artifacts import parts, read

    copied = any(part.provenance["stage"] == COPIED for part in parts(run, "attempts", complete=False))
    if copied or mining(run).get("stop_at_failure") != 0:
        return None
    chosen = {f.problem.problem_id: f.attempt_id for f in reversed(failures)}
    tries: dict[str, dict[int, bool]] = {}
    failed: dict[str, int] = {}
    columns = ["attempt_id", "problem_id", "phase", "sample_index", "success"]
    for row in read(run, "attempts", columns=columns, regardless_of=LATER):
        problem_id, index = row["problem_id"], row["sample_index"]
        if row["phase"] == "first" and problem_id in chosen:
            tries.setdefault(problem_id, {})[index] = row["success"]
            if row["attempt_id"] == chosen[problem_id]:
                failed[problem_id] = index
    later = [[passed for i, passed in tries[name].items() if i > index] for name, index in failed.items()]
    rates = [sum(passed) / len(passed) for passed in later if passed]
    return round(sum(rates) / len(rates), 4) if rates else None


def problem_of(attempt: Attempt, problems: Mapping[str, P], run: Path) -> P:
    """What `problems` has of the problem of an attempt. Raises RrrError (exit 3) where the run has lost it."""
    if attempt.problem_id not in problems:
        raise RrrError(f"{run} has attempt {attempt.attempt_id}, but not its problem {attempt.problem_id}: put the "
                       "missing part of problems back, or type the command that mined the run again")
    return problems[attempt.problem_id]


def copy_failures(source: Path, run: Path, failures: Sequence[Failure]) -> None:
    """Copy the problems and attempts of failures into another run, each once, so that every run is complete by itself.

    They are rows of a stage of their own, which says how they were mined: no `--overwrite` of another stage takes them
    away. Nothing is copied where `source` is `run`. Raises RrrError (exit 3): the run has copies that were mined
    otherwise.
    """
    if source == run:
        return
    from rrr_cli.store.artifacts import Writer, read

    mined = mining(source)
    problems = {f.problem.problem_id: f.problem for f in failures}
    for existing in stored(run, "problems", "problem_id"):
        problems.pop(existing, None)
    missing = {f.attempt_id for f in failures} - stored(run, "attempts", "attempt_id")
    with Writer(run, "problems", COPIED, mined) as writer:
        writer.done("problem_id")
        writer.append(list(problems.values()))
    with Writer(run, "attempts", COPIED, mined) as writer:
        writer.done("attempt_id")
        failed = {"phase": "first", "success": False}
        rows = read(source, "attempts", where=failed, regardless_of=LATER) if missing else ()
        writer.append([a for a in rows if a.attempt_id in missing])


def stored(run: Path, table: str, column: str) -> set[str]:
    """The values of a column in the whole table, whichever stage wrote the rows."""
    from rrr_cli.store.artifacts import read

    return {row[column] for row in read(run, table, columns=[column], regardless_of=(*LATER, COPIED))}


def mining(run: Path) -> dict[str, Any]:
    """How the run, or what was copied into it, was mined: the configuration with the seed; {} if it wasn't mined.

    Mining more problems with the same options doesn't change it. The first part that was mined or copied says it, so
    that a large table isn't read for it.
    """
    from rrr_cli.store.artifacts import parts

    for part in parts(run, "attempts", complete=False):
        if part.provenance["stage"] in ("mine-failures", COPIED):
            return {"seed": part.provenance["seed"], **part.provenance["config"]}
    return {}


def limits(options: Any, *runs: Path, own: str = "rollouts") -> dict[str, Any]:
    """Those of `LIMITS` that a stage has and the user didn't give, as the runs recorded them: answers as in mining,
    reflections and what asks for them as in the stage's `own` table, so that it resumes, else as in training, else as
    in reflect."""
    from rrr_cli.store.artifacts import parts

    values: dict[str, Any] = {}
    for run in runs:
        if answer := mining(run).get("max_tokens"):
            values.setdefault("max_tokens", answer)
        for table in (own, "rollouts", "reflections"):
            first = next(parts(run, table, complete=False), None)
            config = first.provenance["config"] if first else {}
            if config.get("objective") != "answer" and config.get("reflection_tokens"):
                values.setdefault("reflection_tokens", config["reflection_tokens"])
                values.setdefault("feedback", config.get("feedback") or DEFAULT_FEEDBACK)  # older runs had no other
    return {name: value for name, value in values.items() if getattr(options, name, 0) is None}


def not_recorded(options: Any) -> dict[str, Any]:
    """The defaults of those of `LIMITS` that a stage has and neither the user nor `limits` gave."""
    return {name: value for name, value in LIMITS.items() if getattr(options, name, 0) is None}


def is_remote(engine: str | None) -> bool:
    """Whether the weights of the engine's models aren't on this machine. False if the engine isn't here any more."""
    try:
        return engine is not None and bool(getattr(engine_class(engine), "remote", False))
    except RrrError:
        return False


def task_of(options: TaskOptions, mined: Mapping[str, Any], source: Path) -> str:
    """The task: the one given, or the one mined. Raises RrrError (exit 2): that one is a file of the user's."""
    if options.task is not None:
        return options.task
    name = str(mined.get("task", DEFAULT_TASK))
    if name not in names("task", TASKS):
        raise RrrError(f"{source} was mined with the task {name} of a file: type --task path/to/file.py:Class", USAGE)
    return name


def same_task(options: TaskOptions, mined: Mapping[str, Any]) -> bool:
    """Whether the options name the task that was mined; a file's class is taken at its word."""
    return options.task is None or options.task == mined.get("task") or ".py:" in options.task


def check_same_judge(source: Path, depends_on: Mapping[str, Any]) -> None:
    """Raise RrrError (exit 3) where the task's source or words aren't those that the source was mined with: two
    verifiers' verdicts would stand in one story. What asks for a reflection or a retry isn't part of mining, and
    settings, such as a sandbox, may be those of another machine."""
    mined = mining(source)
    changed = [
        name for name in sorted(mined.keys() | depends_on.keys())
        if name.startswith(TASKS_OWN) and mined.get(name) != depends_on.get(name)
        and (name in mined or name != CONTENT)
    ]
    recorded = any(name.startswith(TASKS_OWN) for name in mined)  # an older rrr recorded none of them
    if recorded and set(changed) - set(ASKED_LATER):
        raise RrrError(
            f"the task has changed since {source} was mined ({', '.join(changed)}): undo the edit, or mine again with "
            "another --run")


def same_data(given: str, mined: Mapping[str, Any]) -> bool:
    """Whether a file or folder holds the data that was mined, wherever it is now."""
    return Path(given).exists() and content_of(Path(given)) == mined.get(CONTENT)


def as_mined(options: Anything, source: Path, own: str = "rollouts") -> Anything:
    """The options; where level, data, model, token limits or --template-args aren't given, with those of the run
    (`own`: see `limits`).

    Raises RrrError (exit 2): another level or data than in mining, on which verifier and test split depend; a server's
    model, whose weights aren't here.
    """
    mined = mining(source)
    values: dict[str, Any] = {"task": task_of(options, mined, source)}
    engine = mined.get("engine")
    if not getattr(options, "model", None) and engine != getattr(options, "engine", None) and is_remote(engine):
        raise RrrError(
            f"{source} was mined from a server, whose weights aren't here: name them with --model (a folder or a hub "
            "id), or, to reflect, type --engine openai --base-url URL", USAGE,
        )
    for name in ("level", "data", "model"):
        given, was = getattr(options, name), mined.get(name)
        if given is None:
            values[name] = was
        elif mined and given != was and name != "model" and not (name == "data" and same_data(given, mined)):
            raise RrrError(f"--{name} {given}: {source} was mined with {was}; leave --{name} out", USAGE)
    values["model"] = values.get("model", options.model) or DEFAULT_MODEL  # type: ignore[attr-defined]
    return as_rendered(replace(options, **values, **limits(options, options.run, source, own=own)), mined)
