"""What tasks share about splits and transcripts: which split a problem belongs to, and what the model said last.

Reads and writes nothing. A split is "train" or "test". It is refused where it is neither, in the same words for every
task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rrr_cli.errors import BAD_INPUT, USAGE, RrrError
from rrr_cli.records import Message
from rrr_cli.tasks.rows import shown
from rrr_cli.thoughts import answer_of

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
    """The model's last turn without its thought; "" where it has none."""
    return next((answer_of(message.content) for message in reversed(transcript) if message.role == "assistant"), "")
