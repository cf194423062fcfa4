"""Countdown problems from data: a local .parquet, .jsonl, .jsonl.gz or .json (a list) file, or the hub's data set.

A row has `nums` (2 to 6 whole numbers) and `target` (a whole number); `solution`, where there is one, becomes the
reference, and `split` ("train" or "test"), where there is one, says where the row belongs. Other columns are ignored.
Without a split column the problem's key decides, one problem in 30 is for test: the same problem then falls into the
same split whatever file it stands in, whatever the file is called. A problem that occurs twice is given once.

Rows are read as they are asked for. A bad row (a column missing or of the wrong type, a wrong solution, a problem that
has none) stops the reading with the file, row and column; nothing is skipped in silence.
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
from rrr_cli.tasks.rows import check_source, read_rows, shown
from rrr_cli.tasks.splits import split_in, split_of

HUB_NAME = "Jiayi-Pan/Countdown-Tasks-3to4"
COLUMNS = ("nums", "target", "solution", "split")


def check(data: str) -> None:
    """Raises RrrError unless `data` is the hub's data set (exit 3) or a file of a known kind (exit 2)."""
    check_source(data, HUB_NAME)


def problems(data: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The problems of `split` in the order of the rows. Raises RrrError (exit 3): a bad row, or no row of `split`."""
    split_by_key: dict[str, str] = {}
    for number, row in enumerate(read_rows(data, HUB_NAME, COLUMNS), start=1):
        place = f"{data}, row {number}"
        nums, target = _numbers(row, place), _integer(row, "target", place)
        key = problem_key(nums, target)
        row_split = split_in(row, place) or split_of(key, TEST_SHARE)
        if key not in split_by_key and row_split == split:
            yield make_problem(nums, target, split, "data", _reference(row, nums, target, place), words)
        if split_by_key.setdefault(key, row_split) != row_split:
            raise RrrError(f"{place}, column split: the problem stands in both splits; keep it in one", BAD_INPUT)
    if split not in split_by_key.values():
        raise RrrError(f"{data}: no row is for {split}; say which are in a column split (train or test)", BAD_INPUT)


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
