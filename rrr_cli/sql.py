"""`rrr sql`: one reading query over one or several runs, printed as a table, CSV, JSON lines or Markdown.

The query runs in `query_child.py`, a process that is killed at Ctrl-C and at the time limit. Refuses a run that isn't
there (exit 3) and whatever isn't one reading statement (exit 2).
"""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rrr_cli.artifacts import exists
from rrr_cli.errors import BUG, USAGE, RrrError
from rrr_cli.records import TABLES
from rrr_cli.text import UNSAFE, safe_text

TABLE_ROWS = 200  # more than that is for csv or jsonl, not for eyes
CELL = 300  # characters
Rows = Iterator[dict[str, Any]]


def query(runs: list[Path], sql: str, format: str, out: TextIO, timeout: float | None = None) -> int:
    """Run `sql` over `runs`, print it to `out`, and return the number of rows.

    Raises RrrError: no such run or a damaged part (exit 3); an error in the SQL, a statement that isn't a query, an
    unknown format, or longer than `timeout` seconds (exit 2).
    """
    if format not in FORMATS:
        raise RrrError(f"--format {format}: choose one of {', '.join(FORMATS)}", USAGE)
    _require_runs(runs)
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "rrr_cli.query_child"], start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    late = threading.Event()
    timer = threading.Timer(timeout or threading.TIMEOUT_MAX, lambda: (late.set(), child.kill()))
    timer.daemon = True
    timer.start()
    try:
        assert child.stdin and child.stdout and child.stderr
        request = {"runs": [str(run) for run in runs], "sql": sql}
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
        try:
            stream = pa.ipc.open_stream(child.stdout)
            counted = _Counted(row for batch in stream for row in batch.to_pylist())
            FORMATS[format](stream.schema.names, counted, out)
        except pa.ArrowException as error:
            raise _failure(child, late, timeout) from error
        if child.wait() != 0:
            raise _failure(child, late, timeout)
        return counted.n
    finally:
        timer.cancel()
        child.kill()
        child.communicate()


class _Counted:
    """An iterator of rows that knows how many went through."""

    def __init__(self, rows: Rows) -> None:
        self.n, self._rows = 0, rows

    def __iter__(self) -> Rows:
        for row in self._rows:
            self.n += 1
            yield row
