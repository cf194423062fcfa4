"""Attempts as texts to learn: token ids, and which of them carry loss. The model's own turns do, nothing else does.

Reads and writes nothing. What the environment said is masked out of the loss, as in Re-ReST's code. A text that doesn't
fit is left out whole and counted, never cut; refuses a set in which that happens too often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rrr_cli.errors import RrrError
from rrr_cli.records import Message, content_id

NO_LOSS = -100
MOST_TOO_LONG = 0.01  # share of the texts


class Writes(Protocol):
    """How a model reads a chat and writes a turn: a `Policy` has it."""

    def render(self, messages: tuple[Message, ...], tools: str | None) -> list[int]: ...
    def write(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class Text:
    """One sequence: ids_T, labels_T (NO_LOSS where none is taken), and the problem that it is about."""

    ids: list[int]
    labels: list[int]
    problem_id: str


@dataclass(frozen=True)
class Preference:
    """One prompt, ids_P, with the continuation to prefer and the one to avoid; labels as in `Text`."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    chosen_labels: list[int]
    rejected_ids: list[int]
    rejected_labels: list[int]
    problem_id: str

    def __len__(self) -> int:
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))


T = TypeVar("T", bound=Text | Preference)


def texts(
    model: Writes, chat: Sequence[Message], transcript: Sequence[Message], tools: str | None, problem_id: str
) -> list[Text]:
    """The transcript after `chat`, as one sequence; or, where the chat template rewrites earlier turns once there are
    more of them, as one for each of the model's turns."""
    sequences: list[Text] = []
    for turn, message in enumerate(transcript):
        if message.role != "assistant":
            continue
        before = model.render((*chat, *transcript[:turn]), tools)
        written = model.write(message.content)
        last = sequences[-1] if sequences else None
        if last is not None and before[: len(last.ids)] == last.ids:
            between = before[len(last.ids):]
            labels = [*last.labels, *[NO_LOSS] * len(between), *written]
            sequences[-1] = Text([*last.ids, *between, *written], labels, problem_id)
        else:
            sequences.append(Text([*before, *written], [*[NO_LOSS] * len(before), *written], problem_id))
    return sequences


def preference(
    model: Writes, chat: Sequence[Message], chosen: Sequence[Message], rejected: Sequence[Message], tools: str | None,
    problem_id: str,
) -> Preference:
    """Two transcripts after one chat. Raises RrrError where one can't be a single sequence (see `texts`)."""
    good, bad = (texts(model, chat, transcript, tools, problem_id) for transcript in (chosen, rejected))
    if len(good) != 1 or len(bad) != 1:
        raise RrrError("the model's chat template rewrites earlier turns, so an episode isn't one sequence, which DPO "
                       "needs: use --method sft, or another model")
    prompt = model.render(tuple(chat), tools)
    start = len(prompt)
    return Preference(
        prompt, good[0].ids[start:], good[0].labels[start:], bad[0].ids[start:], bad[0].labels[start:], problem_id)


def fitting(rows: Sequence[T], longest: int) -> tuple[list[T], int]:
    """The rows of at most `longest` tokens, and how many were longer.

    Raises RrrError where more than 1 % are, or none is left.
    """
    kept = [row for row in rows if length(row) <= longest]
    out = len(rows) - len(kept)
    if out > MOST_TOO_LONG * len(rows):
        raise RrrError(
            f"{out} of {len(rows)} texts are longer than {longest} tokens, and leaving out more than 1 % would change "
            f"what is learnt: raise --max-length (the longest text has {max(map(length, rows))} tokens), or use a "
            "model with a longer window")
    return kept, out


def length(row: Text | Preference) -> int:
    """In tokens; of a preference, the longer side."""
    return len(row.ids) if isinstance(row, Text) else len(row)


def held_out(rows: Sequence[T], share: float) -> tuple[list[T], list[T]]:
    """(for training, for the held-out loss), divided by problem, so that no problem is on both sides."""
    kept: list[T] = []
    out: list[T] = []
    for row in rows:
        (out if is_held_out(row.problem_id, share) else kept).append(row)
    return kept, out


def is_held_out(problem_id: str, share: float) -> bool:
    """Whether a problem is among the `share` of all problems that no text is learnt of, by a hash of its id: with a
    larger share the same problems and more."""
    return int(content_id("held out", problem_id), 16) < share * 16**16
