"""The only writer of Parquet: appends rows to a table as parts, `RUN/TABLE/part-00000.parquet`.

Nothing but parts is in a table's folder, so that any reader of Parquet can be given it. `RUN/.rrr/TABLE/` has the rest:
the lock, what is being written, and `provenance-STAGE.json` (a copy of the parts' footers, for people). Several stages
may write one table; each has its own configuration, which is stored and compared. Refuses another configuration for a
stage's rows, a second writer, and a damaged part.
"""

from __future__ import annotations

import json
import os
import sys
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from rrr_cli.errors import BUG, RrrError
from rrr_cli.places import OWN
from rrr_cli.records import TABLES, Message
from rrr_cli.store import disk
from rrr_cli.store import provenance as origin
from rrr_cli.store.chain import REWRITTEN, Where, batches, part_paths, parts
from rrr_cli.store.parts import Part, Place, encode, number_of, part_name
from rrr_cli.store.schema import arrow_schema

CLEANED = 5  # how often another writer, which sees no lock, may take a file for one that a kill left


class Writer:
    """Appends rows to one table for one stage; locks the table while its `with` block runs."""

    def __init__(
        self, run: Path, table: str, stage: str, config: dict[str, Any], inputs: dict[str, str] | None = None,
        overwrite: bool = False, seed: int | None = None,
    ) -> None:
        """`config`: the resolved options that define the rows, flat. `inputs`: name -> fingerprint of what was read.

        Raises RrrError (exit 3) on entering: the stage's rows in the table have other options or inputs, a second
        writer, a damaged part, or a folder that can't be written. `overwrite` first removes this stage's parts and no
        others.
        """
        self._run, self._table, self._stage, self._overwrite = run, table, stage, overwrite
        self._folder, self._own = run / table, run / OWN / table
        self._schema = arrow_schema(table)
        self._provenance = origin.make(table, stage, config, inputs or {}, seed)
        self._written: list[tuple[int, str]] | None = None  # (number, digest) of this stage's parts, in order
        self._warned = False
        self._lost: dict[int, str | None] = {}  # number -> digest of its parts that are missing

    def __enter__(self) -> Self:
        disk.inside(self._run, self._table)
        disk.inside(self._run, OWN, self._table)
        with disk.writing(self._folder, cure="; name another --run"):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._own.mkdir(parents=True, exist_ok=True)
            self._lock = disk.lock(disk.inside(self._run, OWN, self._table, "lock"), self._folder)
            try:
                self._prepare()
            except BaseException:
                os.close(self._lock)
                raise
        self._next = max((number_of(path) + 1 for path in part_paths(self._run, self._table)), default=0)
        return self

    def _prepare(self) -> None:
        """Remove what a killed writer left, check the rows that are there, and remove those that are replaced."""
        for folder in (self._folder, self._own):
            for stale in folder.glob(f"*{disk.TEMP_MARK}*"):
                stale.unlink(missing_ok=True)
        replaced: list[Path] = []
        current = same = False  # the other parts passed these checks when they were written
        for part in parts(self._run, self._table, complete=False):
            own = part.provenance["stage"] == self._stage
            if own and self._overwrite:
                replaced.append(part.path)
                continue
            if not current:
                origin.require_current(self._folder, part.provenance)
            if own:
                origin.require_same(self._folder, part.provenance, self._provenance)
            current, same = True, same or own
            if same and not self._overwrite:
                break
        for path in reversed(replaced):  # so that a kill leaves no gap
            path.unlink(missing_ok=True)
        disk.fsync(self._folder)
        self._move_out()
        self._write_provenance()

    def _move_out(self) -> None:
        """An older rrr kept the lock and the provenance among the parts."""
        for path in self._folder.glob("provenance-*.json"):
            os.replace(path, self._own / path.name)
        (self._folder / ".lock").unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        REWRITTEN.discard(self._key)
        os.close(self._lock)

    @property
    def _key(self) -> tuple[Path, str, str]:
        return self._run.resolve(), self._table, self._stage

    def done(self, column: str) -> set[str]:
        """The distinct values of a text column among this stage's rows; a rerun skips them.

        From here on a part of the stage may be missing: the rows that are written next come in its place.
        """
        values: set[str] = set()
        for batch in self._own_batches([column]):
            values.update(batch.column(0).unique().to_pylist())
        return values

    def stored(self, *columns: str, where: Where | None = None) -> Iterator[tuple[Any, ...]]:
        """These columns of this stage's rows, in the order they were written. Parts may be missing, as in `done`."""
        for batch in self._own_batches(list(columns), where):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def _own_batches(self, columns: list[str], where: Where | None = None) -> Iterator[pa.RecordBatch]:
        """This stage's rows, and which of its parts are there and which are missing."""
        REWRITTEN.add(self._key)
        self._lost = {}
        written: list[tuple[int, str]] = []
        there = {number_of(path) for path in part_paths(self._run, self._table)}
        for part in parts(self._run, self._table, self._stage, complete=False):
            written.append((number_of(part.path), part.digest))
            if part.place and part.place.previous is not None and part.place.previous not in there:
                self._lost[part.place.previous] = part.place.previous_digest
            yield from batches(part, self._schema, where, columns)
        self._written = written

    def note(self, **notes: Any) -> None:
        """Add to the provenance of the parts from now on what came up in the work; no run is refused because of it."""
        if notes and any(self._provenance.get(name) != value for name, value in notes.items()):
            self._provenance |= json.loads(json.dumps(notes))
            self._write_provenance()

    def _write_provenance(self) -> None:
        disk.write_atomically(
            self._own / f"provenance-{self._stage}.json", json.dumps(self._provenance, indent=1).encode())

    def append(self, rows: Sequence[Any]) -> Path | None:
        """Write `rows`, records of this table, as one part; it is complete on disk when this returns.

        Returns its path, or None for no rows. Where parts are missing, a row comes back under each of their names
        first. Raises RrrError: a record of another table, a value of another type or a null in a column without nulls
        (exit 1); disk full (exit 3).
        """
        path = None
        while rows:
            lost = min(self._lost, default=None)
            taken = rows[:1] if len(self._lost) > 1 else rows
            path = self._publish(_to_arrow(taken, self._table, self._schema), lost)
            rows = rows[len(taken):]
        return path

    def _publish(self, table: pa.Table, lost: int | None) -> Path:
        """Write a part under the number of a lost one, or under the next that no other writer has taken."""
        digest_lost = self._lost.pop(lost) if lost is not None else None
        written = self._own_parts()
        cleaned = 0
        while True:
            number = self._next if lost is None else lost
            at = bisect_left(written, (number, ""))
            previous, previous_digest = written[at - 1] if at else (None, None)
            data, digest = encode(
                table, self._provenance, Place(number, previous, previous_digest, digest_lost))
            path = self._folder / part_name(number)
            with disk.writing(path, len(data)):
                try:
                    published = not os.path.lexists(path) and self._write(path, data)
                except FileNotFoundError:
                    cleaned += 1
                    if cleaned == CLEANED:
                        raise
                    continue
            if lost is None:
                self._next += 1
            if published:
                insort(written, (number, digest))
                return path
            lost = digest_lost = None
            self._warn_of_another(path)

    def _warn_of_another(self, path: Path) -> None:
        if not self._warned:
            self._warned = True
            print(f"rrr: another process writes {self._folder} too ({path.name} is its), and its lock can't be seen "
                  "here. Nothing is lost, but rows may be there twice: stop one of the two", file=sys.stderr)

    def _write(self, path: Path, data: bytes) -> bool:
        """Whether `data` is at `path` now: False where another writer was there first. Raises OSError."""
        unfinished = disk.temporary(self._own, path.name)
        try:
            disk.create(unfinished, data)
            published = disk.publish(unfinished, path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        disk.fsync(self._folder)
        return published

    def _own_parts(self) -> list[tuple[int, str]]:
        """This stage's parts; without `done`, which lists them, only the last is read."""
        if self._written is None:
            self._written = []
            for path in reversed(part_paths(self._run, self._table)):
                part = Part(path, self._table)
                if part.provenance["stage"] == self._stage:
                    self._written = [(number_of(path), part.digest)]
                    break
        return self._written


def _to_arrow(rows: Sequence[Any], table: str, schema: pa.Schema) -> pa.Table:
    record = TABLES[table]
    for row in rows:
        if type(row) is not record:
            raise RrrError(f"{table} holds {record.__name__} records, not {type(row).__name__}", BUG)
    arrays = []
    for field, column in zip(schema, fields(record), strict=True):
        try:
            values = [_plain(getattr(row, column.name)) for row in rows]
            array = pa.array(values, type=field.type)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise RrrError(f"{table}.{field.name} is {field.type}: {error}", BUG) from error
        if array.null_count and not field.nullable:
            raise RrrError(f"{table}.{field.name} is never null, but a row has None there", BUG)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)


def _plain(value: Any) -> Any:
    """A value as Arrow takes it. Model text may hold lone surrogates, which UTF-8 can't encode: they become U+FFFD."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list | tuple):
        return [_plain_turn(turn) for turn in value]
    return value


def _plain_turn(turn: Message) -> dict[str, str]:
    if not isinstance(turn.role, str) or not isinstance(turn.content, str):
        raise TypeError(f"a turn has a role and a content, both text; this is {turn!r}")
    return {"role": _plain(turn.role), "content": _plain(turn.content)}
