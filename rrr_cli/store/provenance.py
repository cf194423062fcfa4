"""Where a part came from: the JSON in every part's footer and in the table's sidecar, and the check that two match.

Reads installed package versions, the git revision of the current folder, and argv. Writes nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from rrr_cli.addresses import without_secrets
from rrr_cli.errors import RrrError
from rrr_cli.records import SCHEMA_VERSION, content_id

PACKAGES = ("torch", "transformers", "trl", "peft", "vllm", "datasets", "accelerate", "pyarrow", "duckdb")


def make(
    table: str, stage: str, config: dict[str, Any], inputs: dict[str, str], seed: int | None
) -> dict[str, Any]:
    """The provenance of the parts written from now on, passed through JSON so that it equals what is read back."""
    provenance = {
        "table": table, "stage": stage, "config": config, "inputs": inputs, "seed": seed,
        "schema_version": SCHEMA_VERSION, "rrr": _version("rrr_cli"),
        "packages": {name: installed for name in PACKAGES if (installed := _version(name))},
        "git": _git_revision(), "argv": [without_secrets(word) for word in sys.argv],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    plain: dict[str, Any] = json.loads(json.dumps(provenance, default=str))
    return plain


def require_current(folder: Path, old: dict[str, Any]) -> None:
    """Raise RrrError (exit 3) if an older rrr wrote the table, whose provenance doesn't say all that rows depend on."""
    if old["schema_version"] != SCHEMA_VERSION:
        raise RrrError(
            f"{folder} was written by an older rrr ({old['rrr']}, schema version {old['schema_version']}) that didn't "
            "record all that its rows depend on: sql, show and report can read it, but no stage can add to it. Name "
            "another --run; a stage that starts from its failures can read them with --input")


def require_same(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise RrrError (exit 3) if `new` would add rows of another identity or input to the table."""
    was = {"seed": old["seed"], **old["config"]}
    now = {"seed": new["seed"], **new["config"]}
    changed = [
        f"{name} was {_shown(was, name)}, now {_shown(now, name)}"
        for name in sorted(was.keys() | now.keys()) if not _same(name, was, now)
    ]
    changed += [
        f"its input {name} has changed since (was {_shown(old['inputs'], name)}, now {_shown(new['inputs'], name)})"
        for name in sorted(old["inputs"].keys() | new["inputs"].keys())
        if old["inputs"].get(name) != new["inputs"].get(name)
    ]
    if changed:
        raise RrrError(
            f"{folder} already has rows that {old['stage']} wrote with other options: {'; '.join(changed)}. "
            f"Type the same options to resume{_undo(changed)}, --overwrite to replace those rows, or --run NAME for "
            "another run"
        )


def comparable(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what only says where a file is, whose content it has too."""
    return {
        name: _last_part(value) if name in PLUGS else value
        for name, value in config.items() if PROVEN_BY.get(name) not in config
    }


def _same(name: str, was: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether two configurations agree on this name: on what it is, not on how its place is typed."""
    if (name in RECORDED_LATER and name not in was) or (name == "dtype" and was.get(name) == "auto"):
        return True  # an older rrr didn't record what it was
    old, new = was.get(name, _NOT_SET), now.get(name, _NOT_SET)
    proof = PROVEN_BY.get(name)
    if name in PLUGS or (proof in was and proof in now):
        old, new = ("data", "data") if name == "data" else (_last_part(old), _last_part(new))
    return bool(old == new)


def _last_part(value: Any) -> Any:
    return PurePath(value).name if isinstance(value, str) else value


def _undo(changed: list[str]) -> str:
    """What else resumes, where a file was edited."""
    return " (where it is an edited file: undo the edit)" if any("source of" in text for text in changed) else ""


_NOT_SET = object()
RECORDED_LATER = ("device type", "content of the data")
PLUGS = ("engine", "objective")  # a name, or path/to/file.py:Class, whose source has a hash of its own
#: What a user types as a path -> the hash in the configuration that says what is there.
PROVEN_BY = {"model": "weights of the model", "reflector": "weights of the reflector", "data": "content of the data"}


def _shown(values: dict[str, Any], name: str) -> str:
    """A value as JSON, in one line of at most 60 characters."""
    if name not in values:
        return "not set"
    text = json.dumps(values[name], sort_keys=True)
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text)} characters, {content_id(text)[:8]})"


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return git.stdout.strip() if git.returncode == 0 else None
