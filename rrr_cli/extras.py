"""The optional extras of the package: refuses to run without a module, and says what to type."""

from __future__ import annotations

import importlib.util

from rrr_cli.errors import NO_BACKEND, RrrError


def require_training() -> None:
    """As `require`, for what every training loads."""
    require("train", "torch", "transformers", "trl", "peft", "datasets", "accelerate")


def require(extra: str, *modules: str) -> None:
    """Raise RrrError (exit 4), which says what to type, if a module of the extra isn't installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise RrrError(f"{module} is not installed; type: pip install 'rrr_cli[{extra}]'", NO_BACKEND)
