"""Checkpoints that are whole or absent, and the finished policy made from the last of them.

Reads and writes `<run>/models/policy-checkpoints/step-000020/` and `<run>/models/policy/`. A checkpoint is written
under `.partial`, gets a COMPLETE file with the hash of each of its files, is flushed to disk, and is renamed only then.
One whose COMPLETE is missing or doesn't match is never resumed from. Refuses nothing: what isn't whole isn't there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rrr_cli.engines.models import PROVENANCE
from rrr_cli.store.disk import fsync

COMPLETE = "COMPLETE"
PARTIAL = ".partial"  # where transformers writes; no reader looks into it
KEPT = 2  # the newest, and the one before it in case the newest is damaged later
# What a finished model folder takes over from a checkpoint: no optimizer, no trainer state.
MODEL_FILES = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json",
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template*",
)


def seal(partial: Path, target: Path, config_id: str) -> None:
    """Turn the folder `partial` into the whole checkpoint `target`, written by configuration `config_id`."""
    hashes = {str(path.relative_to(partial)): _sha256(path) for path in _files(partial)}
    (partial / COMPLETE).write_text(json.dumps({"config": config_id, "sha256": hashes}, indent=1))
    if target.exists():  # damaged: a whole one would have been resumed from
        shutil.rmtree(target)
    _publish(partial, target)


def newest(folder: Path, config_id: str) -> Path | None:
    """The newest whole checkpoint that `config_id` wrote, or None."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        if _is_whole(path, config_id):
            return path
    return None


def step_of(checkpoint: Path) -> int:
    """The number of optimiser steps that a checkpoint has behind it."""
    return int(checkpoint.name.removeprefix("step-"))


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of `step` belongs."""
    return folder / f"step-{step:06d}"


def prune(folder: Path, keep: int = KEPT) -> None:
    """Remove all but the newest `keep` checkpoints."""
    for path in sorted(folder.glob("step-*"), reverse=True)[keep:]:
        shutil.rmtree(path)


def export(checkpoint: Path, target: Path, base_model: str, made_by: dict[str, Any]) -> None:
    """Make the finished model folder `target`, whole or absent, from a checkpoint's model and tokenizer files.

    An adapter names its base as `base_model`, so that `--model target` finds it again, and its modules in order: PEFT
    writes a set, and the same training has to give the same fingerprint. `made_by` goes to rrr.json.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for pattern in MODEL_FILES:
        for path in checkpoint.glob(pattern):
            shutil.copy2(path, temporary / path.name)
    adapter = temporary / "adapter_config.json"
    if adapter.exists():
        config = json.loads(adapter.read_text()) | {"base_model_name_or_path": base_model}
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()
        adapter.write_text(json.dumps(config, indent=2))
    (temporary / PROVENANCE).write_text(json.dumps(made_by, indent=1, default=str))
    _publish(temporary, target)


def provenance(model: Path) -> dict[str, Any]:
    """What `export` wrote beside a finished model; {} where the folder comes from elsewhere."""
    path = model / PROVENANCE
    return json.loads(path.read_text()) if path.is_file() else {}


def _publish(source: Path, target: Path) -> None:
    """Flush `source` to disk and rename it to `target`, which then is whole for every reader."""
    for path in (*source.rglob("*"), source):
        fsync(path)
    source.rename(target)
    fsync(target.parent)


def _is_whole(path: Path, config_id: str) -> bool:
    try:
        complete = json.loads((path / COMPLETE).read_text())
        return complete["config"] == config_id and all(
            _sha256(path / name) == digest for name, digest in complete["sha256"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
