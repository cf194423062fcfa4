"""`rrr sql`: one reading query over one or several runs, printed as a table, CSV, JSON lines or Markdown.

The query runs in `query_child.py`, a process that is killed at Ctrl-C and at the time limit. Refuses a run that doesn't
exist (exit 3) and anything but one reading statement (exit 2). It passes on what that process prints, and imports no
library that the query needs: both processes would load it.
"""

from __future__ import annotations

import codecs
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TextIO

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.places import PARTS, check_local
from rrr_cli.text import safe_text

FORMATS = ("table", "csv", "jsonl", "markdown")
CHUNK = 2**16  # bytes that are passed on at a time


def query(
    runs: list[Path], sql: str, format: str, out: TextIO, timeout: float | None = None, raw: bool = False
) -> None:
    """Run `sql` over `runs` and print it to `out`. `raw`: CSV cells as they are.

    Raises RrrError: no such run or a damaged part (exit 3); an error in the SQL, a statement that isn't a query, an
    unknown format, or longer than `timeout` seconds (exit 2).
    """
    if format not in FORMATS:
        raise RrrError(f"--format {format}: it must be one of {', '.join(FORMATS)}", USAGE)
    if raw and format != "csv":
        raise RrrError(f"--raw is for --format csv: {format} prints all as it is, or safe to read; leave it out", USAGE)
    for run in runs:
        require_run(run)
    shown = {
        "format": format, "raw": raw, "terminal": out.isatty(), "width": shutil.get_terminal_size().columns}
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "rrr_cli.store.query_child"],
        start_new_session=True,  # so that Ctrl-C reaches only this process
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    timer = threading.Timer(threading.TIMEOUT_MAX if timeout is None else timeout, child.kill)
    timer.daemon = True
    timer.start()
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        request = {"runs": [str(run) for run in runs], "sql": sql, "shown": shown}
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()  # left open: when it ends, the child knows that this process is gone
        for text in _texts(child.stdout):
            out.write(text)
        out.flush()
        _check(child, timeout)
    finally:
        timer.cancel()
        child.kill()
        child.communicate()


def require_run(run: Path) -> None:
    """Raise RrrError if `run` isn't a folder with a table in it (exit 3), or is an address (2)."""
    check_local(run, "the run")
    if has_table(run):
        return
    siblings = [path for path in run.parent.glob("*") if has_table(path)]
    there = ", ".join(sorted(str(path) for path in siblings)) or "none"
    problem = "has no tables" if run.is_dir() else "doesn't exist"
    raise RrrError(f"the run {run} {problem} (runs beside it: {there}); to create it: rrr mine-failures --run {run}")


def has_table(run: Path) -> bool:
    """Whether a part of any table is in the folder."""
    return any(True for _ in run.glob(f"*/{PARTS}"))


def _texts(stream: IO[bytes]) -> Iterator[str]:
    """A stream of UTF-8 as text, as it comes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    while chunk := stream.read1(CHUNK):  # type: ignore[attr-defined]  # it is a BufferedReader
        yield decoder.decode(chunk)


def _check(child: subprocess.Popen[bytes], timeout: float | None) -> None:
    """Print the note that the child left on its stderr. Raises RrrError: why it ended without a complete result."""
    assert child.stderr is not None
    code, message = child.wait(), child.stderr.read().decode(errors="replace").strip()
    if code == -9 and timeout is not None:
        raise RrrError(f"the query was stopped after {timeout:g} s; select less, or raise --timeout", USAGE)
    if code < 0:
        raise RrrError(f"the query's process was ended by signal {-code}: out of memory, or a fault in DuckDB", USAGE)
    last = safe_text(message.splitlines()[-1]) if message else ""
    if code:
        raise RrrError(last or "the query failed", code)
    if last:
        print(last, file=sys.stderr)
