"""The tables of `rrr eval` and `rrr forgetting` for people: rates with intervals, won and lost, and sentences.

Prints to a console; reads and writes no files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rrr_cli.stages import curve_tables
from rrr_cli.stages.cells import name_of, percent, stacked
from rrr_cli.stages.summary import MEASURES, VOTES, in_words
from rrr_cli.text import safe_text


def evaluation_table(result: dict[str, Any], console: Console) -> None:
    """Print the paper's table to `console` (stderr): a row a model, first and second tries beside their controls.

    Then curves of success against tokens, error types of the two tries, the reflections, levels of difficulty, and
    sentences on the effect of reflecting.
    """
    first = result["models"][0]
    paired = {(c["b"], c["measure"]): c for c in result["comparisons"] if c["a"] == first["name"] != c["b"]}
    table = Table(
        title=f"{first['n']} held-out problems, temperature {first['temperature']:g}, 1 seed ({first['seed']}); "
        "% with 95 % interval",
        title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
    )
    table.add_column("model")
    for measure in MEASURES:
        table.add_column(heading(measure, first), justify="right")
    for model in result["models"]:
        table.add_row(name_of(model), *(stacked(model[measure]) for measure in MEASURES))
        if model is not first:
            label = Text(safe_text(f"  won/lost\n  vs {first['name']}"))
            table.add_row(label, *("{won}/{lost}\np={p:.2g}".format(**paired[model["name"], m]) for m in MEASURES))
    console.print(table)
    for more in curve_tables.tables(result):
        console.print(more)
    if any(measure in first for measure in VOTES):
        console.print(vote_table(result["models"], paired))
    console.print(error_table(result["models"]))
    console.print(reflection_table(result["models"]))
    for model in result["models"]:
        for level, rates in model["by_difficulty"].items():
            shown = ", ".join(f"{m.replace('_', ' ')} {percent(rates[m])}" for m in MEASURES[:3])
            console.print(Text(safe_text(f"{model['name']}, {level}: {shown}")))
    for sentence in in_words(result):
        console.print(Text(safe_text(sentence)))


def vote_table(models: Sequence[dict[str, Any]], paired: dict[tuple[str, str], dict[str, Any]]) -> Table:
    """Measures with more than one sample a problem: votes, alone and with a reflector, beside the first try."""
    table = Table(title="more samples a problem", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model")
    measures = ["first_try", *(m for m in VOTES if m in models[0])]
    for measure in measures:
        table.add_column(measure.replace("_", " "), justify="right")
    for model in models:
        table.add_row(name_of(model), *(stacked(model.get(m)) for m in measures))
        if model is not models[0]:
            label = Text(safe_text(f"  won/lost\n  vs {models[0]['name']}"))
            table.add_row(label, *("{won}/{lost}\np={p:.2g}".format(**paired[model["name"], m]) for m in measures))
    return table


def heading(measure: str, first: dict[str, Any]) -> str:
    """A measure as a column's heading; `first` is the model whose failures all models repair."""
    label = measure.replace("_", " ")
    return f"{label} ({first['n_failures']})" if measure == "second_try_on_failures" else label


def error_table(models: Sequence[dict[str, Any]]) -> Table:
    """Why tries failed: a row an error type, a column a model: count of try 1 → try 2."""
    table = Table(
        title="why tries failed: try 1 → try 2 after reflecting", title_justify="left", box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("error type")
    counts = {model["name"]: model["errors"] for model in models}
    for model in models:
        table.add_column(name_of(model), justify="right")
    for kind in dict.fromkeys(kind for c in counts.values() for which in ("first", "second") for kind in c[which]):
        table.add_row(
            safe_text(kind), *(f"{c['first'].get(kind, 0)} → {c['second'].get(kind, 0)}" for c in counts.values())
        )
    return table


def reflection_table(models: Sequence[dict[str, Any]]) -> Table:
    """Reflections on own failures: how many, how long, how repetitive."""
    table = Table(title="reflections on own failures", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model")
    for column in ("reflections", "mean tokens", "repeated 4-grams, %"):
        table.add_column(column, justify="right")
    for model in models:
        row = model["reflections"]
        length = "" if row["mean_tokens"] is None else f"{row['mean_tokens']:.1f}"
        repeated = "" if row["repetition"] is None else f"{100 * row['repetition']:.1f}"
        table.add_row(name_of(model), str(row["n"]), length, repeated)
    return table


def forgetting_table(result: dict[str, Any], console: Console) -> None:
    """Print `rrr forgetting`'s table to `console` (stderr): a row a benchmark, each model beside the first."""
    first, *others = result["models"]
    items = "all items" if result["limit"] is None else f"--limit {result['limit']}: a part of each benchmark"
    chat = "chat format" if result["apply_chat_template"] else "plain prompts"
    console.print(f"lm-eval {result['lm_eval']}, {chat}, {items}; % with 95 % interval, changes in points")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("benchmark")
    table.add_column("n", justify="right")
    table.add_column(Text(safe_text(first)), justify="right")
    for name in others:
        for heading in (name, "change", "won/lost", "under 1?"):
            table.add_column(Text(safe_text(heading)), justify="right")
    paired = {(c["b"], c["benchmark"]): c for c in result["comparisons"]}
    for row in result["benchmarks"]:
        cells = [Text(f"{row['benchmark']}\n{row['shots']}-shot"), Text(str(row["n"])), stacked(row["accuracy"][first])]
        for name in others:
            c = paired[name, row["benchmark"]]
            low, high = (100 * c["change"][end] for end in ("low", "high"))
            change = Text(f"{100 * c['change']['value']:+.1f}\n{low:+.1f} to {high:+.1f}", no_wrap=True)
            test = Text(f"{c['won']}/{c['lost']}\np={c['p']:.2g}", no_wrap=True)
            cells += [stacked(row["accuracy"][name]), change, test, Text(c["under_one_point"])]
        table.add_row(*cells)
    console.print(table)
    if others:
        console.print("under 1?: lost less than 1 point, the paper's line; open: the interval includes 1 point")
    for row in result["benchmarks"]:
        for name, cut in row["prompts_cut"].items():
            if cut:
                console.print(Text(safe_text(
                    f"{row['benchmark']}: {cut} of {row['n']} prompts didn't fit {name}'s context and lost their "
                    "beginning")))
