"""What a model is, by the bytes that are loaded: its fingerprint, and the hashes that a finished model carries.

Reads a model's folder: config, tokenizer, chat template, adapter, and the weights that its index names. Big files are
read once: their SHA-256 is kept in the user's cache (`hashes.json`) with path, size, times and inode, and is taken from
there only while all of these are the same. Refuses a finished model of rrr's of which a bit has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from rrr_cli.engines.hub import ADAPTER, INDEX, WHOLE
from rrr_cli.engines.model_files import weights
from rrr_cli.errors import RrrError
from rrr_cli.places import OWN

PROVENANCE = "rrr.json"  # how rrr trained a model, written beside its weights
#: The other files that transformers and PEFT load. Notes, figures and optimizers beside them change nothing.
LOADED = (
    "config.json", "generation_config.json", "adapter_config.json", "tokenizer*", "special_tokens_map.json",
    "added_tokens.json", "chat_template*", "vocab*", "merges.txt", "*.model", "*.spm", "*.tiktoken", "tekken.json",
    "bpe.codes", "normalizer.json", "additional_chat_templates/*.jinja",
)
BIG = 64 * 2**20  # bytes; smaller files are read each time
LONG = 2**30  # bytes to read that a user is told of
SETTLED = 2 * 10**9  # ns: a file that is younger may change again within one tick of the file system's clock
Stamp = list[int]


def fingerprint(folder: Path) -> str:
    """A hash of what is loaded from a model's folder: 64 hex digits. Raises RrrError (exit 3): a file can't be read.

    How the model was trained is left out: the same weights are the same model.
    """
    digest = hashlib.sha256()
    try:
        files = loaded_files(folder)
        tell_of_long(folder, files)
        for path in files:
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
            digest.update(path.read_bytes() if size < BIG else sha256_of(path).encode())
    except OSError as error:
        raise RrrError(f"{error.filename or folder} can't be read: {error.strerror}") from error
    return digest.hexdigest()


def loaded_files(folder: Path) -> list[Path]:
    """The files of a model's folder that decide what it writes, sorted. Raises OSError; RrrError: a bad index."""
    names = {path.relative_to(folder).as_posix() for pattern in LOADED for path in folder.glob(pattern)}
    return sorted(folder / name for name in names | _weights(folder) if (folder / name).is_file())


def _weights(folder: Path) -> set[str]:
    """The names of the files of weights, and of the index that says so."""
    adapter = (folder / "adapter_config.json").is_file()
    names = {path.relative_to(folder).as_posix() for path in weights(folder, adapter)}
    return names if names & {ADAPTER, WHOLE} else {INDEX, *names}


def content_of(place: Path) -> str:
    """16 hex digits: a hash of a file's bytes, or of a folder's files with their names, but for runs of rrr in it and
    what is hidden: nobody's data, and different each time. Raises RrrError (exit 3)."""
    try:
        files = [place] if place.is_file() else sorted(_files_below(place))
        tell_of_long(place, files)
        named = [f"{'' if path == place else path.relative_to(place).as_posix()}\0{sha256_of(path)}" for path in files]
    except OSError as error:
        raise RrrError(f"{error.filename or place} can't be read: {error.strerror}") from error
    return hashlib.sha256("\n".join(named).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _files_below(folder: Path) -> Iterator[Path]:
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "." and not Path(path, name, OWN).is_dir()]
        yield from (Path(path, name) for name in names if name[0] != ".")


def sealed(folder: Path, trained: dict[str, Any]) -> dict[str, Any]:
    """`trained` as the content of rrr.json, with the hashes of the folder's files and of itself. Raises OSError."""
    hashes = {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    content: dict[str, Any] = json.loads(json.dumps(trained | {"sha256": hashes}, default=str))
    return content | {"digest": _digest(content)}


def provenance(folder: Path) -> dict[str, Any]:
    """How rrr trained a finished model: the content of rrr.json; {} where the folder comes from elsewhere. Raises
    RrrError (exit 3): damaged."""
    path = folder / PROVENANCE
    try:
        content = json.loads(path.read_bytes())
        rest = {name: value for name, value in content.items() if name != "digest"}
        intact = content.get("digest") == _digest(rest) if "sha256" in rest else "digest" not in content  # an older rrr
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise RrrError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise RrrError(f"{path} is damaged: copy the model again, or train it again into another folder")
    return dict(content)


def check_finished(folder: Path) -> None:
    """Raise RrrError (exit 3) where a file isn't as rrr wrote it. A model without hashes, or of others, passes."""
    for name, digest in provenance(folder).get("sha256", {}).items():
        path = folder / name
        try:
            intact = sha256_of(path) == digest
        except FileNotFoundError:
            raise RrrError(f"{path} is missing: copy the model again, or train it again") from None
        except OSError as error:
            raise RrrError(f"{path} can't be read: {error.strerror}") from error
        if not intact:
            raise RrrError(f"{path} isn't as rrr wrote it: it is damaged (copy the model again, or train it again), or "
                           f"was edited (if you did that on purpose, delete {PROVENANCE} beside it)")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hex: that of a big file from the cache, while it is the same file. Raises OSError."""
    stamp = _stamp(path)
    if stamp[0] < BIG:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    key = str(path.resolve())
    if (known := _known().get(key)) is not None and known[0] == stamp:
        return str(known[1])
    begun = time.time_ns()
    with path.open("rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if _stamp(path) == stamp and all(moment < begun - SETTLED for moment in stamp[1:3]):
        _remember(key, stamp, digest)
    return digest


def tell_of_long(folder: Path, files: Iterable[Path]) -> None:
    """Say on stderr that files are read whole before they are loaded, where that takes long and is done once."""
    known = _known()
    new = [s[0] for path in files if (s := _stamp(path))[0] >= BIG and known.get(str(path.resolve()), [None])[0] != s]
    if sum(new) > LONG:
        print(f"rrr: hashing the {sum(new) / 2**30:.1f} GiB of {folder}, once", file=sys.stderr)


def cache_folder() -> Path:
    """The folder of what rrr can make or fetch again: RRR_CACHE, else rrr in XDG_CACHE_HOME, else in ~/.cache."""
    own, users = os.environ.get("RRR_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(users) if users else Path.home() / ".cache") / "rrr"


def _stamp(path: Path) -> Stamp:
    """Size, both times in ns, inode and device: the time of change can't be set back, as that of the content can."""
    about = path.stat()
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_dev]


def _known() -> dict[str, Any]:
    """path -> [stamp, SHA-256]; empty where there is no cache that can be read."""
    try:
        content = json.loads((cache_folder() / "hashes.json").read_bytes())
        return {
            path: entry for path, entry in content.items()
            if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str) and len(entry[1]) == 64
        }
    except (OSError, RuntimeError, ValueError, AttributeError, RecursionError):  # RuntimeError: no home
        return {}


def _remember(key: str, stamp: Stamp, digest: str) -> None:
    """Write one hash into the cache, and leave out the files that are gone. A cache that takes none is no error."""
    known = {path: entry for path, entry in _known().items() if os.path.exists(path)} | {key: [stamp, digest]}
    with suppress(OSError, RuntimeError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(dir=folder, prefix=".hashes-")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(known, file)
            os.replace(unfinished, folder / "hashes.json")
        except OSError:
            os.unlink(unfinished)
            raise


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
