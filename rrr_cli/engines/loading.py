"""The border to what others wrote: whatever they raise while a model loads becomes one line with its cure.

Reads and writes nothing. Also: which devices are here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rrr_cli.errors import BAD_INPUT, NO_BACKEND, USAGE, RrrError

LONGEST = 300  # characters of another library's message
MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


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


def chosen_device(device: str) -> str:
    """The name of a device that is here; auto is the GPU if there is one. Raises RrrError (exit 2) for any other."""
    import torch

    gpu = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if gpu else "cpu"
    here = ["cpu", *devices()]
    if device not in here and device != "cpu:0":
        raise RrrError(f"--device {device}: torch has no such device here; use --device auto, or one of "
                       f"{', '.join(here)}", USAGE)
    return device


def devices() -> list[str]:
    """The names of this machine's accelerator and of each device of it: cuda, cuda:0, …"""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return []
    kind = accelerator.type
    return [kind, *(f"{kind}:{i}" for i in range(torch.accelerator.device_count()))]
