"""Whether a model's folder is whole, before anything is loaded from it.

Reads the beginning of its files, and its small JSON files entirely. Refuses pointers of git-lfs, weights that are cut,
missing or in another format than safetensors, and JSON that is cut.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rrr_cli.engines.hub import ADAPTER, INDEX, WHOLE
from rrr_cli.errors import RrrError

READ = {".json", ".jinja", ".model", ".txt"}
JSON_OBJECTS = (
    "config.json", "generation_config.json", "adapter_config.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", INDEX,
)
LONGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


def check(folder: Path, config: str) -> Path:
    """`folder`, which is whole. `config` says what kind it is of: config.json, or adapter_config.json.

    Raises RrrError (exit 3): see the module.
    """
    if not (folder / config).is_file():
        raise RrrError(f"{folder} is not a model folder: it has no {config}; name a folder in Hugging Face format")
    try:
        for path in folder.iterdir():
            if path.suffix in READ and path.is_file():
                check_pointer(path)
        for name in JSON_OBJECTS:
            if (folder / name).is_file():
                json_object(folder / name)
        for path in weights(folder, adapter=config == "adapter_config.json"):
            check_pointer(path)
            check_whole(path)
    except OSError as error:
        raise RrrError(f"{error.filename or folder} can't be read: {error.strerror or error}") from None
    return folder


def weights(folder: Path, adapter: bool = False) -> list[Path]:
    """The files that hold the weights, which are all there: as transformers chooses, one, else those of the index.
    Raises RrrError (exit 3) if one isn't."""
    if not any(folder.glob("*.safetensors")):
        raise RrrError(f"{folder} has no *.safetensors; other weight formats can run code and aren't loaded")
    one = folder / (ADAPTER if adapter else WHOLE)
    if one.is_file():
        return [one]
    if adapter or not (folder / INDEX).is_file():
        wanted = one.name if adapter else f"{WHOLE} or {INDEX}"
        raise RrrError(f"{folder} has no {wanted}: fetch it too")
    named = json_object(folder / INDEX).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise RrrError(f"{folder / INDEX} names no files (weight_map): fetch it again")
    names = sorted({str(name) for name in named.values()})
    if outside := next((name for name in names if Path(name).name != name), None):
        raise RrrError(f"{folder / INDEX} names {outside}, which isn't a file of its folder: fetch it again")
    paths = [folder / name for name in names]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise RrrError(f"{folder} lacks {missing[0]} ({len(missing)} of the {len(paths)} files that {INDEX} names "
                       "aren't there): fetch the rest")
    return paths


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises RrrError (exit 3): it is cut, a pointer, or something else."""
    check_pointer(path)
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RrrError(f"{path} is not whole JSON ({error}): fetch it again") from None
    if not isinstance(value, dict):
        raise RrrError(f"{path} is not a JSON object: fetch it again")
    return value


def check_pointer(path: Path) -> None:
    """Raise RrrError (exit 3) if git-lfs has left its pointer in place of the file."""
    with path.open("rb") as file:
        start = file.read(200)
    if start.startswith(b"version http") and b"\noid sha256:" in start:
        raise RrrError(f"{path} is a pointer of git-lfs, not the file itself. Type: git -C {path.parent} lfs pull")


def check_whole(path: Path) -> None:
    """Raise RrrError (exit 3) unless a safetensors file is exactly as long as its header says."""
    length, tensors = header(path)
    try:
        whole = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        size = path.stat().st_size
    except (KeyError, IndexError, TypeError):
        raise RrrError(f"{path} is not a safetensors file, or is damaged; fetch it again") from None
    if size != whole:
        raise RrrError(f"{path} is {'cut' if size < whole else 'longer than it should be'}: it has {size} bytes, and "
                       f"its header says {whole}; fetch it again")


def header(path: Path) -> tuple[int, dict[str, Any]]:
    """(bytes of the header, name -> dtype, shape and place of every tensor) of a safetensors file. Raises RrrError
    (exit 3): cut, or something else."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or (length > size - 8 and length <= LONGEST_HEADER):
            raise RrrError(f"{path} is cut: it has {size} bytes, less than its header; fetch it again")
        try:
            tensors = dict(json.loads(file.read(length) if length <= LONGEST_HEADER else b""))
        except (ValueError, RecursionError, TypeError):
            raise RrrError(f"{path} is not a safetensors file, or is damaged; fetch it again") from None
    return length, {name: tensor for name, tensor in tensors.items() if name != "__metadata__"}
