"""The border to what others wrote: what they raise while a model loads, or leave unloaded, is one line with its cure.

Reads and writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rrr_cli.errors import BAD_INPUT, NO_BACKEND, RrrError

LONGEST = 300  # characters of another library's message
MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")

# Buffers that older checkpoints hold and the model computes by itself; each class of transformers knows its others.
COMPUTED = re.compile(r"(rotary_emb\.inv_freq|position_ids|\.(attn|attention)\.(masked_)?bias)$")
DAMAGED = "fetch or save it again, as a model in Hugging Face format with this config.json"


@contextmanager
def loading(what: str, cure: str = "", package: str = "") -> Iterator[None]:
    """Raise RrrError for anything that is raised inside: a missing package or server is exit 4, the rest 3.

    `what` failed begins the line, `cure` ends it where the error itself doesn't tell one, `package` is what to install
    where an ImportError doesn't name it.
    """
    try:
        yield
    except (RrrError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # libraries in Rust raise a PanicException, which is no Exception
        raise refusal(what, error, cure, package) from None


def refusal(what: str, error: BaseException, cure: str, package: str) -> RrrError:
    """The line for one error."""
    words = said(error)
    if is_memory(error):
        return RrrError(f"{what}: there isn't enough memory ({words}); choose a smaller --model, --dtype bfloat16, or "
                        "a --device with more")
    if isinstance(error, ImportError):
        package = package or error.name or ""
        cure = f"type: pip install {package}" if package and "pip install" not in words else ""
        words = f"a package is missing: {words}"
    code = NO_BACKEND if isinstance(error, ImportError | ConnectionError) else BAD_INPUT
    return RrrError(f"{what} ({words}){'; ' * bool(cure)}{cure}", code)


def whole() -> str:
    """What to look at where transformers' own words don't tell."""
    from transformers import __version__

    return f"is it whole, and of a kind that transformers {__version__} knows?"


def said(error: BaseException) -> str:
    """An error's kind and its words, on one line."""
    words = " ".join(str(error).split())
    words = words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a device."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(sign in words for sign in MEMORY))


def check_loaded(info: Mapping[str, Iterable[Any]], folder: Path, cure: str = DAMAGED) -> None:
    """Raise RrrError (exit 3) where the loading info of transformers or PEFT names tensors that aren't `COMPUTED`."""
    wrong = []
    for kind, words in (("missing_keys", "aren't in its files"), ("unexpected_keys", "are unknown to its model"),
                        ("mismatched_keys", "have another shape")):
        names = sorted(str(k[0] if isinstance(k, tuple) else k) for k in info.get(kind, ()))
        names = [name for name in names if not COMPUTED.search(name)]
        if names:
            first = ", ".join(names[:2]) + (", …" if len(names) > 2 else "")
            wrong.append(f"{len(names)} tensors {words} ({first})")
    if wrong:
        raise RrrError(f"{folder}: its weights don't all load: {' and '.join(wrong)}; {cure}")
