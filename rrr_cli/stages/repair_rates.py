"""How often a trained reflector repairs: on problems held out of its training, and on those that weren't.

A reflector repairs failures of the problems that it learnt from more often than of others: it knows an answer to them,
and they can be solved. So one rate over all says little, and neither of these two rates says how it does on new
problems. The held-out problems are a share of all by a hash of their ids, whether or not the agent ever passed them:
against all that aren't held out they show what was learnt by heart. Reads the reflector's rrr.json; writes nothing. A
reflector whose rrr.json doesn't say what it learnt (untrained, or by an older rrr) has no such rates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from rrr_cli.engines.fingerprints import provenance
from rrr_cli.stages.cells import percent
from rrr_cli.training.texts import is_held_out

#: group -> in words
GROUPS = {
    "held_out": "problems held out of the reflector's training",
    "not_held_out": "problems not held out",
    "learnt": "not held out, learnt from",
    "other": "not held out, without a text to learn from",
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
        out = is_held_out(problem, share)
        for group in ("held_out",) if out else ("not_held_out", "learnt" if problem in learnt else "other"):
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
        console.print(f"failed attempts repaired, {GROUPS[group]}: {value}", markup=False, soft_wrap=True)
