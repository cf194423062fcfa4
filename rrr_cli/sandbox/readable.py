"""What a program in the sandbox may read, on every rung: the standard library, and a few installed packages.

Looks packages up without importing them; writes nothing. Nothing else of where packages are installed is there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import sysconfig
from functools import lru_cache

#: Packages that a usual answer imports, with what they need; those that are installed here can be imported there.
PACKAGES = ("numpy", "scipy", "pandas", "sympy", "networkx", "sortedcontainers", "regex", "mpmath", "dateutil", "pytz",
            "tzdata", "six")


def readable() -> list[str]:
    """The interpreter's own folders: its library and what its binary is linked with."""
    paths = sysconfig.get_paths()
    folders = [paths["stdlib"], paths["platstdlib"], f"{sys.base_prefix}/lib", sysconfig.get_config_var("LIBDIR") or ""]
    return list(dict.fromkeys(os.path.realpath(folder) for folder in folders if os.path.isdir(folder)))


def libraries() -> list[str]:
    """The system's shared libraries, and the time zones."""
    return ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo"]


@lru_cache(maxsize=1)
def packages() -> dict[str, str]:
    """The file that defines each of the `PACKAGES` that are installed."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)
            if spec and spec.origin and spec.origin.endswith(".py"):
                found[name] = os.path.realpath(spec.origin)
    return found


def read_only() -> list[str]:
    """All files and folders that a program may read: no other package than the `packages` is among them."""
    folders = [file.removesuffix("/__init__.py") for file in packages().values()]
    linked = [f"{folder}.libs" for folder in folders if os.path.isdir(f"{folder}.libs")]
    return list(dict.fromkeys([*libraries(), *readable(), *folders, *linked]))
