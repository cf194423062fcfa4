"""Success against tokens: for each arm of a model the share solved within k tries and what they cost, and the paired
test of reflecting against its controls at equal tokens, beside the one at an equal number of tries.

A problem's tries end at its first pass, which every arm may do: the verifier is there anyway. Tokens are those that the
model generates; prompts aren't counted. Works on rows in memory; reads and writes nothing. Where a server doesn't
count tokens there is no curve.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rrr_cli.records import Evaluation, LaterTry
from rrr_cli.stages.tries import Arm, Try, arms_of, goes_on

CONTROLS = ("blind", "plain")


def curve_summary(
    rows: Sequence[Evaluation], later: Sequence[LaterTry], names: Sequence[str], tries: int
) -> dict[str, Any]:
    """What `rrr eval --json` says of tries, tokens and reflections; `tries` is --tries."""
    summary: dict[str, list[Any]] = {
        "within_tries": [], "curves": [], "at_equal_tokens": [], "at_equal_tries": [], "solves": []}
    for name in names:
        own = [row for row in rows if row.model == name]
        arms = arms_of(own, [one for one in later if one.model == name])
        summary["within_tries"].append({"model": name, "tries": tries, **(point(arms["reflect"], tries) or {})})
        if counted(arms):
            summary["curves"] += [{"model": name, "arm": arm, "points": curve(arms[arm])} for arm in arms]
            for test in against_controls(name, arms, tries):
                summary[f"at_equal_{test['equal']}"].append(test)
        summary["solves"].append({"model": name, "own": solving(
            [(r.solves, r.second_success) for r in own if r.reflection is not None]), "shared": solving(
            [(r.shared_solves, r.shared_success) for r in own if r.shared_reflection is not None])})
    return summary


def counted(arms: dict[str, Arm]) -> bool:
    """Whether the tokens of every try and reflection are known."""
    return all(one.spent is not None for arm in arms.values() for tries in arm.values() for one in tries)


def known(tries: Sequence[Try], k: int) -> bool:
    """Whether the outcome of k tries is known: not where a server left one of them without an answer."""
    return len(tries) >= k or not goes_on(tries)


def solved(tries: Sequence[Try], k: int) -> bool:
    """Whether one of the first k tries passed."""
    return any(one.success for one in tries[:k])


def longest(arm: Arm) -> int:
    """The most tries of a problem."""
    return max(map(len, arm.values()), default=0)


def mean_spent(arm: Arm, k: int) -> float | None:
    """Mean tokens a problem of the first k tries; None where the count of one is missing, or no problem is known."""
    sums = [[one.spent for one in tries[:k]] for tries in arm.values() if known(tries, k)]
    flat = [count for counts in sums for count in counts]
    return None if None in flat or not sums else sum(count or 0 for count in flat) / len(sums)


def point(arm: Arm, k: int) -> dict[str, Any] | None:
    """The share solved within k tries with its exact interval, and n; None without a problem."""
    from rrr_cli.metrics import rate

    outcomes = [solved(tries, k) for tries in arm.values() if known(tries, k)]
    share = rate(outcomes)
    return {"n": len(outcomes), **asdict(share)} if share else None


def curve(arm: Arm) -> list[dict[str, Any]]:
    """A point for each k: tries, n, mean tokens, share solved with its interval."""
    points = ((k, point(arm, k)) for k in range(1, longest(arm) + 1))
    return [{"tries": k, "tokens": mean_spent(arm, k), **found} for k, found in points if found]


def reaching(arm: Arm, tokens: float) -> int:
    """The smallest k whose mean spent tokens are at least `tokens`; all tries, where they are never."""
    most = longest(arm)
    return next((k for k in range(1, most + 1) if (mean_spent(arm, k) or 0.0) >= tokens), most)


def against_controls(name: str, arms: dict[str, Arm], tries: int) -> Iterator[dict[str, Any]]:
    """Reflecting within 2, 3, … `tries` tries against each control, at equal tokens (the smallest k that has spent at
    least as much) and at an equal number of tries: exact McNemar tests, paired by problem.

    `reached`: whether the control has spent as many tokens; it can't where it solved all, for example.
    """
    for n in range(2, min(tries, longest(arms["reflect"])) + 1):
        tokens = mean_spent(arms["reflect"], n) or 0.0
        for control in (control for control in CONTROLS if control in arms):
            yield from _against(name, arms, n, control, reaching(arms[control], tokens), "tokens")
            yield from _against(name, arms, n, control, n, "tries")


def _against(name: str, arms: dict[str, Arm], n: int, control: str, k: int, equal: str) -> Iterator[dict[str, Any]]:
    """Reflecting within n tries against a control within k; nothing where no problem has both."""
    from rrr_cli.metrics import mcnemar

    reflecting, other = arms["reflect"], arms[control]
    both = [p for p in reflecting if p in other and known(reflecting[p], n) and known(other[p], k)]
    mine, theirs = [solved(reflecting[p], n) for p in both], [solved(other[p], k) for p in both]
    tokens, spent = mean_spent(reflecting, n) or 0.0, mean_spent(other, k) or 0.0
    if not both:
        return
    yield {
        "a": name, "b": name, "measure": f"{'second_try' if n == 2 else f'try {n}'} over {control} at equal {equal}",
        "equal": equal, "control": control, "tries": n, "control_tries": k, "tokens": tokens, "control_tokens": spent,
        "reached": spent >= tokens, "n": len(both), "solved": sum(mine), "control_solved": sum(theirs),
        **asdict(mcnemar(theirs, mine)),
    }


def solving(reflections: Sequence[tuple[bool | None, bool | None]]) -> dict[str, Any]:
    """Of (a right answer stands in the reflection, its retry passed): how many answer rather than inform."""
    from rrr_cli.metrics import rate

    judged = [(bool(solves), bool(passed)) for solves, passed in reflections if solves is not None]
    passing = [solves for solves, passed in judged if passed]
    share = rate([solves for solves, _ in judged])
    return {
        "n": len(judged), "solving": sum(solves for solves, _ in judged), "share": asdict(share) if share else None,
        "passed": len(passing), "passed_after_solving": sum(passing),
    }
