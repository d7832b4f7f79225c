"""The root command: it imports a command when it is asked for, and shows help in groups."""

import os
import signal
import sys
from importlib import import_module
from textwrap import dedent
from typing import Any

import click

from aliciacfg.cli import notices, output_format, pager, streams, target_options
from aliciacfg.cli.command_table import GROUPS, Row, row_of
from aliciacfg.cli.exits import EXIT_FAILED

COMPLETION_VARIABLE = "_ALICIACFG_COMPLETE"
"""The variable by which the script of a shell asks for completions."""

_HELP = Row("help", "help_:help_", "Show the help of a command", formats=False)

EXAMPLES = "Examples:"


class RootGroup(click.Group):
    """The commands of the table, each imported when it is asked for."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        _show_examples(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line as the program; does not return."""
        try:
            return self.main(*args, **kwargs)
        except KeyboardInterrupt:
            # A further one, while the first ended the command.
            sys.exit(EXIT_FAILED)
        finally:
            # Nothing is left to interrupt but the end of threads, and Python reports that with a traceback.
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all commands, sorted."""
        return sorted(row.name for rows in GROUPS.values() for row in rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command and return it; return None if there is no such command."""
        row = _HELP if cmd_name == _HELP.name else row_of(cmd_name)
        return None if row is None else _load(row)

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command line; wrong usage is printed in the style of all errors and ends with its exit code."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **extra)
        streams.complete()
        try:
            # However the program is called, the scripts of the shells know one variable.
            ended = super().main(*args, standalone_mode=False, **{"complete_var": COMPLETION_VARIABLE, **extra})
        except click.exceptions.NoArgsIsHelpError as error:
            context = error.ctx
            click.echo(self.overview(context) if context.command is self else error.format_message())
            sys.exit(error.exit_code)
        except click.ClickException as error:
            from aliciacfg.cli import usage_errors

            usage_errors.end_with(error)
        except OSError as error:
            streams.end_with(error, code=EXIT_FAILED)
        except click.Abort:
            notices.print_error("interrupted")
            sys.exit(EXIT_FAILED)
        # Without standalone mode click returns the code of an early exit, such as that of --help.
        sys.exit(ended if isinstance(ended, int) else 0)

    def overview(self, context: click.Context) -> str:
        """Return what fits a screen: the commands that people use most, and the names of the others."""
        width = _name_width()
        lines = [context.get_usage()]
        for heading, rows in GROUPS.items():
            others = ", ".join(row.name for row in rows if not row.common)
            lines.append(f"\n{heading}" if len(lines) == 1 else heading)
            lines[-1] += f" (also: {others})" if others else ""
            lines += [f"  {row.name:{width}}  {row.summary}" for row in rows if row.common]
        path = context.command_path
        return "\n".join([*lines, "", f"{path} --help: all commands", f"{path} COMMAND --help: one command"])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write a section of help for each group of commands; no command is imported for it."""
        width = _name_width()
        for heading, rows in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(row.name.ljust(width), row.summary) for row in rows])


def _name_width() -> int:
    return max(len(row.name) for rows in GROUPS.values() for row in rows)


def print_overview(context: click.Context, _parameter: click.Parameter | None, value: bool) -> None:
    """Print the short help of the root command and end the program, if ``-h`` is given."""
    if value and isinstance(context.command, RootGroup):
        click.echo(context.command.overview(context))
        context.exit()


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
    target_options.add_to(command)
    pager.add_to(command)


def _show_examples(command: click.Command) -> None:
    """Show the examples of a docstring as the last section of help, where each keeps its line.

    The examples are what follows the line ``Examples:``.
    """
    text, found, examples = (command.help or "").partition(EXAMPLES)
    if not found:
        return
    command.help = text.rstrip()
    epilog = command.epilog
    lines = dedent(examples.strip("\n").rstrip()).splitlines()

    def write(ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG001
        formatter.write_paragraph()
        formatter.write_heading(EXAMPLES.removesuffix(":"))
        formatter.write("".join(f"  {line}\n" for line in lines))
        if epilog:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(epilog)

    command.format_epilog = write
