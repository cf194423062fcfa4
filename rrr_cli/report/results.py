"""The numbers of `rrr eval --json`, computed from SQL: the same keys and values, and verdicts in words.

Counts come from the statements of `queries.py`; intervals and p are functions of those counts (`metrics.py`). Reads
through the given `Ask`; writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from rrr_cli.metrics import difference, paired, rate
from rrr_cli.report import queries
from rrr_cli.stages.cross import matrix
from rrr_cli.stages.forgetting import verdict
from rrr_cli.stages.summary import MEASURES
from rrr_cli.stages.swapped import against_swapped

Row = dict[str, Any]
Ask = Callable[[str], list[Row]]
ARMS = ("reflect", "plain", "blind")
CONTROLS = ("blind_second_try", "retry_without_reflection")


def results(ask: Ask, names: Sequence[str]) -> Row:
    """What `rrr eval --json` prints for the models `names`; the others are compared with the first."""
    totals = {row["model"]: row for row in ask(queries.RATES)}
    levels = ask(queries.BY_DIFFICULTY)
    failed, by_model = ask(queries.ERRORS), {row["model"]: row for row in ask(queries.REFLECTIONS)}
    models = []
    for name in names:
        row, own = totals[name], [level for level in levels if level["model"] == name]
        reflections = by_model.get(name, {"n": 0, "mean_tokens": None, "repetition": None})
        models.append({
            "name": name, "n": row["n"], **rates(row), "n_failures": row["n_failures"],
            "temperature": row["temperature"], "seed": row["seed"], "errors": errors(failed, name),
            "reflections": {key: reflections[key] for key in ("n", "mean_tokens", "repetition")},
            "by_difficulty": {level["difficulty"]: rates(level) for level in own if len(own) > 1},
        })
    return {"models": models, "comparisons": comparisons(ask, names)}


def rates(counts: Row) -> Row:
    """Each measure's share with its interval, from a row of counts; of blind second tries none where they are greedy.
    """
    shares = {
        measure: share(counts[measure], counts["n_failures" if measure == "second_try_on_failures" else "n"])
        for measure in MEASURES
    }
    return shares if counts["temperature"] else shares | {"blind_second_try": None}


def share(passed: int, n: int) -> Row | None:
    """`passed` of `n` as {"value", "low", "high"}; None for n = 0."""
    interval = rate([True] * passed + [False] * (n - passed))
    return asdict(interval) if interval else None


def errors(rows: Sequence[Row], name: str) -> Row:
    """{"first": {error_type: n}, "second": {…}}, the most frequent first."""
    ordered = sorted((row for row in rows if row["model"] == name), key=lambda row: (-row["n"], row["error_type"]))
    return {
        which: {row["error_type"]: row["n"] for row in ordered if row["which"] == which}
        for which in ("first", "second")
    }


def comparisons(ask: Ask, names: Sequence[str]) -> list[Row]:
    """Every two models by each measure; then each model's second try against its own controls."""
    pairs = against(ask, names)
    tests = [
        {"a": a, "b": b, "measure": measure, **asdict(paired(*pairs[a, b, measure][:2]))}
        for a, b in combinations(names, 2) for measure in MEASURES
    ]
    own = {row["model"]: row for row in ask(queries.AGAINST_CONTROLS)}
    for name in names:
        for control in CONTROLS if own[name]["temperature"] else CONTROLS[1:]:
            won, lost = own[name][f"{control}_won"], own[name][f"{control}_lost"]
            tests.append({
                "a": name, "b": name, "measure": f"second_try over {control}", **asdict(paired(won, lost)),
            })
    return tests


def against(ask: Ask, names: Sequence[str]) -> dict[tuple[str, str, str], tuple[int, int, int]]:
    """(a, b, measure) -> (problems won by b, lost by b, tried by both), for a before b in `names`."""
    counts = {(a, b, measure): (0, 0, 0) for a, b in combinations(names, 2) for measure in MEASURES}
    for row in ask(queries.PAIRED):
        if (row["a"], row["b"], row["measure"]) in counts:
            counts[row["a"], row["b"], row["measure"]] = (row["won"], row["lost"], row["n"])
    return counts


def verdicts(ask: Ask, result: Row) -> list[Row]:
    """For each further model, what changed against the first: a sentence, and the figures by measure."""
    first, *others = result["models"]
    pairs = against(ask, [model["name"] for model in result["models"]])
    rows = []
    for model in others:
        changes = []
        for measure in MEASURES:
            won, lost, n = pairs[first["name"], model["name"], measure]
            if n and first[measure] and model[measure]:
                changes.append({
                    "measure": measure, "before": first[measure], "after": model[measure], "n": n,
                    "difference": asdict(difference(won, lost, n)), **asdict(paired(won, lost)),
                })
        rows.append({
            "a": first["name"], "b": model["name"], "changes": changes,
            "sentence": sentence(first["name"], model["name"], changes),
        })
    return rows


def curves(ask: Ask, names: Sequence[str]) -> list[Row]:
    """Success against tokens, as in `rrr eval --json`: a row a model and arm with its points, a point a try. [] where
    tokens aren't counted."""
    rows = ask(queries.CURVES)
    return [
        {"model": name, "arm": arm, "points": points}
        for name in names for arm in ARMS
        if (points := [
            {"tries": row["tries"], "tokens": row["tokens"], "n": row["n"], "unanswered": row["unanswered"],
             **(share(row["solved"], row["n"]) or {})}
            for row in rows if (row["model"], row["arm"]) == (name, arm)
        ])
    ]


def at_equal_tokens(ask: Ask, names: Sequence[str]) -> list[Row]:
    """Reflecting for up to 2, 3, … tries against each control at the smallest number of tries that has spent at least
    as many tokens, as in `rrr eval --json`. `reached`: whether it could spend as many."""
    rows = ask(queries.AT_EQUAL_TOKENS)
    ordered = sorted(rows, key=lambda row: (names.index(row["model"]), row["tries"], row["control"]))
    return [equal_tokens(row["model"], row) for row in ordered]


def equal_tokens(model: str, row: Row) -> Row:
    """One test at equal tokens, from a row of counts."""
    tries = "second_try" if row["tries"] == 2 else f"try {row['tries']}"
    return {
        "a": model, "b": model, "equal": "tokens", **{key: value for key, value in row.items() if key != "model"},
        "measure": f"{tries} over {row['control']} at equal tokens",
        "reached": row["control_tokens"] >= row["tokens"], **asdict(paired(row["won"], row["lost"])),
    }


def kept_aside(ask: Ask) -> list[Row]:
    """What the policy solved of the problems that training kept aside, a row a test of it; `second_try` is None where
    it never retried."""
    rows = ask(queries.KEPT_ASIDE)
    retries = any(row["retried"] for row in rows)
    return [
        {**row, "first_try": share(row["first_try"], row["n"]),
         "second_try": share(row["second_try"], row["n"]) if retries else None,
         "solve": share(row["solving"], row["judged"])}
        for row in rows
    ]


def crossed(ask: Ask, names: Sequence[str]) -> Row | None:
    """The matrix of `rrr eval --cross`, of the models that were all crossed with each other, and `swapped`: their
    retries after reflections on other failures. None without retries."""
    cells: dict[tuple[str, str], dict[str, bool]] = {}
    others: dict[tuple[str, str], dict[str, bool]] = {}
    for row in ask(queries.CROSSED):
        tries = others if row["swapped"] else cells
        tries.setdefault((row["reflector"], row["actor"]), {})[row["problem_id"]] = row["success"]
    chosen: list[str] = []
    for name in names:
        if all((name, other) in cells and (other, name) in cells for other in [*chosen, name]):
            chosen.append(name)
    if len(chosen) < 2:
        return None
    found = {pair: tries for pair, tries in others.items() if pair in cells and set(pair) <= set(chosen)}
    return matrix(chosen, cells) | {"swapped": against_swapped(cells, found)}


def crossed_at_equal_tokens(ask: Ask, names: Sequence[str], controls: Sequence[str]) -> list[Row]:
    """The first model's retries after each other model's reflections, against its own tries at equal tokens, as in
    `rrr eval --cross --json`. `names`: those of the matrix. [] where tokens aren't counted."""
    found = {(row["model"]["reflector"], row["model"]["actor"], row["control"]): row
             for row in ask(queries.CROSSED_AT_EQUAL_TOKENS)}
    keys = [(reflector, names[0], control) for reflector in names[1:] for control in controls]
    return [{"reflector": key[0], **equal_tokens(names[0], found[key])} for key in keys if key in found]


def forgotten(ask: Ask, names: Sequence[str]) -> list[Row]:
    """A row a benchmark: every model's accuracy, and each further model's change against the first, paired by item."""
    benchmarks: dict[str, Row] = {}
    for row in ask(queries.FORGETTING):
        entry = benchmarks.setdefault(row["benchmark"], {**row, "accuracy": {}, "changes": {}})
        entry["accuracy"][row["model"]] = share(row["passed"], row["n"])
    for row in ask(queries.FORGOTTEN):
        if row["a"] == names[0]:
            change = difference(row["won"], row["lost"], row["n"])
            benchmarks[row["benchmark"]]["changes"][row["b"]] = {
                **asdict(change), **asdict(paired(row["won"], row["lost"])), "n": row["n"],
                "under_one_point": verdict(change.low, change.high),
            }
    return list(benchmarks.values())


def sentence(a: str, b: str, changes: Sequence[Row]) -> str:
    """One sentence that compares the two tries of a and b; exact McNemar test at 0.05, two-sided."""
    change = next((c for c in changes if c["measure"] == "second_try"), None)
    if change is None:
        return f"{a} and {b} have no problem in common."
    word = "better" if change["won"] > change["lost"] else "worse"
    if change["p"] >= 0.05:
        word = "no significant difference"
    signed = {key: points(value) for key, value in change["difference"].items()}
    return (
        f"{word.capitalize()}: {b} solves {100 * change['after']['value']:.1f} % of {change['n']} held-out problems in "
        f"two tries, {a} {100 * change['before']['value']:.1f} % ({signed['value']} points "
        f"[{signed['low']}, {signed['high']}], won {change['won']}, lost {change['lost']}, p = {change['p']:.2g})."
    )


def points(change: float) -> str:
    """0.051 -> "+5.1"; negative numbers with a true minus sign, U+2212."""
    return f"{100 * change:+.1f}".replace("-", "−")
