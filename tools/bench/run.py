"""Our figures beside those of the stock libraries, on this machine: `python tools/bench/run.py [NAME…]`.

A NAME is the beginning of a figure's name, such as "step" or "rrr --help". Without one all are measured but those that
take long: "generation, smollm2", "quickstart". Prints a table, and puts the rows into benchmarks/results.json in the
place of those of the same name. Set VLLM_PYTHON to a Python that has vLLM to compare with that as well.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from figures import FIGURES, Figure
from machine import ROOT, where

RESULTS = ROOT / "benchmarks" / "results.json"


def main(given: Sequence[str] | None = None) -> None:
    options = parser().parse_args(given)
    chosen = choose(options.names)
    output = options.output or (None if options.quick else RESULTS)
    place, rows = where(), []
    print(f"commit {place['commit']}; {place['processor']}, {place['threads']} for torch; {place['versions']}")
    for figure in chosen:
        with tempfile.TemporaryDirectory() as folder:
            try:
                measured = figure.measure(Path(folder), 1 if options.quick else options.repetitions, options.quick)
            except RuntimeError as error:
                sys.exit(f"{figure.name}: {error}")
        measured = [row | place for row in measured]
        rows += measured
        for row in measured:
            print(line(row), flush=True)
        if output is not None:
            keep(measured, output)
    show(rows)
    if "VLLM_PYTHON" not in os.environ and any("generation" in row["name"] for row in rows):
        print("vLLM: not measured; set VLLM_PYTHON to a Python that has it")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("names", nargs="*", metavar="NAME")
    made.add_argument("--repetitions", type=int, default=5, help="of each arm, after one that isn't counted")
    made.add_argument("--quick", action="store_true", help="small shapes, once: does it run? Nothing is written")
    made.add_argument("--output", type=Path, help="another file than benchmarks/results.json")
    return made


def choose(names: Sequence[str]) -> list[Figure]:
    """The figures that begin with one of `names`; without any all. Those that take long only where no other begins so.

    Exits with what there is where none begins with a name.
    """
    chosen = []
    for name in names or [""]:
        fitting = [figure for figure in FIGURES if figure.name.startswith(name)]
        if not fitting:
            sys.exit(f"no figure begins with {name!r}; there are:\n" + "\n".join(f"  {f.name}" for f in FIGURES))
        chosen += [figure for figure in fitting if figure.always] or fitting
    return chosen


def keep(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Put rows in the place of those of the same name."""
    stored = json.loads(path.read_text()) if path.exists() else []
    merged = {row["name"]: row for row in [*stored, *rows]}
    ordered = sorted(merged.values(), key=lambda row: place_of(row["name"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(ordered, indent=1) + "\n")


def place_of(name: str) -> int:
    """Where the figure that makes a row stands among all."""
    fitting = [(len(figure.name), i) for i, figure in enumerate(FIGURES) if name.startswith(figure.name)]
    return max(fitting, default=(0, len(FIGURES)))[1]


def line(row: dict[str, Any]) -> str:
    return f"{row['name']}: {row['ratio']} [{row['low']}-{row['high']}], n = {row['repetitions']}"


def show(rows: Sequence[dict[str, Any]]) -> None:
    """The rows as a table."""
    from report import ratio, taken
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "ratio", "lowest-highest", "n", "ours", "peer")
    for row in rows:
        table.add_row(row["name"], ratio(row, row["ratio"]), f"{ratio(row, row['low'])}-{ratio(row, row['high'])}",
                      str(row["repetitions"]), taken(row, "ours"), taken(row, "peer"))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
