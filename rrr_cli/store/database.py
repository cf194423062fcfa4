"""The tables and views of one or several runs in DuckDB, which can only read them: `rrr sql` and `rrr report`.

Reads the runs' parts, each verified as it is read. Writes nothing: DuckDB's access to files, extensions, Python and
settings is switched off, and only one reading statement is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import fs

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import TABLES
from rrr_cli.store.chain import parts
from rrr_cli.store.schema import arrow_schema

ROWS_PER_BATCH = 1024
READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)
EXPLAIN = re.compile(r"explain\s*(analyze\b)?\s*(\([^)]*\))?", re.IGNORECASE)
DAMAGED: list[RrrError] = []  # errors of a scan: DuckDB passes on an error's message, but not its type
COMMENT = re.compile(r"--[^\n]*(\n|$)|/\*.*?\*/", re.DOTALL)


def connect(runs: list[Path]) -> duckdb.DuckDBPyConnection:
    """A locked connection with every table and view over `runs`."""
    connection = duckdb.connect(config={
        "enable_external_access": "false", "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false", "python_enable_replacements": "false",
    })
    for table in TABLES:
        connection.register(table, _Table(runs, table))
    connection.execute((files("rrr_cli.store") / "views.sql").read_text(encoding="utf-8"))
    connection.execute("SET lock_configuration = true")
    return connection


def answer(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.RecordBatchReader:
    """The result of `sql`. Raises RrrError (exit 2): more than one statement, or one that doesn't only read."""
    require_reading(connection, sql)
    return connection.sql(sql).to_arrow_reader(ROWS_PER_BATCH)


def require_reading(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise RrrError (exit 2) unless `sql` is one statement that only reads.

    SELECT covers WITH, FROM, VALUES, DESCRIBE, SUMMARIZE and SHOW; a PIVOT is MULTI, but so is a CREATE TABLE around
    one, and EXPLAIN ANALYZE runs the statement that it explains: both are checked inside.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise RrrError(f"rrr sql runs one statement at a time; this is {len(statements)}", USAGE)
    kind, bare = statements[0].type, COMMENT.sub(" ", sql).strip()
    if kind == duckdb.StatementType.EXPLAIN and (start := EXPLAIN.match(bare)):
        return require_reading(connection, bare[start.end():])
    first = bare.lstrip("( \n\t").split(None, 1)[0].upper()
    if kind not in READING[:1] and not (kind == duckdb.StatementType.MULTI and first in ("PIVOT", "FROM", "SELECT")):
        raise RrrError(
            f"rrr sql only reads; this is {kind.name}: type SELECT, WITH, FROM, PIVOT, DESCRIBE, SUMMARIZE, SHOW "
            f"or EXPLAIN; to keep a result: rrr sql --format csv … > FILE", USAGE,
        )


class _Table(ds.FileSystemDataset):  # type: ignore[misc]  # pyarrow has no annotations for it
    """A table's parts in every run, with the run's name as first column. Each scan reads and verifies them one by one.

    Arrow's own dataset keeps 65 kB of metadata a part: 190 MB for 3 million attempts.
    """

    def __init__(self, runs: list[Path], table: str) -> None:
        schema = pa.schema([pa.field("run", pa.string(), nullable=False), *arrow_schema(table)])
        super().__init__([], schema, ds.ParquetFileFormat(), fs.LocalFileSystem())
        self.runs, self.table = names(runs), table

    def scanner(self, columns: list[str] | None = None, filter: pc.Expression | None = None) -> ds.Scanner:
        """Called by DuckDB: `columns` in order, and the rows that pass `filter`."""
        selected = self.schema.names if columns is None else columns
        return ds.Scanner.from_batches(
            self._batches(selected, filter), schema=pa.schema([self.schema.field(name) for name in selected])
        )

    def _batches(self, columns: list[str], filter: pc.Expression | None) -> Iterator[pa.RecordBatch]:
        try:
            for name, run in self.runs.items():
                for part in parts(run, self.table):
                    fragment = ds.ParquetFileFormat().make_fragment(
                        pa.BufferReader(part.data), partition_expression=pc.field("run") == name
                    )
                    yield from fragment.to_batches(
                        schema=self.schema, columns=columns, filter=filter, use_threads=False
                    )
        except RrrError as error:
            DAMAGED.append(error)
            raise


def names(runs: list[Path]) -> dict[str, Path]:
    """Run name -> folder: the folder's name, or its path as given where two folders have the same name."""
    short = [run.resolve().name for run in runs]
    return {name if short.count(name) == 1 else str(run): run for name, run in zip(short, runs, strict=True)}
