"""A run's tables on disk: `runs/NAME/<table>/part-00000.parquet`. The reader; the writer is in `writer.py`.

The parts are the truth. Refuses a damaged part (`parts.py`), and one that is missing or out of place (`chain.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

import pyarrow as pa

from rrr_cli.records import TABLES, Message, content_id
from rrr_cli.store.chain import Where, batches
from rrr_cli.store.chain import part_paths as part_paths
from rrr_cli.store.chain import parts as parts
from rrr_cli.store.schema import arrow_schema
from rrr_cli.store.writer import Writer as Writer


@overload
def read(
    run: Path, table: str, where: Where | None = None, columns: None = None, *, regardless_of: tuple[str, ...] = ()
) -> Iterator[Any]: ...
@overload
def read(
    run: Path, table: str, where: Where | None = None, *, columns: list[str], regardless_of: tuple[str, ...] = ()
) -> Iterator[dict[str, Any]]: ...
def read(
    run: Path, table: str, where: Where | None = None, columns: list[str] | None = None, *,
    regardless_of: tuple[str, ...] = (),
) -> Iterator[Any]:
    """Stream the rows of a table in the order they were written, one verified part in memory at a time.

    Yields records; with `columns`, dicts of those columns. `where` maps a column to its value, or to a list of
    allowed values. A table that doesn't exist has no rows. Raises RrrError (exit 3): a damaged part, or a missing one,
    unless its stage is one that the rows don't depend on: its name starts with one of `regardless_of`.
    """
    schema, record = arrow_schema(table), TABLES[table]
    turns = [field.name for field in schema if pa.types.is_list(field.type)]
    for part in parts(run, table, regardless_of=regardless_of):
        for batch in batches(part, schema, where, columns):
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
