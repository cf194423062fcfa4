"""Data sets in the form in which their authors publish them: VPEval, HotpotQA, HumanEval, and asserts of any form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rrr_cli import sandbox
from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.base import played
from rrr_cli.tasks.hotpotqa import HotpotQA
from rrr_cli.tasks.layout import Layout
from rrr_cli.tasks.mbpp import Mbpp, make_problem
from rrr_cli.tasks.mbpp.unit_tests import read_test


def sandboxed() -> bool:
    try:
        return bool(sandbox.kind())
    except RrrError:
        return False


needs_sandbox = pytest.mark.skipif(not sandboxed(), reason="no sandbox works here")


def written(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def both_splits(task: Any) -> list[Problem]:
    return [problem for split in ("train", "test") for problem in task.problems(split)]


def test_a_question_with_broken_paragraphs_is_bad(tmp_path: Path):
    rows: list[Any] = [{"question": f"q {i}", "answer": "a", "context": [["T", ["a b."]]]} for i in range(3)]
    task = HotpotQA(data=written(tmp_path / "dev.json", [*rows, {**rows[0], "question": "x", "context": [["T", [5]]]}]))
    assert len(both_splits(task)) == 3


# VPEval --------------------------------------------------------------------------------------------------------------


def vpeval(number: int, skill: str, text: str, *objects: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"{skill}_val_{number:06}", "text": text, "objects": [
        {"id": i, "relation": None, **one} for i, one in enumerate(objects)]}


def thing(name: str, **more: Any) -> dict[str, Any]:
    return {"coconame": name, **more}


def test_vpevals_own_file_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [
        vpeval(0, "object", "a kite", thing("kite")),
        vpeval(1, "count", "2 kites", thing("kite"), thing("kite")),
        vpeval(2, "spatial", "a kite and a bench; the bench is left of the kite", thing("kite"),
               thing("bench", relation="left_0")),
        vpeval(3, "scale", "a kite and a cow that is bigger", thing("kite", scale=3.2), thing("cow", scale="bigger")),
        vpeval(4, "spatial", "a cow in front of a kite", thing("kite"), thing("cow", relation="front_0")),
        vpeval(5, "text", "a wall that says 'go'"),
    ]
    task = Layout(data=written(tmp_path / "val.json", {"data": rows}))
    asked = {p.difficulty: json.loads(p.metadata)["requirements"] for p in both_splits(task)}
    assert len(asked) == 4
    assert asked["data-count"] == [{"kind": "count", "noun": "kite", "count": 2, "other": ""}]
    bench_left = {"kind": "left", "noun": "bench", "count": 1, "other": "kite"}
    assert asked["data-spatial"][-1] == bench_left, "the last object is where it is to the first"
    assert asked["data-scale"][-1] == {"kind": "bigger", "noun": "cow", "count": 1, "other": "kite"}
    assert all(task.verify(p, played(task, p, task.right_turns(p))).success for p in both_splits(task))
    assert "2 rows are left out and passed over (1 × boxes don't show its relation, 1 ×" in capsys.readouterr().err


def test_paintskills_names_are_shapes(tmp_path: Path):
    rows = [vpeval(0, "object", "a traffic light", {"shape": "traffic_light", "coconame": None}),
            vpeval(1, "scale", "a bigger cow", {"shape": "kite"}, {"shape": "cow", "relation": "bigger_1"})]
    found = both_splits(Layout(data=written(tmp_path / "a.json", rows)))
    assert sorted(json.loads(p.metadata)["requirements"][0]["noun"] for p in found) == ["cow", "traffic light"]


@pytest.mark.parametrize("change", [{"objects": [None]}, {"objects": [{}]}, {"skill": ["object"]}])
def test_a_layout_row_of_another_type_is_bad(tmp_path: Path, change: dict[str, Any]):
    row = vpeval(0, "object", "a kite", thing("kite")) | change
    with pytest.raises(RrrError) as caught:
        both_splits(Layout(data=written(tmp_path / "a.json", [row])))
    assert caught.value.exit_code == BAD_INPUT


def test_paintskills_rows_say_skill_and_split(tmp_path: Path):
    rows = [vpeval(i, "x", f"{i} cups", *[thing("cup")] * i) | {"skill": "count", "split": "val"} for i in range(1, 5)]
    task = Layout(data=written(tmp_path / "count_val.json", {"data": rows}))
    assert len(both_splits(task)) == 4


def test_a_file_of_nothing_that_boxes_show_is_refused(tmp_path: Path):
    rows = [vpeval(i, "text", f"a sign that says '{i}'") for i in range(3)]
    with pytest.raises(RrrError, match="3 of 3 rows are left out, not one can be used"):
        both_splits(Layout(data=written(tmp_path / "text.json", {"data": rows})))


# HotpotQA ------------------------------------------------------------------------------------------------------------

PAGE = ["Ada", ["Ada wrote notes. ", "She lived in London."]]


def hotpotqa(data: Path) -> Any:
    pytest.importorskip("bm25s")
    from rrr_cli.tasks.hotpotqa import HotpotQA

    return HotpotQA(data=str(data))


def test_a_question_without_paragraphs_uses_those_of_the_others(tmp_path: Path):
    rows = [{"_id": "1", "question": "Where did Ada live?", "answer": "London", "context": [PAGE], "split": "train"},
            {"_id": "2", "question": "Who wrote notes?", "answer": "Ada", "context": [], "split": "train"},
            {"_id": "3", "question": "What did Ada write?", "answer": "notes", "split": "train"}]
    task = hotpotqa(Path(written(tmp_path / "hotpot_dev_fullwiki_v1.json", rows)))
    assert len(list(task.problems("train"))) == 3
    assert [page.title for page in task.corpus().pages] == ["Ada"]


def test_a_folder_holds_shards_or_questions_beside_a_corpus(tmp_path: Path):
    rows = [{"question": f"Who is {i}?", "answer": "Ada", "split": "train"} for i in range(4)]
    written(tmp_path / "hotpot_train_v1.1.json", rows[:2])
    written(tmp_path / "more.json", rows[2:])
    written(tmp_path / "corpus.json", [{"id": "12", "title": PAGE[0], "text": PAGE[1]}])
    task = hotpotqa(tmp_path)
    assert len(list(task.problems("train"))) == 4
    assert task.corpus().pages[0].sentences == ("Ada wrote notes.", "She lived in London.")
    (tmp_path / "corpus.json").unlink()
    written(tmp_path / "more.json", [rows[2] | {"context": {"title": [PAGE[0]], "sentences": [PAGE[1]]}}])
    task = hotpotqa(tmp_path)
    assert len(list(task.problems("train"))) == 3
    assert len(task.corpus().pages) == 1


# HumanEval and asserts -----------------------------------------------------------------------------------------------

HALF = {
    "task_id": "HumanEval/900", "entry_point": "halves", "split": "train",
    "prompt": 'from typing import List\n\n\ndef halves(values: List[int]) -> List[float]:\n    """ Half of each.\n    '
              '>>> halves([2])\n    [1.0]\n    """\n',
    "canonical_solution": "    return [value / 2 for value in values]\n",
    "test": "\n\nMETADATA = {'author': 'x'}\n\n\ndef check(candidate):\n    assert candidate([2]) == [1.0], 'one'\n"
            "    assert candidate([]) == []\n    assert all(abs(a - 0.5) < 1e-9 for a in candidate([1, 1]))\n"
            "    assert True, 'done'\n",
}


def code(text: str) -> list[Message]:
    return [Message("assistant", f"```python\n{text}\n```")]


@needs_sandbox
def test_humanevals_own_row_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    loop = "def check(candidate):\n    for i in range(3):\n        assert candidate([i]) == [i / 2]\n"
    task = Mbpp(data=written(tmp_path / "HumanEval.json", [HALF, HALF | {"prompt": "def f():", "test": loop}]))
    [problem] = task.problems("train")
    prompt = problem.prompt[0].content
    assert "def halves(values: List[int])" in prompt
    assert "assert halves([2]) == [1.0]" in prompt
    assert "1e-09" not in prompt, "the other tests are hidden"
    assert task.verify(problem, code(json.loads(problem.reference))).success
    assert task.verify(problem, code("def halves(values: List[int]):\n    return [v / 2 for v in values]")).success
    assert not task.verify(problem, code("def halves(values):\n    return [1.0] if values else []")).success
    assert not task.verify(problem, code("def other(values):\n    return values")).success
    assert "its check does more than assert" in capsys.readouterr().err


SOLUTION = """
def twice(x): return 2 * x
def table(): return {"a": 1, "b": 2}
def nothing(): return None
class Box:
    def __init__(self, x): self.x = x
    def plus(self, y): return self.x + y
ALL = [1, 2, 3]
"""
HOLDS = [
    "assert all(twice(x) == y for x, y in [(1, 2), (3, 6)])",
    "assert any(twice(x) == 6 for x in range(5) if x > 2), 'a message'",
    "assert all(twice(x) > 2 for x in range(4) if twice(x) > 2)",
    "assert all(v > 0 for k, v in table().items())",
    "assert all(twice(x) == 2 * x for row in [[1, 2], [3]] for x in row)",
    "assert all(any(twice(x + y) > y for y in range(x)) for x in [2, 3])",
    "assert not any(twice(x) % 2 == 1 for x in ALL)",
    "assert all([Box(1).plus(2) == 3, Box(4).x == 4])",
    "assert bool(1 < twice(1) < 3)",
    "assert twice(1) == 2 if len(ALL) > 2 else twice(1) == 3",
    "assert {k: twice(k) > 2 for k in ALL}[2]",
    "assert (lambda value: value == 4)(twice(2))",
    "assert nothing() is None and not nothing()",
]


CHANGES = [("2 * x", "3 * x + 1"), ('"a": 1', '"a": -1'), ("self.x =", "self.x = 1 +"), ("None", "1"), ("[1,", "[9,")]


def python_says(solution: str, test: str) -> bool:
    try:
        exec(compile(solution + test, "<test>", "exec"), {})
    except AssertionError:
        return False
    return True


@needs_sandbox
@pytest.mark.parametrize("test", HOLDS)
def test_an_assert_of_any_form_means_what_python_means(test: str):
    problem = make_problem("Twice.", SOLUTION, [test], "train", "easy", "easy")
    solutions = [SOLUTION, *(SOLUTION.replace(*change) for change in CHANGES)]
    verdicts = Mbpp().verify_many([(problem, code(solution)) for solution in solutions])
    expected = [python_says(solution, test) for solution in solutions]
    assert [verdict.success for verdict in verdicts] == expected
    assert expected[0]


LIAR = """
import builtins
class Liar(int):
    def __eq__(self, other): return True
    def __lt__(self, other): return True
    def __abs__(self): return self
    def __sub__(self, other): return self
    __rsub__, __hash__ = __sub__, int.__hash__
builtins.all = lambda values: True
builtins.abs = lambda value: 0
builtins.zip = lambda *lists, **more: []
def twice(x): return Liar(9)
def many(): return [Liar(9), Liar(9)]
"""


@needs_sandbox
@pytest.mark.parametrize("test", [
    HOLDS[0], "assert all(abs(a - b) < 0.1 for a, b in zip(many(), [1, 2]))",
    "assert all(twice(a) == b for a, b in zip([1], [2]))",
])
def test_no_object_lies_in_an_inner_comparison(test: str):
    problem = make_problem("Twice.", SOLUTION, [test], "train", "easy", "easy")
    assert not Mbpp().verify(problem, code(LIAR)).success


def test_what_depends_on_a_lambda_is_refused():
    with pytest.raises(ValueError, match="depends on a lambda"):
        read_test("assert all((lambda v: f(v) > 2)(x) for x in [3])")
