"""Engines by name: one file and one line here, an entry point in group `rrr.engines`, or `--engine file.py:Class`."""

from __future__ import annotations

import inspect
from typing import Any

from rrr_cli.engines.base import Engine
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.plugs import blame, find

ENGINES = {
    "transformers": "rrr_cli.engines.transformers:TransformersEngine",
    "vllm": "rrr_cli.engines.vllm:VllmEngine",
    "openai": "rrr_cli.engines.openai:OpenaiEngine",
    "scripted": "rrr_cli.engines.scripted:ScriptedEngine",
}


def engine_class(name: str) -> Any:
    """The class of engine `name`. Raises RrrError (exit 2): no such engine, or a class that isn't one."""
    cls = find("engine", name, ENGINES).cls
    missing = [part for part in ("name", "fingerprint_of", "generate", "close") if not hasattr(cls, part)]
    if missing:
        raise RrrError(
            f"--engine {name}: {cls.__name__} has no {', '.join(missing)} (see NamedEngine in rrr_cli/engines/base.py)",
            USAGE)
    return cls


def takes(cls: Any) -> set[str]:
    """The names of the engine options that a class's constructor accepts; a user who gives another one is refused."""
    return {p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY}


def load_engine(name: str, model: str, **options: Any) -> Engine:
    """Engine `name` with `model`: a model as `resolve` takes it, or (openai) the name that a server knows it by.

    `options` are those of `takes`. Raises RrrError: unknown engine (exit 2), model not found (3), extra not
    installed or no server (4).
    """
    cls = engine_class(name)
    with blame("engine", cls, "its constructor"):
        engine: Engine = cls(model, **options)
    return engine
