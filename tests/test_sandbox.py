"""Hostile programs can't reach outside the sandbox, leave nothing behind, and can't forge results.

The programs run only on a rung of the ladder that has passed its self-test here: on a machine without one they are
skipped. Nothing hostile runs with this process's rights.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rrr_cli.errors import NO_BACKEND, RrrError
from rrr_cli.sandbox import Job, Other, ladder, seccomp
from rrr_cli.sandbox.pool import Outcome, Pool, Worker
from rrr_cli.sandbox.values import decode
from rrr_cli.sandbox.worker import reply_of

REFUSED = ("PermissionError", "FileNotFoundError", "OSError", "RuntimeError", "BlockingIOError", "ModuleNotFoundError",
           "ProcessLookupError", "gaierror", "ConnectionRefusedError", "AttributeError",
           "NotADirectoryError", "URLError", "ValueError")
SYSCALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    return [libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments]), ctypes.get_errno()]
"""
#: What must be refused: name -> body of f, which returns a value if it isn't refused.
FORBIDDEN = {
    "home": "return os.listdir(HOME)",
    "canary": "return open(CANARY).read()",
    "canary by descriptor": "return os.read(os.open(CANARY, os.O_RDONLY), 9)",
    "canary by link": "os.symlink(CANARY, '/tmp/link'); return open('/tmp/link').read()",
    "canary by hard link": "os.link(CANARY, '/tmp/hard'); return open('/tmp/hard').read()",
    "canary written": "open(CANARY, 'w').write('x'); return 1",
    "canary removed": "os.unlink(CANARY); return 1",
    "canary's mode": "os.chmod(CANARY, 0o777); return 1",
    "canary's folder": "return os.listdir(os.path.dirname(CANARY))",
    "passwd": "return open('/etc/passwd').read()",
    "shadow": "return open('/etc/shadow').read()",
    "proc": "return open('/proc/self/environ').read()",
    "the parent's memory": "return open(f'/proc/{os.getppid()}/mem', 'rb')",
    "sys": "return os.listdir('/sys')",
    "devices": "return open('/dev/mem', 'rb')",
    "shared memory": "open('/dev/shm/x', 'w').write('x'); return 1",
    "write to the system": "open('/usr/lib/x', 'w').write('x'); return 1",
    "write to the library": "open(os.__file__, 'a').write('x'); return 1",
    "make a folder": "os.mkdir('/x'); return 1",
    "make a device": "os.mknod('/tmp/dev', 0o600 | 0o060000, 0); return 1",
    "make a pipe": "os.mkfifo('/tmp/pipe'); return 1",
    "chroot": "os.chroot('/'); return 1",
    "tcp": "import socket; socket.create_connection(('127.0.0.1', 22), 1); return 1",
    "udp": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('1.1.1.1', 53)); return 1",
    "unix socket": "import socket; socket.socket(socket.AF_UNIX); return 1",
    "socket pair": "import _socket; _socket.socketpair(); return 1",
    "name server": "import socket; return socket.getaddrinfo('example.com', 80)",
    "fetch": "import urllib.request; return urllib.request.urlopen('http://127.0.0.1').read()",
    "fork": "return os.fork()",
    "fork bomb": "while True: os.fork()",
    "detached child": "if os.fork() == 0:\n        os.setsid()\n        os.fork()\n    return 1",
    "subprocess": "import subprocess; return subprocess.check_output(['/bin/sh', '-c', 'id'])",
    "spawn": "return os.posix_spawn('/bin/sh', ['sh', '-c', 'sleep 99'], {})",
    "exec": "os.execv('/bin/sh', ['sh', '-c', 'sleep 99'])",
    "pool of processes": "import multiprocessing; return multiprocessing.Pool(1).map(abs, [1])",
    "kill the parent": "os.kill(os.getppid(), 9); return 1",
    "kill all": "os.kill(-1, 9); return 1",
    "kill the group": "os.killpg(os.getpgrp(), 9); return 1",
    "own session": "os.setsid(); return 1",
    "become root": "os.setresuid(0, 0, 0); return 1",
    "lift the limits": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (99, 99)); return 1",
    "the parent's limits": "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1)); return 1",
    "signal by a pipe": "import fcntl; fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid()); return 1",
    "type into the terminal": "import fcntl; fcntl.ioctl(0, 0x5412, b'x'); return 1",
}
#: System calls by their x86-64 numbers.
CALLS = {
    "ptrace": (101, 16, 1), "process_vm_readv": (310, 1), "process_vm_writev": (311, 1), "unshare": (272, 0x10000000),
    "setns": (308, 3, 0), "mount": (165,), "pivot_root": (155,), "io_uring_setup": (425, 8), "bpf": (321, 0),
    "perf_event_open": (298,), "keyctl": (250, 0), "shmget": (29, 0, 4096, 0o1666), "msgget": (68, 0, 0o1666),
    "memfd_create": (319,), "userfaultfd": (323, 0), "pidfd_open": (434, 1, 0), "tgkill": (234, 1, 1, 9),
    "vfork": (58,), "clone": (56, 17), "clone a namespace": (56, 0x10000011), "execveat": (322,), "seccomp": (317, 0),
    "prctl": (157, 4, 1), "init_module": (175,), "reboot": (169,), "x32 getpid": (0x40000000 + 39,),
}
SPENDERS = {
    "memory": ("return len(bytearray(1 << 30))", "resources"),
    "memory bit by bit": ("blocks = []\n    while True: blocks.append(bytearray(20_000_000))", "resources"),
    "a huge number": ("return 1 << (1 << 24)", "resources"),
    "a huge text": ("return 'x' * 10_000_000", "resources"),
    "a huge list": ("return list(range(100_000))", "resources"),
    "a deep list": ("x = []\n    for _ in range(100_000): x = [x]\n    return x", "resources"),
    "a list within itself": ("x = []\n    x.append(x)\n    return x", "resources"),
    "endless loop": ("while True: pass", "timeout"),
    "sleep": ("import time; time.sleep(99)", "timeout"),
    "a deaf loop": ("import signal\n    for s in range(1, 32):\n        try: signal.signal(s, lambda *a: None)\n"
                    "        except OSError: pass\n    while True: pass", "timeout"),
    "a loop that catches all": ("while True:\n        try: raise MemoryError\n        except BaseException: pass",
                                "timeout"),
    "threads without end": ("import threading\n    while True: threading.Thread(target=lambda: __import__('time')"
                            ".sleep(99)).start()", "raised"),
    "open files without end": ("return [open('/dev/null') for _ in range(1000)]", "raised"),
    "a big file": ("open('/tmp/x', 'wb').write(bytes(2 << 20))", "raised"),
    "endless recursion": ("return f()", "raised"),
    "a stack that overflows": ("import sys\n    sys.setrecursionlimit(10**8)\n    def g(n): return [*map(g, [n])]\n"
                               "    return g(1)", "resources"),
    "a crash": ("import ctypes; ctypes.string_at(0)", "resources"),
    "abort": ("import os; os.abort()", "resources"),
}
#: Programs that end early or forge results; none may count as done.
IMPOSTORS = {
    "exit 0": "import os\nos._exit(0)",
    "exit 0 when called": "def f():\n    import os\n    os._exit(0)",
    "sys.exit": "import sys\nsys.exit(0)",
    "raise SystemExit when called": "def f(): raise SystemExit(0)",
    "exit at the end": "import atexit, os\natexit.register(os._exit, 0)\nquit()",
    "close all": "import os\nos.closerange(0, 64)",
    "results to every descriptor, then exit": (
        "import os, json, struct\n"
        "frame = json.dumps({'status': 'done', 'loaded': True, 'values': [['int', '1']]}).encode()\n"
        "for fd in range(64):\n"
        "    try: os.write(fd, struct.pack('>I', len(frame)) + frame + bytes(16))\n"
        "    except OSError: pass\n"
        "os._exit(0)"),
    "junk to every descriptor": (
        "import os\nfor fd in range(64):\n    try: os.write(fd, b'{}' * 9)\n    except OSError: pass\n"
        "def f(): return 1"),
    "an exception that can't be printed": (
        "class E(BaseException):\n    def __str__(self): raise E\ndef f(): raise E"),
}


def available() -> Iterator[object]:
    usable, missing = ladder.rungs()
    for name in ("bubblewrap", "landlock"):
        why = missing.get(name) or ladder.self_test(usable[name])
        yield pytest.param(name, marks=pytest.mark.skip(reason=f"no {name} here: {why}") if why else ())


@pytest.fixture(scope="module", params=list(available()))
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """A worker with short time limits, so that slow programs end soon."""
    rung = ladder.rungs()[0][request.param]
    limits = rung.config["limits"] | {"RLIMIT_CPU": 1}
    with Guard(replace(rung, config=rung.config | {"seconds": 3, "cpu": 1, "limits": limits})) as guard:
        yield guard


class Guard(Worker):
    """A worker that is replaced when it is spent, as the pool does."""

    def __init__(self, rung: ladder.Rung) -> None:
        super().__init__(rung)
        self.rung = rung

    def run(self, job: Job) -> Outcome:
        result = super().run(job)
        if self.spent:
            self.close()
            super().__init__(self.rung)
        return result


def group(worker: Worker) -> set[str]:
    """The processes of a worker's process group, which nothing in it can leave."""
    listed = subprocess.run(["ps", "-eo", "pgid=,pid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return {pid for pgid, pid, state in rows if pgid == str(worker._process.pid) and not state.startswith("Z")}


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it holds in time: the kernel takes its moment to clear away what was killed."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds


def ask(worker: Worker, body: str, before: str = "") -> Outcome:
    return worker.run(Job(f"import os\n{before}", f"def f():\n    {body}\n", "", ("f()",)))


def assert_unharmed(worker: Worker, processes: set[str]) -> None:
    assert worker.run(Job("", "def f(x): return x + 1", "", ("f(1)",))) == Outcome("done", True, (2,), "")
    assert wait_for(lambda: len(group(worker)) == len(processes))


@pytest.fixture
def canary() -> Iterator[Path]:
    """A file that anybody may read."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "canary")
        path.write_text("alive")
        path.chmod(0o644)
        yield path
        assert path.read_text() == "alive"
        assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", FORBIDDEN)
def test_nothing_outside_can_be_reached(worker: Worker, canary: Path, name: str):
    processes = group(worker)
    result = ask(worker, FORBIDDEN[name], f"HOME = {str(Path.home())!r}\nCANARY = {str(canary)!r}")
    if name == "home" and result.status == "done":  # it may contain the interpreter: then it is an empty folder
        assert not {".ssh", ".bashrc", ".profile", ".cache"} & set(result.values[0])
    elif name == "sys":
        assert result.status == "raised"
    else:
        assert result.status == "raised", result
        assert result.message.split(":")[0] in REFUSED, result
    assert_unharmed(worker, processes)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the calls are x86-64's")
def test_unlisted_system_calls_are_refused(worker: Worker):
    processes = group(worker)
    names = list(CALLS)
    code = SYSCALL + f"def f(): return [call(*c) for c in {list(CALLS.values())!r}]"
    result = worker.run(Job("", code, "", ("f()",)))
    assert result.status == "done", result
    assert {n: r for n, r in zip(names, result.values[0], strict=True) if r != [-1, seccomp.EPERM]} == {}
    assert_unharmed(worker, processes)


@pytest.mark.parametrize("name", SPENDERS)
def test_a_program_over_a_limit_is_stopped(worker: Worker, name: str):
    body, status = SPENDERS[name]
    processes = group(worker)
    start = time.monotonic()
    result = ask(worker, body)
    assert result.status == status, result
    assert time.monotonic() - start < 30
    assert_unharmed(worker, processes)


@pytest.mark.parametrize("name", IMPOSTORS)
def test_a_program_that_forges_results_is_not_done(worker: Worker, name: str):
    processes = group(worker)
    result = worker.run(Job("", IMPOSTORS[name], "", ("f()",)))
    assert result.status in ("ended", "raised"), result
    assert not result.values
    assert_unharmed(worker, processes)


def test_no_environment_and_no_open_files(worker: Worker):
    code = ("import os\ndef opened():\n    count = 0\n    for fd in range(64):\n        try: os.fstat(fd)\n"
            "        except OSError: continue\n        count += 1\n    return count\n")
    expressions = ("dict(os.environ)", "opened()", "os.getuid()", "os.getppid()", "os.getgid()")
    environ, opened, uid, parent, gid = worker.run(Job("", code, "", expressions)).values
    assert (environ, opened) == ({}, 5), "stdin, stdout, stderr, and a pipe each way"
    if os.geteuid() == 0 or worker.rung.name == "bubblewrap":
        assert uid == gid == ladder.UID
    if worker.rung.name == "bubblewrap":
        assert parent < 10, "a process namespace of its own"


def test_programs_share_no_state(worker: Worker):
    spoil = ("import builtins, sys, os, math\nbuiltins.sum = lambda x: 7\nmath.pi = 3\nsys.path.clear()\n"
             "try: open('/tmp/left', 'w').write('x')\nexcept OSError: pass\ndef f(): return sum([])")
    assert worker.run(Job("", spoil, "", ("f()",))).values == (7,)
    look = "import math, os\ndef f(): return [sum([]), math.pi > 3, os.path.exists('/tmp/left')]"
    assert worker.run(Job("", look, "", ("f()",))).values == ([0, True, False],)


def test_hashes_and_random_numbers_are_fixed(worker: Worker):
    job = Job("import random", "def f(): return [list(set('abcdefgh')), random.random()]", "", ("f()",))
    with Worker(worker.rung) as other:
        assert worker.run(job) == other.run(job) == worker.run(job)


def test_values_are_exact_built_in_types(worker: Worker):
    plain = [1, -2, True, None, 1.5, float("inf"), 2j, "é\ud800\x00", b"\xff", (1,), {1: [2]}, {1, 2}, frozenset({3})]
    code = f"import collections\nvalues = {plain!r}".replace("inf", "float('inf')")
    expressions = ("values", "collections.Counter('aab')", "collections.defaultdict(int, a=1)")
    assert worker.run(Job("", code, "", expressions)).values == (plain, {"a": 2, "b": 1}, {"a": 1})
    liar = ("class Eq:\n    def __eq__(self, other): return True\n    __hash__ = None\n"
            "class Int(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
            "class Posing:\n    __class__ = int\n    def __eq__(self, other): return True\n"
            "    def __repr__(self): return '1'\n    def __hash__(self): return 1\n")
    result = worker.run(Job("", liar, "", ("Eq()", "Int(7)", "[Posing()]", "{Posing()}", "type", "iter([])")))
    assert isinstance(result.values[0], Other)
    assert type(result.values[1]) is int, "what it is, not what it says of itself"
    assert result.values[2] != [1]
    assert result.values[3] != {1}
    assert not any(value == 1 for value in result.values)


@pytest.mark.parametrize("reply", [
    None, [], {}, {"status": "done", "nonce": "n", "values": []}, {"status": "done", "nonce": "n", "values": 1},
    {"status": "done", "nonce": "n", "values": [["set", ["list"]]]}, {"status": "done", "values": [["int", "1"]]},
    {"status": "passed", "nonce": "n", "values": [["int", "1"]]},
    {"status": "done", "nonce": "x", "values": [["int", "1"]]},
    *({"status": "done", "nonce": "n", "values": [tree]} for tree in (
        ["pickle", "x"], ["int", 1], ["str", 5], ["constant", "exit"], ["date", 0, 0, 0], ["dict", ["int", "1"]], [],
        ["fraction", ["str", "1e999999999"], ["int", "1"]], ["range", ["float", "0x1p0"], ["int", "1"], ["int", "1"]])),
])
def test_a_malformed_reply_is_not_trusted(reply: object):
    assert reply_of(reply, "n", 1) == ("ended", (), "")


def test_a_sound_reply_is_read():
    assert reply_of({"status": "done", "nonce": "n", "values": [["int", "ff"]]}, "n", 1) == ("done", (255,), "")
    assert isinstance(decode(["range", ["int", "0"], ["int", "f" * 20], ["int", "1"]]), Other), "too long to search"


def test_the_pool_replaces_dead_workers(worker: Worker):
    pool = Pool(worker.rung, 2)
    jobs = [Job("", f"def f(): return {i}", "", ("f()",)) for i in range(40)]
    assert [o.values[0] for o in pool.run(jobs)] == list(range(40))
    workers = [w for w in list(pool._workers.queue) if w]
    workers[-1]._process.kill()
    workers[-1]._process.wait()
    assert [o.values[0] for o in pool.run(jobs)] == list(range(40))
    workers += [w for w in list(pool._workers.queue) if w]
    pool.close()
    assert wait_for(lambda: not any(map(group, workers)))


def test_a_killed_process_leaves_no_sandbox(worker: Worker):
    code = ("import sys, time\nfrom rrr_cli.sandbox import ladder, pool\n"
            f"w = pool.Worker(ladder.rungs()[0][{worker.rung.name!r}])\n"
            "print(w._process.pid, flush=True)\ntime.sleep(99)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        leader = parent.stdout.readline().strip()
        assert leader
        parent.kill()

    def groups() -> list[str]:
        return subprocess.run(["ps", "-eo", "pgid="], capture_output=True, text=True, check=True).stdout.split()

    assert wait_for(lambda: leader not in groups()), "its processes are still there"


def test_without_a_sandbox_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ladder, "rungs", lambda: ({}, {"bubblewrap": "bwrap isn't installed"}))
    monkeypatch.delenv(ladder.UNSAFE_VARIABLE, raising=False)
    with pytest.raises(RrrError, match="apt-get install bubblewrap") as caught:
        ladder.chosen.__wrapped__()
    assert caught.value.exit_code == NO_BACKEND
    monkeypatch.setenv(ladder.UNSAFE_VARIABLE, "1")
    rung = ladder.chosen.__wrapped__()
    assert rung.name == "unsafe"
    with Worker(rung) as worker:
        assert worker.run(Job("", "def f(x): return x + 1", "", ("f(1)",))).values == (2,)
        assert worker.run(Job("", "", "", ("len(bytearray(1 << 30))",))).status == "resources"


def test_a_leaky_rung_fails_its_self_test():
    rung = ladder.unsafe()
    assert ladder.self_test(rung).startswith("network"), "a sandbox without walls"
    filter = seccomp.program(platform.machine())
    if filter is None:
        pytest.skip("a machine that seccomp.py doesn't know")
    half = replace(rung, config=rung.config | {"seccomp": filter.hex()})
    assert ladder.self_test(half).startswith("files"), "system calls are filtered, files aren't"
    assert ladder.self_test(replace(rung, prefix=("/bin/false",)))
    assert ladder.self_test(replace(rung, prefix=("/no/such/program",)))


def test_the_filter_covers_known_machines():
    for machine in seccomp.ARCHITECTURES:
        code = seccomp.program(machine)
        assert code is not None
        assert len(code) % 8 == 0
        assert len(code) // 8 < 4096, "the kernel's limit"
    assert seccomp.program("riscv64") is None
