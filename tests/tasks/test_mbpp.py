"""MBPP: which code is read, what passes, what can't pass for it, what is said, and where problems come from.

What runs code is skipped, with the reason, on a machine where no sandbox works.
"""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrr_cli import sandbox
from rrr_cli.errors import BAD_INPUT, USAGE, RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.sandbox import ladder
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.mbpp import Mbpp, make_problem, unit_tests
from rrr_cli.tasks.mbpp.generate import VOCABULARY
from rrr_cli.tasks.mbpp.parse import code_of
from rrr_cli.tasks.mbpp.problem import MAX_CODE
from rrr_cli.tasks.mbpp.unit_tests import read_test
from rrr_cli.tasks.rows import bad_rows

DATA = Path(__file__).parents[3] / "shared" / "data"
RIGHT = "def double(x):\n    return 2 * x"
TESTS = ["assert double(1) == 2", "assert double('ab') == 'abab'", "assert double([0]) == [0, 0]"]


def why_not() -> str:
    try:
        sandbox.kind()
    except RrrError as error:
        return str(error)
    return ""


runs_code = pytest.mark.skipif(bool(why_not()), reason=why_not() or "a sandbox works")


def problem(tests: list[str] = TESTS, hidden: tuple[str, ...] = (), imports: str = "", setup: str = "") -> Problem:
    return make_problem("Write a function to double a value.", RIGHT, tests, "train", "data-3", "data", hidden,
                        imports, setup)


def verdict(text: str, of: Problem | None = None) -> Verdict:
    return Mbpp().verify(of or problem(), [Message("assistant", text)])


@pytest.mark.parametrize(("text", "code"), [
    ("```python\na = 1\n```", "a = 1"),
    ("First:\n```python\na = 1\n```\nNo:\n```py\nb = 2\n```\nSo it is.", "b = 2"),
    ("```python\na = 1\n```\nIt prints:\n```\n1\n```", "a = 1"),
    ("```python def f ( x ) : return x ```", "def f ( x ) : return x"),
    ("```Python3\na = 1", "a = 1"),
    ("[BEGIN]\ndef f(): pass\n[DONE]\nrest", "def f(): pass"),
    ("[BEGIN] a = 1 [DONE] [BEGIN]\nb = 2", "b = 2"),
    ("```\na = 1\n```", "a = 1"),
    ("def f():\n    return 1\n[DONE]\nprose", "def f():\n    return 1"),
    ("f = lambda x: x", "f = lambda x: x"),
    ("    def f(): pass", "def f(): pass"),
    ("I don't know.", None), ("", None), ("```python\n```", ""),
])
def test_the_code_is_read_by_the_stated_rule(text: str, code: str | None):
    assert code_of(text) == code


@given(st.text(alphabet=st.sampled_from("`pyton \n[BEGIND]xdef\ud800\x00"), max_size=300))
def test_reading_takes_any_text(text: str):
    for wanted in ((), ("x",), ("def",)):
        code = code_of(text, wanted)
        assert code is None or all(line.strip() in text for line in code.split("\n"))


@runs_code
@pytest.mark.parametrize(("code", "error_type", "said"), [
    ("def double(x):\n    return x", "wrong_value", "assert double(1) == 2 In fact double(1) is 1."),
    ("def double(x):\n    print(2 * x)", "wrong_value", "double(1) is None"),
    ("def double(x):\n    return str(2 * x)", "wrong_value", "double(1) is '2'"),
    ("def double(x):\n    return (y for y in [2])", "wrong_value", "double(1) is <generator object>"),
    ("def double(x):\n    return 2 * y", "exception", "It raises NameError: name 'y' is not defined."),
    ("def twice(x):\n    return 2 * x", "exception", "NameError: name 'double' is not defined"),
    ("import no_such_module", "exception", "The code raises ModuleNotFoundError"),
    ("def double(x):\nreturn 2 * x", "syntax", "expected an indented block"),
    ("x = '\ud800'; \x00 = 1", "syntax", "can't be read"),
    ("(" * 500 + "def", "syntax", "too many nested parentheses"),
    ("import os\ndef double(x): os._exit(0)", "ended_early", "ended before the tests were done"),
    ("import sys\nsys.exit(0)\ndef double(x): pass", "ended_early", "ended before"),
    ("def double(x): return 'x' * 10**9", "resources", "too much memory"),
    ("def double(x): return 1 << 10**6", "resources", "too large a value"),
    ("def double(x): return 9**9999", "wrong_value", "double(1) is a number too long to show."),
    ("#" * (MAX_CODE + 1), "too_long", "longer than 20,000 characters"),
    ("input()", "exception", "EOFError"),
])
def test_feedback_shows_the_test_and_the_value(code: str, error_type: str, said: str):
    found = verdict(f"```python\n{code}\n```")
    assert (found.success, found.score, found.error_type) == (False, 0.0, error_type), found
    assert said in found.feedback
    assert len(found.feedback) < 1000


@runs_code
def test_feedback_is_one_clean_line():
    found = verdict("```python\ndef double(x): raise ValueError('\\x1b[2J\\u202e\\n\\nhey ' + 'x' * 10**6)\n```")
    assert found.error_type == "exception"
    assert "ValueError: [2J hey xxx" in found.feedback
    assert found.feedback.isprintable()
    assert len(found.feedback) < 600


#: Each would pass if the tests were run as they stand, and the exit code believed.
LIARS = {
    "an object that equals all": "class Any:\n    def __eq__(self, o): return True\n    def __init__(self, x): pass\n"
                                 "double = Any",
    "a number that equals all": "class N(int):\n    def __eq__(self, o): return True\ndef double(x): return N(7)",
    "a list of them": "class Any:\n    def __eq__(self, o): return True\ndef double(x): return [Any(), Any()]",
    "a text that equals all": "class S(str):\n    def __eq__(self, o): return True\ndef double(x): return S('ab')",
    "a set of posing items": "class Any:\n    def __eq__(self, o): return True\n    def __hash__(self): return 2\n"
                             "def double(x): return {Any()}",
    "leave with 0": "import os\nos._exit(0)",
    "leave with 0 later": "import atexit, os\natexit.register(os._exit, 0)\ndef double(x): raise SystemExit(0)",
    "asserts replaced": "import builtins, sys\nbuiltins.AssertionError = type('E', (Exception,), {})\n"
                        "sys.excepthook = lambda *a: None\ndef double(x): return None",
    "the harness's names": "import sys\nframe = sys._getframe()\nwhile frame:\n    frame.f_globals['success'] = True\n"
                           "    frame = frame.f_back\ndef double(x): return None",
    "printed": "print('PASSED', 2, 'abab', [0, 0])\ndef double(x): print(2 * x)",
}


@runs_code
@pytest.mark.parametrize("name", LIARS)
def test_no_object_and_no_exit_code_passes(name: str):
    assert not verdict(f"```python\n{LIARS[name]}\n```").success


@runs_code
def test_a_lying_object_fails_every_test():
    liar = ("class Any:\n    def __init__(self, *a): pass\n    def __eq__(self, o): return True\n"
            "    def __hash__(self): return 0\n    def __lt__(self, o): return True\n"
            "    __gt__ = __ge__ = __le__ = __lt__\n"
            "    def __float__(self): return 2.0\n    def __iter__(self): return iter([Any()])\n"
            "    def __contains__(self, o): return True\n    def __bool__(self): return True\n"
            "    def __len__(self): return 1\n    def __sub__(self, o): return 0\ndouble = Any")
    for test in ("set(double(1)) == set((2,))", "math.isclose(double(1), 2.0, rel_tol=0.001)", "not double(0)",
                 "double(1) < 3", "2 in double(1)", "double(1) == double(2)", "double(1) == sys.getsizeof('a')",
                 "double(1) == 2 and double(2) == 4", "double(1) is True", "tuple(double(1)) == (2,)"):
        found = verdict(f"```python\n{liar}\n```", problem([f"assert {test}"], imports="import math"))
        assert not found.success, test


@runs_code
@pytest.mark.parametrize(("test", "passes"), [
    ("double(2) == 4", True), ("double(2) == 4.0", True), ("double(2) != 4", False), ("not double(0)", True),
    ("double(1)", True), ("double(0)", False), ("set(double((1,))) == set([1])", True), ("double(1) > 1", True),
    ("math.isclose(double(0.1), 0.2000001, rel_tol=0.001)", True), ("math.isclose(double(0.1), 0.3)", False),
    ("double('a') == len('bb') * 'a'", True), ("double('a') < 1", False), ("1 < double(1) < 3", True),
    ("double(1) == 3 or double(2) == 4", True), ("double(1) == 2 and double(2) == 5", False),
    ("all(a > 0 for a in map(double, [1, 2]))", True), ("max(double(i) == 2 for i in (1, 2))", True),
    ("all(a == b for a, b in zip(double([1]), reversed(double([1]))))", True), ("double(lambda: 1 == 2)", False),
    ("double(True) is not None", True), ("double(\n  1) == (\n  2)", True), ("(double(1), double(2)) == (2, 4)", True),
    ("double(x=1) == sys.getsizeof(()) - sys.getsizeof(()) + 2, 'a message'", True),
])
def test_tests_mean_what_python_means(test: str, passes: bool):
    of = problem([f"assert {test}"], imports="import math")
    assert verdict(f"```python\n{RIGHT}\n```", of).success is passes


KINDS = """
import collections, datetime, decimal, enum, fractions
class Colour(enum.Enum):
    RED, BLUE = 1, 2
Point = collections.namedtuple("Point", "x y")
def double(x):
    yield from [x, x]
"""


@runs_code
@pytest.mark.parametrize("value", [
    "fractions.Fraction(1, 2)", "datetime.date(2024, 2, 29)", "decimal.Decimal('0.50')", "Point(1, 2)", "{1: 2}.keys()",
    "Colour.RED", "collections.deque([1])", "range(3)", "float('inf')", "datetime.timedelta(1)",
])
def test_a_comparison_within_takes_every_value(value: str):
    for same in (True, False):
        wanted = value if same else "Colour.BLUE"
        of = make_problem("", KINDS, [f"assert all(one == {wanted} for one in double({value}))"], "train", "", "data")
        assert verdict(f"```python\n{KINDS}\n```", of).success is same, value


@pytest.mark.parametrize("test", [
    "double(1) == 2", "assert True", "assert double(1) == 2; x = 1", "x = 1", "assert 1 == 1", "assert (",
    "assert all((lambda v: d(v) == 2)(x) for x in y)", "assert " + "(" * 500 + "1", "assert f(1) == " + "1" * 5000,
    "assert not " * 3, "",
])
def test_a_test_of_another_form_is_refused(test: str):
    with pytest.raises(ValueError, match=r"\w"):
        read_test(test)


@runs_code
def test_a_function_may_shadow_a_builtin():
    of = problem(["assert sum(1, 2) == 4"])
    assert verdict("```python\ndef sum(a, b): return 4\n```", of).success
    assert not verdict("```python\ndef total(a, b): return 4\n```", of).success


@runs_code
def test_imports_run_before_and_setup_after():
    of = problem(["assert top(root) == 3"], imports="import math", setup="root = Node(3)")
    code = "pi = math.pi\nclass Node:\n    def __init__(self, v): self.v = v\ndef top(n): return n.v"
    assert verdict(f"```python\n{code}\n```", of).success


@runs_code
def test_hidden_tests_decide_and_stay_hidden():
    of = problem(["assert double(1) == 2"], ("assert double(3) == 6", "assert double(71) == 142"))
    assert verdict(f"```python\n{RIGHT}\n```", of).success
    for learnt in ("def double(x): return {1: 2, 3: 6}.get(x)", "def double(x): return {1: 2, 3: 6}[x]"):
        found = verdict(f"```python\n{learnt}\n```", of)
        assert found.error_type == "hidden_test"
        assert "71" not in found.feedback
        assert "142" not in found.feedback
    assert "71" not in of.prompt[0].content


@runs_code
def test_many_verdicts_equal_single_ones_in_order():
    task, rows = Mbpp("hard"), list(islice(Mbpp("hard").problems("test"), 30))
    turns = [task.right_turns(p)[0] for p in rows[1:]] + ["I don't know.", "```python\n(\n```"]
    pairs = [(p, [Message("assistant", turn)]) for p, turn in zip([*rows, rows[0]], turns, strict=True)]
    pairs += [(p, [Message("assistant", task.right_turns(p)[0])]) for p in rows]
    found = task.verify_many(pairs)
    assert found == [task.verify(p, transcript) for p, transcript in pairs]
    assert [v.success for v in found] == [False] * 31 + [True] * 30
    assert task.verify_many([]) == []


@runs_code
@settings(max_examples=40, deadline=None)
@given(st.text(alphabet=st.sampled_from("def double(x):\n return 2*x `python'\"\\\ud800\x00é9[]{}"), max_size=200),
       st.booleans())
def test_any_code_gets_a_verdict(code: str, fenced: bool):
    found = verdict(f"```python\n{code}\n```" if fenced else code)
    assert found.success or found.error_type in Mbpp.error_types
    assert found.feedback.isprintable()


@runs_code
@pytest.mark.parametrize("text", [
    "x" * 200_000, "```python\n" * 30_000, "```" * 60_000, "[BEGIN]" * 30_000, "def " * 40_000, "\ud800\x00" * 50_000,
    "```python\n" + "[" * 19_000 + "\n```", "```python\nx = " + "9" * 19_000 + "\n```",
    "```python\n" + "-" * 19_000 + "1\n```", "```python\nx" + ".a" * 9_000 + "\n```",
])
def test_long_and_deep_texts_fail_with_a_reason(text: str):
    found = verdict(text)
    assert not found.success
    assert found.error_type in Mbpp.error_types


@runs_code
def test_the_audit_finds_nothing_wrong(rrr):
    for level in Mbpp.levels:
        ran = rrr("tasks", "check", "mbpp", "--level", level, "--limit", 25, "--json")
        assert ran.code == 0, ran.err
        assert json.loads(ran.out)["wrong"] == 0


def behaviour(code: str) -> str:
    """What a generated reference gives on many inputs."""
    scope: dict = {}
    exec(code, scope)
    [name] = [name for name in scope if name.startswith(("f", "from_"))]
    random = Random(0)
    inputs = {
        "from_list": [[random.randint(-9, 30) for _ in range(7)] for _ in range(300)],
        "from_text": [" ".join(random.choices(VOCABULARY.split(), k=6)) for _ in range(300)],
        "from_number": random.sample(range(100, 1_000_000), 300),
    }.get(name, range(1, 100))
    return repr((name, [scope[name](x) for x in inputs]))


def test_the_generator_repeats_no_function():
    for level in Mbpp.levels:
        rows = {split: list(islice(Mbpp(level).problems(split), n)) for split, n in (("train", 1000), ("test", 500))}
        assert {split: len(problems) for split, problems in rows.items()} == {"train": 1000, "test": 500}
        references = [p.reference for problems in rows.values() for p in problems]
        assert len(set(references)) == len(references)
        done = [behaviour(json.loads(reference)) for reference in references]
        assert len(set(done)) == len(done), "a function in other words is the same function"
        for p in rows["train"][:200]:
            metadata = json.loads(p.metadata)
            assert all(test in p.prompt[0].content for test in metadata["tests"])
            assert not any(test in p.prompt[0].content for test in metadata["hidden"])
            assert p.difficulty.startswith(level)


FULL = {"text": "Double it.", "code": RIGHT, "task_id": 601, "test_list": TESTS, "test_setup_code": "",
        "challenge_test_list": ["assert double(9) == 18"]}
SANITIZED = {"prompt": "Double it again.", "code": RIGHT, "task_id": 12, "test_imports": ["import math"],
             "test_list": ["assert math.isclose(double(1), 2)"], "source_file": "x"}


def written(path: Path, rows: list[dict]) -> str:
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return str(path)


@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz", "m.json", "m.parquet"])
def test_both_forms_fall_into_mbpps_own_splits(tmp_path: Path, name: str):
    rows = [FULL, SANITIZED, FULL | {"task_id": 3, "text": "A prompt row."}, FULL | {"task_id": 550, "text": "Valid."},
            FULL | {"task_id": 2, "text": "By column.", "split": "train"}]
    if name == "m.parquet":  # one schema for all rows: an empty split says nothing
        rows = [dict.fromkeys(FULL | SANITIZED | {"split": None}) | row for row in rows]
    task = Mbpp(data=written(tmp_path / name, rows))
    train, test = (list(task.problems(split)) for split in ("train", "test"))
    assert [p.prompt[0].content.split(": ")[1].split(" Your")[0] for p in train] == ["Double it.", "By column."]
    assert [json.loads(p.metadata)["imports"] for p in test] == ["import math"]
    assert (train[0].difficulty, test[0].difficulty) == ("data-3", "data-1")
    assert all(t in train[0].prompt[0].content for t in TESTS)
    assert "double(9)" not in train[0].metadata + train[0].prompt[0].content, "challenge tests are left aside"


def test_unnumbered_rows_are_split_by_content(tmp_path: Path):
    rows = [{"text": f"Add {n}.", "code": "def f(x): return x", "test_list": [f"assert f({n}) == {n}"]}
            for n in range(200)]
    data = written(tmp_path / "own.jsonl", rows + rows[:5])
    train, test = (list(Mbpp(data=data).problems(split)) for split in ("train", "test"))
    assert len(train) + len(test) == 200, "a problem that occurs twice is given once"
    assert 20 <= len(test) <= 60


@pytest.mark.parametrize(("change", "said"), [
    ({"text": 3}, "column text: found 3"), ({"code": ""}, "column code: found ''"), ({"code": None}, "column code"),
    ({"test_list": []}, "column test_list: found none"), ({"test_list": "assert f()"}, "wanted a list of texts"),
    ({"test_list": ["print(1)"]}, "not one assert"), ({"split": "dev"}, "column split: found 'dev'"),
    ({"test_imports": [1]}, "column test_imports"), ({"test_setup_code": 5}, "column test_setup_code"),
])
def test_a_bad_row_is_refused_with_its_place(tmp_path: Path, change: dict, said: str):
    task = Mbpp(data=written(tmp_path / "bad.jsonl", [FULL, FULL | change]))
    with bad_rows(strict=True), pytest.raises(RrrError, match="row 2") as caught:
        list(task.problems("train"))
    assert said in str(caught.value)
    assert caught.value.exit_code == BAD_INPUT


def test_level_and_data_exclude_each_other(tmp_path: Path):
    data = written(tmp_path / "m.jsonl", [FULL])
    with pytest.raises(RrrError, match="leave out --data") as caught:
        Mbpp("easy", data)
    assert caught.value.exit_code == USAGE
    with pytest.raises(RrrError, match="no row is for test"):
        list(Mbpp(data=data).problems("test"))


def test_the_hubs_rows_come_from_both_splits(monkeypatch: pytest.MonkeyPatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load_dataset(name: str, split: str) -> list[dict]:
        asked.append((name, split))
        return [FULL, SANITIZED]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = Mbpp(data="google-research-datasets/mbpp")
    assert len(list(task.problems("train"))) == len(list(task.problems("test"))) == 1
    assert asked == [("google-research-datasets/mbpp", "train+test")] * 2


def test_without_a_sandbox_the_cure_is_named(rrr, monkeypatch: pytest.MonkeyPatch):
    ladder.chosen.cache_clear()
    monkeypatch.setattr(ladder, "rungs", lambda: ({}, {"bubblewrap": "bwrap isn't installed"}))
    monkeypatch.delenv(ladder.UNSAFE_VARIABLE, raising=False)
    try:
        ran = rrr("tasks", "check", "mbpp", "--limit", 2)
        assert ran.code == 4
        assert "apt-get install bubblewrap" in ran.err
        monkeypatch.setenv(ladder.UNSAFE_VARIABLE, "1")
        ran = rrr("tasks", "check", "mbpp", "--limit", 2, "--json")
        assert (ran.code, json.loads(ran.out)["wrong"]) == (0, 0)
        assert json.loads(problem().metadata)["unsafe_exec"] is True, "the artifact says so"
        assert Mbpp().settings() == {"sandbox": "unsafe"}
    finally:
        ladder.chosen.cache_clear()
        unit_tests.clean_value.cache_clear()


@runs_code
def test_mining_keeps_the_verdicts(rrr, tmp_path: Path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": "```python\ndef f(x): return 'no'\n```"}))
    ran = rrr("mine-failures", "--engine", "scripted", "--model", script, "--task", "mbpp", "--limit", 6,
              "--samples", 1, "--run", tmp_path / "run", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["errors"] == {"wrong_value": 6}


@runs_code
@pytest.mark.parametrize(("name", "rows"), [("mbpp_sanitized", 427), ("mbpp_full", 974)])
def test_every_reference_of_mbpp_passes(name: str, rows: int):
    path = DATA / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path.name} isn't here")
    with gzip.open(path, "rt") as file:
        found = [json.loads(line) for line in file]
    task = Mbpp()
    problems = [make_problem(r.get("text") or r["prompt"], r["code"], r["test_list"], "train", "data", "data", (),
                             "\n".join(r.get("test_imports", [])), r.get("test_setup_code", "")) for r in found]
    verdicts = task.verify_many([(p, [Message("assistant", task.right_turns(p)[0])]) for p in problems])
    assert {r["task_id"]: v.feedback for r, v in zip(found, verdicts, strict=True) if not v.success} == {}
    assert len(verdicts) == rows
