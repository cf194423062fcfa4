"""How transformers is imported: without other packages that it would import beside, and that nothing here uses.

Reads and writes nothing. What is hidden is hidden while transformers is imported, and for nobody else.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_plans = False  # see `plan_only`


def import_transformers() -> None:
    """Import what loads a model, if it isn't imported yet.

    Without scikit-learn and scipy, which transformers imports wherever they are installed, for a way of assisted
    decoding and losses of object detection: a fifth of a stage's start. After `plan_only` without torch too.
    """
    if importlib.util.find_spec("transformers") is None:
        return
    if _plans and "transformers" not in sys.modules and "torch" not in sys.modules:
        with _hidden("sklearn", "torch"), _quiet():
            from transformers import AutoConfig, AutoTokenizer  # noqa: F401
    elif not _plans or "torch" in sys.modules:
        with _hidden("sklearn", "scipy"):
            from transformers import AutoModelForCausalLM, PreTrainedModel  # noqa: F401


def plan_only() -> None:
    """From now on this process loads no weights, as that of a --dry-run: it gets transformers' tokenizers and
    configurations without torch, unless that is imported already."""
    global _plans
    _plans = True


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """A block in which these modules can't be imported, nor found; those that are imported already stay."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type]  # None: how Python says that there is none
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _quiet() -> Iterator[None]:
    """A block in which transformers doesn't print that torch is missing."""
    name = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
