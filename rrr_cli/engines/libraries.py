"""How transformers is imported: without the packages that it would import beside, and that nothing here uses.

Reads and writes nothing. Holds for the one version of transformers that pyproject.toml names.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Imported wherever they are installed, for assisted decoding and losses of object detection: 1.2 CPU s of a start.
UNUSED = ("is_sklearn_available", "is_scipy_available")

_plans = False  # see `plan_only`


def import_transformers() -> None:
    """Import what loads a model, if it isn't imported yet, without scikit-learn and scipy; after `plan_only` what reads
    its configuration and its tokenizer, without torch."""
    if importlib.util.find_spec("transformers") is None:
        return
    if _plans and not {"transformers", "torch"} & sys.modules.keys():
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # which is that torch is missing
        with _as_if_missing("torch"):
            import transformers.utils  # noqa: F401
    from transformers import utils

    with _changed(utils, dict.fromkeys(UNUSED, lambda: False)):
        if "torch" in sys.modules or not _plans:
            from transformers import AutoModelForCausalLM, PreTrainedModel  # noqa: F401
        else:
            from transformers import AutoConfig, AutoTokenizer  # noqa: F401


def plan_only() -> None:
    """From now on this process loads no weights, as that of a --dry-run: transformers does without torch, half of the
    time of a dry run. Not for a process that goes on to something else: transformers looks for torch only once."""
    global _plans
    _plans = True


@contextmanager
def _as_if_missing(name: str) -> Iterator[None]:
    """A block in which this module, which isn't imported yet, can neither be imported nor found."""
    sys.modules[name] = None  # type: ignore[assignment]  # how Python says that there is none
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _changed(module: Any, values: dict[str, Any]) -> Iterator[None]:
    """A block in which these names of a module have other values."""
    before = {name: getattr(module, name) for name in values}
    vars(module).update(values)
    try:
        yield
    finally:
        vars(module).update(before)
