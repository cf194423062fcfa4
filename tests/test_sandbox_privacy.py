"""What one program can see of another and of the tests, what it may import, and which values come out of it.

Runs code only on the rung that this machine's ladder chooses; skipped where there is none.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from rrr_cli.errors import RrrError
from rrr_cli.sandbox import Job, ladder
from rrr_cli.sandbox.pool import Worker


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    try:
        rung = ladder.chosen()
    except RrrError as error:
        pytest.skip(str(error))
    if rung.name == "unsafe":
        pytest.skip("no sandbox works here")
    with Worker(rung) as worker:
        yield worker


def values(worker: Worker, before: str, *expressions: str) -> tuple[object, ...]:
    outcome = worker.run(Job("", before, "", expressions))
    assert outcome.status == "done", outcome
    return outcome.values


def test_a_program_finds_nothing_of_an_earlier_one(worker: Worker):
    assert ladder.forgets(worker)
    held = ladder.SEARCH + f"\nkept = {ladder.MARK * 99!r}"
    assert values(worker, held, f"holds({ladder.MARK[::-1].encode()!r})") == (True,), "the search itself works"


#: Looks through the frames of the harness, and through what its pipes hold, for the text of a hidden expression.
SPY = """
import os, sys
def seen():
    frame, texts = sys._getframe(), []
    while frame:
        texts.append(repr(frame.f_locals))
        frame = frame.f_back
    return '4' + '711' in ' '.join(texts)
early = seen()
for fd in range(64):
    try:
        os.set_blocking(fd, False)
    except OSError:
        pass
def f(x): return [early, seen()]
"""


def test_hidden_expressions_come_last(worker: Worker):
    outcome = worker.run(Job("", SPY, "", ("f(1)", "f(2)"), ("f(4711)",)))
    assert outcome.values == ([False, False], [False, False], [False, True])


def test_what_a_hidden_expression_raises_is_not_said(worker: Worker):
    code = "def f(x):\n    if x > 2: raise ValueError(x)\n    return x"
    assert "2" in worker.run(Job("", "def f(x): raise ValueError(x)", "", ("f(2)",), ("f(4711)",))).message
    outcome = worker.run(Job("", code, "", ("f(2)",), ("f(1)", "f(4711)")))
    assert (outcome.status, outcome.values, outcome.message) == ("raised", (2, 1), "")


@pytest.mark.parametrize(("code", "value"), [
    ("import asyncio\nasync def g(x):\n    await asyncio.sleep(0)\n    return x\n"
     "def f(): return asyncio.run(g(1)) + asyncio.run(g(2))", 3),
    ("import asyncio\nasync def g(): return await asyncio.gather(*(asyncio.to_thread(abs, -i) for i in range(3)))\n"
     "def f(): return asyncio.run(g())", [0, 1, 2]),
    ("from concurrent.futures import ThreadPoolExecutor\ndef f():\n"
     "    with ThreadPoolExecutor(20) as pool: return list(pool.map(abs, range(-40, 0)))[0]", 40),
    ("import sqlite3\ndef f(): return sqlite3.connect(':memory:').execute('select 1').fetchone()", (1,)),
    ("import uuid, secrets, hashlib\ndef f(): return len(uuid.uuid4().hex + secrets.token_hex(4))", 40),
])
def test_the_standard_library_works(worker: Worker, code: str, value: object):
    assert values(worker, code, "f()") == (value,)


def test_only_listed_packages_can_be_imported(worker: Worker):
    pytest.importorskip("numpy")
    code = ("import numpy as np\n"
            "def f(): return int(np.sum([1, 2])), np.int64(3), np.float32(0.5), np.arange(3).tolist()")
    assert values(worker, code, "f()") == ((3, 3, 0.5, [0, 1, 2]),)
    for name in ("pytest", "typer", "rrr_cli", "pip"):
        assert worker.run(Job("", f"import {name}", "", ("1",))).message.startswith("ModuleNotFoundError"), name


TYPES = """
import array, collections, dataclasses, datetime, decimal, enum, fractions, http, types, uuid
Point = collections.namedtuple('Point', 'x y')
class Colour(enum.Enum): RED = 1; BLUE = 2
class Letter(str, enum.Enum): A = 'a'
class Names(list): pass
@dataclasses.dataclass
class Pair:
    first: int
    second: list
"""


@pytest.mark.parametrize(("expression", "equal"), [
    ("Point(1, [2])", (1, [2])), ("Names([1])", [1]), ("Letter.A", "a"), ("http.HTTPStatus.OK", 200),
    ("{'a': 1}.keys()", {"a"}), ("{'a': 1}.items()", {("a", 1)}), ("collections.ChainMap({1: 2})", {1: 2}),
    ("fractions.Fraction(3, 4)", 0.75), ("decimal.Decimal('1.50')", decimal.Decimal("1.5")), ("decimal.Decimal(2)", 2),
    ("datetime.datetime(2024, 2, 29, 1)", datetime.datetime(2024, 2, 29, 1)), ("datetime.time(5)", datetime.time(5)),
    ("datetime.datetime(2024, 1, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))",
     datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)),
    ("datetime.date(2024, 2, 29) - datetime.date(2024, 2, 28)", datetime.timedelta(1)),
    ("bytearray(b'a')", b"a"), ("memoryview(b'a')", b"a"), ("range(0, 5, 2)", range(0, 6, 2)), ("frozenset({1})", {1}),
    ("collections.deque([1])", collections.deque([1])), ("collections.OrderedDict(a=1, b=2)", {"b": 2, "a": 1}),
    ("collections.Counter('aab')", {"a": 2, "b": 1}), ("1 + 0j", 1), ("True", 1.0), ("...", ...),
    ("slice(2)", slice(2)),
])
def test_what_python_calls_equal_is_equal(worker: Worker, expression: str, equal: object):
    assert values(worker, TYPES, expression) == (equal,)


@pytest.mark.parametrize(("one", "other"), [
    ("Colour.RED", "Colour(1)"), ("int", "type(1)"), ("Pair(1, [2])", "Pair(1, [2])"),
    ("uuid.UUID(int=5)", "uuid.UUID(int=5)"),
    ("{1: [2]}.items()", "{1: [2]}.items()"), ("types.SimpleNamespace(a=1)", "types.SimpleNamespace(a=1)"),
    ("array.array('i', [1])", "array.array('i', [1])"),
])
def test_two_values_of_a_program_are_compared(worker: Worker, one: str, other: str):
    first, second = values(worker, TYPES, one, other)
    assert first == second


@pytest.mark.parametrize(("expression", "other"), [
    ("iter([1])", [1]), ("(x for x in [1])", [1]), ("{'a': 1}.values()", [1]), ("{'a': 1}.keys()", ["a"]),
    ("range(3)", [0, 1, 2]), ("collections.deque([1])", [1]), ("Colour.RED", 1), ("Pair(1, [])", (1, [])),
    ("fractions.Fraction(1, 3)", 1 / 3), ("decimal.Decimal('0.1')", 0.1), ("float('nan')", float("nan")),
    ("datetime.datetime(2024, 1, 1)", datetime.date(2024, 1, 1)), ("object()", None), ("array.array('i', [1])", [1]),
    ("collections.OrderedDict(a=1, b=2)", collections.OrderedDict(b=2, a=1)), ("(1,)", [1]), ("b'a'", "a"),
])
def test_what_python_calls_different_is_different(worker: Worker, expression: str, other: object):
    assert values(worker, TYPES, expression) != (other,)


@pytest.mark.skipif(os.geteuid() != 0 or ladder.processes() != ladder.LIMITS["RLIMIT_NPROC"],
                    reason="needs root, to start processes of another uid, and Linux 5.14")
def test_threads_do_not_depend_on_other_processes(worker: Worker):
    others = [subprocess.Popen(["sleep", "60"], user=ladder.UID, group=ladder.UID, cwd="/") for _ in range(40)]
    try:
        code = ("import threading\ndef f():\n    out = []\n    t = threading.Thread(target=out.append, args=(1,))\n"
                "    t.start(); t.join()\n    return out")
        assert values(worker, code, "f()") == ([1],)
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_an_interrupt_waits_for_no_program(worker: Worker):
    # in a process of its own: an interrupt would end the one that runs the tests
    code = ("import signal\nfrom dataclasses import replace\nfrom rrr_cli.sandbox import Job, ladder\n"
            "from rrr_cli.sandbox.pool import Pool\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has it ignored\n"
            "rung = ladder.chosen()\n"
            "pool = Pool(replace(rung, config=rung.config | {'seconds': 300}), 2)\n"
            "jobs = [Job('', 'import time\\ndef f(): time.sleep(300)', '', ('f()',))] * 4\n"
            "try:\n    print('running', flush=True)\n    pool.run(jobs)\n"
            "except KeyboardInterrupt:\n    pool.close()\n    print('ended')\n")
    started = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        time.sleep(1)  # most often a program runs then; the promise is the same where none does yet
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "ended\n"
    assert time.monotonic() - started < 200


def test_the_unsafe_rung_keeps_programs_apart_too():
    code = ("from rrr_cli.sandbox import Job, ladder\nfrom rrr_cli.sandbox.pool import Worker\n"
            "with Worker(ladder.unsafe()) as worker: print(ladder.forgets(worker))")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"
