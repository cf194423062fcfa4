"""Checkpoints that are whole or absent, and the finished policy made from the last of them.

Reads and writes `<run>/models/policy-checkpoints/step-000020/` and `<run>/models/policy/`. A checkpoint is written
under `.partial`, gets a COMPLETE file with the hash of each of its files, is flushed to disk, and is renamed only then.
One whose COMPLETE is missing or doesn't match is never resumed from: what isn't whole isn't there. A finished model has
the hashes of its files in its rrr.json. Refuses a disk that takes no more, symbolic links, and to replace a model that
another command trained.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rrr_cli.engines.fingerprints import PROVENANCE, sealed, sha256_of
from rrr_cli.engines.fingerprints import provenance as provenance
from rrr_cli.errors import RrrError
from rrr_cli.store.disk import FAILING, free_bytes, fsync, inside, refusal

COMPLETE = "COMPLETE"
PARTIAL = ".partial"  # where transformers writes; no reader looks into it
KEPT = 2  # the newest, and the one before it in case the newest is damaged later
# What a finished model folder takes over from a checkpoint: no optimizer, no trainer state.
MODEL_FILES = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json",
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template*",
)
NO_ROOM = 2**20  # bytes


def places(run: Path, name: str) -> tuple[Path, Path]:
    """(folder of the checkpoints, folder of the finished model). Raises RrrError (exit 3): a symbolic link."""
    checkpoints = inside(run, "models", f"{name}-checkpoints")
    inside(checkpoints, PARTIAL)
    return checkpoints, inside(run, "models", name)


def check_own(target: Path, command: str) -> None:
    """Raise RrrError (exit 3) where a model is at `target` that `rrr COMMAND` didn't train, and mustn't replace."""
    known = provenance(target)
    if target.exists() and not known:
        raise RrrError(f"{target} isn't a model that rrr trained: move it elsewhere, or type another --name or --run")
    trainer = known.get("command", "grpo")  # an older rrr didn't write it there
    if known and trainer != command:
        raise RrrError(f"{target} was trained by rrr {trainer}: type another --name")


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Turns what torch, safetensors and the system raise when a disk takes no more into RrrError (exit 3), and removes
    the half of a checkpoint in `folder`."""
    try:
        yield
    except Exception as error:
        reason = _of_the_disk(error, folder)
        if reason is None:
            raise
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
        raise refusal(folder, reason) from error


def _of_the_disk(error: Exception, folder: Path) -> OSError | None:
    """The error as the system's, if it is the disk's."""
    if isinstance(error, OSError):
        return error if error.errno in FAILING else None
    if number := re.search(r"\(os error (\d+)\)", str(error)):  # as Rust, and so safetensors, words it
        return OSError(int(number[1]), str(error))
    if "inline_container" in str(error) or "PytorchStreamWriter" in str(error):  # torch.save names no number
        full = free_bytes(folder) < NO_ROOM
        return OSError(errno.ENOSPC if full else errno.EIO, "torch could not write all of the checkpoint")
    return None


def seal(partial: Path, target: Path, config_id: str) -> None:
    """Turn the folder `partial` into the whole checkpoint `target`, written by configuration `config_id`.

    Raises RrrError (exit 3): it has no weights.
    """
    check_weights(partial)
    hashes = {str(path.relative_to(partial)): sha256_of(path) for path in _files(partial)}
    (partial / COMPLETE).write_text(json.dumps({"config": config_id, "sha256": hashes}, indent=1))
    if target.exists():  # damaged: a whole one would have been resumed from
        shutil.rmtree(target)
    _publish(partial, target)


def check_weights(folder: Path) -> None:
    """Raise RrrError (exit 3) where there are no weights to make a model of: a training in shards may write its own
    kind of file, and would end without a model."""
    if not any(folder.glob("*.safetensors")):
        raise RrrError(f"{folder} has no *.safetensors, so no model can be made of it; nothing was deleted. With FSDP, "
                       "let accelerate save fsdp_state_dict_type: FULL_STATE_DICT, then type the same command")


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


def prune(folder: Path, also: Collection[int] = (), keep: int = KEPT) -> None:
    """Remove all but the newest `keep` checkpoints and those of the steps in `also`."""
    for path in sorted(folder.glob("step-*"), reverse=True)[keep:]:
        if step_of(path) not in also:
            shutil.rmtree(path)


def export(checkpoint: Path, target: Path, base_model: str, trained: dict[str, Any]) -> None:
    """Make the finished model folder `target`, whole or absent, from a checkpoint's model and tokenizer files.

    An adapter names its base as `base_model`, so that `--model target` finds it again, and its modules in order: PEFT
    writes a set, and the same training has to give the same fingerprint. `trained`, how it was, goes to rrr.json.
    Raises RrrError (exit 3): the checkpoint has no weights.
    """
    check_weights(checkpoint)
    temporary = target.with_name(f".{target.name}.tmp")
    if temporary.is_symlink():
        temporary.unlink()
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _fill(temporary, checkpoint, base_model, trained)
        _publish(temporary, target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _fill(temporary: Path, checkpoint: Path, base_model: str, trained: dict[str, Any]) -> None:
    for pattern in MODEL_FILES:
        for path in checkpoint.glob(pattern):
            shutil.copyfile(path, temporary / path.name)  # some disks refuse the rights and times of a file
    adapter = temporary / "adapter_config.json"
    if adapter.exists():
        config = json.loads(adapter.read_text()) | {"base_model_name_or_path": base_model}
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()
        adapter.write_text(json.dumps(config, indent=2))
    (temporary / PROVENANCE).write_text(json.dumps(sealed(temporary, trained), indent=1))


def remove(model: Path) -> None:
    """Remove a finished model: a kill leaves all of it or nothing at its name."""
    removed = model.with_name(f".{model.name}.removed")
    shutil.rmtree(removed, ignore_errors=True)
    if model.exists():
        model.rename(removed)
        shutil.rmtree(removed)


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
            sha256_of(path / name) == digest for name, digest in complete["sha256"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RrrError):
        return False


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())

