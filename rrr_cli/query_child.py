"""The process that runs one query for `rrr sql`: a JSON request on stdin, an Arrow stream on stdout.

It is a process of its own because DuckDB can't always be interrupted: the parent kills it. Reads the runs' parts, each
verified first. Writes nothing: DuckDB's access to files, extensions, Python and settings is switched off, and one
reading statement is all that it takes. An error goes to stderr as one line, with the exit code of its kind.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import threading
from importlib.resources import files
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import fs

from rrr_cli.artifacts import verify
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import TABLES
from rrr_cli.schema import arrow_schema

ROWS_PER_BATCH = 1024
READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)
EXPLAIN = re.compile(r"explain\s*(analyze\b)?\s*(\([^)]*\))?", re.IGNORECASE)
COMMENT = re.compile(r"--[^\n]*(\n|$)|/\*.*?\*/", re.DOTALL)


def main() -> int:
    """Run the request; return the exit code."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _limit_memory()
        connection = connect([Path(run) for run in request["runs"]])
        require_reading(connection, request["sql"])
        result = connection.sql(request["sql"]).to_arrow_reader(ROWS_PER_BATCH)
        with pa.OSFile(sys.stdout.fileno(), "wb") as sink, pa.ipc.new_stream(sink, result.schema) as stream:
            for batch in result:
                stream.write_batch(batch)
    except RrrError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except (duckdb.Error, pa.ArrowException, MemoryError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return USAGE
    return 0


def connect(runs: list[Path]) -> duckdb.DuckDBPyConnection:
    """A locked connection with every table and view over `runs`. Raises RrrError (3): a part that isn't whole."""
    connection = duckdb.connect(config={
        "enable_external_access": "false", "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false", "python_enable_replacements": "false",
    })
    for table in TABLES:
        connection.register(table, _dataset(runs, table))
    connection.execute((files("rrr_cli") / "views.sql").read_text(encoding="utf-8"))
    connection.execute("SET lock_configuration = true")
    return connection


def require_reading(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise RrrError (exit 2) unless `sql` is one statement that only reads.

    SELECT covers WITH, FROM, VALUES, DESCRIBE, SUMMARIZE and SHOW; a PIVOT is MULTI, but so is a CREATE TABLE around
    one, and EXPLAIN ANALYZE runs what it explains, whatever that is: both are looked into.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise RrrError(f"rrr sql runs one statement at a time, and this is {len(statements)}", USAGE)
    kind, bare = statements[0].type, COMMENT.sub(" ", sql).strip()
    if kind == duckdb.StatementType.EXPLAIN and (start := EXPLAIN.match(bare)):
        return require_reading(connection, bare[start.end():])
    first = bare.lstrip("( \n\t").split(None, 1)[0].upper()
    if kind not in READING[:1] and not (kind == duckdb.StatementType.MULTI and first in ("PIVOT", "FROM", "SELECT")):
        raise RrrError(
            f"rrr sql only reads, and this is {kind.name}: type SELECT, WITH, FROM, PIVOT, DESCRIBE, SUMMARIZE, SHOW "
            f"or EXPLAIN; to keep a result: rrr sql --format csv … > FILE", USAGE,
        )


def _dataset(runs: list[Path], table: str) -> ds.Dataset:
    """The table's parts of every run as one data set, with the run's name as its first column, `run`."""
    schema = pa.schema([pa.field("run", pa.string(), nullable=False), *arrow_schema(table)])
    file_format = ds.ParquetFileFormat(
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    )
    disk = fs.LocalFileSystem()
    fragments = [
        file_format.make_fragment(str(path.resolve()), disk, pc.field("run") == name)
        for name, run in names(runs).items() for path in verify(run, table)
    ]
    return ds.FileSystemDataset(fragments, schema, file_format, disk)


def names(runs: list[Path]) -> dict[str, Path]:
    """Run name -> folder: the folder's own name, or its path as given where two runs' folders are called the same."""
    short = [run.resolve().name for run in runs]
    return {name if short.count(name) == 1 else str(run): run for name, run in zip(short, runs, strict=True)}


def _limit_memory() -> None:
    """Half of the machine's memory at most: a query that asks for more fails, rather than the machine."""
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = half if most == resource.RLIM_INFINITY else min(half, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def _end_with_parent() -> None:
    """The parent holds our stdin open as long as it lives and waits for us."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # not through the interpreter's end: DuckDB's threads and the watching thread may be at work
