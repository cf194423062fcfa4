"""A run's tables on disk: `runs/NAME/<table>/part-00000.parquet`. The only writer of Parquet, and the reader.

The parts are the truth. Beside them are `provenance-STAGE.json` (a copy of the parts' footers, for people) and `.lock`.
Several stages may write one table; each has its own configuration, which is stored and compared.
Refuses another configuration for a stage's rows, a second writer, and a damaged part (see `parts.py`).
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

import pyarrow as pa
import pyarrow.compute as pc

from rrr_cli.errors import BUG, RrrError
from rrr_cli.records import TABLES, Message, content_id
from rrr_cli.store import provenance as origin
from rrr_cli.store.parts import TEMP_MARK, Part, encode, fsync, write_atomically
from rrr_cli.store.schema import arrow_schema

ROWS_PER_BATCH = 1024
Where = Mapping[str, Any]  # column -> its value, or a list of allowed values


class Writer:
    """Appends rows to one table for one stage; locks the table while its `with` block runs."""

    def __init__(
        self, run: Path, table: str, stage: str, config: dict[str, Any], inputs: dict[str, str] | None = None,
        overwrite: bool = False, seed: int | None = None,
    ) -> None:
        """`config`: the resolved options that define the rows, flat. `inputs`: name -> fingerprint of what was read.

        Raises RrrError (exit 3) on entering: the stage's rows in the table have other options or inputs, a second
        writer, or a damaged part. `overwrite` first removes this stage's parts and no others.
        """
        self._run, self._table, self._stage, self._overwrite = run, table, stage, overwrite
        self._folder = run / table
        self._schema = arrow_schema(table)
        self._provenance = origin.make(table, stage, config, inputs or {}, seed)

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RrrError(f"{self._folder} can't be written: {error.strerror}; name another --run") from error
        try:
            self._take_lock()
            for stale in self._folder.glob(f"*{TEMP_MARK}*"):  # of a writer that died: this process has the lock
                stale.unlink()
            for part in parts(self._run, self._table):
                if not (self._overwrite and part.provenance["stage"] == self._stage):
                    origin.require_current(self._folder, part.provenance)
                    break  # the other parts passed this check when they were written
            for part in parts(self._run, self._table, self._stage):
                if not self._overwrite:
                    origin.require_same(self._folder, part.provenance, self._provenance)
                    break  # the other parts passed this check when they were written
                part.path.unlink()
            fsync(self._folder)
            self._write_provenance()
        except BaseException:
            os.close(self._lock)
            raise
        names = [path.stem for path in part_paths(self._run, self._table)]
        self._next = max((int(name.removeprefix("part-")) + 1 for name in names), default=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def done(self, column: str) -> set[str]:
        """The distinct values of a text column among this stage's rows; a rerun skips them."""
        values: set[str] = set()
        for part in parts(self._run, self._table, self._stage):
            for batch in _batches(part, self._schema, None, [column]):
                values.update(batch.column(0).unique().to_pylist())
        return values

    def note(self, **notes: Any) -> None:
        """Add to the provenance of the parts from now on what came up in the work; no run is refused because of it."""
        if notes and any(self._provenance.get(name) != value for name, value in notes.items()):
            self._provenance |= json.loads(json.dumps(notes))
            self._write_provenance()

    def _write_provenance(self) -> None:
        write_atomically(
            self._folder / f"provenance-{self._stage}.json", json.dumps(self._provenance, indent=1).encode())

    def stored(self, *columns: str, where: Where | None = None) -> Iterator[tuple[Any, ...]]:
        """These columns of this stage's rows, in the order they were written."""
        for part in parts(self._run, self._table, self._stage):
            for batch in _batches(part, self._schema, where, list(columns)):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def append(self, rows: Sequence[Any]) -> Path | None:
        """Write `rows`, records of this table, as one part; it is complete on disk when this returns.

        Returns its path, or None for no rows. Raises RrrError: a record of another table, a value of another type or
        a null in a column without nulls (exit 1); disk full (exit 3).
        """
        if not rows:
            return None
        path = self._folder / f"part-{self._next:05d}.parquet"
        write_atomically(path, encode(_to_arrow(rows, self._table, self._schema), self._provenance))
        self._next += 1
        return path

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 200, 0).decode(errors="replace") or "another process"
            raise RrrError(
                f"{self._folder} is being written by {holder}; wait for it to end, or name another --run"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"pid {os.getpid()} on {socket.gethostname()}".encode(), 0)


@overload
def read(run: Path, table: str, where: Where | None = None, columns: None = None) -> Iterator[Any]: ...
@overload
def read(
    run: Path, table: str, where: Where | None = None, *, columns: list[str]
) -> Iterator[dict[str, Any]]: ...
def read(
    run: Path, table: str, where: Where | None = None, columns: list[str] | None = None
) -> Iterator[Any]:
    """Stream the rows of a table in the order they were written, one verified part in memory at a time.

    Yields records; with `columns`, dicts of those columns. `where` maps a column to its value, or to a list of
    allowed values. A table that doesn't exist has no rows. Raises RrrError (exit 3): a damaged part.
    """
    schema, record = arrow_schema(table), TABLES[table]
    turns = [field.name for field in schema if pa.types.is_list(field.type)]
    for part in parts(run, table):
        for batch in _batches(part, schema, where, columns):
            for row in batch.to_pylist():
                for name in turns:
                    if row.get(name) is not None:
                        row[name] = [Message(**turn) for turn in row[name]]
                yield row if columns is not None else record(**row)


def count(run: Path, table: str) -> int:
    """How many rows the table has; 0 if it doesn't exist."""
    return sum(part.rows for part in parts(run, table))


def exists(run: Path, table: str) -> bool:
    """Whether the table has any part."""
    return bool(part_paths(run, table))


def fingerprint(run: Path, table: str, stage: str | None = None) -> str:
    """A hash of the table's content, or of one stage's rows in it: 16 hex digits.

    A stage that both reads and writes a table gives the `stage` whose rows it reads: without it, its own rows would
    change the fingerprint of its input.
    """
    return content_id(table, [part.digest for part in parts(run, table, stage)])


def provenance(run: Path, table: str) -> list[dict[str, Any]]:
    """What wrote the table: for each stage the provenance of its first part, with its counts of `rows` and `parts`."""
    stages: dict[str, dict[str, Any]] = {}
    for part in parts(run, table):
        entry = stages.setdefault(part.provenance["stage"], {**part.provenance, "rows": 0, "parts": 0})
        entry["rows"] += part.rows
        entry["parts"] += 1
    return list(stages.values())


def part_paths(run: Path, table: str) -> list[Path]:
    """The table's part files in the order they were written."""
    return sorted((run / table).glob("part-*.parquet"), key=lambda path: (len(path.name), path.name))


def parts(run: Path, table: str, stage: str | None = None) -> Iterator[Part]:
    """The table's parts, or one stage's, verified one by one. Don't keep them: each has its whole file in memory."""
    for path in part_paths(run, table):
        part = Part(path, table)
        if stage is None or part.provenance["stage"] == stage:
            yield part


def _batches(
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
            values = pa.array(value if isinstance(value, list) else [value], needed.field(name).type)
            batch = batch.filter(pc.is_in(batch.column(name), values))
        yield batch.select(selected)


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
