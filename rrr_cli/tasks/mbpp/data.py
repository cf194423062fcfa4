"""MBPP's problems (arXiv 2108.07732): a local .parquet, .jsonl, .jsonl.gz or .json (a list) file, or the hub's.

A row has `text` (or, in the sanitized set, `prompt`), `code`, and `test_list`, asserts that the prompt shows and that
decide the verdict. `test_imports` run before the code, `test_setup_code` after it (two of MBPP's build objects of
classes that the code defines). `challenge_test_list` is left aside, as in the paper's pass rates. Other columns are
ignored.

Splits: a column `split` says train or test; rows of its validation and prompt belong to neither. Without it MBPP's own
numbers do: `task_id` 601 to 974 is train, 11 to 510 test; 1 to 10 (the paper's prompt) and 511 to 600 (validation) are
left out. A row with no such number falls by the hash of its text and tests, one in five into test. A problem that
occurs twice is given once. A bad row stops the reading with the file, row and column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.records import Problem
from rrr_cli.tasks.mbpp.judge import reference_fault
from rrr_cli.tasks.mbpp.problem import MAX_CODE, WORDS, make_problem, problem_key
from rrr_cli.tasks.mbpp.unit_tests import read_test
from rrr_cli.tasks.rows import check_source, read_rows, shown
from rrr_cli.tasks.splits import split_in, split_of

HUB_NAME = "google-research-datasets/mbpp"
COLUMNS = ("text", "prompt", "code", "task_id", "test_list", "test_imports", "test_setup_code", "split")
SPLITS = ("train", "test", "validation", "prompt")
RANGES = {"prompt": range(1, 11), "test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
TEST_SHARE = 0.2


def check(data: str) -> None:
    """Raises RrrError unless `data` is the hub's data set (exit 3) or a file of a known kind (exit 2)."""
    check_source(data, HUB_NAME)


def problems(data: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The problems of `split` in the order of the rows. Raises RrrError (exit 3): a bad row, or no row of `split`."""
    split_by_key: dict[str, str] = {}
    for number, row in enumerate(read_rows(data, HUB_NAME, COLUMNS, "train+test"), start=1):
        place = f"{data}, row {number}"
        text = _text(row, "prompt" if row.get("text") is None else "text", place)
        code = _text(row, "code", place)
        tests = _tests(row, place)
        imports = "\n".join(_texts(row, "test_imports", place))
        setup = _text(row, "test_setup_code", place) if row.get("test_setup_code") else ""
        key = problem_key(text, tests)
        row_split = split_in(row, place, SPLITS) or _own_split(row, key)
        if key not in split_by_key and row_split == split:
            problem = make_problem(text, code, tests, split, f"data-{len(tests)}", "data", (), imports, setup, words)
            if fault := reference_fault(problem):
                raise RrrError(f"{place}, column code: the reference can't pass: {fault}", BAD_INPUT)
            yield problem
        if split_by_key.setdefault(key, row_split) != row_split:
            raise RrrError(f"{place}: the problem stands in two splits; keep it in one", BAD_INPUT)
    if split not in split_by_key.values():
        raise RrrError(f"{data}: no row is for {split}; say which are in a column split (train or test)", BAD_INPUT)


def _text(row: dict[str, Any], column: str, place: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_CODE:
        expected = f"wanted text of at most {MAX_CODE:,} characters"
        raise RrrError(f"{place}, column {column}: found {shown(value)}, {expected}", BAD_INPUT)
    return value


def _texts(row: dict[str, Any], column: str, place: str) -> list[str]:
    value = row.get(column)
    value = [] if value is None else value
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise RrrError(f"{place}, column {column}: found {shown(value)}, wanted a list of texts", BAD_INPUT)
    return value


def _tests(row: dict[str, Any], place: str) -> list[str]:
    tests = [test.strip() for test in _texts(row, "test_list", place)]
    if not tests:
        raise RrrError(f"{place}, column test_list: found none, wanted a list of asserts", BAD_INPUT)
    for test in tests:
        try:
            read_test(test)
        except ValueError as error:
            raise RrrError(f"{place}, column test_list: found {shown(test)}, {error}", BAD_INPUT) from None
    return tests


def _own_split(row: dict[str, Any], key: str) -> str:
    """MBPP's own split by the row's number, or by the hash of its text and tests."""
    number = row.get("task_id")
    own = [name for name, numbers in RANGES.items() if isinstance(number, int) and number in numbers]
    return own[0] if own else split_of(key, TEST_SHARE)
