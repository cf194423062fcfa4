"""Rows for people and programs: a table, CSV, JSON lines or Markdown, as `rrr sql` prints them.

Writes to the stream that it is given. No cell steers a terminal, a spreadsheet or a page. Refuses JSON of two columns
with one name (exit 2).
"""

from __future__ import annotations

import csv
import html
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any, TextIO

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.text import UNSAFE, safe_text

TABLE_ROWS = 200  # nobody reads more; csv and jsonl print all
CELL = 300  # characters of a value in a table
# What a spreadsheet takes for a formula. A number with a sign is none.
FORMULA = re.compile(r"\s*([=@＝＋－＠]|[+-](?!\d+(\.\d+)?$))")
MARKDOWN = re.compile(r"[\\`|]|(?<=\])\(")  # beside HTML: what ends a cell, or begins code or a link
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Paper:
    """What is printed on: a stream, and whether it ends on a terminal of `width` columns."""

    out: TextIO
    terminal: bool
    width: int


def print_rows(names: list[str], rows: Iterator[Row], paper: Paper, format: str, raw: bool = False) -> None:
    """Print rows under the names of their columns. `raw`: CSV cells as they are. Raises RrrError (exit 2)."""
    if raw:
        _print_raw_csv(names, rows, paper)
    else:
        PRINTERS[format](names, rows, paper)


def _print_table(names: list[str], rows: Iterator[Row], paper: Paper) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A pipe or a file has no width to fit: no column is cut there.
    console = Console(file=paper.out, width=paper.width if paper.terminal else 10_000, highlight=False,
                      force_terminal=paper.terminal or None)
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


def _print_csv(names: list[str], rows: Iterator[Row], paper: Paper) -> None:
    """Texts that a spreadsheet would run get an apostrophe before them; a terminal gets no control characters."""
    def guarded(text: str) -> str:
        text = safe_text(text) if paper.terminal else text
        return f"'{text}" if FORMULA.match(safe_text(text)) else text

    _print_raw_csv(names, rows, paper, guarded)


def _print_raw_csv(names: list[str], rows: Iterator[Row], paper: Paper, guarded: Callable[[str], str] = str) -> None:
    writer = csv.writer(paper.out, lineterminator="\n")
    writer.writerow(map(guarded, names))
    for row in rows:
        writer.writerow([guarded(value) if isinstance(value, str) else _shown(value) for value in row])


def _print_jsonl(names: list[str], rows: Iterator[Row], paper: Paper) -> None:
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise RrrError(f"two columns are named {min(duplicates)}; give one another name: … AS name", USAGE)
    for row in rows:
        paper.out.write(_json(dict(zip(names, row, strict=True))) + "\n")


def _print_markdown(names: list[str], rows: Iterator[Row], paper: Paper) -> None:
    def shown(cell: str) -> str:
        return MARKDOWN.sub(r"\\\g<0>", html.escape(cell, quote=False)).replace("\n", "<br>")

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(map(shown, cells)) + " |\n"

    paper.out.write(line(safe_text(name) for name in names) + "|" + "---|" * len(names) + "\n")
    for row in rows:
        paper.out.write(line(_cell(value) for value in row))


PRINTERS: dict[str, Callable[[list[str], Iterator[Row], Paper], None]] = {
    "table": _print_table, "csv": _print_csv, "jsonl": _print_jsonl, "markdown": _print_markdown,
}


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
