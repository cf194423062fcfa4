"""One model's rows of `evaluations`: its first try, reflection and second try, the controls, and the reflection and
retry on the first model's failed attempt.

Texts come from the loop; columns come out, nothing is written. A problem of which any text got no answer has no row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rrr_cli.failures import Failure
from rrr_cli.records import Attempt, Evaluation, Message, Problem, Reflection, content_id
from rrr_cli.rollout import Loop, transcript_text
from rrr_cli.stages.unanswered import answered
from rrr_cli.stages.votes import vote_columns
from rrr_cli.stories import Story


def stories(
    loop: Loop, repairing: Loop, problems: Sequence[Problem], shared: dict[str, Evaluation] | None,
    votes: tuple[int | None, bool, bool],
) -> Iterator[Story[dict[str, Any] | None]]:
    """A story a problem. `votes`: --self-consistency, --reflect-all and --oracle, for which `repairing` is the loop of
    the reflector."""
    for problem in problems:
        yield story(loop, repairing, problem, shared, votes)


def story(
    loop: Loop, repairing: Loop, problem: Problem, shared: dict[str, Evaluation] | None,
    votes: tuple[int | None, bool, bool],
) -> Story[dict[str, Any] | None]:
    """The columns of one model's row of a problem; None where a text got no answer."""
    ((first,),) = yield from loop.attempting([problem], range(1))
    if not answered([first]):
        return None
    voted = yield from vote_columns(loop, repairing, [problem], {problem.problem_id: first}, *votes)
    row = yield from evaluated(loop, problem, first, shared)
    without = loop.unanswered.reasons.keys() | repairing.unanswered.reasons.keys()
    return None if problem.problem_id in without else {**row, **voted[problem.problem_id]}


def evaluated(
    loop: Loop, problem: Problem, first: Attempt, shared: dict[str, Evaluation] | None
) -> Story[dict[str, Any]]:
    """One model's columns of `Evaluation` without the votes.

    `shared`: problem_id -> the first model's row; None if this is the first model, whose own failures are the shared
    ones.
    """
    own = None if first.success else Failure.of(problem, first)
    row = shared and shared[problem.problem_id]
    common = shared_failure(problem, row) if row and not row.first_success else None
    failures = [failure for failure in (own, common) if failure]
    reflections = [rows[0] for rows in (yield from loop.reflecting(failures, range(1)))]
    pairs: list[tuple[Failure, Reflection | None]] = list(zip(failures, reflections, strict=True))
    retries = [rows[0] for rows in (yield from loop.retrying(pairs + ([(own, None)] if own else []), range(1)))]
    blinds = []
    if own and loop.sampling.temperature:  # greedy, it would be the first try again
        blinds = yield from loop.attempting([problem], range(1, 2), phase="resample")

    tries = dict(zip(map(id, failures), zip(reflections, retries, strict=False), strict=True))
    own_try = tries[id(own)] if own else None
    common_try = own_try if shared is None else tries[id(common)] if common else None
    failed_text = row.first if row else transcript_text(first.transcript)
    controls = {"blind": blinds[0][0] if blinds else None, "plain": retries[-1] if own else None}
    return own_columns(problem, first, own_try, controls) | shared_columns(failed_text, common_try)


def own_columns(
    problem: Problem, first: Attempt, second_try: tuple[Reflection, Attempt] | None, controls: dict[str, Attempt | None]
) -> dict[str, Any]:
    """The columns of a model's own tries: first, reflection and second, and the controls; None if the first passed."""
    reflection, second = second_try or (None, None)
    blind, plain = columns_of("blind", controls["blind"]), columns_of("plain", controls["plain"])
    return {
        "problem_id": problem.problem_id, "task": problem.task, "difficulty": problem.difficulty,
        **columns_of("first", first, turns="turns"), "first_error": first.error_type,
        "reflection": reflection and reflection.text, "reflection_tokens": reflection and reflection.tokens,
        "solves": reflection and reflection.solves,
        **columns_of("second", second, turns="second_turns"), "second_error": second and second.error_type,
        **{name: blind[name] for name in ("blind", "blind_success", "blind_tokens")},
        **plain,
    }


def columns_of(name: str, attempt: Attempt | None, turns: str | None = None) -> dict[str, Any]:
    """The columns of one try: text, verdict, tokens, and what a further try would be shown; None without a try."""
    several = attempt is not None and len(attempt.transcript) > 1
    return {
        name: attempt and transcript_text(attempt.transcript), f"{name}_success": attempt and attempt.success,
        f"{name}_tokens": attempt and attempt.completion_tokens,
        f"{name}_feedback": attempt.feedback if attempt and not attempt.success else None,
        turns or f"{name}_turns": attempt.transcript if attempt and several else None,
    }


def shared_columns(failed_text: str, repaired: tuple[Reflection, Attempt] | None) -> dict[str, Any]:
    """The columns of the reflection and retry on the first model's failed attempt; None where that passed."""
    reflection, retry = repaired or (None, None)
    return {
        "shared_attempt": failed_text if repaired else None, "shared_reflection": reflection and reflection.text,
        "shared_reflection_tokens": reflection and reflection.tokens,
        "shared_solves": reflection and reflection.solves,
        "shared_retry": retry and transcript_text(retry.transcript), "shared_success": retry and retry.success,
        "shared_retry_tokens": retry and retry.completion_tokens,
    }


def shared_failure(problem: Problem, row: Evaluation) -> Failure:
    """The failed first try in a row of the first model, on which every model reflects."""
    return Failure(
        problem, content_id("shared", row.problem_id, row.first), row.turns or [Message("assistant", row.first)],
        row.first_feedback or "")
