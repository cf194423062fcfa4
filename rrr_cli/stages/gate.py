"""`rrr eval --fail-under MEASURE=RATE`: a measure of the last model as a gate for scripts. Reads and writes nothing."""

from __future__ import annotations

from typing import Any

from rrr_cli.errors import NOTHING, USAGE, RrrError
from rrr_cli.stages.summary import MEASURES, VOTES

#: Measures of several tries: the share that reflecting solves within --tries, and by how much that is more than what
#: the control solves at equal tokens, as a share of the problems.
OF_TRIES = ("within_tries", "over_blind", "over_plain")


def parse_gate(spec: str | None) -> tuple[str, float] | None:
    """"second_try=0.5" -> ("second_try", 0.5). Raises RrrError (exit 2)."""
    if spec is None:
        return None
    measure, _, value = spec.partition("=")
    try:
        least = float(value)
    except ValueError:
        least = -1.0
    known = (*MEASURES, *VOTES, *OF_TRIES)
    if measure not in known or not 0 <= least <= 1:
        raise RrrError(
            f"--fail-under {spec}: it must be MEASURE=RATE, RATE in 0..1, MEASURE one of {', '.join(known)}", USAGE)
    return measure, least


def check(result: dict[str, Any], spec: str | None) -> None:
    """Raise RrrError (exit 5) if the last model's rate is below --fail-under."""
    gate = parse_gate(spec)
    if gate is None:
        return
    measure, least = gate
    last = result["models"][-1]
    value = _of_tries(result, last["name"], measure) if measure in OF_TRIES else _of_model(last, measure)
    if value < least:
        raise RrrError(f"{last['name']}: {measure} is {value:.3f}, below the {least:g} of --fail-under", NOTHING)


def _of_model(model: dict[str, Any], measure: str) -> float:
    return float(model[measure]["value"]) if model.get(measure) else 0.0


def _of_tries(result: dict[str, Any], name: str, measure: str) -> float:
    """Raises RrrError (exit 5): it isn't measured here."""
    if measure == "within_tries":
        return next(float(row["value"]) for row in result["within_tries"] if row["model"] == name)
    tests = [t for t in result["at_equal_tokens"] if t["a"] == name and t["control"] == measure.removeprefix("over_")]
    if not tests:
        raise RrrError(
            f"{name}: --fail-under {measure} compares at equal tokens, and there is no such test here: the server "
            "counts no tokens, no first try failed, or (over_blind) the temperature is 0", NOTHING)
    return float((tests[-1]["won"] - tests[-1]["lost"]) / tests[-1]["n"])
