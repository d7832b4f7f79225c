"""The root command: it imports a command when it is asked for, and shows help in groups."""

import os
import sys
from importlib import import_module
from typing import Any

import click

from aliciacfg.cli import notices, output_format
from aliciacfg.cli.command_table import GROUPS, Row, row_of
from aliciacfg.cli.exits import EXIT_FAILED

COMPLETION_VARIABLE = "_ALICIACFG_COMPLETE"
"""The variable by which the script of a shell asks for completions."""

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

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command line; wrong usage is printed in the style of all errors and ends with its exit code."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **extra)
        try:
            # However the program is called, the scripts of the shells know one variable.
            ended = super().main(*args, standalone_mode=False, **{"complete_var": COMPLETION_VARIABLE, **extra})
        except click.ClickException as error:
            from aliciacfg.cli import usage_errors

            usage_errors.end_with(error)
        except click.Abort:
            notices.print_error("interrupted")
            sys.exit(EXIT_FAILED)
        # Without standalone mode click returns the code of an early exit, such as that of --help.
        sys.exit(ended if isinstance(ended, int) else 0)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write a section of help for each group of commands; no command is imported for it."""
        width = max(len(row.name) for rows in GROUPS.values() for row in rows)
        for heading, rows in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(row.name.ljust(width), row.summary) for row in rows])


def _load(row: Row) -> click.Command:
    module, _, name = row.place.partition(":")
    command: click.Command = getattr(import_module(f"aliciacfg.cli.{module}"), name)
    _complete(command, formats=row.formats)
    return command


def _complete(command: click.Command, *, formats: bool) -> None:
    """Give a command, and its subcommands, what all have: examples in help, and ``-o``."""
    _show_examples(command)
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _complete(below, formats=formats)
        return
    if COMPLETION_VARIABLE in os.environ:
        from aliciacfg.cli import completers

        completers.add_completers(command)
    if formats:
        output_format.add_option(command)


def _show_examples(command: click.Command) -> None:
    """Move the examples of a docstring below the options, where each keeps its line.

    The examples are what follows the line ``Examples:``.
    """
    text, found, examples = (command.help or "").partition(_EXAMPLES)
    if found:
        command.help = text.rstrip()
        command.epilog = f"\b\n{_EXAMPLES}\n{examples.strip(chr(10)).rstrip()}"
