"""The rows of a data set: a local .parquet, .jsonl, .jsonl.gz or .json (a list) file, or one of the hub.

Reads; writes nothing. Rows are read as they are asked for. What can't be read is refused in one line that names the
file and row; nothing is skipped in silence.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rrr_cli.errors import BAD_INPUT, NO_BACKEND, USAGE, RrrError

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".json")


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


def check_source(data: str, hub_name: str) -> None:
    """Raises RrrError unless `data` is the hub's data set (exit 3) or a file of a known kind (exit 2)."""
    if data == hub_name:
        return
    if not Path(data).is_file():
        raise RrrError(f"--data {data}: there is no such file; give a file or the hub's {hub_name}", BAD_INPUT)
    if not data.endswith(SUFFIXES):
        raise RrrError(f"--data {data}: unknown kind of file; it should end in {', '.join(SUFFIXES)}", USAGE)


def read_rows(
    data: str, hub_name: str, columns: tuple[str, ...], hub_split: str = "train"
) -> Iterator[dict[str, Any]]:
    """The rows in their order, as objects. Of a Parquet file only `columns` are read, of the hub's only `hub_split`.

    Raises RrrError: not readable (exit 3), or the hub's data set without the `datasets` package (exit 4).
    """
    if data == hub_name:
        return _hub_rows(hub_name, hub_split)
    if data.endswith(".parquet"):
        return _parquet_rows(data, columns)
    return _json_list_rows(data, columns) if data.endswith(".json") else _json_lines_rows(data, columns)


def shown(value: Any) -> str:
    """ASCII, so that no row can steer a terminal, and short."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _hub_rows(hub_name: str, split: str) -> Iterator[dict[str, Any]]:
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
    yield from rows


def _parquet_rows(data: str, known: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(data) as file:
            columns = [name for name in known if name in file.schema_arrow.names]
            for batch in file.iter_batches(columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise RrrError(f"--data {data}: not readable as Parquet ({shown(str(error))})", BAD_INPUT) from None


def _json_lines_rows(data: str, known: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(data, "rb") if data.endswith(".gz") else open(data, "rb") as file:
            for number, line in enumerate(file, start=1):
                place = f"{data}, row {number}"
                yield _checked_row(_json(line, place), place, known)
    except (OSError, EOFError) as error:
        raise RrrError(f"--data {data}: not readable ({shown(str(error))})", BAD_INPUT) from None


def _json_list_rows(data: str, known: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    rows = _json(Path(data).read_bytes(), data)
    if not isinstance(rows, list):
        raise RrrError(f"--data {data}: found one JSON value, wanted a list of rows", BAD_INPUT)
    for number, row in enumerate(rows, start=1):
        yield _checked_row(row, f"{data}, row {number}", known)


def _json(text: bytes, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RrrError(f"{place}: not JSON ({shown(str(error))})", BAD_INPUT) from None


def _checked_row(row: Any, place: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise RrrError(f"{place}: found {shown(row)}, wanted an object with {' and '.join(known[:2])}", BAD_INPUT)
    return row
