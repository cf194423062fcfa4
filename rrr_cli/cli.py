"""The command line: flags become a stage's options, the stage runs, one line or JSON is printed.

Reads a TOML file of options; stdout carries data only; progress, tables, warnings and errors go to stderr. No method
logic lives here, and nothing heavier than typer is imported before a command runs. Refuses unknown or unfit options.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_type_hints

import typer

from rrr_cli import __version__
from rrr_cli.addresses import without_secrets
from rrr_cli.commands import add_commands, print_path
from rrr_cli.errors import BAD_INPUT, STDOUT_CLOSED, USAGE, RrrError
from rrr_cli.help import EXAMPLE, GROUP, Command
from rrr_cli.stages import STAGES, Stage, load, renamed
from rrr_cli.streams import discard, end_with_engines, ends_with_its_reader, open_closed_streams
from rrr_cli.text import one_line, read_text

#: The parts of a stage's help, in order; the first has no heading of its own.
PANELS = (
    None, "Task", "Method", "Reward", "Optimiser", "LoRA", "Sampling", "Votes", "Engine", "vLLM", "Hardware", "Run")


def build_app(command: str | None) -> typer.Typer:
    """The command line. Only the stage named `command` gets its flags, so that `rrr --help` builds none of them."""
    stages = ", ".join(STAGES)
    app = typer.Typer(
        name="rrr", **GROUP, pretty_exceptions_enable=False,
        help="Let a language model improve itself from a verifier's yes or no alone.\n\nStages read and write "
        f"Parquet in a run's folder: {stages}. rrr sql queries them all.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(top)
    for name, (_, text) in STAGES.items():
        if command == name or "_RRR_COMPLETE" in os.environ:
            stage_command(app, name, text)
        else:
            app.command(name, cls=Command, help=text)(lambda: None)
    add_commands(app)
    return app


def show_version(version: bool) -> None:
    if version:
        print(f"rrr {__version__}")
        raise typer.Exit


def top(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=show_version, help="Print the version.")]
    = False,
) -> None:
    """The options before a command."""


def stage_command(app: typer.Typer, name: str, help: str) -> None:
    """Register `rrr NAME`: one flag for each field of the stage's options, and --config, --json."""
    from rrr_cli.options import check_options, tidied
    from rrr_cli.tasks.rows import bad_rows

    stage = load(name)
    hints = get_type_hints(stage.options)
    parameters = [inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    parameters += flags(stage.options)
    for extra, kind, default, text in (
        ("config", Path | None, None, f"TOML file; its [{name}] table has options; the command line's win."),
        ("as_json", bool, False, "Print the summary as JSON on stdout."),
    ):
        flag = "--json" if extra == "as_json" else "--config"
        parameters.append(parameter(extra, kind, default, typer.Option(
            flag, help=text, rich_help_panel="Run", show_default=False)))

    def command(ctx: typer.Context, config: Path | None, as_json: bool, **arguments: Any) -> None:
        typed = {k for k in arguments if getattr(ctx.get_parameter_source(k), "name", "") == "COMMANDLINE"}
        values = arguments | {k: v for k, v in toml_options(config, name, stage.options).items() if k not in typed}
        options = tidied(stage.options(**{k: as_value(v, hints[k]) for k, v in values.items()}))
        check_options(options)
        with bad_rows(getattr(options, "strict", False)):
            result = stage.run(options)
        report(stage, result, options, as_json or options.dry_run)
        if stage.gate is not None and result and not options.dry_run:
            stage.gate(result, options)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name, cls=Command, help=f"{help}\n\n{EXAMPLE}{stage.example}")(command)


def flags(options_type: Any) -> Iterator[inspect.Parameter]:
    """One parameter for each field, in the order of PANELS."""
    from rrr_cli.options import SEVERAL

    hints = get_type_hints(options_type)
    for entry in sorted(dataclasses.fields(options_type), key=lambda f: PANELS.index(f.metadata["panel"])):
        kind, default, choices = hints[entry.name], cast(Any, entry.default), entry.metadata["choices"]
        flag = f"--{entry.name.replace('_', '-')}"
        if kind == tuple[str, ...]:
            kind, default = list[str], list(default)
        elif kind == SEVERAL:
            kind = list[str] | None
        elif kind == int | str:  # a number or a word
            kind = str
        elif choices:
            kind = Literal[choices] | None if default is None else Literal[choices]
        yield parameter(entry.name, kind, default, typer.Option(
            *((f"{flag}/--no-{flag[2:]}",) if default is True else (flag,)), help=help_of(entry),
            rich_help_panel=entry.metadata["panel"], show_default=default is not None,
            autocompletion=completion(entry.name)))


def as_value(value: Any, kind: Any) -> Any:
    """The value of an option whose words came in a list: of one that is mostly given once, the one."""
    from rrr_cli.options import SEVERAL

    if not isinstance(value, list | tuple):
        return value
    return tuple(value) if kind != SEVERAL or len(value) > 1 else next(iter(value), None)


def help_of(entry: Any) -> str:
    """An option's help, with the names of the plugs that are here."""
    from rrr_cli.plugs import names
    from rrr_cli.stages.identity import KINDS

    text: str = entry.metadata["help"]
    return text.replace("{known}", ", ".join(names(entry.name, KINDS[entry.name]))) if entry.name in KINDS else text


def completion(name: str) -> Callable[[], list[str]] | None:
    """The shell completion of an option that names a plug; None for any other."""
    from rrr_cli.plugs import names
    from rrr_cli.stages.identity import KINDS

    def complete() -> list[str]:
        return list(names(name, KINDS[name]))

    return complete if name in KINDS else None


def parameter(name: str, kind: Any, default: Any, info: Any) -> inspect.Parameter:
    """A keyword parameter of the function that typer inspects."""
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def toml_options(path: Path | None, name: str, options_type: Any) -> dict[str, Any]:
    """The [name] table of a TOML file, checked against the stage's fields. Raises RrrError (exit 2 or 3)."""
    if path is None:
        return {}
    import tomllib

    from rrr_cli.options import SEVERAL

    try:
        document = tomllib.loads(read_text(path))
    except OSError as error:
        raise RrrError(f"--config {path}: {error.strerror}", BAD_INPUT) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RrrError(f"--config {path} is not TOML: {error}", BAD_INPUT) from error
    for table, content in document.items():
        if table not in STAGES or not isinstance(content, dict):
            known = ", ".join(f"[{stage}]" for stage in STAGES)
            raise RrrError(f"--config {path}: {table} is not one of the tables {known}", USAGE)
    hints = get_type_hints(options_type)
    values: dict[str, Any] = {}
    for key, value in document.get(name, {}).items():
        field = key.replace("-", "_")
        if field not in hints:
            raise RrrError(f"--config {path}: [{name}] has no option {key}; see rrr {name} --help", USAGE)
        allowed = (hints[field], *getattr(hints[field], "__args__", ()))
        if Path in allowed and isinstance(value, str):
            value = Path(value)
        if float in allowed and type(value) is int:
            value = float(value)
        if hints[field] == tuple[str, ...] or (hints[field] == SEVERAL and isinstance(value, list)):
            fits = isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
        else:
            fits = any(kind in (str, int, float, bool, Path) and isinstance(value, kind) for kind in allowed)
            fits = fits and (type(value) is not bool or bool in allowed)
        if not fits:
            raise RrrError(f"--config {path}: [{name}] {key} = {value!r} has the wrong type", USAGE)
        values[field] = value
    return values


def report(stage: Stage, result: dict[str, Any], options: Any, as_json: bool) -> None:
    """Print data to stdout (the summary as JSON, or the folder written), and a readable summary to stderr."""
    if not result:  # not the first process of a distributed training
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if stage.show is not None and not options.dry_run:
        stage.show(result, console)
    elif not as_json:
        for key, value in result.items():
            console.print(f"{key.replace('_', ' ')}: {json.dumps(value)}", markup=False)
    if as_json:
        print(json.dumps(result))
    else:
        print_path(result.get("policy", result.get("model", options.run)))


def main() -> None:
    """Run the command line, and end with it what can't be stopped."""
    try:
        run_with_streams()
    except SystemExit as stop:
        end_with_engines(stop)
        raise


def run_with_streams() -> None:
    """Run the command line; end quietly where nobody reads what it prints, and in one line on a full disk."""
    open_closed_streams()
    try:
        try:
            run_command()
        except (BrokenPipeError, SystemExit) as stop:
            if ends_with_its_reader(stop):
                sys.exit(STDOUT_CLOSED)
            raise
    except OSError as error:
        from rrr_cli.store.disk import FAILING

        if error.errno not in FAILING:
            raise
        what = f"{error.filename} can't be read or written" if error.filename else "what is printed can't be written"
        with suppress(OSError):  # stderr may be what is full
            say(f"{what}: {error.strerror}")
        for descriptor in (1, 2):
            discard(descriptor)  # what is left in the buffer would fail again
        sys.exit(BAD_INPUT)


def run_command() -> None:
    """Run the command line; turn errors into one line on stderr and an exit code."""
    try:
        arguments = renamed(sys.argv[1:])
        if arguments != sys.argv[1:]:
            say(f"this is now: rrr {shlex.join(arguments)}")
        app = build_app(next((a for a in arguments if not a.startswith("-")), None))
        code = app(arguments, prog_name="rrr", standalone_mode=False)
    except RrrError as error:
        say(str(error))
        code = error.exit_code
    except Exception as error:
        if not hasattr(error, "format_message"):  # of a usage error, whose class has no public name
            raise
        code = usage_error(error)
    sys.exit(code if isinstance(code, int) else 0)


def say(line: str) -> None:
    """Print one line to stderr, whatever its words hold; without the secrets of addresses."""
    print(f"rrr: {one_line(without_secrets(line))}", file=sys.stderr)


def usage_error(error: Any) -> int:
    """Print typer's message, with the help to read; its exit code."""
    command = error.ctx.command_path if error.ctx else "rrr"
    say(f"{error.format_message().rstrip('.')}; to see what there is: {command} --help")
    return int(error.exit_code)
