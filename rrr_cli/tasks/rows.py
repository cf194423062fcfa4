"""The rows of a data set, from files or the hub, and what is done about a bad one.

Data is a file (`reading.py`: Parquet or JSON, plain or packed), a folder of such files in the order of their names (its
Parquet files alone, where there are any), or a data set of the hub. Rows are read as they are asked for.

A row that a task can't use is passed over, counted, and named on stderr with its file and number. Once two rows or
more, and more than 5 % of those read, are bad, the reading ends with their number by kind (exit 3); so it does where
no row is good. Under `--strict` it ends at the first one. Writes nothing but that line on stderr.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rrr_cli.errors import BAD_INPUT, NO_BACKEND, USAGE, RrrError
from rrr_cli.tasks.reading import SUFFIXES, Row, rows_of, shown
from rrr_cli.text import safe_text

MOST_BAD = 0.05  # share of the rows
NAMED, KINDS, REMEMBERED = 3, 8, 10_000  # bad rows that a line names, kinds that it counts, places kept
Made = TypeVar("Made")


def chosen_level(
    name: str, levels: tuple[str, ...], level: str | None, data: str | None, check: Callable[[str], object]
) -> str:
    """The level of task `name`: the one given, or the first. Raises RrrError: unknown, or with data (exit 2), or as
    `check` does, which looks at the data.
    """
    if level is not None and level not in levels:
        raise RrrError(f"--level {level}: {name} has no such level. Known: {', '.join(levels)}", USAGE)
    if level is not None and data is not None:
        raise RrrError(f"--level {level} is for generated problems: leave it out, or leave out --data", USAGE)
    if data is not None:
        check(data)
    return level or levels[0]


def check_source(data: str, hub_name: str = "") -> None:
    """Raises RrrError unless `data` is the hub's data set or there (exit 3), and of a known kind (exit 2)."""
    if data == hub_name and hub_name:
        return
    path = Path(data)
    if path.is_dir():
        if not files_in(path):
            raise RrrError(f"--data {data}: no file in it ends in {', '.join(SUFFIXES)}", BAD_INPUT)
    elif not path.is_file():
        wanted = f"give a file or the hub's {hub_name}" if hub_name else "give a file, or a folder of files"
        raise RrrError(f"--data {data}: there is no such file; {wanted}", BAD_INPUT)
    elif not data.endswith(SUFFIXES):
        raise RrrError(f"--data {data}: unknown kind of file; it should end in {', '.join(SUFFIXES)}", USAGE)


def files_in(folder: Path) -> list[str]:
    """The files of rows right in `folder` in the order of their names: those of Parquet, or else those of JSON."""
    paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith((".", "_")))
    names = [str(path) for path in paths if path.name.endswith(SUFFIXES)]
    return [name for name in names if name.endswith(".parquet")] or names


def read_rows(data: str, hub_name: str, columns: tuple[str, ...], hub_split: str = "train") -> Iterator[Row]:
    """Each row's place and the row, or why it can't be read, in their order.

    Of a Parquet file only `columns` are read, of the hub's only `hub_split`. Raises RrrError: a file isn't readable
    (exit 3), or the hub's data set without the `datasets` package (exit 4).
    """
    if data == hub_name:
        yield from _hub_rows(hub_name, hub_split)
        return
    for path in files_in(Path(data)) if Path(data).is_dir() else [data]:
        yield from rows_of(path, columns)


def _hub_rows(hub_name: str, split: str) -> Iterator[Row]:
    try:
        import datasets
    except ImportError:
        message = f"--data {hub_name} needs the datasets package: pip install 'rrr_cli[train]'"
        raise RrrError(message, NO_BACKEND) from None
    try:
        rows = datasets.load_dataset(hub_name, split=split)
    except (OSError, ValueError, RuntimeError) as error:  # its own errors for a missing or unreachable data set
        message = f"--data {hub_name}: the hub didn't give it ({shown(str(error))}); give a local file instead"
        raise RrrError(message, BAD_INPUT) from None
    for number, row in enumerate(rows, start=1):
        yield f"{hub_name}, row {number}", row


# Bad rows ------------------------------------------------------------------------------------------------------------


@dataclass
class _Policy:
    strict: bool = False
    said: set[str] = field(default_factory=set)  # the places of bad rows that stderr has had


_policy = _Policy()


@contextmanager
def bad_rows(strict: bool = False) -> Iterator[None]:
    """How a command treats bad rows: it ends at the first (`strict`), or names each once, however often it is read."""
    global _policy
    before, _policy = _policy, _Policy(strict)
    try:
        yield
    finally:
        _policy = before


class LeftOut(RrrError):
    """Of a good row: the task doesn't cover what it asks for."""


def accepted(data: str, rows: Iterable[Row], make: Callable[[dict[str, Any], str], Made]) -> Iterator[Made]:
    """What `make` makes of each row and its place. A row for which it raises RrrError (exit 3) is a bad one, or, where
    that is LeftOut, none of the task's.

    Raises RrrError (exit 3): more bad rows than are passed over; what `make` raises with another exit code.
    """
    bad, left_out, count = _Passed("bad"), _Passed("left out"), 0
    try:
        for place, row in rows:
            count += 1
            try:
                if isinstance(row, RrrError):
                    raise row
                made = make(row, place)
            except LeftOut as error:
                left_out.add(place, str(error))
            except RrrError as error:
                if error.exit_code != BAD_INPUT:
                    raise
                if _policy.strict:
                    raise RrrError(f"{error}; mend the row, or leave out --strict", BAD_INPUT) from None
                bad.add(place, str(error))
            else:
                yield made
        for passed in (left_out, bad):
            passed.check(data, count)
    except RrrError:
        bad.fresh = 0  # the error's line says it
        raise
    finally:
        left_out.report(data)
        bad.report(data)


@dataclass
class _Passed:
    """The rows that one reading has passed over."""

    what: str
    count: int = 0
    fresh: int = 0  # of which stderr hasn't heard
    first: list[str] = field(default_factory=list)
    by_kind: Counter[str] = field(default_factory=Counter)

    def add(self, place: str, message: str) -> None:
        self.count += 1
        kind = kind_of(place, message)
        self.by_kind[kind if kind in self.by_kind or len(self.by_kind) < KINDS else "other"] += 1
        if len(self.first) < NAMED:
            self.first.append(message)
        if place not in _policy.said:
            self.fresh += 1
            if len(_policy.said) < REMEMBERED:
                _policy.said.add(place)

    def kinds(self) -> str:
        return ", ".join(f"{count} × {kind}" for kind, count in self.by_kind.most_common())

    def check(self, data: str, rows: int) -> None:
        """Raises RrrError (exit 3) where of so many rows none is good, or too many are bad."""
        if not self.count or (self.count < rows and (self.what != "bad" or self.count <= max(1, MOST_BAD * rows))):
            return
        if rows == 1:
            raise RrrError(self.first[0], BAD_INPUT)
        share = "not one can be used" if self.count == rows else f"more than {MOST_BAD:.0%}"
        counts = f"{self.count} of {rows} rows are {self.what}, {share} ({self.kinds()})"
        raise RrrError(f"{data}: {counts}; the first: {self.first[0]}", BAD_INPUT)

    def report(self, data: str) -> None:
        if self.fresh:
            more = f"; and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
            rows = "1 row is" if self.count == 1 else f"{self.count} rows are"
            line = f"rrr: {data}: {rows} {self.what} and passed over ({self.kinds()}): {'; '.join(self.first)}{more}"
            print(safe_text(" ".join(line.split())), file=sys.stderr)


def kind_of(place: str, message: str) -> str:
    """What is wrong with a row, without its values: its column, or what was wanted, or the beginning of the message."""
    words = message.removeprefix(place).lstrip(",: ")
    column, wanted = re.match(r"column \w+", words), re.search(r"wanted .*", words)
    return column[0] if column else wanted[0] if wanted else re.split(r" ?[(;:]", words)[0]
