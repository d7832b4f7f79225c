"""The format in which commands print: ``-o table|json|yaml|name``, before or after the command.

Without it people, at a terminal, get tables and sentences, and programs get JSON.
"""

import sys
from typing import Any, Final, Literal, TypeAlias, cast

import click

Format: TypeAlias = Literal["table", "json", "yaml", "name"]

FORMATS: Final = ("table", "json", "yaml", "name")
_KEY: Final = "aliciacfg.output_format"
_FLAGS: Final = ("-o", "--output")


def add_option(command: click.Command) -> None:
    """Add the option to a command, once; a command with a ``-o`` of its own keeps that."""
    taken = {flag for parameter in command.params for flag in parameter.opts}
    if not taken.intersection(_FLAGS):
        command.params.append(click.Option(list(_FLAGS), **_ATTRIBUTES))


def chosen() -> Format | None:
    """Return the format that the command line asks for, or None."""
    context = click.get_current_context(silent=True)
    return None if context is None else in_context(context)


def in_context(context: click.Context) -> Format | None:
    """Return the format that the command line of a context asks for, or None."""
    return cast("Format | None", context.meta.get(_KEY))


def current() -> Format:
    """Return the format in force: the chosen one, else ``table`` on a terminal and ``json`` elsewhere."""
    return chosen() or ("table" if sys.stdout.isatty() else "json")


def _remember(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
    # A context shares this mapping with those of its subcommands, so the one given last on the line counts.
    if value is not None:
        context.meta[_KEY] = value


_ATTRIBUTES: Final[dict[str, Any]] = {
    "type": click.Choice(FORMATS),
    "expose_value": False,
    "is_eager": True,
    "callback": _remember,
    "metavar": "FORMAT",
    "help": "table, json, yaml, or name (one name a line); default: table on a terminal, else json.",
}

option = click.option(*_FLAGS, **_ATTRIBUTES)
