"""MBPP's problems (arXiv 2108.07732) and HumanEval's (2107.03374): files (`tasks/reading.py`), or the hub's MBPP.

A row of MBPP has `text` (or, in the sanitized set and MBPP+, `prompt`), `code`, and `test_list`, asserts that the
prompt shows and that decide the verdict. `test_imports` run before the code, `test_setup_code` after it (two of MBPP's
build objects of classes that the code defines). `challenge_test_list` is left aside, as in the paper's pass rates.

A row of HumanEval has `prompt` (the beginning of a function, which the model is to write whole), `canonical_solution`,
`entry_point` and `test`, whose check(candidate) has to be asserts: the first is shown, the others are hidden. A row
whose check does more (a loop, random numbers) is left out and counted. Other columns are ignored.

Splits: a column `split` says train or test; rows of its validation and prompt belong to neither. Without it MBPP's own
numbers do: `task_id` 601 to 974 is train, 11 to 510 test; 1 to 10 (the paper's prompt) and 511 to 600 (validation) are
left out. A row with no such number falls by the hash of its text and tests, one in five into test. A problem that
occurs twice is given once. `tasks/rows.py` says what becomes of a bad row.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.records import Problem
from rrr_cli.tasks.mbpp.problem import MAX_CODE, WORDS, make_problem, problem_key
from rrr_cli.tasks.mbpp.unit_tests import read_test
from rrr_cli.tasks.reading import shown
from rrr_cli.tasks.rows import LeftOut, check_source, read_rows
from rrr_cli.tasks.splits import Candidate, problems_in, split_in, split_of

HUB_NAME = "google-research-datasets/mbpp"
COLUMNS = ("text", "prompt", "code", "task_id", "test_list", "test_imports", "test_setup_code", "split",
           "canonical_solution", "entry_point", "test")
SPLITS = ("train", "test", "validation", "prompt")
RANGES = {"prompt": range(1, 11), "test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
TEST_SHARE = 0.2


def check(data: str) -> None:
    """Raises RrrError unless `data` is the hub's data set (exit 3) or a file of a known kind (exit 2)."""
    check_source(data, HUB_NAME)


def problems(data: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The problems of `split` in the order of the rows. Raises RrrError (exit 3): bad rows, or no row of `split`."""
    def read(row: dict[str, Any], place: str) -> Candidate:
        if row.get("test_list") is None and row.get("entry_point") is not None:
            return _humaneval(row, place, split, words)
        text = _text(row, "prompt" if row.get("text") is None else "text", place)
        code = _text(row, "code", place)
        tests = _tests(row, place)
        imports = "\n".join(_texts(row, "test_imports", place))
        setup = _text(row, "test_setup_code", place) if row.get("test_setup_code") else ""
        key = problem_key(text, tests)
        return Candidate(key, split_in(row, place, SPLITS) or _own_split(row, key), lambda: make_problem(
            text, code, tests, split, f"data-{len(tests)}", "data", (), imports, setup, words))

    return problems_in(data, split, read_rows(data, HUB_NAME, COLUMNS, "train+test"), read, TEST_SHARE)


def _humaneval(row: dict[str, Any], place: str, split: str, words: Mapping[str, str]) -> Candidate:
    start, solution, name, check = (_text(row, column, place)
                                    for column in ("prompt", "canonical_solution", "entry_point", "test"))
    tests = _checked_tests(_asserts(check, name, place), "test", place)
    imports = start if _is_python(start) else ""  # the imports and helpers that a solution may use
    key = problem_key(start, tests[:1])
    return Candidate(key, split_in(row, place, SPLITS) or split_of(key, TEST_SHARE), lambda: make_problem(
        start, start + solution, tests[:1], split, f"data-{len(tests)}", "data", tests[1:], imports, "", words))


def _asserts(check: str, name: str, place: str) -> list[str]:
    """The asserts of `def check(candidate)`, about the function `name`. Raises LeftOut: it does more than assert."""
    if not _is_python(check):
        raise RrrError(f"{place}, column test: not Python", BAD_INPUT)
    functions = [node for node in ast.parse(check).body if isinstance(node, ast.FunctionDef) and node.name == "check"]
    if len(functions) != 1 or len(functions[0].args.args) != 1:
        raise RrrError(f"{place}, column test: found {shown(check)}, wanted def check(candidate)", BAD_INPUT)
    candidate, asserts = functions[0].args.args[0].arg, []
    for statement in functions[0].body:
        names = [node for node in ast.walk(statement) if isinstance(node, ast.Name) and node.id == candidate]
        if names and not isinstance(statement, ast.Assert):
            raise LeftOut(f"{place}: its check does more than assert")
        for node in names:
            node.id = name
        asserts += [ast.unparse(statement)] if names else []
    return asserts


def _is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


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
    return _checked_tests([test.strip() for test in _texts(row, "test_list", place)], "test_list", place)


def _checked_tests(tests: list[str], column: str, place: str) -> list[str]:
    if not tests:
        raise RrrError(f"{place}, column {column}: found none, wanted a list of asserts", BAD_INPUT)
    for test in tests:
        try:
            read_test(test)
        except ValueError as error:
            raise RrrError(f"{place}, column {column}: found {shown(test)}, {error}", BAD_INPUT) from None
    return tests


def _own_split(row: dict[str, Any], key: str) -> str:
    """MBPP's own split by the row's number, or by the hash of its text and tests."""
    number = row.get("task_id")
    own = [name for name, numbers in RANGES.items() if isinstance(number, int) and number in numbers]
    return own[0] if own else split_of(key, TEST_SHARE)
