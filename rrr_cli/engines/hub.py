"""A model from the Hugging Face hub: which of its files are fetched, and what each refusal of the hub means.

Writes into the hub's cache, or reads it where the hub can't be reached. Weights are fetched once: the files that the
index names, or the one file. Sub-folders (other formats, the original weights) stay on the hub.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rrr_cli.errors import BAD_INPUT, NO_BACKEND, RrrError
from rrr_cli.extras import require

TEXT_FILES = ["*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"]
SUB_FOLDERS = "*/*"
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # a cache that is full, or not to be written
ADAPTER, WHOLE, INDEX = "adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json"


def fetched(repo: str) -> Path:
    """The folder of a hub id in the cache. Raises RrrError (exit 3, or 4 where the hub doesn't answer)."""
    require("train", "huggingface_hub")
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repo, allow_patterns=TEXT_FILES, ignore_patterns=SUB_FOLDERS))
        names = weight_names(folder)
        if not all((folder / name).is_file() for name in names):
            snapshot_download(repo, revision=folder.name, allow_patterns=names, ignore_patterns=SUB_FOLDERS)
    except Exception as error:
        raise refusal(repo, error) from None
    return folder


def weight_names(folder: Path) -> list[str]:
    """The names, or patterns, of the weights that belong to a folder's other files."""
    if (folder / "adapter_config.json").is_file():
        return [ADAPTER]
    try:
        named = json.loads((folder / INDEX).read_bytes())["weight_map"].values()
        return sorted({str(name) for name in named})
    except FileNotFoundError:
        return [WHOLE]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ["model-*-of-*.safetensors"]  # an index that can't be read is refused once it lies here


def refusal(repo: str, error: Exception) -> RrrError:
    """What the hub, or the way to it, said, as one line with its cure."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    status, words = answer(error)
    if isinstance(error, HFValidationError):
        return RrrError(f"--model {repo}: no folder of that name, and no hub id looks like this; check the path")
    if isinstance(error, GatedRepoError):
        return RrrError(
            f"--model {repo}: access to it is restricted: accept its licence at {page(repo)}, then type: hf auth login")
    if status == 401 and any(word in words.lower() for word in ("credential", "token")):
        return RrrError(f"--model {repo}: the hub refuses your token (401: {words}): type hf auth login, or unset "
                        "HF_TOKEN where it holds an old one")
    if isinstance(error, RepositoryNotFoundError):
        return RrrError(
            f"--model {repo}: no folder of that name, and not found on the hub; check the path or the hub id, or type "
            "hf auth login if it is private and your token may read it")
    if status == 403:
        return RrrError(f"--model {repo}: the hub refuses access (403{': ' * bool(words)}{words}): ask for it at "
                        f"{page(repo)}, or type hf auth login with a token that may read it")
    return unanswered(repo, error, status)


def unanswered(repo: str, error: Exception, status: int | None) -> RrrError:
    """The refusals that aren't about the model: a hub that is busy, down, too far or switched off, and a full disk."""
    if status == 429:
        return RrrError(f"--model {repo}: too many requests to the hub (429): type the same later, or hf auth login "
                        "for a higher limit", NO_BACKEND)
    if status is not None and status >= 500:
        return RrrError(f"--model {repo}: the hub doesn't answer as it should ({status}): type the same later, or set "
                        "HF_ENDPOINT to a mirror", NO_BACKEND)
    if any("Offline" in type(one).__name__ for one in chain(error)):
        return RrrError(f"--model {repo}: no folder of that name, and not found whole in the hub's cache "
                        "(HF_HUB_OFFLINE is set); check the path, unset HF_HUB_OFFLINE, or type --model tiny")
    full = next((e for e in chain(error) if isinstance(e, OSError) and e.errno in DISK), None)
    if full is not None:
        return RrrError(f"--model {repo}: the hub's cache can't be written ({full.strerror}): make room, or set "
                        "HF_HOME to another folder")
    why = f"{type(error).__name__}: " + " ".join(str(list(chain(error))[-1]).split())[:160]
    code = BAD_INPUT if status else NO_BACKEND
    return RrrError(f"--model {repo}: no folder of that name, and the hub can't give it ({why}): check the hub id and "
                    "the network, or set HF_ENDPOINT to a mirror", code)


def answer(error: Exception) -> tuple[int | None, str]:
    """The HTTP status and the hub's own words, (None, "") where there was no answer."""
    for one in chain(error):
        response: Any = getattr(one, "response", None)
        if response is not None:
            return int(response.status_code), " ".join(str(response.headers.get("X-Error-Message", "")).split())[:160]
    return None, ""


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def page(repo: str) -> str:
    """The model's page on the hub that is used."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repo}"
