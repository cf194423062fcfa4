"""The summary of `rrr eval` from the rows of `evaluations`: rates, paired tests, error types, reflections, sentences.

Works on rows in memory; reads and writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from rrr_cli.records import Evaluation

#: Measures with more than one sample a problem; a summary has only those that were asked for.
VOTES = ("self_consistency", "reflect_all", "oracle")
#: What each is compared with for the same model; not the oracle with the first try, which it can't be worse than.
CONTROLS = {"self_consistency": "first_try", "reflect_all": "self_consistency", "oracle": "blind_second_try"}
MEASURES = ("first_try", "second_try", "second_try_on_failures", "blind_second_try", "retry_without_reflection")

GREEDY = ("at temperature 0 a blind resample is the first try again, so this control is left out: compare with a retry "
          "without a reflection, or give --temperature")
CONTROL_WORDS = {"blind": "blind tries", "plain": "retries without a reflection"}
UNCOUNTED = ("the server counts no tokens, so there is no curve of success against tokens and no test at equal tokens; "
             "the figures at an equal number of tries stand")


def outcomes(rows: Sequence[Evaluation], measure: str) -> dict[str, bool]:
    """problem_id -> success by `measure`, for the problems that have one."""
    tries: dict[str, Callable[[Evaluation], bool | None]] = {
        "first_try": lambda r: r.first_success,
        "second_try": lambda r: r.first_success or bool(r.second_success),
        "second_try_on_failures": lambda r: r.shared_success,
        # a greedy resample is the first try again: no control
        "blind_second_try": lambda r: r.first_success or bool(r.blind_success) if r.temperature else None,
        "retry_without_reflection": lambda r: r.first_success or bool(r.plain_success),
        "self_consistency": lambda r: r.voted_success,
        "reflect_all": lambda r: r.reflected_success,
        "oracle": lambda r: r.oracle_success,
    }
    return {r.problem_id: bool(v) for r in rows if (v := tries[measure](r)) is not None}


def summarise(rows: Sequence[Evaluation], names: Sequence[str]) -> dict[str, Any]:
    """Each model's rates with intervals, paired tests of every two models, and each second try against its controls."""
    from rrr_cli.metrics import mcnemar, rate

    by_model = {name: [r for r in rows if r.model == name] for name in names}

    def rates(of: Sequence[Evaluation]) -> dict[str, Any]:
        values = {m: rate(list(outcomes(of, m).values())) for m in MEASURES}
        return {m: asdict(v) if v else None for m, v in values.items()}

    models = []
    for name, of in by_model.items():
        levels = sorted({r.difficulty for r in of})
        models.append({
            "name": name, "n": len(of), **rates(of), "n_failures": len(outcomes(of, "second_try_on_failures")),
            "temperature": of[0].temperature, "seed": of[0].seed, "errors": errors(of), "reflections": reflections(of),
            **{m: asdict(voted) for m in VOTES if (voted := rate(list(outcomes(of, m).values())))},
            "by_difficulty": {d: rates([r for r in of if r.difficulty == d]) for d in levels if len(levels) > 1},
        })
    comparisons = []

    def compare(a: str, b: str, label: str, x: dict[str, bool], y: dict[str, bool]) -> None:
        both = [k for k in x if k in y]
        test = mcnemar([x[k] for k in both], [y[k] for k in both])
        comparisons.append({"a": a, "b": b, "measure": label, **asdict(test)})

    votes = [m for m in VOTES if outcomes(rows, m)]
    for a, b in combinations(names, 2):
        for measure in (*MEASURES, *votes):
            compare(a, b, measure, outcomes(by_model[a], measure), outcomes(by_model[b], measure))
    for name, of in by_model.items():
        for control in ("blind_second_try", "retry_without_reflection"):
            if outcomes(of, control):
                compare(name, name, f"second_try over {control}", outcomes(of, control), outcomes(of, "second_try"))
    for name, of in by_model.items():
        for measure in votes:
            if outcomes(of, control := CONTROLS[measure]):
                compare(name, name, f"{measure} over {control}", outcomes(of, control), outcomes(of, measure))
    return {"models": models, "comparisons": comparisons}


def errors(rows: Sequence[Evaluation]) -> dict[str, dict[str, int]]:
    """{"first": {error_type: n}, "second": {…}}, the most frequent first: why a model's own two tries failed."""
    counted = {"first": Counter(r.first_error for r in rows), "second": Counter(r.second_error for r in rows)}
    return {
        which: {kind: n for kind, n in sorted(counts.items(), key=lambda c: (-c[1], c[0] or "")) if kind is not None}
        for which, counts in counted.items()
    }


def reflections(rows: Sequence[Evaluation]) -> dict[str, Any]:
    """The number of reflections on own failures, their mean length in tokens, and their repetition."""
    from rrr_cli.metrics import repetition

    tokens = [r.reflection_tokens for r in rows if r.reflection_tokens is not None]
    return {
        "n": sum(r.reflection is not None for r in rows), "mean_tokens": sum(tokens) / len(tokens) if tokens else None,
        "repetition": repetition([r.reflection for r in rows if r.reflection is not None]),
    }


def in_words(result: dict[str, Any]) -> list[str]:
    """Whether reflecting beat its controls: first at equal tokens, then at an equal number of tries; exact McNemar
    tests at 0.05, two-sided.

    And a sentence for every two models but the first, on their first tries; the table compares with the first. A
    result without `curves` is one of which they weren't computed.
    """
    sentences = [equal_tokens_in_words(test) for test in result.get("at_equal_tokens", ())]
    uncounted = {m["name"] for m in result["models"]} - {c["model"] for c in result.get("curves", ())}
    if "curves" in result and uncounted:
        sentences.append(f"{', '.join(sorted(uncounted))}: {UNCOUNTED}")
    if result["models"][0]["temperature"] == 0:
        sentences.append(GREEDY)
    first = result["models"][0]["name"]
    names = {"blind_second_try": "a blind resample", "retry_without_reflection": "a retry without a reflection"}
    for c in result["comparisons"]:
        control = c["measure"].partition(" over ")[2]
        if control in names and c["measure"].startswith("second_try"):
            sentences.append(
                f"{c['a']}, at an equal number of tries: a second try after a reflection {verdict(c)} {names[control]} "
                f"{counts(c)}")
        elif c["measure"] == "first_try" and first not in (c["a"], c["b"]):
            sentences.append(f"{c['b']}: its first try {verdict(c)} that of {c['a']} {counts(c)}")
    sentences += [
        f"{test['a']}, at an equal number of tries: reflecting for up to {test['tries']} tries {verdict(test)} "
        f"{CONTROL_WORDS[test['control']]} {counts(test)}"
        for test in result.get("at_equal_tries", ()) if test["tries"] > 2
    ]
    return sentences


def equal_tokens_in_words(test: dict[str, Any]) -> str:
    """Whether reflecting beat a control that had spent as many tokens, every arm stopping at its first pass."""
    n, control = test["tries"], CONTROL_WORDS[test["control"]]
    reflecting = "a second try after a reflection" if n == 2 else f"reflecting for up to {n} tries"
    spent, how = "", "at equal tokens"
    if not test["reached"]:
        spent, how = ", which ended before", "at fewer tokens for the control"
    return (
        f"{test['a']}, {how}: {reflecting} {verdict(test)} {control} {counts(test)}; mean tokens a problem, "
        f"stopping at the first pass: {test['tokens']:.1f}, and {test['control_tokens']:.1f} of up to "
        f"{test['control_tries']} {control}{spent}")


def verdict(test: dict[str, Any]) -> str:
    """What a paired test says, as a verb."""
    if test["p"] >= 0.05:
        return "does NOT beat"
    return "beats" if test["won"] > test["lost"] else "does WORSE than"


def counts(test: dict[str, Any]) -> str:
    """The counts and p of a paired test."""
    return f"(won {test['won']}, lost {test['lost']}, p = {test['p']:.2g})"
