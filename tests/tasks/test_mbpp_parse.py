"""MBPP: which code is read of a turn with prose, several blocks and odd fences; what is said of hidden tests; bad
references. What runs code is skipped where no sandbox works.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rrr_cli import sandbox
from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.mbpp import Mbpp, make_problem
from rrr_cli.tasks.mbpp.parse import code_of, static_fault, wanted_names

RIGHT = "def triple(x):\n    return 3 * x"
WRONG = "def triple(x):\n    return x"
TESTS = ["assert triple(2) == 6", "assert triple('a') == 'aaa'"]


def why_not() -> str:
    try:
        sandbox.kind()
    except RrrError as error:
        return str(error)
    return ""


runs_code = pytest.mark.skipif(bool(why_not()), reason=why_not() or "a sandbox works")


def block(code: str, fence: str = "```", info: str = "python") -> str:
    return f"{fence}{info}\n{code}\n{fence}\n"


def problem(tests: list[str] = TESTS, hidden: tuple[str, ...] = (), imports: str = "") -> Problem:
    return make_problem("Three times.", RIGHT, tests, "train", "data-2", "data", hidden, imports)


def verdict(answer: str, of: Problem | None = None) -> Verdict:
    return Mbpp().verify(of or problem(), [Message("assistant", answer)])


DOCSTRING = 'def triple(x):\n    """Thrice.\n\n    ```python\n    triple(2)\n    ```\n    """\n    return 3 * x'
AT_THE_MARGIN = '"""Thrice.\n\n```\ntriple(2)\n```\n"""\n' + RIGHT


@pytest.mark.parametrize("text", [
    block(DOCSTRING), block(DOCSTRING, "~~~"), block(DOCSTRING, "`````"), DOCSTRING, block(AT_THE_MARGIN),
    block(AT_THE_MARGIN, "````"), block(DOCSTRING) + "It is called as in ```python triple(2)``` above.",
    "```python title=triple.py\n" + DOCSTRING + "\n```", block(DOCSTRING, info="{.python}"),
    block(DOCSTRING, info=" Python3"), block(DOCSTRING).replace("\n", "\r\n"), DOCSTRING + "\n```",
    DOCSTRING + "\n~~~\nDone.", "I'd say:\n\n" + DOCSTRING + "\n\nThis multiplies by three.",
    "1. Write it:\n   " + block(DOCSTRING).replace("\n", "\n   "),
    block(DOCSTRING, info=""), "<think>\n" + block(WRONG) + "</think>\n" + block(DOCSTRING),
    "```python\n" + DOCSTRING, "Sure! " + block(DOCSTRING), "```python\n" + AT_THE_MARGIN,
    "```python\n" + DOCSTRING + "```\nIt multiplies.", "```python\n" + DOCSTRING + "\n``` It multiplies.",
    "````markdown\nSo:\n" + block(RIGHT) + "````", "<answer>\n" + RIGHT + "\n</answer>", RIGHT + "<|im_end|>",
    "\\begin{lstlisting}[language=Python]\n" + RIGHT + "\n\\end{lstlisting}",
])
def test_fences(text: str):
    from rrr_cli.thoughts import answer_of

    scope: dict = {}
    exec(code_of(answer_of(text), {"triple"}) or "", scope)
    assert scope["triple"](3) == 9


HELPER = "def twice(x):\n    return x + x\n"
USES = "def triple(x):\n    return twice(x) + x\n"


@pytest.mark.parametrize("blocks", [
    [WRONG, RIGHT], [RIGHT, "assert triple(2) == 6"], [RIGHT, "print(triple(input()))"], [HELPER, USES], [USES, HELPER],
    ["import operator\n", "def triple(x):\n    return operator.mul(x, 3)"],
    ["from operator import *", "def triple(x): return mul(x, 3)"],
    ["raise SystemExit", RIGHT], ["x = int(input())", "def triple(x):\n    return 3 * x"],
    ["FACTOR = 3\nprint(1 / 0)", "def triple(x): return FACTOR * x"], [WRONG + "\n(", RIGHT], [RIGHT, "1 +"],
    ["def twice(x): return 0", HELPER, USES, "print(triple(1) / 0)"], ["triple = lambda x: 3 * x", "triple(4)"],
    ["class Three:\n    def by(self, x): return 3 * x", "def triple(x): return Three().by(x)"],
    ["import functools\n@functools.cache\ndef twice(x):\n    return x + x\n", USES],
    [RIGHT, "class TestTriple:\n    def test(self): assert triple(1) == 3\nimport unittest\nunittest.main()"],
])
def test_the_blocks_that_define_the_function_count(blocks: list[str]):
    scope: dict = {}
    exec(code_of("\nThen:\n".join(map(block, blocks)), {"triple"}) or "", scope)
    assert scope["triple"](3) == 9


def test_the_last_definition_counts_even_if_it_is_wrong():
    assert code_of(block(RIGHT) + block(WRONG), {"triple"}) == WRONG
    assert code_of(block(RIGHT) + block("def triple(x:\n"), {"triple"}) == "def triple(x:"


def test_other_languages_and_output_are_not_the_answer():
    text = block("pip install triple", info="bash") + block(RIGHT) + block("6\naaa", info="text")
    assert code_of(text, {"triple"}) == RIGHT
    session = ">>> def triple(x):\n...     return 3 * x\n...\n>>> triple(2)\n6"
    assert code_of(block(session, info="pycon"), {"triple"}) == RIGHT + "\n\ntriple(2)"
    assert code_of("A def is what you need; write it in a ```python block.", {"triple"}) is not None
    assert code_of("I don't know.", {"triple"}) is None


def test_the_tests_say_what_is_wanted():
    assert wanted_names(("assert triple(2) == abs(-6)", "assert sorted(triple(y) for y in [1])"), "", "") == {"triple"}
    asked = wanted_names(("assert top(root) == Fraction(3)",), "from fractions import Fraction", "root = Node(3)")
    assert asked == {"top", "Node"}
    assert wanted_names(("assert sum(1, 2) == 4",), "", "") == {"sum"}, "a function with the name of a built-in"


@pytest.mark.parametrize("text", [
    "```" * 30_000, "```python\n" * 10_000, '```python\n"""\n' * 6_000, "~" * 100_000, "``` " + " " * 99_000 + "x",
    "```python\nx = 1\n```\n" * 5_000, (block("def triple(x): return " + "-" * 4_000 + "1") * 20),
    block("def triple(x): return " + "(" * 9_000) * 5, block("triple = x" + ".a" * 9_000) * 4, "def \n\n" * 20_000,
])
def test_hostile_texts_are_read_in_bounded_time(text: str):
    code_of(text, {"triple"})


@runs_code
def test_nothing_of_a_hidden_test_is_said():
    of = problem(hidden=("assert triple(4711) == 14133", "assert triple('hidden') == 'hidden' * 3"))
    spy = ("import sys\ndef triple(x):\n    frame, texts = sys._getframe(), []\n    while frame:\n"
           "        texts.append(repr(frame.f_locals)); frame = frame.f_back\n    raise Exception(repr(texts)[-350:])")
    later = spy.replace("    frame, texts", "    if x in (2, 'a'): return 3 * x\n    frame, texts")
    exits = spy.replace("raise Exception(repr(texts)[-350:])", "sys.exit(repr(texts))")
    for code in (spy, later, exits, later.replace("raise Exception", "return "), "def triple(x): raise KeyError(x)"):
        found = verdict(block(code), of)
        assert not found.success
        assert not {"4711", "14133", "hidden'"} & set(found.feedback.replace("(", " ").replace(")", " ").split())
        assert "4711" not in found.feedback
    assert verdict(block(RIGHT), of).success


@runs_code
def test_what_a_test_imports_is_not_the_models():
    of = problem(["assert triple(1) == Fraction(6, 2)"], imports="from fractions import Fraction")
    assert verdict(block(RIGHT), of).success
    assert not verdict(block("def Fraction(*a): return 0\ndef triple(x): return 0"), of).success


def rows(path: Path, *changes: dict) -> str:
    row = {"text": "Three times.", "code": RIGHT, "task_id": 601, "test_list": TESTS}
    path.write_text("".join(json.dumps(row | change) + "\n" for change in changes))
    return str(path)


@pytest.mark.parametrize(("code", "said"), [
    ("def triple(x) return", "it isn't Python"), ("def thrice(x): return 3 * x", "ask for triple"),
    pytest.param(WRONG, "In fact triple(2) is 2", marks=runs_code),
    pytest.param("import no_such_module\n" + RIGHT, "ModuleNotFoundError", marks=runs_code),
])
def test_a_reference_that_cannot_pass_is_told_at_load(tmp_path: Path, code: str, said: str):
    task = Mbpp(data=rows(tmp_path / "m.jsonl", {"code": code}))
    with pytest.raises(RrrError, match="the reference can't pass") as caught:
        list(task.problems("train"))
    assert said in str(caught.value)
    assert caught.value.exit_code == BAD_INPUT


def test_a_reference_that_reads_well_is_not_at_fault():
    for code in (RIGHT, "triple = lambda x: 3 * x", "from operator import *\ntriple = mul", "class triple: pass"):
        assert static_fault(code, tuple(TESTS), "", "") == ""
