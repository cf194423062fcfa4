"""The charts of `rrr report`, as SVG that is the same bytes for the same numbers. Drawn by matplotlib.

Text stays text in the page's font. Names are drawn as they are: a `$` starts no formula. Writes no file.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rrr_cli.text import safe_text

Row = dict[str, Any]
COLOURS = ("#8d99ae", "#1f5fbf", "#c8553d", "#3a7d44", "#7b5ea7")  # by order of the models, the first is grey
WIDTH = 8.4  # inches; as wide as the page's column
ARM_WORDS = {"reflect": "reflecting", "blind": "blind tries", "plain": "retries without a reflection"}
INK, RULE = "#333333", "#d8d8d8"
STYLE: Any = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 10, "axes.edgecolor": RULE, "axes.grid": True,
    "grid.color": "#ececec", "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK, "xtick.major.size": 0,
    "ytick.major.size": 0, "legend.frameon": False, "axes.titlesize": 10, "axes.titlelocation": "left",
}


def bars(levels: Sequence[str], names: Sequence[str], rates: dict[tuple[str, str], Row], title: str) -> Markup:
    """First (pale) and second (full) tries by level and model, with intervals.

    `rates` has (level, model) -> {"first_try": {"value", "low", "high"}, "second_try": …}, each in 0..1.
    """
    with _style(title):
        figure = Figure(figsize=(min(WIDTH, 3.6 + 0.5 * len(levels) * len(names)), 3), layout="constrained")
        axes = figure.add_subplot()
        width = 0.8 / (2 * len(names))
        for i, name in enumerate(names):
            for j, (measure, alpha) in enumerate((("first_try", 0.45), ("second_try", 1.0))):
                shown = [(k, rates[level, name][measure]) for k, level in enumerate(levels) if (level, name) in rates]
                x = [k - 0.4 + width * (2 * i + j + 0.5) for k, _ in shown]
                heights = [100 * r["value"] for _, r in shown]
                spread = [[100 * (r["value"] - r["low"]) for _, r in shown],
                          [100 * (r["high"] - r["value"]) for _, r in shown]]
                axes.bar(x, heights, width * 0.9, color=COLOURS[i % len(COLOURS)], alpha=alpha,
                         label=safe_text(f"{name}, {measure.replace('_', ' ')}"))
                axes.errorbar(x, heights, spread, fmt="none", ecolor=INK, elinewidth=0.9, capsize=2)
        axes.set_xticks(range(len(levels)), [safe_text(level) for level in levels])
        axes.tick_params(axis="x", labelrotation=30 if len(levels) > 6 else 0)
        axes.set_xlim(-0.5, len(levels) - 0.5)
        axes.set_ylim(0, 100)
        axes.set_ylabel("% solved")
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside right upper")
        return _svg(figure, title)


def success(lines: Sequence[Row], names: Sequence[str], title: str) -> Markup:
    """The share solved against the mean tokens of a problem: a colour a model, a dash an arm, a mark a try.

    `lines` are those of `results.curves`.
    """
    dashes = {"reflect": "-", "blind": "--", "plain": ":"}
    with _style(title):
        figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
        axes = figure.add_subplot()
        for line in lines:
            axes.plot([p["tokens"] for p in line["points"]], [100 * p["value"] for p in line["points"]],
                      dashes[line["arm"]], color=COLOURS[names.index(line["model"]) % len(COLOURS)], marker="o",
                      markersize=4, linewidth=1.6, label=safe_text(f"{line['model']}, {ARM_WORDS[line['arm']]}"))
        axes.set_xlim(left=0)
        axes.set_xlabel("mean tokens a problem, stopping at the first pass")
        axes.set_ylabel("% solved")
        figure.legend(loc="outside right upper", fontsize=9)
        return _svg(figure, title)


def kept_aside(rows: Sequence[Row], title: str) -> Markup:
    """The share solved of the problems kept aside, step by step, with 95 % intervals. `rows`: `results.kept_aside`."""
    with _style(title):
        figure = Figure(figsize=(0.7 * WIDTH, 2.8), layout="constrained")
        axes = figure.add_subplot()
        measures = (("first_try", "first try"), ("second_try", "two tries, reflecting between them"))
        for (measure, label), colour in zip(measures, COLOURS[:2], strict=True):
            shown = [(row["step"], row[measure]) for row in rows if row[measure]]
            if shown:
                axes.plot([step for step, _ in shown], [100 * r["value"] for _, r in shown], color=colour, marker="o",
                          markersize=3.5, linewidth=1.6, label=label)
                axes.fill_between([step for step, _ in shown], [100 * r["low"] for _, r in shown],
                                  [100 * r["high"] for _, r in shown], color=colour, alpha=0.15, linewidth=0)
        axes.set_ylim(0, 100)
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("% solved")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=9)
        return _svg(figure, title)


def curves(steps: Sequence[Row], title: str) -> Markup:
    """GRPO step by step: reward, KL, lengths, and groups without a gradient. A null is a gap."""
    with _style(title):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True)
        _lines(panels[0, 0], steps, "reward: share of samples that passed", {"reward_mean": "reward"}, (-0.02, 1.02))
        _lines(panels[0, 1], steps, "KL to the untrained model, nats a token", {"kl": "KL"}, (0, None))
        _lines(panels[1, 0], steps, "mean length, tokens", {
            "reflection_length": "reflection", "retry_length": "retry", "answer_length": "answer"}, (0, None))
        _lines(panels[1, 1], steps, "shares", {
            "dead_groups": "groups with equal rewards", "clipped_reflections": "reflections cut at the limit",
            "clipped_tries": "tries cut at the limit"}, (-0.02, 1.02))
        for axes in panels[1]:
            axes.set_xlabel("optimiser step")
            axes.xaxis.get_major_locator().set_params(integer=True)
        return _svg(figure, title)


def _lines(
    axes: Axes, steps: Sequence[Row], title: str, columns: dict[str, str], limits: tuple[float, float | None],
) -> None:
    axes.set_title(title)
    shown = {column: label for column, label in columns.items() if any(step[column] is not None for step in steps)}
    for (column, label), colour in zip(shown.items(), COLOURS[1:], strict=False):
        values = [float("nan") if step[column] is None else step[column] for step in steps]
        axes.plot([step["step"] for step in steps], values, color=colour, linewidth=1.5, label=label,
                  marker="o" if len(steps) <= 12 else None, markersize=3.5)
    axes.set_ylim(bottom=limits[0], top=limits[1])
    axes.yaxis.set_major_formatter("{x:.2g}")
    if len(shown) > 1:
        axes.legend(fontsize=9)


@contextmanager
def _style(title: str) -> Iterator[None]:
    """Only these settings: a user's matplotlibrc must not change the page."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**STYLE, "svg.hashsalt": title})
        yield


def _svg(figure: Figure, title: str) -> Markup:
    """The drawing as an inline <svg>: without XML prologue, date and size in points."""
    out = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about glyphs missing in matplotlib's font; the page uses its own
        figure.savefig(out, format="svg", transparent=True,
                       metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    head, _, body = text[text.index("<svg"):].partition(">")
    box = head[head.index("viewBox"):].split('"')[1]
    wide = 100 * figure.get_figwidth() / WIDTH  # % of the column
    opening = Markup('<svg viewBox="{}" role="img" aria-label="{}" style="max-width: {:.0f}%">')
    return opening.format(box, safe_text(title), wide) + Markup(body)
