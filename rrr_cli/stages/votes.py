"""Inference with more than one sample, as Re-ReST tries it (arXiv 2406.01495, section 4): columns of `evaluations`.

self-consistency: K samples; the most frequent answer. reflect-all: the reflector repairs every sample as if it had
failed, and the repairs vote; no ground truth is used. oracle: the reflector repairs only the failed tries, which needs
ground truth and is an upper bound. Reads and writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rrr_cli.failures import Failure
from rrr_cli.records import Attempt, Problem
from rrr_cli.rollout import Loop
from rrr_cli.stories import Story

FEEDBACK = "binary"  # the same text for every sample: it says nothing about the sample


def vote_columns(
    loop: Loop, repairing: Loop, problems: Sequence[Problem], firsts: dict[str, Attempt], samples: int | None,
    reflect_all: bool, oracle: bool,
) -> Story[dict[str, dict[str, Any]]]:
    """problem_id -> the columns; None for an arm that isn't used. `samples` is K, the first try included."""
    columns: dict[str, dict[str, Any]] = {p.problem_id: dict.fromkeys(
        ("voted", "voted_success", "reflected", "reflected_success", "oracle_success")) for p in problems}
    if samples is not None:
        more_B_N = yield from loop.attempting(problems, range(1, samples), phase="vote")
        tries = {p.problem_id: [firsts[p.problem_id], *more] for p, more in zip(problems, more_B_N, strict=True)}
        for p in problems:
            winner = vote(tries[p.problem_id])
            columns[p.problem_id] |= {"voted": winner.answer, "voted_success": winner.success}
        if reflect_all:
            flat = [Failure.of(p, a) for p in problems for a in tries[p.problem_id]]
            repaired = iter((yield from repairs(repairing, flat)))
            for p in problems:
                winner = vote([next(repaired) for _ in tries[p.problem_id]])
                columns[p.problem_id] |= {"reflected": winner.answer, "reflected_success": winner.success}
    if oracle:
        failed = [Failure.of(p, firsts[p.problem_id]) for p in problems if not firsts[p.problem_id].success]
        fixed = {a.problem_id: a.success for a in (yield from repairs(repairing, failed))}
        for p in problems:
            columns[p.problem_id]["oracle_success"] = fixed.get(p.problem_id, True)
    return columns


def repairs(loop: Loop, failures: Sequence[Failure]) -> Story[list[Attempt]]:
    """One repair of each attempt, in order."""
    return [rows[0] for rows in (yield from loop.repairing(failures, FEEDBACK, range(1)))]


def vote(attempts: Sequence[Attempt]) -> Attempt:
    """The first attempt with the most frequent answer, as the verifier parsed it; on a tie, the earliest.

    Attempts without an answer have no vote; if none has an answer, the first attempt wins.
    """
    counts = Counter(a.answer for a in attempts if a.answer is not None)
    return max(attempts, key=lambda a: counts[a.answer] if a.answer is not None else -1)
