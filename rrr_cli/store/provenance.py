"""Where a part came from: the JSON in every part's footer and in the table's sidecar, and the check that two agree.

Reads installed package versions, the git revision of the current folder, and argv. Writes nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rrr_cli.errors import RrrError
from rrr_cli.records import SCHEMA_VERSION

PACKAGES = ("torch", "transformers", "trl", "peft", "vllm", "datasets", "accelerate", "pyarrow", "duckdb")


def make(
    table: str, stage: str, config: dict[str, Any], inputs: dict[str, str], seed: int | None
) -> dict[str, Any]:
    """The provenance of what is written from now on; JSON-able, so that it compares equal to what is read back."""
    made = {
        "table": table, "stage": stage, "config": config, "inputs": inputs, "seed": seed,
        "schema_version": SCHEMA_VERSION, "rrr": _version("rrr_cli"),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "git": _git_revision(), "argv": sys.argv, "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    same: dict[str, Any] = json.loads(json.dumps(made, default=str))
    return same


def require_same(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise RrrError (exit 3) where `new` would mix rows of another configuration or input into the table."""
    was = {"seed": old["seed"], **old["config"]}
    now = {"seed": new["seed"], **new["config"]}
    changed = [
        f"{name} was {_shown(was, name)}, now {_shown(now, name)}"
        for name in sorted(was.keys() | now.keys()) if _shown(was, name) != _shown(now, name)
    ]
    changed += [
        f"its input {name} has changed since (was {_shown(old['inputs'], name)}, now {_shown(new['inputs'], name)})"
        for name in sorted(old["inputs"].keys() | new["inputs"].keys())
        if old["inputs"].get(name) != new["inputs"].get(name)
    ]
    if changed:
        raise RrrError(
            f"{folder} already holds rows that {old['stage']} wrote with other options: {'; '.join(changed)}. "
            f"Type the same options to resume, --overwrite to replace those rows, or --run NAME for another run"
        )


def _shown(values: dict[str, Any], name: str) -> str:
    return json.dumps(values[name], sort_keys=True) if name in values else "not set"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
