"""Help: of the whole program on one screen or in full, and of each command with an example."""

import click
import pytest

from aliciacfg.cli import main
from aliciacfg.cli.command_table import GROUPS
from command_runs import run

ROWS = [row for rows in GROUPS.values() for row in rows]


def commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every command that does something."""
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command, help_option_names=["-h", "--help"])
    below = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    return [found for name, one in below if one is not None for found in commands(one, (*path, name))]


@pytest.mark.parametrize("arguments", [(), ("-h",)])
def test_the_overview_fits_a_screen(arguments: tuple[str, ...]):
    """Of 80 columns and 40 rows; it names every command, and says what the most used ones do."""
    done = run(*arguments)
    lines = done.stdout.splitlines()
    assert (done.exit_code, len(lines) < 40, max(map(len, lines)) <= 80) == (0 if arguments else 2, True, True)
    for row in ROWS:
        assert row.name in done.stdout
        assert (row.summary in done.stdout) is row.common


def test_help_says_everything_by_groups():
    """Every command with its summary below the heading of its group, and the exit codes at the end."""
    shown = run("--help").stdout
    assert all(f"\n{heading}:\n" in shown for heading in GROUPS)
    assert all(row.summary in shown for row in ROWS)
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.index("Examples:") < shown.index("Exit codes:")


@pytest.mark.parametrize("path", commands(main), ids=" ".join)
def test_every_command_has_an_example(path: tuple[str, ...]):
    """It begins with the command; a short option asks for the same help."""
    done = run(*path, "--help")
    assert done.exit_code == 0
    _, found, examples = done.stdout.partition("\nExamples:\n")
    assert found, "write 'Examples:' into its docstring, and a command line a line below it"
    assert f"aliciacfg {' '.join(path)}" in examples
    assert run(*path, "-h").stdout == done.stdout
