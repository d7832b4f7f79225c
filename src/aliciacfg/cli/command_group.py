"""The root command: it imports a command when it is asked for, and shows help in groups."""

from importlib import import_module

import click

from aliciacfg.cli.command_table import GROUPS, Row, row_of

_EXAMPLES = "Examples:"


class RootGroup(click.Group):
    """The commands of the table, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all commands, sorted."""
        return sorted(row.name for rows in GROUPS.values() for row in rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command and return it; return None if there is no such command."""
        row = row_of(cmd_name)
        return None if row is None else _load(row)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write a section of help for each group of commands; no command is imported for it."""
        width = max(len(row.name) for rows in GROUPS.values() for row in rows)
        for heading, rows in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(row.name.ljust(width), row.summary) for row in rows])


def _load(row: Row) -> click.Command:
    module, _, name = row.place.partition(":")
    command: click.Command = getattr(import_module(f"aliciacfg.cli.{module}"), name)
    _show_examples(command)
    return command


def _show_examples(command: click.Command) -> None:
    """Move the examples of a docstring, and those of its subcommands, below the options, where each keeps its line.

    The examples are what follows the line ``Examples:``.
    """
    text, found, examples = (command.help or "").partition(_EXAMPLES)
    if found:
        command.help = text.rstrip()
        command.epilog = f"\b\n{_EXAMPLES}\n{examples.strip(chr(10)).rstrip()}"
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _show_examples(below)
