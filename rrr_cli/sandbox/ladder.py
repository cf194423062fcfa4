"""The rungs of the sandbox, safest first, and the self-test that a rung must pass in this process before it is used.

1. bubblewrap: namespaces of its own (no network, no other process, a file system of the interpreter's files, read-only,
   and a private /tmp of 16 MB), a uid that isn't the user's, and all of rung 2 except Landlock.
   As root, bubblewrap needs no user namespace; the program inside then gives up root for uid 65534.
2. Landlock and seccomp: only the interpreter's files can be opened, none written; only seccomp.py's system calls.
   The interpreter's files: see `readable.py`.
3. Nothing: refused with exit code 4, unless RRR_UNSAFE_EXEC=1 is set; then only limits on memory, CPU and files.

Everywhere: one process for each program, killed at the end, that has nothing of another program in its memory; 32
processes and threads, counted in a user namespace of its own (where the kernel refuses one, 2,000 more than the uid has
on the machine); an empty environment; 512 MB of address space, files of 1 MB, 5 s of CPU, 10 s of wall clock (60 while
it uses the CPU), 64 KB of results; its output is discarded.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from rrr_cli.errors import NO_BACKEND, RrrError
from rrr_cli.sandbox import seccomp
from rrr_cli.sandbox.readable import packages, read_only
from rrr_cli.sandbox.rung import Rung
from rrr_cli.sandbox.worker import Job, Worker

UNSAFE_VARIABLE = "RRR_UNSAFE_EXEC"
UID = 65534
CROWD = 2000  # more processes than others of the uid will start meanwhile
SECONDS, CPU_SECONDS = 10, 5
LIMITS = {
    "RLIMIT_AS": 512 << 20, "RLIMIT_FSIZE": 1 << 20, "RLIMIT_CPU": CPU_SECONDS, "RLIMIT_NPROC": 32,
    "RLIMIT_NOFILE": 64, "RLIMIT_CORE": 0,
}


BLOCKED = ("PermissionError", "FileNotFoundError")
#: Name -> expression, and whether its outcome shows a working sandbox. CANARY is a file of this process.
PROBES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "works": ("len(__import__('colorsys').rgb_to_hsv(1, 0, 0)) + __import__('heapq').nsmallest(1, [2, 1])[0]",
              lambda value: value == 4),
    "network": ("__import__('socket').socket().connect(('127.0.0.1', 9))", lambda value: value in BLOCKED),
    "files": ("open(CANARY).read()", lambda value: value in BLOCKED),
    "processes": ("__import__('os').fork()", lambda value: value in BLOCKED),
    "environment": ("dict(__import__('os').environ)", lambda value: value == {}),
    "memory": ("len(bytearray(1 << 30))", lambda value: value == "resources"),
}
#: A job's text, and a program that searches its own memory for that of earlier jobs. It has the text backwards only.
MARK = "text of an earlier job, "
SEARCH = """
import ctypes, os
def holds(backwards, size=4096, pages=1000):
    libc = ctypes.CDLL(None)
    libc.sbrk.restype = ctypes.c_void_p
    out, into = os.pipe()
    heap, arena = libc.sbrk(0) - size, id(object()) // size * size
    for start, step in (heap, -size), (arena, size), (arena, -size):
        for address in range(start, start + step * pages, step):
            if libc.write(into, ctypes.c_void_p(address), size) != size:
                break  # not its memory: EFAULT, no crash
            if backwards in os.read(out, size)[::-1]:
                return True
    return False
"""


def rungs() -> tuple[dict[str, Rung], dict[str, str]]:
    """(rungs that may work on this machine, safest first; rung -> why it is missing)."""
    usable, missing = {}, {}
    filter = seccomp.program()
    base = config() | {"seccomp": filter.hex() if filter else None}
    bwrap = shutil.which("bwrap")
    if filter is None:
        missing = dict.fromkeys(("bubblewrap", "landlock"), "seccomp.py has no list for this kind of machine")
    else:
        if bwrap:
            own_users = os.geteuid() != 0  # then bubblewrap makes a user namespace
            own = base | {"folder": "/tmp", "own_users": own_users}
            usable["bubblewrap"] = Rung("bubblewrap", bubblewrap(bwrap), own)
        else:
            missing["bubblewrap"] = "bwrap isn't installed"
        usable["landlock"] = Rung("landlock", (), base | {"readable": read_only()})
    return usable, missing


def bubblewrap(bwrap: str) -> tuple[str, ...]:
    """The command line of rung 1. Raises nothing: if bwrap refuses it, the self-test fails."""
    if os.geteuid() == 0:
        own = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
               "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        own = ["--unshare-all", "--unshare-user", "--disable-userns", "--uid", str(UID), "--gid", str(UID)]
    paths = [path for path in [*read_only(), os.path.realpath(sys.executable)] if os.path.exists(path)]
    above = sorted({str(parent) for path in [*paths, "/dev/null"] for parent in list(Path(path).parents)[:-1]})
    # bwrap's default mode would let only the owner in.
    mounts = [word for folder in above for word in ("--perms", "0755", "--dir", folder)]
    mounts += [word for path in paths for word in ("--ro-bind", path, path)]
    return (bwrap, *own, *mounts, "--dev-bind", "/dev/null", "/dev/null", "--perms", "1777", "--size", str(16 << 20),
            "--tmpfs", "/tmp", "--remount-ro", "/", "--clearenv", "--setenv", "PYTHONHASHSEED", "0",
            "--chdir", "/tmp", "--")


def config() -> dict[str, Any]:
    """What inside.py has to know on every rung."""
    return {
        "uid": UID, "seconds": SECONDS, "cpu": CPU_SECONDS, "limits": LIMITS | {"RLIMIT_NPROC": processes()},
        "crowd": crowd(), "own_users": False, "folder": None, "readable": None, "seccomp": None,
        "packages": packages(),
    }


def processes() -> int:
    """The limit for a user namespace. Before Linux 5.14 the whole machine's are counted there too."""
    version = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    return LIMITS["RLIMIT_NPROC"] if version >= (5, 14) else crowd()


def crowd() -> int:
    """The limit where the processes of the uid are counted over the whole machine: those that are here, and `CROWD`."""
    uid = UID if os.geteuid() == 0 else os.geteuid()
    count = CROWD
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            count += len(os.listdir(entry / "task")) if entry.stat().st_uid == uid else 0
    return count


@lru_cache(maxsize=1)
def chosen() -> Rung:
    """The safest rung that passes its self-test; tested once a process.

    Raises RrrError (exit 4): no rung passes, and RRR_UNSAFE_EXEC isn't set.
    """
    usable, missing = rungs()
    for name, rung in usable.items():
        failed = self_test(rung)
        if not failed:
            return rung
        missing[name] = f"it failed its self-test: {failed}"
    if os.environ.get(UNSAFE_VARIABLE) == "1":
        return unsafe()
    why = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
    raise RrrError(
        f"no sandbox for model-written Python works here ({why}). Type apt-get install bubblewrap; or, if the model's "
        f"code may run with your rights, type {UNSAFE_VARIABLE}=1 before the command", NO_BACKEND)


def unsafe() -> Rung:
    """The rung without a sandbox: only limits."""
    return Rung("unsafe", (), config() | {"uid": 0})


def self_test(rung: Rung) -> str:
    """What is wrong with the rung; "" if all probes of `PROBES` end as they must."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        canary = Path(folder, "canary")
        canary.write_text("read")
        try:
            worker = Worker(rung)
        except OSError as error:
            return f"it doesn't start ({error})"
        with worker:
            for name, (expression, is_safe) in PROBES.items():
                try:
                    outcome = worker.run(Job("", f"CANARY = {str(canary)!r}", "", (expression,)))
                except OSError as error:
                    return f"{name} ({error})"
                seen = outcome.values[0] if outcome.values else outcome.message.split(":")[0] or outcome.status
                if name == "works" and seen == "ModuleNotFoundError":
                    return f"as uid {UID}, which root becomes there, it can't read {sys.base_prefix}"
                if not is_safe(seen):
                    return f"{name} ({ascii(seen)[:80]})"
            try:
                return "" if forgets(worker) else "memory of another job (it can be read)"
            except OSError as error:
                return f"memory of another job ({error})"


def forgets(worker: Worker) -> bool:
    """Whether a program searches its own memory in vain for the text of the program before it."""
    worker.run(Job("", f"x = {MARK * 99!r}", "", (f"len({MARK * 99!r})",)))
    return worker.run(Job("", SEARCH, "", (f"holds({MARK[::-1].encode()!r})",))).values == (False,)
