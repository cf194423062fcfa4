"""The commands that read a run, a task or the models that are there: sql, show, draw, report, schema, models, tasks.

What each needs is imported when it runs. Stages, which write a run, are commands in `cli.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from rrr_cli.errors import BAD_INPUT, USAGE, RrrError
from rrr_cli.help import EXAMPLE, GROUP, Command
from rrr_cli.text import decoded, one_line, read_text

DEFAULT_RUN = Path("runs/default")  # as in options.py, which `rrr --help` doesn't import

SQL_HELP = f"""Query a run's tables; nothing can be changed.

Tables: problems, attempts, reflections, rollouts, steps, losses, evaluations,
later_tries, forgetting. Views: failures, repairs, pass_at, reflection_lengths,
grpo_health, reflector_pairs, agent_texts, tries, compute_curves, forgotten.

{EXAMPLE}rrr sql "select error_type, count(*) from failures group by all"
"""


def add_commands(app: typer.Typer) -> None:
    """Add them to the command line."""
    app.command("sql", cls=Command, help=SQL_HELP)(sql)
    text = "Show one story: problem, failed answer, reflection, retry."
    app.command("show", cls=Command, help=f"{text}\n\n{EXAMPLE}rrr show 3f2a")(show)
    text = "Draw the boxes of an attempt at a layout."
    app.command("draw", cls=Command, help=f"{text}\n\n{EXAMPLE}rrr draw 3f2a -o layout.svg")(draw)
    text = "Put runs on one page of HTML: verdicts, curves, stories, and the SQL behind each number."
    app.command("report", cls=Command, help=f"{text}\n\n{EXAMPLE}rrr report runs/default -o report.html")(report_runs)
    models = typer.Typer(**GROUP, help="Small models with a name in rrr.")
    text = "Fetch a model once, for --model."
    models.command("get", cls=Command, help=f"{text}\n\n{EXAMPLE}rrr models get smollm2")(models_get)
    models.command("list", cls=Command, help="Print the models, and whether each is on this machine.")(models_list)
    app.add_typer(models, name="models")
    tasks = typer.Typer(**GROUP, help="The tasks.")
    text = "Audit a task's verifier: references must pass; empty text, the prompt and other references must fail."
    tasks.command("check", cls=Command, help=f"{text}\n\n{EXAMPLE}rrr tasks check function_calling")(tasks_check)
    app.add_typer(tasks, name="tasks")
    text = "Print a table's columns, or every table's."
    app.command("schema", cls=Command, help=f"{text}\n\n{EXAMPLE}rrr schema attempts")(schema)


def sql(
    query: Annotated[str | None, typer.Argument(help="One statement, or - for stdin.", show_default=False)] = None,
    run: Annotated[list[Path] | None, typer.Option(help="Folder of a run; several at once.  [default: runs/default]")]
    = None,
    file: Annotated[Path | None, typer.Option(help="Read the statement from a file.", show_default=False)] = None,
    format: Annotated[str, typer.Option(help="table, csv, jsonl or markdown.")] = "table",
    timeout: Annotated[float | None, typer.Option(help="Seconds until a query is stopped.", show_default=False)] = None,
    raw: Annotated[bool, typer.Option("--raw", help="csv: cells as they are, formulas and control characters too.")]
    = False,
) -> None:
    from rrr_cli.store import sql as database

    if (query is None) == (file is None):
        raise RrrError('one statement: rrr sql "select …", rrr sql - or rrr sql --file FILE', USAGE)
    try:
        text = read_text(file) if file else decoded(sys.stdin.buffer.read()) if query == "-" else str(query)
        text.encode()
    except (OSError, UnicodeError) as error:
        where = f"--file {file}" if file else "the statement"
        raise RrrError(f"{where} can't be read: {error}", BAD_INPUT) from error
    database.query(run or [DEFAULT_RUN], text, format, sys.stdout, timeout, raw)


def show(
    id: Annotated[str, typer.Argument(help="A problem's, attempt's or reflection's id, or its first 4 digits.")],
    run: Annotated[Path, typer.Option(help="Folder of the run.")] = DEFAULT_RUN,
    as_json: Annotated[bool, typer.Option("--json", help="Print the story as JSON.")] = False,
) -> None:
    from rich.console import Console

    from rrr_cli import show as stories

    if as_json:
        print(json.dumps(stories.story(run, id)))
    else:
        stories.show(run, id, Console(highlight=False))


def draw(
    id: Annotated[str, typer.Argument(help="An attempt's id, or the beginning of it.")],
    run: Annotated[Path, typer.Option(help="Folder of the run.")] = DEFAULT_RUN,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .svg or .png to write.")] = Path("layout.svg"),
    renderer: Annotated[str | None, typer.Option(
        help="path.py:function to draw with, called with caption, boxes and path.", show_default=False)] = None,
) -> None:
    from rrr_cli.tasks.layout.draw import draw_attempt

    draw_attempt(run, id, output, renderer)
    print_path(output)


def report_runs(
    runs: Annotated[list[Path] | None, typer.Argument(
        metavar="RUN", help="Folders of runs.  [default: runs/default]", show_default=False)] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("report.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    from rrr_cli.report import write

    figures = write(runs or [DEFAULT_RUN], output)
    if as_json:
        print(json.dumps(figures))
    else:
        print_path(output)


def schema(
    table: Annotated[str | None, typer.Argument(help="problems, attempts, …", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the columns as JSON.")] = False,
) -> None:
    from rich.console import Console
    from rich.table import Table

    from rrr_cli.records import TABLES
    from rrr_cli.store.schema import describe

    tables = {name: describe(name) for name in ([table] if table else TABLES)}
    if as_json:
        print(json.dumps({name: [vars(column) for column in columns] for name, columns in tables.items()}))
        return
    for name, columns in tables.items():
        shown = Table(title=name, title_justify="left")
        for heading in ("column", "type", "null", "meaning"):
            shown.add_column(heading)
        for column in columns:
            shown.add_row(column.column, column.type, "yes" if column.nullable else "", column.comment)
        Console(highlight=False).print(shown)


def models_get(name: Annotated[str, typer.Argument(help="smollm2.")]) -> None:
    from rrr_cli.engines import smollm2

    if name != "smollm2":
        raise RrrError(f"rrr models get {name}: only smollm2 can be fetched; hub ids need no fetching", USAGE)
    print(smollm2.get())


def models_list(as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False) -> None:
    from rich.console import Console
    from rich.table import Table

    from rrr_cli.engines.models import NAMED, on_disk

    models = [{"model": name, "what": what, "folder": on_disk(name)} for name, what in NAMED.items()]
    if as_json:
        print(json.dumps(models))
        return
    shown = Table("model", "what", "folder")
    for row in models:
        shown.add_row(row["model"], row["what"], row["folder"] or f"not here; type: rrr models get {row['model']}")
    Console(highlight=False).print(shown)


def tasks_check(
    name: Annotated[str, typer.Argument(help="Task by name, or path/to/file.py:Class.")],
    level: Annotated[str | None, typer.Option(help="The task's level.  [default: the first]", show_default=False)]
    = None,
    data: Annotated[str | None, typer.Option(help="A data set in place of generated problems.", show_default=False)]
    = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many problems a split.", show_default=False)]
    = None,
    strict: Annotated[bool, typer.Option("--strict", help="End at the first bad row of --data.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    from rrr_cli.tasks import audit, load_task
    from rrr_cli.tasks.rows import bad_rows

    with bad_rows(strict):
        result = audit.audit(load_task(name, level, data), limit)
    if as_json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            counts = f"{value['passed']} of {value['tried']} pass" if isinstance(value, dict) else json.dumps(value)
            print(f"{key.replace('_', ' ')}: {counts}")
    audit.check(result)


def print_path(path: Path | str) -> None:
    """Print the path of what was written: as it is into a file or a pipe, safe to read on a terminal."""
    print(one_line(str(path)) if sys.stdout.isatty() else path)
