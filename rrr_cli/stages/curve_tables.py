"""The tables of `rrr eval` about tries, tokens and reflections, for people. Prints nothing itself; reads no files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from rrr_cli.stages.cells import stacked
from rrr_cli.text import safe_text

ALWAYS = 8  # a curve's rows are tries 1 to 8, then powers of two and the last


def tables(result: dict[str, Any]) -> Iterator[Table]:
    """A curve of each model, the tests at equal tokens, and how many reflections hold a right answer."""
    for model in dict.fromkeys(curve["model"] for curve in result["curves"]):
        yield curve_table(model, {c["arm"]: c["points"] for c in result["curves"] if c["model"] == model})
    for equal in ("tokens", "tries"):
        if tests := result[f"at_equal_{equal}"]:
            yield against_table(f"reflecting against its controls, at an equal number of {equal}", tests)
    if any(row[whose]["n"] for row in result["solves"] for whose in ("own", "shared")):
        yield solves_table(result["solves"])


def curve_table(model: str, arms: dict[str, list[dict[str, Any]]]) -> Table:
    """Share solved within k tries and mean tokens, a column an arm."""
    table = _table(f"{model}: % solved within k tries, and mean tokens spent, stopping at the first pass", "k")
    for arm in arms:
        table.add_column(f"{arm}\n% solved", justify="right")
        table.add_column("tokens", justify="right")
    points = {arm: {point["tries"]: point for point in arm_points} for arm, arm_points in arms.items()}
    last = max(k for arm_points in points.values() for k in arm_points)
    for k in range(1, last + 1):
        if k <= ALWAYS or k & (k - 1) == 0 or k == last:
            table.add_row(str(k), *(cell for arm in arms for cell in _point(points[arm].get(k))))
    return table


def _point(point: dict[str, Any] | None) -> tuple[Text | str, str]:
    if point is None:
        return "", ""
    return stacked(point), _mean(point["tokens"])


def against_table(title: str, tests: list[dict[str, Any]]) -> Table:
    """Reflecting against each control: % solved and mean tokens of the two, and the paired test."""
    table = _table(f"{title}{' (*: the control ended before)' if any(map(_ended, tests)) else ''}",
                   "model", "tries", "control")
    for heading in ("% solved", "tokens", "won/lost", "p"):
        table.add_column(heading, justify="right")
    for test in tests:
        shares = (100 * test[name] / test["n"] for name in ("solved", "control_solved"))
        table.add_row(
            Text(safe_text(test["a"])), str(test["tries"]), f"{test['control']} × {test['control_tries']}",
            " / ".join(f"{share:.1f}" for share in shares),
            f"{_mean(test['tokens'])} / {_mean(test['control_tokens'])}{'*' if _ended(test) else ''}",
            f"{test['won']}/{test['lost']}", f"{test['p']:.2g}")
    return table


def _ended(test: dict[str, Any]) -> bool:
    """Whether a control that was to spend as many tokens couldn't."""
    return test["equal"] == "tokens" and not test["reached"]


def solves_table(rows: list[dict[str, Any]]) -> Table:
    """How many reflections hold a right answer, beside how many of their retries pass."""
    table = _table("does a right answer stand in the reflection, by the verifier?", "model", "failures")
    for heading in ("reflections", "% that hold one", "retries passed", "of them after one"):
        table.add_column(heading, justify="right")
    for row in rows:
        for whose, words in (("own", "own"), ("shared", "shared")):
            found = row[whose]
            if found["share"]:
                table.add_row(
                    Text(safe_text(row["model"])), words, str(found["n"]), f"{100 * found['share']['value']:.1f}",
                    str(found["passed"]), str(found["passed_after_solving"]))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(safe_text(title)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _mean(tokens: float) -> str:
    """Three digits: 9.4, 58.8, 104."""
    return f"{tokens:.1f}" if tokens < 99.95 else f"{tokens:.0f}"
