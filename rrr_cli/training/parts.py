"""A batch in parts of whole groups, and the fewest parts that fit into memory. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rrr_cli.training.memory import Cost, Load, load_of


def even(starts: Sequence[int], rows: int, parts: int) -> list[slice]:
    """`rows` in `parts` runs, as even as can be: of whole groups, which begin at `starts`, else of rows."""
    units = [*starts, rows] if parts <= len(starts) else list(range(rows + 1))
    last = len(units) - 1
    return [slice(a, b) for a, b in pairwise([units[i * last // parts] for i in range(parts + 1)])]


def starts_of(texts: Texts, samples: int | None) -> Sequence[int]:
    """Where parts of so many samples may begin: with groups, if such parts are whole groups or more."""
    if samples is None or samples >= len(texts.rows) or all(start % samples == 0 for start in texts.starts):
        return texts.starts
    return [start for start in texts.starts if start % samples == 0]


@dataclass(frozen=True)
class Texts:
    """The lengths of a batch's texts, (prompt, completion) each, and where in it groups begin. `also`: of those to
    learn as they are, which are passed beside."""

    rows: Sequence[tuple[int, int]]
    starts: Sequence[int]
    also: Sequence[tuple[int, int]] = ()

    def load(self, part: slice, shared: bool) -> Load:
        """What a part of the batch brings."""
        places = [i for i in (*self.starts, len(self.rows)) if part.start < i < part.stop]
        total = Load(0, 0, 0)
        for rows in filter(None, (self.rows, self.also)):
            width = sum(map(max, zip(*rows, strict=True)))
            groups = [rows[a:b] for a, b in pairwise((part.start, *places, part.stop))]
            total += load_of(groups, shared, width)
        return total


def fewest(texts: Texts, cost: Cost, room: int, gradient: bool, whole: bool = False) -> int | None:
    """The fewest parts of which each fits into `room` bytes; None where none does, even a sample each.

    With `whole`, of parts that are groups.
    """
    for parts in range(1, (len(texts.starts) if whole else len(texts.rows)) + 1):
        if most(texts, cost, even(texts.starts, len(texts.rows), parts), gradient) <= room:
            return parts
    return None


def most(texts: Texts, cost: Cost, parts: Sequence[slice], gradient: bool) -> int:
    """Bytes of the largest part."""
    return max(cost.of(texts.load(part, cost.shared), gradient) for part in parts)
