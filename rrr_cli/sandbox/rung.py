"""What a rung of the sandbox is: one way to start a process that holds model-written code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rung:
    """How one kind of sandbox is started."""

    name: str
    prefix: tuple[str, ...]  # the command that the interpreter's is appended to
    config: dict[str, Any]  # for inside.py
