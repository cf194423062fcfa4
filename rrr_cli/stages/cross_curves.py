"""Another model's reflections and the first model's retries, at equal tokens with the first model's own tries.

This is what a reflector that was trained with a frozen actor is for. An arm of reflector R: the first model's first try
and, where that failed, R's reflection and the first model's retry after it (arm cross of `later_tries`). Works on rows
in memory; reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rrr_cli.records import Evaluation, LaterTry
from rrr_cli.stages.curves import against_controls, counted, curve, mean_spent
from rrr_cli.stages.tries import Arm, Try, first_try


def reflector_arms(first: Iterable[Evaluation], crossed: Iterable[LaterTry]) -> dict[str, Arm]:
    """Reflector -> its arm. `first`: the first model's rows; `crossed`: its retries after other models' reflections."""
    tries = {row.problem_id: first_try(row) for row in first}
    arms: dict[str, Arm] = {}
    for one in crossed:
        arm = arms.setdefault(str(one.reflector), {problem: [start] for problem, start in tries.items()})
        arm[one.problem_id].append(
            Try(one.success, one.text, one.tokens, one.turns, one.feedback, one.reflection, one.reflection_tokens))
    return arms


def most_spent(arms: Mapping[str, Arm]) -> float:
    """Mean tokens a problem of the arm that spends most: what its controls have to reach."""
    return max((mean_spent(arm)[-1] for arm in arms.values() if counted(arm)), default=0.0)


def against_own_tries(first: str, arms: Mapping[str, Arm], controls: Mapping[str, Arm]) -> dict[str, list[Any]]:
    """`curves` and `at_equal_tokens` of the arms; `controls` are the first model's blind tries and plain retries."""
    curves: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    for reflector, arm in arms.items():
        if counted(arm, *controls.values()):
            curves.append({"reflector": reflector, "actor": first, "points": curve(arm)})
            tests += [
                {"reflector": reflector, **test} for test in against_controls(first, {"reflect": arm, **controls}, 2)
                if test["equal"] == "tokens"]
    return {"curves": curves, "at_equal_tokens": tests}


def in_words(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence a test."""
    from rrr_cli.stages.summary import equal_tokens_in_words

    return [equal_tokens_in_words({**test, "a": f"{test['reflector']} reflects, {test['a']} retries"})
            for test in tests]
