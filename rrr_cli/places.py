"""Names and places that a user types: the folder of a run, the name of a model, the path of a file.

Looks at folders; writes nothing. Refuses what isn't on this machine's disks, and a name that leads elsewhere.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from rrr_cli.errors import USAGE, RrrError

REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib leaves one slash of s3://
LONGEST_NAME = 100  # characters; file systems take 255 bytes
PARTS = "part-*.parquet"
OWN = ".rrr"  # the folder of a run for what isn't data


def check_local(path: Path, flag: str) -> None:
    """Raise RrrError (exit 2) for the address of an object store or a server, and for a home folder left as ~."""
    if str(path).startswith("~"):
        raise RrrError(f"{flag} {path}: your shell left the ~ as it is, as after an = sign: write the folder out, such "
                       f"as {flag} $HOME/runs/a", USAGE)
    if REMOTE.match(str(path)):
        address = str(path).replace(":/", "://", 1)
        raise RrrError(f"{flag} {address} is an address, and rrr reads and writes folders of this machine only: name "
                       "one, and copy it there afterwards", USAGE)


def check_run(path: Path, flag: str = "--run") -> None:
    """Raise RrrError (exit 2) for a folder that no new run may be written into: an address; a name that can't be
    printed; an empty path, `.`, `..` or `/`, unless a run is there already."""
    check_local(path, flag)
    if not str(path).isprintable():
        raise RrrError(f"{flag} {str(path)!r}: it has characters that can't be printed; name another folder", USAGE)
    if path.name.strip() in ("", "..") and not any(path.glob(f"*/{PARTS}")):
        raise RrrError(f"{flag} {path}: a run has a folder of its own; name one, such as runs/default", USAGE)


def check_name(name: str, flag: str) -> None:
    """Raise RrrError (exit 2) unless `name` is a plain name of a folder under models/."""
    if (not name.strip() or name != name.strip() or name[0] in ".-" or not name.isprintable() or set("/\\") & set(name)
            or len(name) > LONGEST_NAME or name.endswith("-checkpoints")):
        raise RrrError(
            f"{flag} {name[:LONGEST_NAME]!r}: it is the name of a folder under models/: letters and digits, such as "
            "agent-2, without a slash, a dot or dash before it, or -checkpoints after it", USAGE)


def tidy(text: str) -> str:
    """One spelling for a path however it is typed: from the current folder where it lies inside, else absolute. It may
    end in `:Class` after a Python file. Whatever isn't there, or isn't a path, stays."""
    path, colon, name = text.rpartition(":") if ".py:" in text else (text, "", "")
    place = Path(os.path.expanduser(path))
    if os.sep not in path or not place.exists():
        return text
    whole, here = place.resolve() if ".." in place.parts else place.absolute(), Path.cwd()
    if not whole.is_relative_to(here):
        return f"{whole}{colon}{name}"
    inner = whole.relative_to(here)
    # A folder without a slash could be taken for a model that has a name in rrr.
    return f"{'./' if whole.is_dir() and len(inner.parts) == 1 else ''}{inner}{colon}{name}"
