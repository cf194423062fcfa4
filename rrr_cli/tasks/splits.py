"""What tasks share about splits and transcripts: which split a problem belongs to, and what the model said last.

`problems_in` is how every task's rows become the problems of a split.

Reads and writes nothing. A split is "train" or "test". It is refused where it is neither, in the same words for every
task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rrr_cli.errors import BAD_INPUT, USAGE, RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.reading import Row, shown
from rrr_cli.tasks.rows import accepted

SPLITS = ("train", "test")


def split_of(key: str, test_share: float) -> str:
    """The split of a problem by its key, a hash in hex.

    A smaller share's test split lies within a larger one's, so that the test problems of one source never stand in the
    train split of another with a larger share.
    """
    return "test" if int(key, 16) / 16 ** len(key) < test_share else "train"


def split_in(row: dict[str, Any], place: str, known: Sequence[str] = SPLITS) -> str | None:
    """The split that a row of data names in its column `split`; None where it has none, or null.

    Raises RrrError (exit 3): it names another one than the `known`.
    """
    value = row.get("split")
    if value is None:
        return None
    if value not in known:
        raise RrrError(f"{place}, column split: found {shown(value)}, wanted train or test", BAD_INPUT)
    return str(value)


def check_split(name: str, split: str) -> None:
    """Raises RrrError (exit 2) unless it is train or test."""
    if split not in SPLITS:
        raise RrrError(f"split {split}: {name} has train and test", USAGE)


def last_reply(transcript: Sequence[Message]) -> str:
    """The text of the model's last turn; "" where it has none."""
    return next((message.content for message in reversed(transcript) if message.role == "assistant"), "")


@dataclass(frozen=True)
class Candidate:
    """A row that was read: the key that decides its split where it names none, and the problem, made when wanted."""

    key: str
    split: str | None
    problem: Callable[[], Problem]


def problems_in(
    data: str, split: str, rows: Iterable[Row], read: Callable[[dict[str, Any], str], Candidate], test_share: float,
    meant: str = "say which are in a column split (train or test)",
) -> Iterator[Problem]:
    """The problems of `split` in the order of the rows, each once; bad rows are passed over as `rows.py` says.

    A row is bad as well whose key stood in the other split before. Raises RrrError (exit 3): too many bad rows, or no
    row of `split` where rows name their split; `meant` says how a file has one.
    """
    split_by_key: dict[str, str] = {}
    seen: set[str] = set()
    named = set()

    def problem_of(row: dict[str, Any], place: str) -> Problem | None:
        candidate = read(row, place)
        named.add(candidate.split)
        of = candidate.split or split_of(candidate.key, test_share)
        if split_by_key.setdefault(candidate.key, of) != of:
            raise RrrError(f"{place}, column split: the problem stands in both splits; keep it in one", BAD_INPUT)
        return candidate.problem() if of == split else None

    for problem in accepted(data, rows, problem_of):
        if problem is not None and problem.problem_id not in seen:
            seen.add(problem.problem_id)
            yield problem
    if not seen and named != {None}:
        raise RrrError(f"{data}: no row is for {split}; {meant}", BAD_INPUT)
