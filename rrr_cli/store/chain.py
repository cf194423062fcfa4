"""The parts of a table in order, each verified, and that they are the parts of one table without a copy or a gap.

Reads parts; writes nothing. Refuses a part under another's name, twice, or of another run, and a table in which a part
is missing: every part names the one before it. That the last of a stage is missing can't be seen; its rows are written
again when the stage resumes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from rrr_cli.errors import RrrError
from rrr_cli.places import PARTS
from rrr_cli.store.parts import Part, number_of, part_name

ROWS_PER_BATCH = 1024
Where = Mapping[str, Any]  # column -> its value, or a list of allowed values
REWRITTEN: set[tuple[Path, str, str]] = set()  # (run, table, stage) that this process fills the gaps of


def part_paths(run: Path, table: str) -> list[Path]:
    """The table's part files in the order of their numbers."""
    return sorted((run / table).glob(PARTS), key=lambda path: (len(path.name), path.name))


def parts(
    run: Path, table: str, stage: str | None = None, *, complete: bool = True, regardless_of: tuple[str, ...] = (),
) -> Iterator[Part]:
    """The table's parts, or one stage's, verified one by one. Don't keep them: each has its whole file in memory.

    `complete` False: a missing part is no error; nor is one of a stage whose name starts with one of `regardless_of`.
    """
    before: dict[int, tuple[str, str | None]] = {}  # number -> digest, and that of the lost part that it replaces
    numbers: dict[str, Path] = {}  # digest -> part
    for path in part_paths(run, table):
        part = Part(path, table)
        if part.digest in numbers:
            raise RrrError(f"{path} is a copy of {numbers[part.digest].name}: move it out of the table")
        _check_place(part, before, complete and not _ignored(run, table, part, regardless_of))
        numbers[part.digest] = path
        before[number_of(path)] = (part.digest, part.place.instead_of if part.place else None)
        if stage is None or part.provenance["stage"] == stage:
            yield part


def batches(
    part: Part, schema: pa.Schema, where: Where | None, columns: list[str] | None
) -> Iterator[pa.RecordBatch]:
    """Filtered batches. Not by pyarrow.dataset: its threads can abort the interpreter at exit (apache/arrow#34314)."""
    selected = columns or schema.names
    needed = pa.schema([schema.field(name) for name in dict.fromkeys([*selected, *(where or ())])])
    for stored in part.batches([name for name in needed.names if name in part.columns], ROWS_PER_BATCH):
        batch = pa.RecordBatch.from_arrays([
            stored.column(field.name) if field.name in part.columns else pa.nulls(stored.num_rows, field.type)
            for field in needed
        ], schema=needed)
        for name, value in (where or {}).items():
            allowed = set(value if isinstance(value, list) else [value])
            batch = batch.filter(_mask([v in allowed for v in batch.column(name).to_pylist()]))
        yield batch.select(selected)


def _mask(chosen: list[bool]) -> pa.Array:
    """The list as an Arrow array. `pa.array` would import pandas, wherever it is installed, to look at the list."""
    bits = int("".join("1" if one else "0" for one in reversed(chosen)) or "0", 2)  # the first row is the lowest bit
    return pa.Array.from_buffers(
        pa.bool_(), len(chosen), [None, pa.py_buffer(bits.to_bytes(-(-len(chosen) // 8) or 1, "little"))])


def _ignored(run: Path, table: str, part: Part, regardless_of: tuple[str, ...]) -> bool:
    stage = part.provenance["stage"]
    return stage.startswith(regardless_of) or (run.resolve(), table, stage) in REWRITTEN


def _check_place(part: Part, before: Mapping[int, tuple[str, str | None]], complete: bool) -> None:
    """Raise RrrError (exit 3) unless the part stands where it was written, after the part that was before it."""
    place, path = part.place, part.path
    if place is None:
        return
    if place.number != number_of(path):
        raise RrrError(f"{path} was written as {part_name(place.number)}: give it that name again, or move it out of "
                       "the table where it is a copy or of another run")
    if place.previous is None:
        return
    previous = path.with_name(part_name(place.previous))
    if place.previous not in before:
        if complete:
            raise RrrError(
                f"{previous} is missing, and {path.name} was written after it: put it back, or type the command of "
                f"{part.provenance['stage']} again, which writes what is missing, or with --overwrite all of it")
    elif place.previous_digest not in before[place.previous]:
        raise RrrError(f"{path} was not written after this {previous.name}: one of the two is of another run; move it "
                       "out of the table")
