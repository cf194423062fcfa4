"""The tables as Arrow schemas and as documentation, both derived from `records.py`.

Reads the source of `records.py`; writes nothing. Refuses an annotation that has no column type.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING

from rrr_cli import records
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import TABLES

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """One column of a table, as `rrr schema` prints it."""

    column: str
    type: str  # str, int, float, bool or list[Message]
    nullable: bool
    comment: str


def describe(table: str) -> list[Column]:
    """The columns of `table` in order, with the `#:` comments of `records.py`. Raises RrrError: no such table (2)."""
    if table not in TABLES:
        raise RrrError(f"there is no table {table!r}; the tables are {', '.join(TABLES)}", USAGE)
    import ast
    import inspect

    source = inspect.getsource(records)
    lines = source.splitlines()
    name = TABLES[table].__name__
    body = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name).body
    columns = []
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            annotation, optional, _ = ast.unparse(node.annotation).partition(" | None")
            comment = lines[node.lineno - 1].partition("#:")[2].strip()
            columns.append(Column(node.target.id, annotation, bool(optional), comment))
    return columns


@cache
def arrow_schema(table: str) -> pa.Schema:
    """The Arrow schema of `table`; a column is nullable only where its annotation says `| None`."""
    import pyarrow as pa

    turn = pa.struct([pa.field("role", pa.string(), nullable=False), pa.field("content", pa.string(), nullable=False)])
    types = {
        "str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(),
        "list[Message]": pa.list_(pa.field("element", turn, nullable=False)),
    }
    columns = ((field.name, str(field.type).partition(" | None")) for field in fields(TABLES[table]))
    return pa.schema([pa.field(name, types[kind], nullable=bool(null)) for name, (kind, null, _) in columns])
