"""Engines by name: transformers, vllm, openai (a server), and scripted (for tests; it is no model)."""

from __future__ import annotations

import importlib
from typing import Any

from rrr_cli.engines.base import Engine
from rrr_cli.errors import USAGE, RrrError

ENGINES = {
    "transformers": "rrr_cli.engines.transformers:TransformersEngine",
    "vllm": "rrr_cli.engines.vllm:VllmEngine",
    "openai": "rrr_cli.engines.openai:OpenaiEngine",
    "scripted": "rrr_cli.engines.scripted:ScriptedEngine",
}


def load_engine(name: str, model: str, *, dtype: str = "auto", device: str = "auto", batch_size: int = 256,
                max_model_len: int | None = None, base_url: str | None = None, concurrency: int = 32,
                api_key_env: str = "OPENAI_API_KEY") -> Engine:
    """Engine `name` with `model`: a model as `resolve` takes it, or (openai) the name that a server knows it by.

    The last three options are a server's. Raises RrrError: unknown engine, or an option that isn't for it (exit 2),
    model not found (3), extra not installed or no server (4).
    """
    if name not in ENGINES:
        raise RrrError(f"--engine {name}: no such engine. Known: {', '.join(ENGINES)}", USAGE)
    module_name, _, attribute = ENGINES[name].partition(":")
    cls: Any = getattr(importlib.import_module(module_name), attribute)
    if name == "openai":
        if dtype != "auto" or max_model_len is not None:
            raise RrrError("--dtype and --max-model-len are the server's own: leave them out", USAGE)
        return cls(model, base_url=base_url, concurrency=concurrency, api_key_env=api_key_env)  # type: ignore[no-any-return]
    return cls(model, dtype=dtype, device=device, batch_size=batch_size, max_model_len=max_model_len)  # type: ignore[no-any-return]


def model_fingerprint(name: str, model: str, base_url: str | None = None) -> str:
    """What `load_engine(name, model).fingerprint` will be, without loading the model. Raises RrrError (exit 2, 3)."""
    if name == "openai":
        from rrr_cli.engines.openai import fingerprint

        return fingerprint(base_url, model)
    if name == "scripted":
        from rrr_cli.engines.scripted import ScriptedEngine

        return ScriptedEngine(model).fingerprint
    from rrr_cli.engines.models import resolve

    return resolve(model).fingerprint
