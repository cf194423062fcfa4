"""The program inside the sandbox: it forks one child for each job, and the child alone reads and runs the job.

The process outside hands this file's text to `python -c`; nothing of rrr_cli can be imported here. Stdin is a socket.
First comes the configuration; then, for each job, the ends of two new pipes. This process never reads from them: what
it read, every later child could search for in its own memory. Its child confines itself for good (Landlock, seccomp,
limits), and talks through them with the process outside:

    outside: the program, and the expressions that it may know  ·  child: values  ·  outside: the hidden ones  ·  values

So what feedback may show is out of its hands before the first hidden expression comes. Values are
trees of a closed set (`values.py`): an object's own methods are never asked. Expressions come with a nonce that their
values must bring back: a program that ends early, or that prints results and exits, can't guess one that doesn't exist
yet. No harness can prevent this: code that knows the expected values can return them.
"""

import builtins
import ctypes
import gc
import importlib
import importlib.machinery
import importlib.util
import json
import marshal
import mmap
import os
import random
import resource
import select
import selectors
import signal
import socket
import struct
import sys
import time
import types
from collections.abc import Sequence
from typing import Any

#: What programming problems import: loaded once, so that no job waits for it.
PRELOADED = (
    "array bisect calendar cmath collections copy dataclasses datetime decimal enum fractions functools heapq "
    "itertools math numbers operator queue re statistics string textwrap threading traceback typing unicodedata"
)
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, PDEATHSIG, NO_NEW_PRIVS, SECCOMP = 0x10000000, 1, 38, 22
M_ARENA_MAX = -8  # of glibc's malloc.h
CAPABILITIES = 0x20080522  # the version of struct __user_cap_header_struct
READ_FILE, READ_DIR, EXECUTE = 4, 8, 1  # Landlock's rights


def main() -> None:
    """Serve jobs until the process outside closes the socket."""
    outside = socket.socket(fileno=os.dup(0))
    config = marshal.loads(read_frame(outside.fileno()))
    for name in PRELOADED.split():
        importlib.import_module(name)
    values = types.ModuleType("values")
    sys.modules["values"] = values  # dataclasses look their module up
    exec(config["values"], values.__dict__)
    del sys.modules["values"]
    prepare_library(config["packages"])
    give_up_rights(config)
    os.environ.clear()
    LIBC.setenv(b"OPENBLAS_NUM_THREADS", b"1", 1)  # numpy's threads would use up the memory; os.environ stays empty
    if hasattr(LIBC, "mallopt"):
        LIBC.mallopt(M_ARENA_MAX, 1)  # glibc reserves 64 MB of address space for each thread that allocates
    null = os.open(os.devnull, os.O_RDWR)
    confined = mmap.mmap(-1, 1)  # shared with a child until it reads the job
    gc.freeze()
    write_frame(outside.fileno(), b'{"ready": true}')
    while True:
        started, pipes, _, _ = socket.recv_fds(outside, 1, 2)
        if not started:
            return
        report = run(pipes, outside, null, config, values, confined)
        write_frame(outside.fileno(), json.dumps(report).encode())
        if report["spent"]:
            return


def prepare_library(packages: dict[str, str]) -> None:
    """What the standard library and the `packages` (name -> file) need to work here, where no socket can be made."""
    selectors.DefaultSelector = selectors.PollSelector  # type: ignore[misc,assignment]  # epoll isn't allowed
    socket.socketpair = PipeEnd.pair  # type: ignore[assignment]
    sys.meta_path.append(Packages(packages))


class Packages:
    """Finds the installed packages that may be imported: not all that is installed."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in self.files:
            return None
        file = self.files[name]
        folder = [os.path.dirname(file)] if file.endswith("__init__.py") else None
        return importlib.util.spec_from_file_location(name, file, submodule_search_locations=folder)


class PipeEnd:
    """One end of a pipe with the methods of a socket by which asyncio's event loop wakes itself."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def pair(cls, *_: Any) -> "tuple[PipeEnd, PipeEnd]":
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        return cls(reader), cls(writer)

    def fileno(self) -> int:
        return self.fd

    def setblocking(self, flag: bool) -> None:
        pass

    def send(self, data: bytes) -> int:
        return os.write(self.fd, data)

    def recv(self, size: int) -> bytes:
        return os.read(self.fd, size)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def give_up_rights(config: dict[str, Any]) -> None:
    """Become the sandbox's uid, in a user namespace of its own: only there RLIMIT_NPROC counts no other processes."""
    if os.geteuid() == 0 and config["uid"]:
        os.setgroups([])
        os.setresgid(config["uid"], config["uid"], config["uid"])
        os.setresuid(config["uid"], config["uid"], config["uid"])
    if config["own_users"]:
        return
    if LIBC.unshare(CLONE_NEWUSER):
        config["limits"]["RLIMIT_NPROC"] = config["crowd"]
    else:  # a new namespace comes with every capability in it
        LIBC.capset(struct.pack("=Ii", CAPABILITIES, 0), bytes(24))


def run(
    pipes: Sequence[int], outside: socket.socket, null: int, config: dict[str, Any], values: Any, confined: mmap.mmap
) -> dict[str, Any]:
    """Fork, wait until the process outside has what it wants or the time is up, kill; how the child ended."""
    confined[0] = 0
    pid = os.fork()
    if pid == 0:
        try:
            LIBC.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            for fd in (null, outside.fileno()):
                os.close(fd)
            confine(config)
            confined[0] = 1
            confined.close()
            serve(pipes[0], pipes[1], values)
        finally:
            os._exit(1)
    for fd in pipes:
        os.close(fd)
    clock = Clock(pid, config["seconds"])
    late = False
    while not late and not select.select([outside], [], [], clock.left())[0]:
        late = not clock.left()
    os.kill(pid, signal.SIGKILL)
    _, exit_status, usage = os.wait4(pid, 0)
    outside.recv(1)  # after a late kill it comes now: the process outside has seen the pipe end
    killed = os.WTERMSIG(exit_status) if os.WIFSIGNALED(exit_status) else 0
    spent = usage.ru_utime + usage.ru_stime
    status = "ended" if confined[0] else "unconfined"
    if late or killed == signal.SIGXCPU or (killed == signal.SIGKILL and spent >= config["cpu"] - 0.5):
        status = "timeout"
    elif killed in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGXFSZ):
        status = "resources"
    # A program must not find the files of the one before it: if any are left, the whole sandbox ends.
    return {"status": status, "spent": bool(config["folder"] and os.listdir(config["folder"]))}


class Clock:
    """The wall clock of a child: `seconds`, or six times as many while it has used a tenth of them or more as CPU time.

    So a busy machine causes no timeout; the limit on CPU time stops a program that really is slow.
    """

    def __init__(self, pid: int, seconds: float) -> None:
        self.cpu_clock = ~pid << 3 | 2  # the kernel's clock id of a process's CPU time
        self.start, self.seconds = time.monotonic(), seconds

    def left(self) -> float:
        """Seconds that a read may wait; 0.0 when the time is up."""
        passed = time.monotonic() - self.start
        if passed < self.seconds:
            return self.seconds - passed
        busy = passed < 6 * self.seconds and time.clock_gettime(self.cpu_clock) >= passed / 10
        return 0.2 if busy else 0.0


def confine(config: dict[str, Any]) -> None:
    """Limits, Landlock and seccomp on this process, for good. Raises OSError where the kernel refuses."""
    for name, limit in config["limits"].items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))
    libc = LIBC
    if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if config["readable"] is not None:
        landlock(libc, config["readable"])
    if config["seccomp"] is not None:
        code = bytes.fromhex(config["seccomp"])
        buffer = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))  # struct sock_fprog
        if libc.prctl(SECCOMP, 2, ctypes.c_char_p(program), 0, 0):  # 2: a filter
            raise OSError(ctypes.get_errno(), "seccomp")


def landlock(libc: Any, readable: list[str]) -> None:
    """No file can be opened but for reading, and only beneath `readable`. The system calls are 444 to 446 everywhere.
    """
    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)
    if version < 1:
        raise OSError(ctypes.get_errno(), "Landlock")
    handled = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}.get(version, 0xFFFF)
    ruleset = libc.syscall(444, struct.pack("Q", handled), ctypes.c_size_t(8), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "Landlock")
    for path in readable:
        if not os.path.exists(path):
            continue
        rights = READ_FILE | EXECUTE | (READ_DIR if os.path.isdir(path) else 0)
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        if libc.syscall(445, ruleset, 1, struct.pack("=Qi", rights, fd), 0):
            raise OSError(ctypes.get_errno(), "Landlock", path)
        os.close(fd)
    if libc.syscall(446, ruleset, 0):
        raise OSError(ctypes.get_errno(), "Landlock")
    os.close(ruleset)


def serve(requests: int, results: int, values: Any) -> None:
    """Load the program that comes, then answer with the values of the expressions that come, until the pipe ends."""
    program = marshal.loads(read_frame(requests))
    module = types.ModuleType("answer")  # not __main__: code under `if __name__ == "__main__"` doesn't run
    sys.modules["answer"] = sys.modules["__main__"] = module
    module.__dict__["__builtins__"] = builtins
    random.seed(0)
    reply: dict[str, Any] = {"status": "done", "loaded": False}
    last = False
    while reply["status"] == "done" and not last:
        encode = values.Encoder().tree
        reply |= {"nonce": "", "values": []}
        try:
            if not reply["loaded"]:
                for source in program:
                    exec(compile(source, "<answer>", "exec"), module.__dict__)
                reply["loaded"] = True
            reply["nonce"], expressions, last = marshal.loads(read_frame(requests))
            for expression in expressions:
                value = eval(compile(expression, "<test>", "eval"), module.__dict__)
                reply["values"].append(encode(value))
        except values.TooLong:
            reply["status"] = "resources"
        except BaseException as error:
            reply |= failure(error, not reply["loaded"])
        if not reply["loaded"]:
            reply["nonce"], *_ = marshal.loads(read_frame(requests))
        write_frame(results, json.dumps(reply).encode())
    os._exit(0)


def failure(error: BaseException, loading: bool) -> dict[str, Any]:
    """The fields of the reply for an exception in the code or in an expression."""
    if isinstance(error, SystemExit):
        return {"status": "ended"}
    if isinstance(error, MemoryError):
        return {"status": "resources"}
    unreadable = isinstance(error, (SyntaxError, UnicodeEncodeError)) or "null bytes" in str(error)[:100]
    line = getattr(error, "lineno", None)
    text = f"{error.msg} (line {line})" if isinstance(error, SyntaxError) and line else str(error)[:400]
    return {
        "status": "syntax" if unreadable and loading else "raised",
        "message": f"{type(error).__name__[:80]}: {text[:400]}",
    }


def read_frame(fd: int) -> bytes:
    """4 bytes of length, then so many. Raises OSError at the end of the pipe."""
    return read(fd, struct.unpack(">I", read(fd, 4))[0])


def read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            raise OSError("the pipe has ended")
        data += piece
    return data


def write_frame(fd: int, frame: bytes) -> None:
    data = memoryview(struct.pack(">I", len(frame)) + frame)
    while data:
        data = data[os.write(fd, data):]


if __name__ == "__main__":
    main()
