"""Prompts that a server refuses or fails at: counted, recorded and said, and never written as a failure of the model.

Reads what the loops of a stage left without an answer; adds it to the provenance of the stage's tables, which stands in
`provenance-STAGE.json` beside the parts. The same command asks again for what is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from rrr_cli.engines.base import REFUSED
from rrr_cli.errors import NOTHING, RrrError
from rrr_cli.flow import is_remote
from rrr_cli.progress import Work
from rrr_cli.records import Attempt, Reflection
from rrr_cli.rollout import Loop

if TYPE_CHECKING:
    from rrr_cli.store.artifacts import Writer

MOST_REASONS = 1000  # in a provenance
Row = TypeVar("Row", Attempt, Reflection)
Item = TypeVar("Item")


def answered(rows: Sequence[Row]) -> list[Row]:
    """The rows that a model wrote."""
    return [row for row in rows if is_answered(row)]


def is_answered(row: Attempt | Reflection) -> bool:
    """Whether a model wrote it."""
    return row.finish_reason != REFUSED


def indices(rows: Writer, column: str, **where: Any) -> dict[str, set[int]]:
    """A text column's value -> the sample indices that this stage has written with it."""
    written: dict[str, set[int]] = {}
    for value, index in rows.stored(column, "sample_index", where=where):
        written.setdefault(value, set()).add(index)
    return written


def missing(samples: int, written: Collection[int]) -> tuple[int, ...]:
    """The indices of the samples that aren't written."""
    return tuple(i for i in range(samples) if i not in written)


def by_missing(
    items: Iterable[Item], samples: int, written: Callable[[Item], Collection[int]]
) -> list[tuple[tuple[int, ...], list[Item]]]:
    """(sample indices, the items that lack just these); mostly one group with all of them."""
    groups: dict[tuple[int, ...], list[Item]] = {}
    for item in items:
        if lacking := missing(samples, written(item)):
            groups.setdefault(lacking, []).append(item)
    return list(groups.items())


def record(writer: Writer, *loops: Loop) -> None:
    """Add to the table's provenance which problems have no answer, which fields of a request a server refuses, and
    which servers of a fleet have answered."""
    reasons = {problem: reason for loop in loops for problem, reason in loop.unanswered.reasons.items() if reason}
    first = dict(islice(reasons.items(), MOST_REASONS))
    servers = [server for server, n in answered_by(*loops).items() if n]
    notes: dict[str, Any] = {"unanswered": first, "left_out_of_requests": left_out(*loops), "servers": servers}
    writer.note(**{name: value for name, value in notes.items() if value})


def answered_by(*loops: Loop) -> dict[str, int]:
    """The address of each server of a fleet -> how many requests it has answered."""
    answered: dict[str, int] = {}
    for engine in {id(loop.engine): loop.engine for loop in loops}.values():
        for server, n in getattr(engine, "answered_by_server", {}).items():
            answered[server] = answered.get(server, 0) + n
    return answered


def left_out(*loops: Loop) -> list[str]:
    """The fields of a request that the loops' server refuses."""
    return sorted({name for loop in loops for name in getattr(loop.engine, "left_out", ())})


def count(work: Work, units: int, note: str, *loops: Loop) -> None:
    """Count what was written. Raises RrrError (exit 130 or 143) if a signal came, unless an engine has stopped, or
    servers are answering: then all that is answered is written first."""
    work.count(units, note)
    if not any(loop.unanswered.failure is not None or is_remote(loop) for loop in loops):
        work.stop_if_interrupted()


def finish(work: Work, *loops: Loop) -> None:
    """Raise the error that ended an engine's work, or RrrError (exit 130 or 143) if a signal came, now that all is
    written."""
    for loop in loops:
        if loop.unanswered.failure is not None:
            raise loop.unanswered.failure
    work.stop_if_interrupted()


def counts(*loops: Loop, tried: int, later: bool = False) -> dict[str, Any]:
    """What the summary says of it, and one line on stderr; {} if all was answered by one server, and all fields were
    taken.

    `later`: these are tries beyond those that each problem has. Raises RrrError (exit 5): none of the `tried` problems
    was answered.
    """
    reasons = {problem: reason for loop in loops for problem, reason in loop.unanswered.reasons.items()}
    if reasons:
        first = next(iter(reasons.values()))
        if len(reasons) == tried and not later:
            raise RrrError(f"the server answered none of the {tried} problems: {first}", NOTHING)
        which = "further" if later else "whole"
        print(
            f"rrr: {len(reasons)} of {tried} problems have no {which} answer ({first}). That is no failure of the "
            "model and isn't in the tables; type the same command to ask again for what is missing", file=sys.stderr)
    said = {
        "refused_later" if later else "refused": len(reasons), "left_out_of_requests": left_out(*loops),
        "answered_by_server": {} if later else answered_by(*loops)}
    return {name: value for name, value in said.items() if value}
