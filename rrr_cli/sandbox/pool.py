"""Workers that keep a warm interpreter in the sandbox, and the pool that spreads jobs over them.

A worker is a process of `inside.py` on one rung of the ladder; it forks a child for each job. Workers are started when
first needed, one a CPU, and end with this process. Nothing is written.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rrr_cli.sandbox.rung import Rung

INSIDE = Path(__file__).with_name("inside.py")
START_SECONDS, GRACE_SECONDS = 30, 10
MAX_REPLY = 1 << 20
STATUSES = ("done", "syntax", "raised", "timeout", "resources", "ended")


@dataclass(frozen=True)
class Job:
    """A program and the expressions to evaluate after it."""

    before: str  # runs first: imports
    code: str  # model-written
    after: str  # runs last: what the expressions need
    expressions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Other:
    """Stands for a value of any type but the plain built-in ones. Equal to nothing else."""

    type_name: str

    def __repr__(self) -> str:
        return f"<{self.type_name} object>"


@dataclass(frozen=True)
class Outcome:
    """The result of a job.

    `status`: done (every expression has a value), syntax (the code doesn't parse), raised (an exception; `message`),
    timeout, resources (memory, too much output, or a crash of the interpreter), ended (the program ended itself).
    """

    status: str
    loaded: bool  # the code itself ran to its end; if the job failed, at the expression after the last value
    values: tuple[object, ...]  # plain data, copied; `Other` for anything else
    message: str


class Worker:
    """One warm sandbox. Raises OSError if it doesn't start or answer, which says nothing about the job."""

    def __init__(self, rung: Rung) -> None:
        self.seconds = rung.config["seconds"]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the worker
        command = [*rung.prefix, os.path.realpath(sys.executable), "-P", "-s", "-S", "-B", "-c", INSIDE.read_text()]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0, cwd="/",
            env={"PYTHONHASHSEED": "0"}, start_new_session=True,
        )
        self.spent = False
        try:
            self._exchange(rung.config, START_SECONDS)
        except OSError as error:
            self._errors.seek(0)
            lines = self._errors.read(2000).decode(errors="replace").strip().splitlines()
            self.close()
            raise OSError(lines[-1][:200] if lines else str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, job: Job) -> Outcome:
        """Run one job, for at most six times `seconds`. Raises OSError: the sandbox doesn't answer."""
        try:
            reply = self._exchange(vars(job), 6 * self.seconds + GRACE_SECONDS)
        except BaseException:
            self.close()
            raise
        self.spent = reply.get("spent") is not False
        if reply.get("status") == "unconfined":
            raise OSError("a child could not be confined")
        return outcome(reply, len(job.expressions))

    def close(self) -> None:
        """Kill the worker and every process that it started."""
        self.spent = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            if file:
                file.close()

    def _exchange(self, value: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        frame = json.dumps(value).encode()
        data = memoryview(struct.pack(">I", len(frame)) + frame)
        while data:
            data = data[self._process.stdin.write(data):]
        deadline = time.monotonic() + seconds
        fd = self._process.stdout.fileno()
        size = struct.unpack(">I", _read(fd, 4, deadline))[0]
        if size > MAX_REPLY:
            raise OSError("the sandbox's answer is too long")
        try:
            reply = json.loads(_read(fd, size, deadline))
        except (ValueError, RecursionError):
            raise OSError("the sandbox's answer can't be read") from None
        if not isinstance(reply, dict):
            raise OSError("the sandbox's answer can't be read")
        return reply


class Pool:
    """Workers of one rung, at most one a CPU, and a thread for each that waits on it."""

    def __init__(self, rung: Rung, workers: int | None = None) -> None:
        self.rung = rung
        count = workers or os.cpu_count() or 1
        self._workers: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for _ in range(count):
            self._workers.put(None)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="sandbox")

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """The outcomes of `jobs`, in their order. Raises OSError: the sandbox doesn't work any more."""
        return list(self._threads.map(self._run, jobs))

    def close(self) -> None:
        """End the threads, then the workers."""
        self._threads.shutdown(cancel_futures=True)
        while not self._workers.empty():
            worker = self._workers.get()
            if worker:
                worker.close()

    def _run(self, job: Job) -> Outcome:
        worker = self._workers.get()
        try:
            try:
                worker = worker or Worker(self.rung)
                return worker.run(job)
            except OSError:  # killed from outside, which a job can't do: it gets one new worker
                worker = Worker(self.rung)
                return worker.run(job)
        finally:
            if worker and worker.spent:
                worker.close()
                worker = None
            self._workers.put(worker)


_lock = threading.Lock()
_pools: dict[tuple[str, int], Pool] = {}


def shared_pool(rung: Rung) -> Pool:
    """This process's pool of `rung`; a forked process gets its own."""
    with _lock:
        key = (rung.name, os.getpid())
        if key not in _pools:
            _pools[key] = Pool(rung)
            atexit.register(_pools[key].close)
        return _pools[key]


def outcome(reply: dict[str, Any], expressions: int) -> Outcome:
    """A reply as an Outcome. Hostile code may have written the reply: a malformed one counts as ended."""
    status, values, message = reply.get("status"), reply.get("values", []), reply.get("message", "")
    try:
        decoded = tuple(decode(tree) for tree in values)
        sound = status in STATUSES and isinstance(message, str) and len(decoded) <= expressions
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
        sound = False
    if not sound or (status == "done" and len(decoded) != expressions):
        return Outcome("ended", False, (), "")
    return Outcome(str(status), reply.get("loaded") is True, decoded, message)


def decode(tree: Any) -> object:
    """The value of a tree of `inside.encode`. Raises ValueError and the like for anything else."""
    kind, content = tree[0], tree[1]
    match kind:
        case "constant" if content is None or content is True or content is False:
            return content
        case "int":
            return int(content, 16)
        case "float":
            return float.fromhex(content)
        case "complex":
            return complex(float.fromhex(content), float.fromhex(tree[2]))
        case "str" if isinstance(content, str):
            return content
        case "bytes":
            return bytes.fromhex(content)
        case "list":
            return [decode(item) for item in content]
        case "tuple":
            return tuple(decode(item) for item in content)
        case "set":
            return {decode(item) for item in content}
        case "frozenset":
            return frozenset(decode(item) for item in content)
        case "dict":
            return {decode(key): decode(value) for key, value in content}
        case "object" if isinstance(content, str):
            return Other(content)
    raise ValueError(kind)


def _read(fd: int, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            raise TimeoutError("the sandbox doesn't answer")
        piece = os.read(fd, size - len(data))
        if not piece:
            raise OSError("the sandbox has ended")
        data += piece
    return data
