"""How times are shown to people: how long ago, or with ``--times full`` to the second."""

from typing import Any, Final

import click

_KEY: Final = "aliciacfg.full_times"


def are_full() -> bool:
    """Return whether the command line asks for times to the second."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_KEY))


def _remember(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
    context.meta[_KEY] = value == "full"


option = click.option(
    "--times",
    type=click.Choice(["short", "full"]),
    default="short",
    expose_value=False,
    callback=_remember,
    metavar="short|full",
    help="How long ago, or to the second; -o json always has seconds since 1970.",
)
