"""`rrr sql`: one reading query over one or several runs, printed as a table, CSV, JSON lines or Markdown.

The query runs in `query_child.py`, a process that is killed at Ctrl-C and at the time limit. Refuses a run that doesn't
exist (exit 3) and anything but one reading statement (exit 2).
"""

from __future__ import annotations

import csv
import html
import json
import math
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.places import check_local
from rrr_cli.records import TABLES
from rrr_cli.store.artifacts import exists
from rrr_cli.text import UNSAFE, safe_text

TABLE_ROWS = 200  # nobody reads more; csv and jsonl print all
CELL = 300  # characters of a value in a table
# What a spreadsheet takes for a formula. A number with a sign is none.
FORMULA = re.compile(r"\s*([=@＝＋－＠]|[+-](?!\d+(\.\d+)?$))")
MARKDOWN = re.compile(r"[\\`|]|(?<=\])\(")  # beside HTML: what ends a cell, or begins code or a link
Row = tuple[Any, ...]


def query(
    runs: list[Path], sql: str, format: str, out: TextIO, timeout: float | None = None, raw: bool = False
) -> int:
    """Run `sql` over `runs`, print it to `out`, and return the number of rows printed. `raw`: CSV cells as they are.

    Raises RrrError: no such run or a damaged part (exit 3); an error in the SQL, a statement that isn't a query, an
    unknown format, or longer than `timeout` seconds (exit 2).
    """
    if format not in FORMATS:
        raise RrrError(f"--format {format}: it must be one of {', '.join(FORMATS)}", USAGE)
    if raw and format != "csv":
        raise RrrError(f"--raw is for --format csv: {format} prints all as it is, or safe to read; leave it out", USAGE)
    for run in runs:
        require_run(run)
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
        child.stdin.write(json.dumps({"runs": [str(run) for run in runs], "sql": sql}).encode() + b"\n")
        child.stdin.flush()  # left open: when it ends, the child knows that this process is gone
        stream = pa.ipc.open_stream(child.stdout)
        show = _print_raw_csv if raw else FORMATS[format]
        printed = show(stream.schema.names, _rows(stream, child), out)
        out.flush()
        return printed
    except pa.ArrowException as error:
        raise _failure(child, timeout) from error
    finally:
        timer.cancel()
        child.kill()
        child.communicate()


def require_run(run: Path) -> None:
    """Raise RrrError if `run` isn't a folder with a table in it (exit 3), or is an address (2)."""
    check_local(run, "the run")
    if any(exists(run, table) for table in TABLES):
        return
    siblings = [path for path in run.parent.glob("*") if any(exists(path, table) for table in TABLES)]
    there = ", ".join(sorted(str(path) for path in siblings)) or "none"
    problem = "has no tables" if run.is_dir() else "doesn't exist"
    raise RrrError(f"the run {run} {problem} (runs beside it: {there}); to create it: rrr mine-failures --run {run}")


def _rows(stream: Any, child: subprocess.Popen[bytes]) -> Iterator[Row]:
    for batch in stream:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
    if child.wait() != 0:
        raise pa.ArrowInvalid("the stream ended before the query did")


def _failure(child: subprocess.Popen[bytes], timeout: float | None) -> RrrError:
    """Why the child ended without a complete result, from its exit code and the line on its stderr."""
    assert child.stderr is not None
    code, message = child.wait(), child.stderr.read().decode(errors="replace").strip()
    if code == -9 and timeout is not None:
        return RrrError(f"the query was stopped after {timeout:g} s; select less, or raise --timeout", USAGE)
    if code < 0:
        return RrrError(f"the query's process was ended by signal {-code}: out of memory, or a fault in DuckDB", USAGE)
    return RrrError(safe_text(message.splitlines()[-1] if message else "the query failed"), code)


def _print_table(names: list[str], rows: Iterator[Row], out: TextIO) -> int:
    # A pipe or a file has no width to fit: no column is cut there.
    console = Console(file=out, width=None if out.isatty() else 10_000, highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    shown = list(islice(rows, TABLE_ROWS))
    for index, name in enumerate(names):
        numbers = all(isinstance(row[index], int | float | Decimal | None) for row in shown)
        table.add_column(Text(safe_text(name)), justify="right" if numbers else "left", overflow="fold")
    for row in shown:
        table.add_row(*(Text(_cell(value, whole=len(shown) == 1)) for value in row))
    console.print(table)
    if next(rows, None) is not None:
        print(f"the first {TABLE_ROWS} rows; for all of them: --format csv or jsonl", file=sys.stderr)
    return len(shown)


def _print_csv(names: list[str], rows: Iterator[Row], out: TextIO) -> int:
    """Texts that a spreadsheet would run get an apostrophe before them; a terminal gets no control characters."""
    def guarded(text: str) -> str:
        text = safe_text(text) if out.isatty() else text
        return f"'{text}" if FORMULA.match(safe_text(text)) else text

    return _print_raw_csv(names, rows, out, guarded)


def _print_raw_csv(names: list[str], rows: Iterator[Row], out: TextIO, guarded: Callable[[str], str] = str) -> int:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(guarded, names))
    return _each(rows, lambda row: writer.writerow([guarded(v) if isinstance(v, str) else _shown(v) for v in row]))


def _print_jsonl(names: list[str], rows: Iterator[Row], out: TextIO) -> int:
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise RrrError(f"two columns are named {min(duplicates)}; give one another name: … AS name", USAGE)
    return _each(rows, lambda row: out.write(_json(dict(zip(names, row, strict=True))) + "\n"))


def _print_markdown(names: list[str], rows: Iterator[Row], out: TextIO) -> int:
    def shown(cell: str) -> str:
        return MARKDOWN.sub(r"\\\g<0>", html.escape(cell, quote=False)).replace("\n", "<br>")

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(map(shown, cells)) + " |\n"

    out.write(line(safe_text(name) for name in names) + "|" + "---|" * len(names) + "\n")
    return _each(rows, lambda row: out.write(line(_cell(value) for value in row)))


FORMATS: dict[str, Callable[[list[str], Iterator[Row], TextIO], int]] = {
    "table": _print_table, "csv": _print_csv, "jsonl": _print_jsonl, "markdown": _print_markdown,
}


def _each(rows: Iterator[Row], print_row: Callable[[Row], object]) -> int:
    printed = 0
    for row in rows:
        print_row(row)
        printed += 1
    return printed


def _cell(value: Any, whole: bool = False) -> str:
    """A value for people: safe to print, and cut where it is long unless `whole` (an EXPLAIN, say)."""
    text = safe_text(value if isinstance(value, str) else f"{value:.4g}" if isinstance(value, float) else _shown(value))
    return text if whole or len(text) <= CELL else text[: CELL - 1] + "…"


def _shown(value: Any) -> str:
    """A value that isn't text, as text: null is empty, a nested value is JSON."""
    if value is None:
        return ""
    return _json(value) if isinstance(value, bool | dict | list) else str(value)


def _json(value: Any) -> str:
    """JSON that equals the data and is safe to print: characters that a terminal might obey are escaped."""
    text = json.dumps(_finite(value), ensure_ascii=False, default=str)
    return UNSAFE.sub(lambda match: json.dumps(match[0])[1:-1], text)


def _finite(value: Any) -> Any:
    """`value` with NaN and infinity, which JSON doesn't have, as null, and whole decimals (HUGEINT) as integers."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
