"""A failed first try of the first model with what some model wrote about it, and the row of a retry after it.

Pairs come from rows of `evaluations`; their retries are rows of `later_tries`, with arm cross, or swapped where the
reflection is about another failure. Works on rows in memory; reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rrr_cli.failures import Failure
from rrr_cli.records import Attempt, Evaluation, LaterTry, Reflection, content_id
from rrr_cli.rollout import transcript_text

CROSS, SWAPPED = "cross", "swapped"  # arms

#: (reflector, actor) -> {problem_id: whether the actor's retry after the reflector's reflection passed}
Cells = Mapping[tuple[str, str], Mapping[str, bool]]


@dataclass(frozen=True)
class Pair:
    """A failed first try of the first model, and what one model wrote about it, or (arm swapped) about another."""

    failure: Failure
    reflector: str
    reflection: Reflection
    solves: bool | None
    tokens: int | None
    arm: str = CROSS

    def try_id(self, actor: str, hashes: Mapping[str, str]) -> str:
        """Of the actor's retry. The content is part of it: another failure or reflection is another try. Of swapped
        reflections any other will do, so that more problems change no row."""
        text = (self.reflection.text,) if self.arm == CROSS else ()
        return content_id(self.arm, self.failure.attempt_id, *text, self.reflector, hashes[self.reflector], actor,
                          hashes[actor])


def stored_reflections(
    failures: Sequence[Failure], evaluated: Sequence[Evaluation], first: str
) -> Iterator[Pair]:
    """What each model wrote about each failure, as it stands in `evaluations`. Its id is its content's, so that a retry
    has the same seed whenever it is sampled, and after equal reflections is the same."""
    by_problem = {failure.problem.problem_id: failure for failure in failures}
    for row in evaluated:
        failure = by_problem.get(row.problem_id)
        if failure is None or row.shared_reflection is None:
            continue
        own = row.model == first  # the columns without `shared` say the same of the first model
        reflection = Reflection(
            reflection_id=content_id(CROSS, failure.attempt_id, row.shared_reflection), attempt_id=failure.attempt_id,
            problem_id=row.problem_id, reflector=row.model, sample_index=0, text=row.shared_reflection, tokens=None,
            finish_reason="stop", seed=row.seed, temperature=row.temperature)
        yield Pair(failure, row.model, reflection, row.solves if own else row.shared_solves,
                   row.reflection_tokens if own else row.shared_reflection_tokens)


def later_try(pair: Pair, retry: Attempt, actor: str, hashes: Mapping[str, str], seed: int) -> LaterTry:
    """The row of a retry."""
    return LaterTry(
        try_id=pair.try_id(actor, hashes), problem_id=retry.problem_id, task=retry.task, difficulty=retry.difficulty,
        model=actor, arm=pair.arm, number=2, text=transcript_text(retry.transcript), success=retry.success,
        error_type=retry.error_type, tokens=retry.completion_tokens, reflector=pair.reflector,
        reflection=pair.reflection.text, reflection_tokens=pair.tokens, solves=pair.solves,
        turns=retry.transcript if len(retry.transcript) > 1 else None, temperature=retry.temperature, seed=seed)
