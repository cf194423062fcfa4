"""Who earned a repair, the model that reflected or the one that retried, and was the reflection about its own failure:
`rrr eval --cross`.

Every model (actor) retries the first model's failed first tries after every model's stored reflection on them. Where
actor and reflector are one model, the retry stands in `evaluations` (shared_success); the others are rows of
`later_tries` with arm cross. With arm swapped the first model and the reflector itself retry after a reflection on
another failure. Reads evaluations, given as rows; a rerun does what is missing. Refuses a single model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.failures import Failure
from rrr_cli.flow import Flow
from rrr_cli.progress import Work
from rrr_cli.records import Evaluation, LaterTry
from rrr_cli.rollout import Loop
from rrr_cli.stages import cross_curves, swapped
from rrr_cli.stages.crossed_pairs import CROSS, SWAPPED, Cells, Pair, later_try, stored_reflections
from rrr_cli.stages.models import Model
from rrr_cli.stages.setup import open_loop, window
from rrr_cli.stages.unanswered import answered, count, counts, finish, record
from rrr_cli.stories import Story
from rrr_cli.tasks.base import Task
from rrr_cli.text import safe_text

if TYPE_CHECKING:
    from rich.console import Console

STAGE_NAME = "eval-cross"  # in provenance: its rows are resumed and replaced apart from those of the other arms


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
    pairs += swapped.swapped_pairs(pairs)
    asked = {model.name: [pair for pair in pairs if retries(model.name, pair, names[0])] for model in models}
    ids = {pair.try_id(actor, hashes): (pair.arm, pair.reflector, actor) for actor in names for pair in asked[actor]}
    loops = list[Loop]()
    with Writer(options.run, "later_tries", STAGE_NAME, depends_on, overwrite=options.overwrite,
                seed=options.seed) as rows:
        done = rows.done("try_id")
        for model in models:
            remaining = [pair for pair in asked[model.name] if pair.try_id(model.name, hashes) not in done]
            if not remaining:
                continue
            with Work(f"crossing {model.name}", len(remaining), 0) as work:
                loop = opened(task, model)
                flow: Flow[list[LaterTry]] = Flow(window(options, loop))
                for part in flow.parts(stories(loop, model, remaining, hashes), options.part):
                    tries = [one for of_pair in part for one in of_pair]
                    record(rows, loop)
                    rows.append(tries)
                    count(work, len(part), "", loop)
                finish(work, loop)
            loop.engine.close()
            loops.append(loop)
        missing = counts(*loops, tried=len(failures))
    stored = [one for one in read(options.run, "later_tries", {"arm": [CROSS, SWAPPED]}) if one.try_id in ids]
    cells = outcomes(evaluated, [(ids[one.try_id], one) for one in stored])
    own = {(r, a): cells.get((CROSS, r, a), {}) for r in names for a in names}
    others = {(r, a): tries for (arm, r, a), tries in cells.items() if arm == SWAPPED}
    result = matrix(names, own) | {"swapped": swapped.against_swapped(own, others)} | missing
    return result, [one for one in stored if one.arm == CROSS and one.model == names[0]]


def retries(actor: str, pair: Pair, first: str) -> bool:
    """Whether an actor's retry of a pair is a row of `later_tries`."""
    return actor != pair.reflector if pair.arm == CROSS else actor in (first, pair.reflector)


def outcomes(
    evaluated: Sequence[Evaluation], later: Iterable[tuple[tuple[str, str, str], LaterTry]]
) -> dict[tuple[str, str, str], dict[str, bool]]:
    """(arm, reflector, actor) -> {problem_id: whether the retry passed}."""
    cells: dict[tuple[str, str, str], dict[str, bool]] = {}
    for row in evaluated:
        if row.shared_success is not None:
            cells.setdefault((CROSS, row.model, row.model), {})[row.problem_id] = row.shared_success
    for key, one in later:
        cells.setdefault(key, {})[one.problem_id] = one.success
    return cells


def drop_crossed(run: Path, depends_on: dict[str, Any]) -> None:
    """Remove the retries of an evaluation that was replaced."""
    from rrr_cli.store.artifacts import Writer, exists

    if exists(run, "later_tries"):
        with Writer(run, "later_tries", STAGE_NAME, depends_on, overwrite=True):
            pass


def opened(task: Task, model: Model[Any]) -> Loop:
    """The loop of an actor."""
    options = model.options
    return open_loop(options, task, model.path, options.retry_context, options.reflection_tokens, options.feedback)


def stories(
    loop: Loop, model: Model[Any], pairs: Iterable[Pair], hashes: Mapping[str, str]
) -> Iterator[Story[list[LaterTry]]]:
    """A story a pair."""
    for pair in pairs:
        yield story(loop, model, pair, hashes)


def story(loop: Loop, model: Model[Any], pair: Pair, hashes: Mapping[str, str]) -> Story[list[LaterTry]]:
    """One actor's retry of a pair; [] where it got no answer."""
    (rows,) = yield from loop.retrying([(pair.failure, pair.reflection)], range(1))
    return [later_try(pair, row, model.name, hashes, model.options.seed) for row in answered(rows)]


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
    for sentence in (*in_words(cross), *swapped.in_words(cross["swapped"]),
                     *cross_curves.in_words(cross["at_equal_tokens"])):
        console.print(Text(safe_text(sentence)))
