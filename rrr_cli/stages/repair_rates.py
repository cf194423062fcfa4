"""How often a trained reflector repairs: on problems held out of its training, on those it learnt from, on the others.

A reflector that learnt a passing attempt at a problem repairs the failures of that problem more often than new ones, so
one rate over all of them says little. The held-out problems are a share of all by a hash of their ids, whether or not
the agent ever passed them. Reads the reflector's rrr.json; writes nothing. A reflector whose rrr.json doesn't say what
it learnt (untrained, or by an older rrr) has no such rates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from rrr_cli.engines.fingerprints import provenance
from rrr_cli.stages.tables import percent
from rrr_cli.training.texts import is_held_out

#: group -> in words
GROUPS = {
    "held_out": "problems held out of the reflector's training",
    "learnt": "problems that it learnt from",
    "other": "the other problems",
}


def repair_rates(reflector: str, repaired: Mapping[tuple[str, str], bool]) -> dict[str, Any] | None:
    """Group -> the share of its failed attempts with a repair that passed, the exact 95 % interval, `n` failed attempts
    of how many `problems`; None for a group without any. `repaired`: (problem_id, attempt_id) -> whether a repair of it
    passed.

    None for a reflector whose rrr.json doesn't say what it learnt. Raises RrrError (exit 3): a damaged rrr.json.
    """
    from rrr_cli.metrics import rate

    trained = provenance(Path(reflector))
    if "problems_learnt" not in trained:
        return None
    learnt, share = set(trained["problems_learnt"]), trained["config"]["held_out"]
    outcomes: dict[str, dict[tuple[str, str], bool]] = {group: {} for group in GROUPS}
    for (problem, attempt), passed in repaired.items():
        group = "learnt" if problem in learnt else "held_out" if is_held_out(problem, share) else "other"
        outcomes[group][problem, attempt] = passed
    return {
        group: asdict(value) | {"n": len(of), "problems": len({problem for problem, _ in of})}
        if (value := rate(list(of.values()))) else None
        for group, of in outcomes.items()
    }


def show(result: dict[str, Any], console: Console) -> None:
    """Print the summary of `rrr repair` to `console` (stderr): a line a count, then a line a rate."""
    for key, value in result.items():
        if key != "repair_rates":
            console.print(f"{key.replace('_', ' ')}: {json.dumps(value)}", markup=False)
    for group, rate in (result["repair_rates"] or {}).items():
        value = f"{percent(rate)} % of {rate['n']} ({rate['problems']} problems)" if rate else "there are none"
        console.print(f"failed attempts repaired, {GROUPS[group]}: {value}", markup=False)
