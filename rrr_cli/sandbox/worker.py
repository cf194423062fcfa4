"""A worker: one process of `inside.py` on one rung of the ladder. Jobs in, outcomes out, one process for each job.

The worker forks a child for each job. The job's text goes to the child alone, through pipes made for it: the worker
itself only hears that a job begins and ends. Nothing is written.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rrr_cli.sandbox import values
from rrr_cli.sandbox.rung import Rung

INSIDE = Path(__file__).with_name("inside.py")
START_SECONDS, GRACE_SECONDS = 30, 10
MAX_REPLY = 1 << 17  # bytes: trees of 64 KB, and what JSON adds to them
STATUSES = ("done", "syntax", "raised", "timeout", "resources", "ended")


@dataclass(frozen=True)
class Job:
    """A program and the expressions to evaluate after it."""

    before: str  # runs first: imports
    code: str  # model-written
    after: str  # runs last: what the expressions need
    expressions: tuple[str, ...]
    hidden: tuple[str, ...] = ()  # evaluated after them: the program gets them when their values are out of its hands


@dataclass(frozen=True)
class Outcome:
    """The result of a job.

    `status`: done (every expression has a value), syntax (the code doesn't parse), raised (an exception; `message`),
    timeout, resources (memory, too much output, or a crash of the interpreter), ended (the program ended itself).
    """

    status: str
    loaded: bool  # the code itself ran to its end; if the job failed, at the expression after the last value
    values: tuple[object, ...]  # plain data, copied; `Other` for anything else
    message: str  # "" where a hidden expression raised: the program may have written it there


class Worker:
    """One warm sandbox. Raises OSError if it doesn't start or answer, which says nothing about the job."""

    def __init__(self, rung: Rung) -> None:
        self.seconds = rung.config["seconds"]
        self.spent = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the worker
        self._socket, inner = socket.socketpair()
        command = [*rung.prefix, os.path.realpath(sys.executable), "-P", "-s", "-S", "-B", "-c", INSIDE.read_text()]
        with inner:
            self._process = subprocess.Popen(
                command, stdin=inner.fileno(), stdout=subprocess.DEVNULL, stderr=self._errors, cwd="/",
                env={"PYTHONHASHSEED": "0"}, start_new_session=True,
            )
        try:
            config = rung.config | {"values": Path(values.__file__).read_text()}
            _write(self._socket.fileno(), config)
            _Reader(self._socket.fileno(), time.monotonic() + START_SECONDS).frame()
        except (OSError, EOFError) as error:
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
        deadline = time.monotonic() + 6 * self.seconds + GRACE_SECONDS
        try:
            with _Child(self._socket, deadline) as child:
                outcome = child.outcome(job)
            self._socket.send(b"k")
            report = _Reader(self._socket.fileno(), deadline).frame()
            self.spent = report["spent"]
            if report["status"] == "unconfined":
                raise OSError("a child could not be confined")
        except BaseException as error:
            self.close()
            if isinstance(error, EOFError):
                raise OSError(str(error)) from None
            raise
        return outcome or Outcome(report["status"], child.loaded, child.values, "")

    def kill(self) -> None:
        """Kill the worker and every process that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """The same, and clear away what was kept for it."""
        self.spent = True
        self.kill()
        self._process.wait()
        self._socket.close()
        self._errors.close()


class _Child:
    """The pipes to and from the child of one job, and what has come of it so far."""

    def __init__(self, worker: socket.socket, deadline: float) -> None:
        self.loaded, self.values = False, tuple[object, ...]()
        requests, self.requests = os.pipe()
        self.results, results = os.pipe()
        self.reader = _Reader(self.results, deadline)
        try:
            socket.send_fds(worker, [b"j"], [requests, results])
        except OSError:
            self.__exit__()
            raise
        finally:
            os.close(requests)
            os.close(results)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.requests)
        os.close(self.results)

    def outcome(self, job: Job) -> Outcome | None:
        """None where the child ends before it has answered. Raises OSError: nothing comes."""
        try:
            _write(self.requests, [job.before, job.code, job.after])
            status, message = self._asked(job.expressions, not job.hidden)  # at once, as the program may know them
            if job.hidden and status == "done":
                status, message = self._asked(job.hidden, True)
        except (EOFError, BrokenPipeError):
            return None
        return Outcome(status, self.loaded, self.values, "" if len(self.values) >= len(job.expressions) else message)

    def _asked(self, expressions: tuple[str, ...], last: bool) -> tuple[str, str]:
        """Status and message of the reply; the values must bring the nonce back."""
        nonce = os.urandom(16).hex()
        _write(self.requests, (nonce, expressions, last))
        reply = self.reader.frame()
        status, found, message = reply_of(reply, nonce, len(expressions))
        self.loaded = self.loaded or (isinstance(reply, dict) and reply.get("loaded") is True)
        self.values += found
        return status, message


def reply_of(reply: Any, nonce: str, count: int) -> tuple[str, tuple[object, ...], str]:
    """Status, values and message of a reply to `count` expressions.

    Hostile code may have written the reply: a malformed one, or one without the nonce, counts as ended.
    """
    try:
        status, message = str(reply["status"]), str(reply.get("message", ""))
        found = tuple(values.decode(tree) for tree in reply.get("values", ()))
        sound = status in STATUSES and reply.get("nonce") == nonce
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError):
        sound = False
    if not sound or len(found) > count or (status == "done" and len(found) < count):
        return "ended", (), ""
    return status, found, message


def _write(fd: int, value: Any) -> None:
    frame = marshal.dumps(value)
    data = memoryview(struct.pack(">I", len(frame)) + frame)
    while data:
        data = data[os.write(fd, data):]


class _Reader:
    """Frames of JSON from a process in the sandbox: 4 bytes of length, then so many."""

    def __init__(self, fd: int, deadline: float) -> None:
        self.fd, self.deadline, self._data = fd, deadline, b""
        self._ready = select.poll()
        self._ready.register(fd, select.POLLIN)

    def frame(self) -> Any:
        """None for what can't be read. Raises EOFError (the other end is closed), TimeoutError."""
        size = struct.unpack(">I", self.take(4))[0]
        if size > MAX_REPLY:
            return None
        try:
            return json.loads(self.take(size))
        except (ValueError, RecursionError):
            return None

    def take(self, size: int) -> bytes:
        while len(self._data) < size:
            left = self.deadline - time.monotonic()
            if left <= 0 or not self._ready.poll(left * 1000):
                raise TimeoutError("the sandbox doesn't answer")
            piece = os.read(self.fd, 1 << 16)
            if not piece:
                raise EOFError("the sandbox has ended")
            self._data += piece
        taken, self._data = self._data[:size], self._data[size:]
        return taken
