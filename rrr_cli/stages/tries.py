"""One model's tries in order, arm by arm, from its rows of `evaluations` and `later_tries`.

Three arms start from one first try and end at their first pass: `reflect` (each further try after a reflection on the
one before), `plain` (without reflections), `blind` (independent samples; none at temperature 0, where all are the first
try again). Works on rows in memory; reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rrr_cli.records import Evaluation, LaterTry, Message

ARMS = ("reflect", "plain", "blind")


@dataclass(frozen=True)
class Try:
    """One try, with the reflection before it."""

    success: bool
    text: str
    tokens: int | None  # that the model wrote in it; None where a server doesn't say
    turns: Sequence[Message] | None = None  # where it has several
    feedback: str | None = None  # what the verifier said, where it failed
    reflection: str | None = None
    reflection_tokens: int | None = 0

    @property
    def spent(self) -> int | None:
        """Generated tokens, the reflection's too; None where a server doesn't say."""
        counts = (self.tokens, self.reflection_tokens)
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def transcript(self) -> list[Message]:
        """Its turns."""
        return list(self.turns or [Message("assistant", self.text)])


Arm = dict[str, list[Try]]  # problem_id -> its tries, try 1 first


def arms_of(rows: Iterable[Evaluation], later: Iterable[LaterTry]) -> dict[str, Arm]:
    """The arms of one model, each with all its problems. Later tries count as far as none between is missing; those of
    other arms are left out."""
    arms: dict[str, Arm] = {arm: {} for arm in ARMS}
    for row in rows:
        for arm, tries in _first_two(row).items():
            arms[arm][row.problem_id] = tries
    for one in sorted((one for one in later if one.arm in ARMS), key=lambda one: one.number):
        tries = arms[one.arm][one.problem_id]
        if one.number == len(tries) + 1:
            tries.append(Try(
                one.success, one.text, one.tokens, one.turns, one.feedback, one.reflection,
                0 if one.reflection is None else one.reflection_tokens))
    return {arm: problems for arm, problems in arms.items() if problems}


def first_try(row: Evaluation) -> Try:
    """What every arm starts from."""
    return Try(row.first_success, row.first, row.first_tokens, row.turns, row.first_feedback)


def _first_two(row: Evaluation) -> dict[str, list[Try]]:
    first = first_try(row)
    arms = {"reflect": [first], "plain": [first]} | ({"blind": [first]} if row.temperature else {})
    if row.second is not None:
        arms["reflect"].append(Try(
            bool(row.second_success), row.second, row.second_tokens, row.second_turns, row.second_feedback,
            row.reflection, row.reflection_tokens))
    if row.plain is not None:
        arms["plain"].append(
            Try(bool(row.plain_success), row.plain, row.plain_tokens, row.plain_turns, row.plain_feedback))
    if row.blind is not None:
        arms["blind"].append(Try(bool(row.blind_success), row.blind, row.blind_tokens))
    return arms


def goes_on(tries: Sequence[Try]) -> bool:
    """Whether a further try would follow: none has passed, and the last had room in the model's context. (The next
    prompt is at least as long, so where nothing could be written, nothing can be.)"""
    return not tries[-1].success and tries[-1].tokens != 0
