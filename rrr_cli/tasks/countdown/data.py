"""Countdown problems from data: files of Parquet or JSON (`tasks/reading.py`), or the hub's data set.

A row has `nums` (2 to 6 whole numbers) and `target` (a whole number); `solution`, where there is one, becomes the
reference, and `split` ("train" or "test"), where there is one, says where the row belongs. Other columns are ignored.
Without a split column the problem's key decides, one problem in 30 is for test: the same problem then falls into the
same split whatever file it stands in, whatever the file is called. A problem that occurs twice is given once.

Rows are read as they are asked for. Bad is a row with a column missing or of the wrong type, with a wrong solution, or
whose problem has none; `tasks/rows.py` says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.records import Problem
from rrr_cli.tasks.countdown.arithmetic import MAX_DIGITS
from rrr_cli.tasks.countdown.judge import judge
from rrr_cli.tasks.countdown.problem import TEST_SHARE, WORDS, make_problem, problem_key
from rrr_cli.tasks.countdown.solver import solutions
from rrr_cli.tasks.reading import shown
from rrr_cli.tasks.rows import check_source, read_rows
from rrr_cli.tasks.splits import Candidate, problems_in, split_in

HUB_NAME = "Jiayi-Pan/Countdown-Tasks-3to4"
COLUMNS = ("nums", "target", "solution", "split")


def check(data: str) -> None:
    """Raises RrrError unless `data` is the hub's data set (exit 3) or a file of a known kind (exit 2)."""
    check_source(data, HUB_NAME)


def problems(data: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The problems of `split` in the order of the rows. Raises RrrError (exit 3): bad rows, or no row of `split`."""
    def read(row: dict[str, Any], place: str) -> Candidate:
        nums, target = _numbers(row, place), _integer(row, "target", place)
        return Candidate(problem_key(nums, target), split_in(row, place), lambda: make_problem(
            nums, target, split, "data", _reference(row, nums, target, place), words))

    return problems_in(data, split, read_rows(data, HUB_NAME, COLUMNS), read, TEST_SHARE)


def _numbers(row: dict[str, Any], place: str) -> list[int]:
    nums = row.get("nums")
    if not isinstance(nums, list) or not 2 <= len(nums) <= 6 or not all(_is_number(n) and n >= 0 for n in nums):
        raise RrrError(f"{place}, column nums: found {shown(nums)}, wanted a list of 2 to 6 whole numbers", BAD_INPUT)
    return nums


def _integer(row: dict[str, Any], column: str, place: str) -> int:
    value = row.get(column)
    if not _is_number(value):
        raise RrrError(f"{place}, column {column}: found {shown(value)}, wanted a whole number", BAD_INPUT)
    return value


def _is_number(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**MAX_DIGITS


def _reference(row: dict[str, Any], nums: list[int], target: int, place: str) -> str:
    """The row's own solution, once it has passed the verifier, or one that the solver finds."""
    given = row.get("solution")
    if given is None:
        solution = next(solutions(nums, target), None)
        if solution is None:
            raise RrrError(f"{place}, column target: {nums} can't reach {target}; leave the row out", BAD_INPUT)
        return solution
    verdict = judge(f"<answer>{given}</answer>", nums, target)
    if verdict.answer is None or not verdict.success:
        raise RrrError(f"{place}, column solution: {shown(given)} is not right. {verdict.feedback}", BAD_INPUT)
    return verdict.answer
