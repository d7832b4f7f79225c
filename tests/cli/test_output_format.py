"""``-o table|json|yaml|name``: what each command prints of its result, and where it may stand."""

import json
from typing import Any

import click
import pytest
from click.testing import CliRunner

from aliciacfg.cli import main, output, output_format
from aliciacfg.cli.command_group import RootGroup
from aliciacfg.cli.command_table import GROUPS, Row
from command_runs import NOWHERE, run
from yaml_readers import readers

ITEMS: list[dict[str, Any]] = [{"service": "bell", "limits": {"x": [1, {"y": None}]}}, {"service": "lamp", "tags": []}]


@click.command("things")
def things() -> None:
    """Print two things."""
    output.print_result(ITEMS, lambda: ["two things"])


@click.command("document")
def document() -> None:
    """Print a document."""
    output.print_document(ITEMS[0])


def printed(command: click.Command, *arguments: str) -> str:
    """What the command prints with these arguments."""
    output_format.add_option(command)
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_each_format_of_a_list():
    """JSON is the default of a pipe; names are one a line; YAML is the same data."""
    assert json.loads(printed(things)) == json.loads(printed(things, "-o", "json")) == ITEMS
    assert printed(things, "--output", "name") == "bell\nlamp\n"
    assert printed(things, "-o", "table") == "two things\n"
    for reader in readers().values():
        assert reader.load(printed(things, "-o", "yaml")) == ITEMS


def test_each_format_of_a_document():
    """A table has a line for each place, and a name is a place."""
    assert json.loads(printed(document)) == ITEMS[0]
    assert printed(document, "-o", "name") == "/service\n/limits/x\n"
    assert [line.split() for line in printed(document, "-o", "table").splitlines()] == [
        ["pointer", "value"],
        ["/service", '"bell"'],
        ["/limits/x", "[1,", '{"y":', "null}]"],
    ]


def all_commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """Every command and subcommand with its path."""
    context = click.Context(command)
    if not isinstance(command, click.Group):
        return [(path, command)]
    below = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    return [found for name, one in below if one is not None for found in all_commands(one, (*path, name))]


def test_every_command_takes_it():
    """But those whose output has a form of its own."""
    own = {row.name for rows in GROUPS.values() for row in rows if not row.formats}
    for path, command in all_commands(main):
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert ("-o" in flags) is (path[0] not in own), path


@pytest.mark.parametrize("before", [True, False])
def test_it_stands_before_or_after_the_command(before: bool):
    """Errors of programs are objects too, of wrong usage as well as of a daemon that is away."""
    chosen = ("-o", "json")
    for arguments, code, name in ((("get", "voice_router"), 7, "unavailable"), (("get",), 2, "usage")):
        line = [*chosen, *arguments] if before else [arguments[0], *chosen, *arguments[1:]]
        done = run(*NOWHERE["--http"], *line)
        assert (done.exit_code, done.stdout, json.loads(done.stderr)["code"]) == (code, "", name)


def test_a_command_keeps_an_o_of_its_own():
    """The root's still works for it."""

    @click.command()
    @click.option("-o", "place")
    def own(place: str | None) -> None:
        click.echo(f"{place} {output_format.chosen()}")

    output_format.add_option(own)
    assert [parameter.name for parameter in own.params] == ["place"]
    assert CliRunner().invoke(own, ["-o", "here"]).stdout == "here None\n"


def test_rows_name_what_exists():
    """A summary fits beside the longest name, begins with a verb and ends without a full stop."""
    assert isinstance(main, RootGroup)
    rows: list[Row] = [row for group in GROUPS.values() for row in group]
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert len(row.summary) <= 60, row
        assert row.summary[0].isupper(), row
        assert not row.summary.endswith("."), row
