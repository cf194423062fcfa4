"""How `--help` looks: options under the headings of their panels, and whole sentences beside the commands.

Plain text: rich, which typer would print boxes with, takes longer to import than everything else here together.
Reads and writes nothing.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from rrr_cli.errors import USAGE


class Command(TyperCommand):
    """A stage's command: its flags by panel, in the order of the panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each panel; options without one come first, --help among them."""
        options = [(_panel(option), option.get_help_record(ctx)) for option in self.get_params(ctx)]
        panels = dict.fromkeys(["Options", *(panel for panel, _ in options)])
        for panel in panels:
            rows = [record for of, record in options if of == panel and record is not None]
            with formatter.section(panel):
                formatter.write_dl(rows)


class Group(TyperGroup):
    """Several commands: each with the whole first paragraph of its help, where typer would cut it. Without a word after its name, it prints its help."""

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


def _panel(option: Any) -> str:
    return option.rich_help_panel or "Options"


def _first_paragraph(command: Any) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())
