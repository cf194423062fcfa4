"""The process that runs one query for `rrr sql`: a JSON request on stdin, the printed result on stdout.

A separate process, because DuckDB can't always be interrupted: the parent kills it. What it may read is in
`database.py`. An error goes to stderr as one line, with its exit code; so does a note, where the query did run.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

ABSENT = ("numpy", "pandas")
LONGEST = 10_000  # characters of DuckDB's message: more than a pipe holds would never be read


class Absent:
    """A finder of modules that finds none of `ABSENT`: pyarrow and duckdb import them wherever they are installed, and
    do without them elsewhere. Both take longer than the query, which needs neither."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Raise ModuleNotFoundError for those, and leave all others to the next finder."""
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"{name} is left out of a query", name=name)


def main() -> int:
    """Run the request; return the exit code."""
    request = json.loads(sys.stdin.readline())
    shown = request["shown"]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_memory()
    gc.disable()  # rows are plain values: what it would look through again and again is the libraries
    sys.meta_path.insert(0, Absent)
    import duckdb
    import pyarrow as pa

    from rrr_cli.errors import USAGE, RrrError
    from rrr_cli.store import database
    from rrr_cli.store.printing import Paper, print_rows

    try:
        result = database.answer(database.connect([Path(run) for run in request["runs"]]), request["sql"])
        rows = (row for batch in result for row in zip(*map(_values, batch.columns), strict=True))
        with open(1, "w", encoding="utf-8", newline="", closefd=False) as out:
            print_rows(result.schema.names, rows, Paper(out, shown.pop("terminal"), shown.pop("width")), **shown)
    except RrrError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except (duckdb.Error, pa.ArrowException, MemoryError, ValueError, OverflowError) as error:
        if database.DAMAGED:
            print(database.DAMAGED[0], file=sys.stderr)
            return database.DAMAGED[0].exit_code
        hint = '; to list the tables: rrr sql "SHOW TABLES"' if isinstance(error, duckdb.CatalogException) else ""
        print(" ".join(str(error).split())[:LONGEST] + hint, file=sys.stderr)
        return USAGE
    return 0


def _values(column: Any) -> list[Any]:
    """A column as plain values; nanoseconds, for which Python has none, as text."""
    import pyarrow as pa

    return list((column.cast(pa.string()) if getattr(column.type, "unit", "") == "ns" else column).to_pylist())


def _limit_memory() -> None:
    """At most half of the machine's memory: a query that needs more fails, and the machine doesn't."""
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = half if most == resource.RLIM_INFINITY else min(half, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def _end_with_parent() -> None:
    """The parent keeps our stdin open while it waits for us: its end means that the parent is gone."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # skips the interpreter's shutdown: DuckDB's threads and `_end_with_parent` may still run
