"""Household's games that share a start (room and goal) aren't independent: the tests at equal tokens, paired by start.

Reads a run's `evaluations` and `later_tries`; prints a line of JSON for each test of `at_equal_tokens` (after --cross,
each other reflector with the first model as actor too), with the two-sided sign-flip test over starts: 100,000 random
flips of the sign of each start's wins less losses, seed 0.

    python tools/by_start.py runs/when-household-0/binary
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rrr_cli.stages.cross_curves import reflector_arms
from rrr_cli.stages.curves import against_controls, solved
from rrr_cli.stages.tries import Arm, arms_of
from rrr_cli.store.artifacts import read
from rrr_cli.tasks.household import Household
from rrr_cli.tasks.household.problem import split_key

FLIPS, SEED = 100_000, 0


def comparisons(run: Path) -> Iterator[tuple[str, dict[str, Arm]]]:
    """(who, its arms), a model that reflects and retries by itself, then each other reflector with the first model."""
    rows, later = list(read(run, "evaluations")), list(read(run, "later_tries"))
    names = list(dict.fromkeys(row.model for row in rows))
    arms = {name: arms_of([r for r in rows if r.model == name], [t for t in later if t.model == name])
            for name in names}
    yield from arms.items()
    crossed = [one for one in later if one.arm == "cross" and one.model == names[0]]
    firsts = [row for row in rows if row.model == names[0]]
    for reflector, arm in reflector_arms(firsts, crossed).items():
        yield f"{reflector} reflects, {names[0]} retries", {**arms[names[0]], "reflect": arm}


def sign_flip(sums: np.ndarray) -> float:
    """Two-sided p of the sum over starts, each start's sign flipped at random."""
    signs = np.random.default_rng(SEED).integers(0, 2, (FLIPS, len(sums))) * 2 - 1
    return float(((np.abs(signs @ sums) >= abs(sums.sum())).sum() + 1) / (FLIPS + 1))


def by_start(test: dict[str, Any], arms: dict[str, Arm], starts: dict[str, str]) -> dict[str, Any]:
    """Starts, those with more wins or more losses, and p."""
    reflecting, control = arms["reflect"], arms[test["control"]]
    sums: dict[str, int] = {}
    for problem in reflecting.keys() & control.keys():
        won = solved(reflecting[problem], test["tries"]) - solved(control[problem], test["control_tries"])
        sums[starts[problem]] = sums.get(starts[problem], 0) + won
    values = np.array([value for value in sums.values() if value])
    return {"starts": len(sums), "starts_won": int((values > 0).sum()), "starts_lost": int((values < 0).sum()),
            "p_by_start": sign_flip(values)}


def main() -> None:
    task = Household("easy")
    starts = {p.problem_id: split_key(json.loads(p.metadata)) for p in task.problems("test")}
    for who, arms in comparisons(Path(sys.argv[1])):
        for test in against_controls(who, arms, max(map(len, arms["reflect"].values()))):
            if test["equal"] == "tokens":
                shown = ("control", "tries", "control_tries", "reached", "won", "lost", "p")
                print(json.dumps({"who": who, **{key: test[key] for key in shown}, **by_start(test, arms, starts)}))


if __name__ == "__main__":
    main()
