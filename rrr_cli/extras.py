"""The optional extras of the package: what a command needs beyond the core, and what to type where it is missing."""

from __future__ import annotations

import importlib.util

from rrr_cli.errors import NO_BACKEND, RrrError


def require(extra: str, *modules: str) -> None:
    """Raises RrrError (exit 4) with the line to type where a module of an optional extra isn't installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise RrrError(f"{module} is not installed; type: pip install 'rrr_cli[{extra}]'", NO_BACKEND)
