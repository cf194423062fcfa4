"""The program inside the sandbox: it forks one child for each job, and the child alone runs model-written code.

The parent hands this file's text to `python -c`; nothing of rrr_cli can be imported here. Frames on stdin and stdout:
4 bytes of length, then JSON. First comes the configuration, then jobs; each gets one reply. This process never runs
a line of a job: its child confines itself for good (Landlock, seccomp, limits) and then does.

The child sends the values of the job's expressions as trees of the built-in types of `encode`: an object's own methods
are never asked. Only then does the parent draw a nonce, which the child must send back. A program that ends early, or
that prints results and exits, doesn't have it and can't guess it, because it doesn't exist before.
No harness can prevent this: code that knows the expected values can return them.
"""

import builtins
import collections
import ctypes
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import struct
import sys
import time
import types
from typing import Any

#: What programming problems import: loaded once, so that no job waits for it.
PRELOADED = (
    "array bisect calendar cmath copy dataclasses datetime decimal enum fractions functools heapq itertools math "
    "numbers operator queue re statistics string textwrap threading traceback typing unicodedata"
)
LIBC = ctypes.CDLL(None, use_errno=True)
CONFINED = b"C"  # a child's first byte, before it runs anything of the job
MAX_FRAME = 65_536  # bytes of a child's results
MAX_NODES, MAX_DEPTH, MAX_BITS = 10_000, 40, 200_000
READ_FILE, READ_DIR, EXECUTE = 4, 8, 1  # Landlock's rights


def main() -> None:
    """Serve jobs until stdin ends."""
    config = json.loads(read_frame(0) or b"{}")
    for name in PRELOADED.split():
        importlib.import_module(name)
    if os.geteuid() == 0 and config["uid"]:
        os.setgroups([])
        os.setresgid(config["uid"], config["uid"], config["uid"])
        os.setresuid(config["uid"], config["uid"], config["uid"])
    os.environ.clear()
    null = os.open(os.devnull, os.O_RDWR)
    gc.freeze()
    write_frame(1, {"ready": True})
    while job := read_frame(0):
        reply = run(json.loads(job), config, null)
        # A program must not find the files of the one before it: if any are left, the whole sandbox ends.
        reply["spent"] = bool(config["folder"] and os.listdir(config["folder"]))
        write_frame(1, reply)
        if reply["spent"]:
            return


def run(job: dict[str, Any], config: dict[str, Any], null: int) -> dict[str, Any]:
    """Fork, wait for the results within the wall clock, kill. The reply has a `status`; see `Outcome`."""
    results, child_results = os.pipe()
    child_nonce, nonce = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            for fd in (results, nonce, null):
                os.close(fd)
            confine(config)
            os.write(child_results, CONFINED)
            evaluate(job, child_results, child_nonce)
        finally:
            os._exit(1)
    os.close(child_results)
    os.close(child_nonce)
    try:
        status, payload = receive(results, nonce, Clock(pid, config["seconds"]))
    finally:
        os.kill(pid, signal.SIGKILL)
        _, exit_status, usage = os.wait4(pid, 0)
        os.close(results)
        os.close(nonce)
    if status == "done":
        try:
            reply = json.loads(payload)
        except (ValueError, RecursionError):
            reply = None
        return reply if isinstance(reply, dict) else {"status": "ended"}
    killed = os.WTERMSIG(exit_status) if os.WIFSIGNALED(exit_status) else 0
    spent = usage.ru_utime + usage.ru_stime
    if status == "ended" and (killed == signal.SIGXCPU or (killed == signal.SIGKILL and spent >= config["cpu"] - 0.5)):
        status = "timeout"
    elif status == "ended" and killed in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGXFSZ):
        status = "resources"
    return {"status": status}


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


def receive(results: int, nonce: int, clock: Clock) -> tuple[str, bytes]:
    """(status, frame) of the child. A frame counts once the child has sent back the nonce that is drawn after it."""
    started = False
    try:
        started = read_until(results, 1, clock) == CONFINED
        size = struct.unpack(">I", read_until(results, 4, clock))[0]
        if size > MAX_FRAME:  # `evaluate` sends no such frame
            return "ended", b""
        payload = read_until(results, size, clock)
        secret = os.urandom(16)
        os.write(nonce, secret)
        if read_until(results, 16, clock) == secret:
            return "done", payload
        return "ended", b""
    except TimeoutError:
        return "timeout", b""
    except OSError:  # EOF and a broken pipe: the child is gone
        return "ended" if started else "unconfined", b""


def confine(config: dict[str, Any]) -> None:
    """Limits, Landlock and seccomp on this process, for good. Raises OSError where the kernel refuses."""
    for name, limit in config["limits"].items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))
    libc = LIBC
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if config["readable"] is not None:
        landlock(libc, config["readable"])
    if config["seccomp"] is not None:
        code = bytes.fromhex(config["seccomp"])
        buffer = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))  # struct sock_fprog
        if libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
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


def evaluate(job: dict[str, Any], results: int, nonce: int) -> None:
    """Run the job's code, send the values of its expressions, answer with the nonce, end."""
    module = types.ModuleType("answer")  # not __main__: code under `if __name__ == "__main__"` doesn't run
    sys.modules["answer"] = sys.modules["__main__"] = module
    module.__dict__["__builtins__"] = builtins
    random.seed(0)
    reply: dict[str, Any] = {"status": "done", "values": [], "loaded": False}
    try:
        for source in job["before"], job["code"], job["after"]:
            exec(compile(source, "<answer>", "exec"), module.__dict__)
        reply["loaded"] = True
        for expression in job["expressions"]:
            reply["values"].append(encode(eval(compile(expression, "<test>", "eval"), module.__dict__)))
    except BaseException as error:
        reply |= failure(error, reply["loaded"])
    frame = json.dumps(reply).encode()
    if len(frame) > MAX_FRAME:
        frame = b'{"status": "resources"}'
    os.write(results, struct.pack(">I", len(frame)) + frame)
    os.write(results, os.read(nonce, 16))
    os._exit(0)


def failure(error: BaseException, loaded: bool) -> dict[str, Any]:
    """The fields of the reply for an exception in the code or in an expression."""
    if isinstance(error, SystemExit):
        return {"status": "ended"}
    if isinstance(error, (MemoryError, TooLong)):
        return {"status": "resources"}
    unreadable = isinstance(error, (SyntaxError, UnicodeEncodeError)) or "null bytes" in str(error)[:100]
    line = getattr(error, "lineno", None)
    text = f"{error.msg} (line {line})" if isinstance(error, SyntaxError) and line else str(error)[:400]
    return {
        "status": "syntax" if unreadable and not loaded else "raised",
        "message": f"{type(error).__name__[:80]}: {text[:400]}",
    }


class TooLong(Exception):
    """A value that is too large to send."""


def encode(value: Any) -> list[Any]:
    """`value` as a tree [type name, content]. Types are compared by identity: a subclass, like any other type, becomes
    ["object", its type's name]. Raises TooLong."""
    nodes = 0

    def tree(value: Any, depth: int) -> list[Any]:
        nonlocal nodes
        nodes += 1
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise TooLong
        kind = type(value)
        if value is None or value is True or value is False:
            return ["constant", value]
        if kind is int:
            if value.bit_length() > MAX_BITS:
                raise TooLong
            return ["int", f"{value:x}"]
        if kind is float:
            return ["float", value.hex()]
        if kind is complex:
            return ["complex", value.real.hex(), value.imag.hex()]
        if kind is str or kind is bytes:
            if len(value) > MAX_FRAME:
                raise TooLong
            return [kind.__name__, value if kind is str else value.hex()]
        if kind in (list, tuple, set, frozenset):
            return [kind.__name__, [tree(item, depth + 1) for item in value]]
        if kind in (dict, collections.Counter, collections.defaultdict, collections.OrderedDict):
            return ["dict", [[tree(k, depth + 1), tree(v, depth + 1)] for k, v in dict.items(value)]]
        return ["object", type.__dict__["__name__"].__get__(kind)[:80]]

    return tree(value, 0)


def read_until(fd: int, size: int, clock: Clock | None) -> bytes:
    """Exactly `size` bytes. Raises TimeoutError when the time is up, another OSError at the end of the pipe."""
    data = b""
    while len(data) < size:
        if clock is not None and not select.select([fd], [], [], clock.left())[0]:
            if not clock.left():
                raise TimeoutError
            continue
        piece = os.read(fd, size - len(data))
        if not piece:
            raise OSError("the pipe has ended")
        data += piece
    return data


def read_frame(fd: int) -> bytes | None:
    """One frame from the process outside, or None when it has closed the pipe."""
    try:
        return read_until(fd, struct.unpack(">I", read_until(fd, 4, None))[0], None)
    except OSError:
        return None


def write_frame(fd: int, value: Any) -> None:
    frame = json.dumps(value).encode()
    data = memoryview(struct.pack(">I", len(frame)) + frame)
    while data:
        data = data[os.write(fd, data):]


if __name__ == "__main__":
    main()
