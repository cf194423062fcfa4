"""Who earned a repair, the model that reflected or the one that retried: `rrr eval --cross`.

Every model (actor) retries the first model's failed first tries after every model's stored reflection on them. Where
actor and reflector are one model, the retry stands in `evaluations` (shared_success); the others are rows of
`later_tries` with arm cross. Reads evaluations, given as rows; a rerun does what is missing. Refuses a single model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.failures import Failure
from rrr_cli.progress import Work
from rrr_cli.records import Attempt, Evaluation, LaterTry, Reflection, content_id
from rrr_cli.rollout import Loop, transcript_text
from rrr_cli.stages import cross_curves
from rrr_cli.stages.models import Model
from rrr_cli.stages.setup import open_loop
from rrr_cli.stages.unanswered import answered, counts, record, stop_if_failed
from rrr_cli.tasks.base import Task
from rrr_cli.text import safe_text

if TYPE_CHECKING:
    from rich.console import Console

ARM = "cross"
STAGE_NAME = "eval-cross"  # in provenance: its rows are resumed and replaced apart from those of the other arms

#: (reflector, actor) -> {problem_id: whether the actor's retry after the reflector's reflection passed}
Cells = Mapping[tuple[str, str], Mapping[str, bool]]


@dataclass(frozen=True)
class Pair:
    """A failed first try of the first model, and what one model wrote about it."""

    failure: Failure
    reflector: str
    reflection: Reflection
    solves: bool | None
    tokens: int | None

    def try_id(self, actor: str, hashes: Mapping[str, str]) -> str:
        """Of the actor's retry. The content is part of it: another failure or reflection is another try."""
        return content_id(ARM, self.failure.attempt_id, self.reflection.text, self.reflector, hashes[self.reflector],
                          actor, hashes[actor])


def check_cross(cross: bool, models: Iterable[str]) -> None:
    """Raise RrrError (exit 2): nothing to cross."""
    if cross and len(list(models)) < 2:
        raise RrrError("--cross retries after another model's reflections: name two models, --model NAME=MODEL twice",
                       USAGE)


def crossed(
    task: Task, models: Sequence[Model[Any]], hashes: Mapping[str, str], evaluated: Sequence[Evaluation],
    failures: Sequence[Failure], depends_on: dict[str, Any],
) -> tuple[dict[str, Any], list[LaterTry]]:
    """Write the retries that are missing, and return the matrix and its tests: `cross` of `--json`.

    `models`: the first one first. `hashes`: name -> fingerprint. `evaluated`: all rows of these models. `failures`: the
    first model's failed first tries, under one id for all models. With the retries of the first model, for
    `cross_curves`. Raises RrrError as `eval` does.
    """
    from rrr_cli.store.artifacts import Writer, read

    options = models[0].options
    names = [model.name for model in models]
    pairs = list(stored_reflections(failures, evaluated, first=names[0]))
    ids = {pair.try_id(a, hashes): (pair.reflector, a) for pair in pairs for a in names if a != pair.reflector}
    with Writer(options.run, "later_tries", STAGE_NAME, depends_on, overwrite=options.overwrite,
                seed=options.seed) as rows:
        done, asked = rows.done("try_id"), list[Loop]()
        for model in models:
            remaining = [pair for pair in pairs if pair.reflector != model.name
                         and pair.try_id(model.name, hashes) not in done]
            if not remaining:
                continue
            with Work(f"crossing {model.name}", len(remaining), 0) as work:
                for tries, loop in retried(task, model, remaining, hashes):
                    record(rows, loop)
                    rows.append(tries)
                    stop_if_failed(loop)
                    work.advance(len(tries))
            asked.append(loop)
        missing = counts(*asked, tried=len(failures))
    cells: dict[tuple[str, str], dict[str, bool]] = {(r, a): {} for r in names for a in names}
    for row in evaluated:
        if row.shared_success is not None:
            cells[row.model, row.model][row.problem_id] = row.shared_success
    stored = [one for one in read(options.run, "later_tries", {"arm": ARM}) if one.try_id in ids]
    for one in stored:
        cells[ids[one.try_id]][one.problem_id] = one.success
    return matrix(names, cells) | missing, [one for one in stored if one.model == names[0]]


def drop_crossed(run: Path, depends_on: dict[str, Any]) -> None:
    """Remove the retries of an evaluation that was replaced."""
    from rrr_cli.store.artifacts import Writer, exists

    if exists(run, "later_tries"):
        with Writer(run, "later_tries", STAGE_NAME, depends_on, overwrite=True):
            pass


def stored_reflections(
    failures: Sequence[Failure], evaluated: Sequence[Evaluation], first: str
) -> Iterator[Pair]:
    """What each model wrote about each failure, as it stands in `evaluations`. Its id is its content's, so that a retry
    has the same seed whenever it is sampled, and after equal reflections is the same."""
    by_problem = {failure.problem.problem_id: failure for failure in failures}
    for row in evaluated:
        failure = by_problem.get(row.problem_id)
        if failure is None or row.shared_reflection is None:
            continue
        own = row.model == first  # the columns without `shared` say the same of the first model
        reflection = Reflection(
            reflection_id=content_id(ARM, failure.attempt_id, row.shared_reflection), attempt_id=failure.attempt_id,
            problem_id=row.problem_id, reflector=row.model, sample_index=0, text=row.shared_reflection, tokens=None,
            finish_reason="stop", seed=row.seed, temperature=row.temperature)
        yield Pair(failure, row.model, reflection, row.solves if own else row.shared_solves,
                   row.reflection_tokens if own else row.shared_reflection_tokens)


def retried(
    task: Task, model: Model[Any], pairs: Sequence[Pair], hashes: Mapping[str, str]
) -> Iterator[tuple[list[LaterTry], Loop]]:
    """One actor's rows, a part at a time, and its loop; the memory of the model is freed after the last."""
    options = model.options
    loop = open_loop(
        options, task, model.path, options.retry_context, options.reflection_tokens, options.feedback)
    for start in range(0, len(pairs), options.part):
        part = pairs[start : start + options.part]
        retries = [row for rows in loop.retry([(p.failure, p.reflection) for p in part], range(1)) for row in rows]
        yield [later_try(p, a, model.name, hashes, options.seed) for p, a in zip(part, retries, strict=True)
               if answered([a])], loop
    loop.engine.close()


def later_try(pair: Pair, retry: Attempt, actor: str, hashes: Mapping[str, str], seed: int) -> LaterTry:
    """The row of a retry."""
    return LaterTry(
        try_id=pair.try_id(actor, hashes), problem_id=retry.problem_id, task=retry.task, difficulty=retry.difficulty,
        model=actor, arm=ARM, number=2, text=transcript_text(retry.transcript), success=retry.success,
        error_type=retry.error_type, tokens=retry.completion_tokens, reflector=pair.reflector,
        reflection=pair.reflection.text, reflection_tokens=pair.tokens, solves=pair.solves,
        turns=retry.transcript if len(retry.transcript) > 1 else None, temperature=retry.temperature, seed=seed)


def matrix(names: Sequence[str], cells: Cells) -> dict[str, Any]:
    """{"reflectors", "actors", "n", "cells": {reflector: {actor: rate}}, "tests"} over the problems in every cell.

    Tests: main effects against the first model, as reflector (over all actors) and as actor (over all reflectors): the
    mean over problems of the difference in passes, and the exact sign test on its sign.
    """
    from rrr_cli.metrics import mean_difference, paired, rate

    complete = sorted(set.intersection(*(set(cells[r, a]) for r in names for a in names)))
    shares = {r: {a: rate([cells[r, a][p] for p in complete]) for a in names} for r in names}
    tests = []
    for factor in ("reflector", "actor"):
        for name in names[1:] if complete else ():
            over = [((other, name), (other, names[0])) for other in names]
            if factor == "reflector":
                over = [((name, other), (names[0], other)) for other in names]
            differences = [sum(cells[b][p] - cells[a][p] for b, a in over) / len(names) for p in complete]
            test = paired(sum(d > 0 for d in differences), sum(d < 0 for d in differences))
            tests.append({"factor": factor, "a": names[0], "b": name, "difference": asdict(
                mean_difference(differences)), **asdict(test)})
    return {
        "reflectors": list(names), "actors": list(names), "n": len(complete),
        "cells": {r: {a: asdict(s) if s else None for a, s in row.items()} for r, row in shares.items()},
        "tests": tests,
    }


def in_words(cross: Mapping[str, Any]) -> list[str]:
    """A sentence for each further model: what it earned as reflector and as actor, in points."""
    tests = {(test["factor"], test["b"]): test for test in cross["tests"]}
    return [
        f"Of the repairs of {cross['reflectors'][0]}'s failures, {name} as reflector earned "
        f"{_earned(tests['reflector', name])}, and as actor {_earned(tests['actor', name])}."
        for name in cross["reflectors"][1:] if ("actor", name) in tests
    ]


def _earned(test: Mapping[str, Any]) -> str:
    value, low, high = (100 * test["difference"][key] for key in ("value", "low", "high"))
    counted = f"won {test['won']}, lost {test['lost']}, p = {test['p']:.2g}"
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}] ({counted})"


def cross_table(cross: Mapping[str, Any], console: Console) -> None:
    """Print the matrix to `console` (stderr), a row a reflector and a column an actor, and the sentences."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from rrr_cli.stages.cells import stacked

    first = cross["reflectors"][0]
    table = Table(title=Text(safe_text(f"who earned it: % of {first}'s {cross['n']} failures repaired")),
                  title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("reflector")
    for actor in cross["actors"]:
        table.add_column(Text(safe_text(f"{actor} retries")), justify="right")
    for reflector, row in cross["cells"].items():
        table.add_row(Text(safe_text(reflector)), *(stacked(row[actor]) for actor in cross["actors"]))
    console.print(table)
    for sentence in (*in_words(cross), *cross_curves.in_words(cross["at_equal_tokens"])):
        console.print(Text(safe_text(sentence)))
