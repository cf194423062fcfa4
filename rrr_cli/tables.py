"""What `rrr eval` shows a person: rates with intervals, won and lost, and in words whether reflecting helped."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from rrr_cli.stages.evaluate import MEASURES, in_words


def evaluation_table(result: dict[str, Any], console: Console) -> None:
    """Print the table to `console` (stderr)."""
    first = result["models"][0]
    paired = {(c["b"], c["measure"]): c for c in result["comparisons"] if c["a"] != c["b"]}
    table = Table(
        title=f"{first['n']} held-out problems, temperature {first['temperature']:g}, seed {first['seed']}; "
        "% with 95 % bootstrap interval",
        title_justify="left",
    )
    table.add_column("measure")
    for model in result["models"]:
        table.add_column(model["name"], justify="right")
        if model is not first:
            table.add_column(f"won/lost against {first['name']}", justify="right")
    for measure in MEASURES:
        label = measure.replace("_", " ")
        if measure == "second_try_on_failures":
            label += f" ({first['n_failures']} of {first['name']})"
        cells = [label]
        for model in result["models"]:
            rate = model[measure]
            cells.append(percent(rate))
            if model is not first:
                c = paired[model["name"], measure]
                cells.append(f"{c['won']}/{c['lost']}  p={c['p']:.2g}")
        table.add_row(*cells)
    console.print(table)
    for model in result["models"]:
        for level, rates in model["by_difficulty"].items():
            shown = ", ".join(f"{m.replace('_', ' ')} {percent(rates[m])}" for m in MEASURES[:3])
            console.print(f"{model['name']}, {level}: {shown}", markup=False)
    for sentence in in_words(result):
        console.print(sentence, markup=False)


def percent(rate: dict[str, float] | None) -> str:
    """{"value": 0.5, "low": 0.4, "high": 0.6} -> "50.0 [40.0, 60.0]"."""
    if rate is None:
        return "no failures"
    return f"{100 * rate['value']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"
