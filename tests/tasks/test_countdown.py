"""Countdown: what the generator promises, what the verifier accepts and refuses, what a data file may hold."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from fractions import Fraction
from itertools import combinations_with_replacement, islice, permutations
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from countdown_oracle import oracle, random_case, random_tree
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rrr_cli.errors import BAD_INPUT, NO_BACKEND, USAGE, RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.countdown import Countdown, make_problem
from rrr_cli.tasks.countdown.arithmetic import evaluate, parse
from rrr_cli.tasks.countdown.judge import judge
from rrr_cli.tasks.countdown.problem import problem_key
from rrr_cli.tasks.countdown.solver import solutions
from rrr_cli.tasks.rows import bad_rows
from rrr_cli.tasks.solves import solves

SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "data"
EASY_TEST_FIRSTS = [
    {"nums": [7, 2, 10], "target": 68},
    {"nums": [9, 7, 10], "target": 6},
    {"nums": [5, 4, 3], "target": 11},
]
PAPER_TEST_FIRSTS = [
    {"nums": [24, 77, 11, 73], "target": 66},
    {"nums": [16, 53, 52], "target": 89},
    {"nums": [60, 6, 7, 88], "target": 24},
]


def verdict_of(answer: str, nums: list[int], target: int):
    return judge(f"<think>hm</think> <answer>{answer}</answer>", nums, target)


# The generator


@pytest.fixture(scope="module")
def paper() -> list[Problem]:
    return list(islice(Countdown("paper").problems("train"), 700))


def test_easy_has_all_problems_but_the_prompts_example():
    train, test = (list(Countdown().problems(split)) for split in ("train", "test"))
    solvable = {
        problem_key(numbers, int(value))
        for numbers in combinations_with_replacement(range(1, 11), 3)
        for value in brute_force([Fraction(n) for n in numbers])
        if value.denominator == 1 and 1 <= value <= 100
    }
    assert {p.problem_id for p in train + test} == solvable - {problem_key([1, 2, 3], 1)}
    assert len(train) + len(test) == len(solvable) - 1 == 2914
    assert len(test) >= 600
    assert {p.difficulty for p in train + test} == {"easy-3"}


def test_easy_does_not_show_numbers_in_sorted_order():
    shown = [json.loads(p.metadata)["nums"] for p in Countdown().problems("test")]
    assert 0.5 < sum(nums != sorted(nums) for nums in shown) / len(shown) < 0.95


def test_easy_is_the_same_problem_set_as_ever():
    """Changing the generator would make published numbers incomparable, so the first problems are pinned."""
    firsts = [json.loads(p.metadata) for p in islice(Countdown().problems("test"), 3)]
    assert firsts == EASY_TEST_FIRSTS
    firsts = [json.loads(p.metadata) for p in islice(Countdown("paper").problems("test"), 3)]
    assert firsts == PAPER_TEST_FIRSTS


def test_paper_has_three_or_four_numbers_equally(paper: list[Problem]):
    counts = Counter(p.difficulty for p in paper)
    assert set(counts) == {"paper-3", "paper-4"}
    assert 284 < counts["paper-3"] < 416  # 5 standard deviations about 350


def test_paper_targets_are_uniform_and_numbers_in_range(paper: list[Problem]):
    rows = [json.loads(p.metadata) for p in paper]
    targets = [row["target"] for row in rows]
    assert (min(targets), max(targets)) == (10, 100)
    bins = Counter((target - 10) // 13 for target in targets)  # 7 bins of 13 targets
    assert sum((n - 100) ** 2 / 100 for n in bins.values()) < 22.5  # chi squared, 6 degrees, p = 0.001
    numbers = [n for row in rows for n in row["nums"]]
    assert min(numbers) >= 1
    assert max(numbers) <= 99
    assert any(len(set(row["nums"])) < len(row["nums"]) for row in rows), "numbers may repeat"


def test_paper_splits_are_disjoint_also_from_easy(paper: list[Problem]):
    test = {p.problem_id for p in islice(Countdown("paper").problems("test"), 60)}
    assert len(test) == 60
    assert not test & {p.problem_id for p in paper}
    assert not test & {p.problem_id for p in Countdown("easy").problems("train")}


def test_prompt_is_the_papers(paper: list[Problem]):
    row = json.loads(paper[0].metadata)
    text = paper[0].prompt[0].content
    assert text.startswith(f"Using the numbers {row['nums']}, create an equation that equals {row['target']}. ")


def test_level_errors_say_what_to_type():
    with pytest.raises(RrrError, match="easy, paper") as caught:
        Countdown("hard")
    assert caught.value.exit_code == USAGE
    with pytest.raises(RrrError, match="leave out --data"):
        Countdown("easy", data="problems.jsonl")


# The solver


@given(st.lists(st.integers(0, 12), min_size=2, max_size=4), st.integers(0, 40))
@example([5, 5, 7, 8], 0)
@example([0, 0, 7, 8], 0)
@example([0, 3, 3, 9], 9)
@settings(max_examples=40, deadline=None)
def test_solver_agrees_with_brute_force(numbers: list[int], target: int):
    found = list(solutions(numbers, target))
    assert len(set(found)) == len(found)
    assert all(verdict_of(text, numbers, target).success for text in found)
    assert bool(found) == (Fraction(target) in brute_force([Fraction(n) for n in numbers]))


def brute_force(values: list[Fraction]) -> set[Fraction]:
    """Every value, by putting any two numbers together until one is left."""
    if len(values) == 1:
        return set(values)
    found: set[Fraction] = set()
    for i, j in permutations(range(len(values)), 2):
        rest = [v for k, v in enumerate(values) if k not in (i, j)]
        a, b = values[i], values[j]
        for value in {a + b, a - b, a * b} | ({a / b} if b else set()):
            found |= brute_force([*rest, value])
    return found


def test_solver_needs_fractions_and_zeros_on_the_way():
    assert "8 / (3 - 8 / 3)" in set(solutions([8, 3, 8, 3], 24))
    assert list(solutions([5, 5, 7, 24], 24)), "24 + 7 * (5 - 5)"
    assert not list(solutions([1, 1, 1], 24))


# The verifier


@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 30), min_size=1, max_size=5))
@settings(max_examples=150, deadline=None)
def test_an_expression_verifies_with_its_value_alone(random: Random, numbers: list[int]):
    text = random_tree(random, numbers)
    shuffled = random.sample(numbers, len(numbers))
    try:
        value = evaluate(parse(text))
    except ZeroDivisionError:
        assert verdict_of(text, shuffled, 1).error_type == "division_by_zero"
        return
    if value.denominator == 1:
        assert verdict_of(text, shuffled, int(value)).success
    assert verdict_of(text, shuffled, int(value) + 1).error_type == "wrong_value"
    assert verdict_of(text, [*shuffled, 7], int(value)).error_type == "wrong_numbers"
    assert verdict_of(f"{text} + {numbers[0]}", shuffled, int(value)).error_type == "wrong_numbers"
    assert verdict_of(f"{text} +", shuffled, int(value)).error_type == "malformed"


@given(st.text(st.characters()) | st.text(st.characters(categories=["Cs"])) | st.text("0123456789+-*/() \n<answer>"))
@example("\ud800</answer>")
@example("<answer>" * 1000 + "</answer>" * 1000)
@settings(max_examples=200, deadline=None)
def test_any_text_gets_a_verdict(text: str):
    problem = make_problem([3, 7, 8], 29, "train", "easy", "3 * 7 + 8")
    task = Countdown()
    for said in (text, f"<answer>{text}</answer>"):
        verdict = task.verify(problem, [Message("assistant", said)])
        assert not verdict.success
        assert verdict.error_type in task.error_types
        assert verdict.feedback.isprintable()
        solves(task, problem, said)


def test_the_verifier_agrees_with_one_written_apart():
    seen = set()
    for i in range(4000):
        text, numbers, target = random_case(Random(i))
        verdict = judge(text, numbers, target)
        assert verdict.error_type == oracle(text, numbers, target), (text, numbers, target)
        assert verdict.success == (verdict.error_type is None)
        seen.add(verdict.error_type)
    assert seen == {None, *Countdown.error_types}


@pytest.mark.parametrize(
    ("answer", "error_type"),
    [
        ("9**9**9", "malformed"),
        ("8//3 + 7", "malformed"),
        ("(" * 10_000 + "3" + ")" * 10_000, "too_long"),
        ("(" * 60, "malformed"),
        ("3" * 10, "too_long"),
        ("1" * 400, "too_long"),
        ("+".join(["3"] * 33), "too_long"),
        ("1e9", "malformed"),
        ("1_0", "malformed"),
        ("0x10", "malformed"),
        ("03 * 7 + 8", "malformed"),
        ("3.0 * 7 + 8", "malformed"),
        ("٣ * 7 + 8", "malformed"),
        ("３ * ７ + ８", "malformed"),
        ("3 × 7 − 8", "wrong_value"),
        ("3 x7 + 8", "malformed"),
        ("3\u200b* 7 + 8", "malformed"),
        ("3 * 7 + 8 # right", "malformed"),
        ("3 * 7 + 8\x00", "malformed"),
        ("3(7) + 8", "malformed"),
        ("(3)(7) + 8", "malformed"),
        ("3 7 8", "malformed"),
        ("-3 * 7 + 8", "wrong_value"),
        ("--3 * 7 + 8", "malformed"),
        ("-+3 * 7 + 8", "malformed"),
        ("3 * 7 + + 8", "malformed"),
        ("8 - - -(3 * 7)", "malformed"),
        ("3 * 7 + 8 = 30", "malformed"),
        ("3 * 7 - 8 = 29", "wrong_value"),
        ("3 * 7 = 21 + 8 = 29", "malformed"),
        ("= 29", "malformed"),
        ("()", "malformed"),
        ("(3 * 7 + 8", "malformed"),
        ("3 * 7 + 8)", "malformed"),
        ("3 *", "malformed"),
        ("__import__('os')", "malformed"),
        ("\ud800", "malformed"),
        ("", "no_answer"),
        (" \n ", "no_answer"),
        ("3 * 7 + 8 + 0 / (8 - 8)", "wrong_numbers"),
        ("3 * 7 + 8 + 3 - 3", "wrong_numbers"),
        ("3 * 7", "wrong_numbers"),
        ("29", "wrong_numbers"),
        ("3 + 7 + 8", "wrong_value"),
        ("3 / 7 / 8", "wrong_value"),
    ],
)
def test_hostile_and_wrong_answers_fail_by_name(answer: str, error_type: str):
    verdict = verdict_of(answer, [3, 7, 8], 29)
    assert (verdict.success, verdict.score, verdict.error_type) == (False, 0.0, error_type)
    assert len(verdict.feedback) < 300


@pytest.mark.parametrize("answer", [
    "3 × 7 + 8", "7\u00a0·\u00a03 + 8", "8 − −(3 ∗ 7)", "+3 * 7 + 8", "-(-3 * 7) + 8", "8 + (-3) * -7", "3 x 7 + 8",
    "3 * 7 + 8 = 29", "29 = 8 + 7 * 3", "3 * 7 + 8.", "$3 \\times 7 + 8$", "\\(3 \\cdot 7 + 8 = 29\\)",
    "\\boxed{8 + \\left(3 \\times 7\\right)}", "**8+3*7**", "`8 + 3*7`", "\r\n3*7\r\n+8\r\n",
    "\uff083 \uff0a 7\uff09\uff0b8", "3 \\* 7 \\+ 8", "\u201c3 * 7 + 8\u201d", "```python\n3 * 7 + 8\n```",
    "3*7 + 8 == 29", "3 * 7 + 8 = \\boxed{29}", "$\\displaystyle 3 \\times 7 + 8 = 29$",
])
def test_an_expression_counts_however_it_is_typed(answer: str):
    assert verdict_of(answer, [3, 7, 8], 29).success


def test_fractions_and_thousands_are_read():
    assert verdict_of("\\frac{8}{3 - \\frac{8}{3}}", [8, 8, 3, 3], 24).success
    assert verdict_of("\\dfrac{9}{4}", [9, 4], 2).error_type == "wrong_value", "9/4 isn't 2"
    assert verdict_of("1,250 - 50 = 1200", [1250, 50], 1200).success
    assert verdict_of("1,25 - 50", [125, 50], 75).error_type == "malformed"


@pytest.mark.parametrize("text", [
    "<think>so <answer>3 * 7 + 8</answer>", "so <answer>3 * 7 + 8</answer></think>",
    "<think><answer>3 * 7 + 8</answer></think><answer>3</answer>",
])
def test_an_answer_within_a_thought_does_not_count(text: str):
    problem = make_problem([3, 7, 8], 29, "train", "easy", "3 * 7 + 8")
    assert not Countdown().verify(problem, [Message("assistant", text)]).success


def test_division_by_zero_has_its_own_name():
    assert verdict_of("7 / (3 - 3)", [3, 3, 7], 7).error_type == "division_by_zero"
    assert verdict_of("0 / (3 - 3)", [3, 3, 0], 7).error_type == "division_by_zero"


@pytest.mark.parametrize(
    ("text", "error_type"),
    [
        ("<answer>3</answer> no, <answer>3 * 7 + 8</answer>", None),
        ("<answer>3 * 7 + 8</answer> no, <answer>3</answer>", "wrong_numbers"),
        ("<answer>3 * 7 + 8</answer> and more text", None),
        ("<answer>3 * 7 + 8</answer> or <answer>3 +", None),
        ("<answer> <answer>3 * 7 + 8</answer>", None),
        ("<answer>3 * 7 + 8</answer> </answer>", "malformed"),
        ("<answer>3 * 7 + 8", "no_answer"),
        ("3 * 7 + 8</answer>", "no_answer"),
        ("</answer>3 * 7 + 8<answer>", "no_answer"),
        ("<ANSWER>3 * 7 + 8</ANSWER>", "no_answer"),
        ("3 * 7 + 8", "no_answer"),
        ("", "no_answer"),
    ],
)
def test_the_last_closed_answer_counts(text: str, error_type: str | None):
    assert judge(text, [3, 7, 8], 29).error_type == error_type


def test_the_last_assistant_turn_counts():
    problem = make_problem([3, 7, 8], 29, "train", "easy", "3 * 7 + 8")
    right, wrong = Message("assistant", "<answer>8+7*3</answer>"), Message("assistant", "<answer>3</answer>")
    hint = Message("user", "<answer>3 * 7 + 8</answer>")
    assert Countdown().verify(problem, [wrong, hint, right, Message("user", "well?")]).success
    assert not Countdown().verify(problem, [right, hint, wrong]).success
    assert Countdown().verify(problem, [hint]).error_type == "no_answer"
    assert Countdown().verify(problem, []).error_type == "no_answer"


def test_the_answer_is_what_was_parsed():
    assert verdict_of("\n( 3*7 )  +\t8 ", [3, 7, 8], 29).answer == "( 3*7 ) + 8"
    assert verdict_of("3 + \x00", [3, 7, 8], 29).answer is None


# Data files

ROWS = [
    {"nums": [44, 19, 35], "target": 98, "solution": "44 + (19 + 35)", "split": "train", "id": "a"},
    {"nums": [8, 3, 8, 3], "target": 24, "solution": None, "split": "test", "id": "b"},
    {"nums": [19, 44, 35], "target": 98, "solution": None, "split": "train", "id": "the first again"},
]


def write_rows(folder: Path, kind: str, rows: list[dict]) -> str:
    path = folder / f"rows{kind}"
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == ".json":
        path.write_text(json.dumps(rows))
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(text) if kind.endswith(".gz") else text)
    return str(path)


@pytest.mark.parametrize("kind", [".parquet", ".jsonl", ".jsonl.gz", ".json"])
def test_every_kind_of_file_gives_the_same_problems(tmp_path: Path, kind: str):
    task = Countdown(data=write_rows(tmp_path, kind, ROWS))
    (train,), (test,) = task.problems("train"), task.problems("test")
    assert json.loads(train.metadata) == {"nums": [44, 19, 35], "target": 98}
    assert json.loads(train.reference) == "44 + (19 + 35)"
    assert test.difficulty == "data-4"
    assert task.verify(test, [Message("assistant", f"<answer>{json.loads(test.reference)}</answer>")]).success


def test_without_a_split_column_the_key_decides(tmp_path: Path):
    rows = [{"nums": [a, b], "target": a + b} for a in range(1, 25) for b in range(1, a)]
    first, second = tmp_path / "first", tmp_path / "test"
    first.mkdir(), second.mkdir()
    whole = Countdown(data=write_rows(first, ".jsonl", rows))
    part = Countdown(data=write_rows(second, ".jsonl", rows[100:][::-1]))
    train, test = ({p.problem_id for p in whole.problems(split)} for split in ("train", "test"))
    assert not train & test
    assert len(train) + len(test) == len(rows)
    assert 1 <= len(test) < 30
    assert {p.problem_id for p in part.problems("train")} < train


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"target": 5}, "column nums: found None"),
        ({"nums": "2 3", "target": 5}, "column nums: found '2 3'"),
        ({"nums": [2, 3.0], "target": 5}, "column nums"),
        ({"nums": [2, True], "target": 3}, "column nums"),
        ({"nums": [2, -3], "target": 5}, "column nums"),
        ({"nums": [5], "target": 5}, "column nums"),
        ({"nums": [2] * 7, "target": 14}, "column nums"),
        ({"nums": [2, 10**9], "target": 5}, "column nums"),
        ({"nums": [2, 3]}, "column target: found None"),
        ({"nums": [2, 3], "target": "5"}, "column target: found '5'"),
        ({"nums": [2, 3], "target": 17}, r"column target: \[2, 3\] can't reach 17"),
        ({"nums": [2, 3], "target": 5, "solution": "2 * 3"}, "column solution: '2 \\* 3' is not right"),
        ({"nums": [2, 3], "target": 5, "solution": ["\x1b[2J"]}, "column solution"),
        ({"nums": [2, 3], "target": 5, "split": "dev"}, "column split: found 'dev'"),
        ([2, 3, 5], "wanted an object"),
    ],
)
def test_a_bad_row_is_refused_by_its_place(tmp_path: Path, row: object, said: str):
    good = {"nums": [44, 19, 35], "target": 98}
    bad = {"split": "train", **row} if isinstance(row, dict) else row
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in [good, bad]))
    with bad_rows(strict=True), pytest.raises(RrrError, match=said) as caught:
        list(Countdown(data=str(path)).problems("train"))
    assert caught.value.exit_code == BAD_INPUT
    assert str(caught.value).startswith(f"{path}, row 2")
    assert str(caught.value).isprintable(), "one line that can't steer a terminal"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.jsonl", b"{\n", "row 1: not JSON"),
        ("rows.jsonl", b"[" * 100_000, "row 1: not JSON"),
        ("rows.jsonl", b"\xff\xff", "row 1: not JSON"),
        ("rows.jsonl", b"", "none|no row is for train"),
        ("rows.json", b'{"nums": [2, 3]}', "row 1, column target: found None"),
        ("rows.jsonl.gz", b"not gzip", "row 1: not JSON"),
        ("rows.jsonl.gz", b"\x1f\x8b not gzip", "not readable"),
        ("rows.parquet", b"PAR1 not parquet", "not readable as Parquet"),
    ],
)
def test_an_unreadable_file_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, said: str):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RrrError, match=said) as caught:
        list(Countdown(data=str(path)).problems("train"))
    assert caught.value.exit_code == BAD_INPUT
    assert "\n" not in str(caught.value)


def test_missing_and_unknown_files_are_refused_at_once(tmp_path: Path):
    with pytest.raises(RrrError, match="no such file"):
        Countdown(data=str(tmp_path / "none.jsonl"))
    (tmp_path / "rows.csv").write_text("nums,target\n")
    with pytest.raises(RrrError, match="should end in"):
        Countdown(data=str(tmp_path / "rows.csv"))


def test_one_problem_in_both_splits_is_refused(tmp_path: Path):
    path = write_rows(tmp_path, ".jsonl", [ROWS[0], {**ROWS[2], "split": "test"}])
    with bad_rows(strict=True), pytest.raises(RrrError, match="row 2, column split: the problem stands in both splits"):
        list(Countdown(data=path).problems("train"))


def test_the_hub_without_datasets_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(RrrError, match=r"pip install 'rrr_cli\[train\]'") as caught:
        next(Countdown(data="Jiayi-Pan/Countdown-Tasks-3to4").problems("train"))
    assert caught.value.exit_code == NO_BACKEND


@pytest.mark.parametrize(("name", "count"), [("countdown_train", 10_240), ("countdown_test_512", 512)])
def test_every_reference_of_the_shared_data_passes(name: str, count: int):
    path = SHARED / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path.name} isn't here")
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert len(rows) == count
    failed = [r["id"] for r in rows if not verdict_of(r["solution"], r["nums"], r["target"]).success]
    assert not failed
