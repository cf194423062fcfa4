"""The classes of the commands: how `--help` looks, and how typed words become values.

Help is plain text: options under the headings of their panels, and whole sentences beside the commands. rich, which
typer would print boxes with, and pydantic, which it would read numbers with, take longer to import than all else here.
Writes nothing. Refuses a group without a command.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.core import TyperCommand, TyperGroup

from rrr_cli.errors import USAGE
from rrr_cli.places import check_local

#: Words that are a value of the kind, whoever reads them.
PLAIN = {
    str: re.compile(".*", re.DOTALL), int: re.compile("-?[0-9]{1,15}"),
    float: re.compile(r"-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?")}

EXAMPLE = "\b\nExample: "  # \b: the paragraph is not wrapped, so that it can be copied


class Command(TyperCommand):
    """A command: its flags by panel, in the order of the panels; plain words are its values without pydantic."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its arguments and options, --help among them."""
        return read_plainly(super().get_params(ctx))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each panel; options without one come first, --help among them."""
        rows: dict[str, list[Any]] = {"Arguments": [], "Options": []}
        for option in self.get_params(ctx):
            rows.setdefault(_panel(option), []).append(option.get_help_record(ctx))
        for panel in filter(rows.get, rows):
            with formatter.section(panel):
                formatter.write_dl(rows[panel])


class Group(TyperGroup):
    """Several commands, each with the whole first paragraph of its help, where typer would cut it. Without a command
    it prints its help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its arguments and options, --help among them."""
        return read_plainly(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words after the group's name, of which there must be one (exit 2)."""
        if not args and not ctx.resilient_parsing:
            print(ctx.get_help())
            ctx.exit(USAGE)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the section of the commands."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_paragraph(command)) for name, command in commands])


GROUP: dict[str, Any] = {"cls": Group, "rich_markup_mode": None}  # without rich


def read_plainly(parameters: list[Any]) -> list[Any]:
    """These parameters of typer's, whose values `Words` makes, but for those within bounds."""
    for parameter in parameters:
        asked = getattr(parameter, "get_runtime_param", None)  # by a typer that asks pydantic
        ranged = any(getattr(parameter, end, None) is not None for end in ("min", "max"))
        if asked and not ranged and not isinstance(asked, partial):
            parameter.get_runtime_param = partial(Words, asked)
    return parameters


class Words:
    """What typer asks to make values of the words of one parameter: plain ones are made here, all others by `typers`,
    its own way, which also refuses what is no value."""

    def __init__(self, typers: Callable[[], Any]) -> None:
        self.typers = typers

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value of the parameter. Raises as typer does."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        kind = param.type_descriptor.annotation
        if Path in (kind, *get_args(kind)) and param.opts[0].startswith("-"):
            for path in value if several else (value,):
                check_local(Path(path), param.opts[0])
        try:
            return [_plain(v, get_args(kind)[0]) for v in value] if several else _plain(value, kind)
        except ValueError:
            return self.typers().coerce(value, param=param, ctx=ctx)


def _plain(value: Any, kind: Any) -> Any:
    """A value of the kind, as pydantic makes it. Raises ValueError where that isn't plain to see."""
    if get_origin(kind) is Literal and value in get_args(kind):
        return value
    if kind is Path or (type(value) is kind and kind in PLAIN):
        return kind(value)
    if kind in PLAIN and isinstance(value, str) and PLAIN[kind].fullmatch(value):
        return kind(value)
    raise ValueError


def _panel(option: Any) -> str:
    return option.rich_help_panel or ("Arguments" if option.param_type_name == "argument" else "Options")


def _first_paragraph(command: Any) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())
