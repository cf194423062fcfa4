"""Cells of the tables for people: names without markup, rates with their intervals. Reads and writes nothing."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from rrr_cli.text import safe_text


def name_of(model: dict[str, Any]) -> Text:
    """The model's name as a cell: without markup or control characters."""
    return Text(safe_text(model["name"]))


def percent(rate: dict[str, float] | None) -> str:
    """{"value": 0.5, "low": 0.4, "high": 0.6} -> "50.0 [40.0, 60.0]"."""
    if rate is None:
        return "no failures"
    return f"{100 * rate['value']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"


def stacked(rate: dict[str, float] | None) -> Text:
    """The same in two lines, so that five measures fit 80 columns: "50.0", "40.0–60.0"."""
    if rate is None:
        return Text("–")
    return Text(f"{100 * rate['value']:.1f}\n{100 * rate['low']:.1f}–{100 * rate['high']:.1f}", no_wrap=True)
