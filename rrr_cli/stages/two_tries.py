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


def judged(
    loop: Loop, repairing: Loop, problems: Sequence[Problem], shared: dict[str, Evaluation] | None, part: int,
    votes: tuple[int | None, bool, bool],
) -> Iterator[list[dict[str, Any]]]:
    """The columns of one model's rows, a part at a time. `votes`: --self-consistency, --reflect-all and --oracle, for
    which `repairing` is the loop of the reflector."""
    for start in range(0, len(problems), part):
        tried = problems[start : start + part]
        firsts = {a.problem_id: a for rows in loop.attempt(tried, range(1)) for a in answered(rows)}
        tried = [p for p in tried if p.problem_id in firsts]
        voted = vote_columns(loop, repairing, tried, firsts, *votes)
        rows_B = [{**row, **voted[row["problem_id"]]} for row in evaluate(loop, tried, firsts, shared)]
        without = loop.unanswered.reasons.keys() | repairing.unanswered.reasons.keys()
        yield [row for row in rows_B if row["problem_id"] not in without]


def evaluate(
    loop: Loop, problems: Sequence[Problem], firsts: dict[str, Attempt], shared: dict[str, Evaluation] | None
) -> list[dict[str, Any]]:
    """One model's columns of `Evaluation` without the votes, a dict a problem.

    `firsts`: problem_id -> its first try. `shared`: problem_id -> the first model's row; None if this is the first
    model, whose own failures are the shared ones. All reflections go to the engine as one batch, then all retries.
    """
    own = [p for p in problems if not firsts[p.problem_id].success]
    common = [p for p in problems if shared is not None and not shared[p.problem_id].first_success]
    failures = [Failure.of(p, firsts[p.problem_id]) for p in own]
    failures += [shared_failure(p, shared[p.problem_id]) for p in common] if shared is not None else []
    reflections = [rows[0] for rows in loop.reflect(failures, range(1))]
    pairs: list[tuple[Failure, Reflection | None]] = list(zip(failures, reflections, strict=True))
    n, m = len(own), len(common)
    retries = [rows[0] for rows in loop.retry([*pairs, *((f, None) for f in failures[:n])], range(1))]
    # greedy, it would be the first try again
    resampled_B = own if loop.sampling.temperature else []
    blinds = [rows[0] for rows in loop.attempt(resampled_B, range(1, 2), phase="resample")]

    seconds = {p.problem_id: (r, a) for p, r, a in zip(own, reflections[:n], retries[:n], strict=True)}
    commons = {p.problem_id: (r, a) for p, r, a in zip(common, reflections[n:], retries[n : n + m], strict=True)}
    plains = {p.problem_id: a for p, a in zip(own, retries[n + m :], strict=True)}
    resampled = {p.problem_id: a for p, a in zip(resampled_B, blinds, strict=True)}
    rows = []
    for p in problems:
        first, own_try = firsts[p.problem_id], seconds.get(p.problem_id)
        common_try = own_try if shared is None else commons.get(p.problem_id)
        failed_text = shared[p.problem_id].first if shared is not None else transcript_text(first.transcript)
        controls = {"blind": resampled.get(p.problem_id), "plain": plains.get(p.problem_id)}
        rows.append(own_columns(p, first, own_try, controls) | shared_columns(failed_text, common_try))
    return rows


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
