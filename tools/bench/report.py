"""benchmarks/results.json as the table of docs/performance.md. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
UNITS = {"times": "x", "start": "x", "share": "%", "minutes": " min"}


def ratio(row: Row, value: float) -> str:
    """A ratio, lowest or highest value in the unit of its kind."""
    shown = 100 * value if row["kind"] == "share" else value
    return f"{shown:.{1 if shown >= 10 else 2}f}{UNITS[row['kind']]}"


def taken(row: Row, who: str) -> str:
    """What an arm took: CPU seconds, or MiB."""
    if (seconds := row.get(f"{who}_cpu_s")) is not None:
        return f"{seconds:.{1 if seconds >= 10 else 2}f} s"
    mebibytes = row.get(f"{who}_peak_mib")
    return "" if mebibytes is None else f"{mebibytes:.0f} MiB"


def markdown(rows: Sequence[Row]) -> str:
    """The rows, and where they were measured."""
    lines = ["| figure | ratio | lowest to highest | ours | peer | commit |", "|---|---|---|---|---|---|"]
    for row in rows:
        peer = f"{row['peer']}, {taken(row, 'peer')}" if "peer" in row else ""
        lines.append(
            f"| {row['name']} | {ratio(row, row['ratio'])} | {ratio(row, row['low'])} to {ratio(row, row['high'])} | "
            f"{taken(row, 'ours')} | {peer} | {row['commit']} |")
    places = dict.fromkeys(
        f"{row['processor']}, {row['threads']} thread{'s' * (row['threads'] > 1)}; {row['versions']}" for row in rows)
    return "\n".join([*lines, "", *(f"Machine: {place}." for place in places)]) + "\n"
