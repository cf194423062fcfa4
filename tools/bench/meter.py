"""The child's side of a benchmark: it does its work once each time it is asked, and answers with what that took.

`turn()` stands between two pieces of work: it reports the one that has ended and waits for the next word on stdin.
Where stdin ends, so does the process. Whatever else the process prints goes to stderr.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

STATUS = Path("/proc/self/status")


def cpu_seconds() -> float:
    """User and system time of this process and of the children that have ended."""
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (
        resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


class Meter:
    """Measures what happens between two calls of `turn`."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self.answers = os.fdopen(os.dup(1), "w")  # stdout belongs to the answers; prints go to stderr
        os.dup2(2, 1)
        self.extra: dict[str, Any] = {}  # goes into the next answer
        self.begun: tuple[float, float] | None = None

    def turn(self) -> None:
        """End the measurement, wait to be asked, and begin the next one."""
        if self.begun is not None:
            wait_for_gpu()
            cpu, wall = cpu_seconds() - self.begun[0], perf_counter() - self.begun[1]
            taken = {"cpu_s": cpu, "wall_s": wall, **gpu_peak(), **self.extra}
            print(json.dumps(taken), file=self.answers, flush=True)
            self.extra = {}
        if not sys.stdin.readline():
            os._exit(0)  # a trainer in the middle of its steps has no better place to stop
        gpu_peak()
        self.begun = cpu_seconds(), perf_counter()

    def repeat(self, work: Callable[[], dict[str, Any] | None]) -> None:
        """Do `work` as often as asked; what it returns goes into the answer. It never comes back."""
        while True:
            self.turn()
            self.extra = work() or {}


def wait_for_gpu() -> None:
    """Until a GPU, if this process uses one, has done what it was given: a clock then shows all of it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def gpu_peak() -> dict[str, float]:
    """The most that PyTorch has held of a GPU since the last call, if this process uses one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    peak = torch.cuda.max_memory_allocated() / 2**20
    torch.cuda.reset_peak_memory_stats()
    return {"gpu_peak_mib": peak}


def peak_mib() -> float:
    """The most memory this process has had since `forget_peak` (VmHWM). Linux only."""
    return memory("VmHWM")


def forget_peak() -> float:
    """Start to measure the peak anew; what the process has now, in MiB, without what it freed and malloc kept."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(name: str) -> float:
    """A line of /proc/self/status, in MiB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
