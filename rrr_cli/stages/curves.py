"""Success against tokens: for each arm of a model the share solved within k tries and what they cost, and the paired
test of reflecting against its controls at equal tokens, beside the one at an equal number of tries.

A problem's tries end at its first pass, which every arm may do: the verifier is there anyway. Tokens are those that the
model generates; prompts aren't counted. Works on rows in memory; reads and writes nothing. Where a server doesn't
count tokens there is no curve.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import accumulate
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
        if counted(*arms.values()):
            summary["curves"] += [{"model": name, "arm": arm, "points": curve(arms[arm])} for arm in arms]
            for test in against_controls(name, arms, tries):
                summary[f"at_equal_{test['equal']}"].append(test)
        summary["solves"].append({"model": name, "own": solving(
            [(r.solves, r.second_success) for r in own if r.reflection is not None]), "shared": solving(
            [(r.shared_solves, r.shared_success) for r in own if r.shared_reflection is not None])})
    return summary


def counted(*arms: Arm) -> bool:
    """Whether the tokens of every try and reflection are known."""
    return all(one.spent is not None for arm in arms for tries in arm.values() for one in tries)


def unanswered(tries: Sequence[Try], k: int) -> bool:
    """Whether one of the first k tries is missing, because a server left it without an answer. Such a problem counts as
    not solved: only unsolved problems are tried again, so leaving it out would raise the share."""
    return len(tries) < k and goes_on(tries)


def solved(tries: Sequence[Try], k: int) -> bool:
    """Whether one of the first k tries passed; the last is the only one that can have."""
    return len(tries) <= k and tries[-1].success


def longest(arm: Arm) -> int:
    """The most tries of a problem."""
    return max(map(len, arm.values()), default=0)


def mean_spent(arm: Arm) -> list[float]:
    """Mean tokens a problem within k tries, for k = 1, 2, … `longest`; of an arm that is `counted`."""
    sums = [sum(tries[k].spent or 0 for tries in arm.values() if k < len(tries)) for k in range(longest(arm))]
    return [total / len(arm) for total in accumulate(sums)]


def point(arm: Arm, k: int) -> dict[str, Any] | None:
    """The share solved within k tries with its exact interval, n, and how many of them lack an answered try; None
    without a problem."""
    from rrr_cli.metrics import rate

    share = rate([solved(tries, k) for tries in arm.values()])
    missing = sum(unanswered(tries, k) for tries in arm.values())
    return {"n": len(arm), "unanswered": missing, **asdict(share)} if share else None


def curve(arm: Arm) -> list[dict[str, Any]]:
    """A point for each k: tries, n, mean tokens, share solved with its interval."""
    return [{"tries": k, "tokens": tokens, **(point(arm, k) or {})} for k, tokens in enumerate(mean_spent(arm), 1)]


def reaching(spent: Sequence[float], tokens: float) -> int:
    """The smallest k with `mean_spent` of at least `tokens`; all tries, where there is none."""
    return next((k for k, mean in enumerate(spent, 1) if mean >= tokens), len(spent))


def against_controls(name: str, arms: dict[str, Arm], tries: int) -> Iterator[dict[str, Any]]:
    """Reflecting within 2, 3, … `tries` tries against each control, at equal tokens (the smallest k that has spent at
    least as much) and at an equal number of tries: exact McNemar tests, paired by problem.

    `reached`: whether the control has spent as many tokens. It stops before where it solved all, filled the model's
    context, had the most tries, or where a server refused.
    """
    spent = {arm: mean_spent(problems) for arm, problems in arms.items()}
    for n in range(2, min(tries, len(spent["reflect"])) + 1):
        tokens = spent["reflect"][n - 1]
        for control in (control for control in CONTROLS if control in arms):
            for equal, k in (("tokens", reaching(spent[control], tokens)), ("tries", n)):
                costs = spent[control][min(k, len(spent[control])) - 1]
                if test := _paired(arms["reflect"], n, arms[control], k):
                    measure = f"{'second_try' if n == 2 else f'try {n}'} over {control} at equal {equal}"
                    yield {
                        "a": name, "b": name, "measure": measure, "equal": equal, "control": control, "tries": n,
                        "control_tries": k, "tokens": tokens, "control_tokens": costs, "reached": costs >= tokens,
                        **test}


def _paired(reflecting: Arm, n: int, control: Arm, k: int) -> dict[str, Any]:
    """Reflecting within n tries against a control within k; {} where no problem has both."""
    from rrr_cli.metrics import mcnemar

    both = [p for p in reflecting if p in control]
    mine, theirs = [solved(reflecting[p], n) for p in both], [solved(control[p], k) for p in both]
    counts = {"n": len(both), "solved": sum(mine), "control_solved": sum(theirs)}
    return {**counts, **asdict(mcnemar(theirs, mine))} if both else {}


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
