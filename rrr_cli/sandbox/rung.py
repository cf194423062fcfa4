"""A rung of the sandbox: one way to start a process that confines model-written code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rung:
    """How one kind of sandbox is started."""

    name: str
    prefix: tuple[str, ...]  # the command before the interpreter's; () for none
    config: dict[str, Any]  # for inside.py
