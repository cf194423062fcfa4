"""Engines by name: transformers, vllm, and scripted (for tests; it is no model)."""

from __future__ import annotations

import importlib
from typing import Any

from rrr_cli.engines.base import Engine
from rrr_cli.errors import USAGE, RrrError

ENGINES = {
    "transformers": "rrr_cli.engines.transformers:TransformersEngine",
    "vllm": "rrr_cli.engines.vllm:VllmEngine",
    "scripted": "rrr_cli.engines.scripted:ScriptedEngine",
}


def load_engine(name: str, model: str, *, dtype: str = "auto", device: str = "auto", batch_size: int = 256,
                max_model_len: int | None = None) -> Engine:
    """Engine `name` with `model`: "tiny" (embedded), a folder (full model or LoRA adapter), or a hub id.

    Raises RrrError: unknown engine (exit 2), model not found (3), extra not installed (4).
    """
    if name not in ENGINES:
        raise RrrError(f"--engine {name}: no such engine. Known: {', '.join(ENGINES)}", USAGE)
    module_name, _, attribute = ENGINES[name].partition(":")
    cls: Any = getattr(importlib.import_module(module_name), attribute)
    return cls(model, dtype=dtype, device=device, batch_size=batch_size, max_model_len=max_model_len)  # type: ignore[no-any-return]


def model_fingerprint(name: str, model: str) -> str:
    """What `load_engine(name, model).fingerprint` will be, without loading the model. Raises RrrError (exit 3)."""
    if name == "scripted":
        from rrr_cli.engines.scripted import ScriptedEngine

        return ScriptedEngine(model).fingerprint
    from rrr_cli.engines.models import resolve

    return resolve(model).fingerprint
