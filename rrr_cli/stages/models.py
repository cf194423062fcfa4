"""Models by name, for eval and forgetting: `--model NAME=MODEL`, several times. Refuses a name for two models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rrr_cli.errors import USAGE, RrrError


def parse_models(specs: Sequence[str]) -> dict[str, str]:
    """["base=tiny"] -> {"base": "tiny"}. Raises RrrError (exit 2) for a spec without a name, or a name given twice."""
    models: dict[str, str] = {}
    for spec in specs:
        name, equals, path = spec.partition("=")
        if not (name and equals and path):
            raise RrrError(f"--model {spec}: it must be NAME=MODEL, as in --model base=tiny", USAGE)
        if name in models:
            raise RrrError(f"--model {spec}: the name {name} is used twice; give each model its own", USAGE)
        models[name] = path
    return models


def check_names(run: Path, table: str, weights: dict[str, str]) -> None:
    """Raise RrrError (exit 3) if the table has rows of other weights under one of the names."""
    from rrr_cli.store.artifacts import read

    for row in read(run, table, columns=["model", "model_fingerprint"]):
        if weights.get(row["model"], row["model_fingerprint"]) != row["model_fingerprint"]:
            raise RrrError(
                f"the model tested as {row['model']} had other weights when the table {table} was written; give "
                "this one another NAME, type --overwrite to replace those rows, or --run NAME for another run"
            )
