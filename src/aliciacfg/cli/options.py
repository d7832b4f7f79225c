"""Options that several commands share, and the daemon's settings that come from them."""

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, EXIT_USAGE, fail
from aliciacfg.errors import SettingsError
from aliciacfg.file_errors import unreadable
from aliciacfg.settings import SETTINGS, Resolved, read_dotenv, resolve

# Where a command's context has the settings that it has resolved, by the flags.
_KNOWN = "aliciacfg.settings"

environment = click.option("-e", "--environment", metavar="NAME", help="Environment; default: the active one.")
answer = click.option("--answer", is_flag=True, help="Print the whole answer, not only the configuration.")
expected = click.option(
    "--expected-revision", type=int, metavar="N", help="Refuse unless N is the current revision; 0: must not exist yet."
)
dry_run = click.option("--dry-run", is_flag=True, help="Print what would change; change nothing.")
comment = click.option("-m", "--comment", metavar="TEXT", help="Comment for the history.")
allow_breaking = click.option("--allow-breaking", is_flag=True, help="Allow keys to disappear or to change their type.")


def _inverted(_context: click.Context, _option: click.Parameter, value: bool) -> bool:
    return not value


force = click.option(
    "--force",
    "refuse_near_misses",
    is_flag=True,
    callback=_inverted,
    help="Allow new names that look like misspelt ones.",
)


def existing_data_dir(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Return the data directory that a command names; end the program if there is none.

    Otherwise a mistyped one becomes a home of its own, with keys and tokens that open nothing.
    """
    try:
        found = value is None or Path(value).is_dir()
    except OSError as error:
        fail(unreadable(Path(str(value)), error), EXIT_FAILED)
    if not found:
        hint = f"if a new home is meant, make it first: mkdir -p -m 700 {shlex.quote(str(value))}"
        fail(f"there is no data directory {value}", EXIT_CODES["not_found"], hint=hint)
    return value


data_dir = click.option(
    "--data-dir",
    metavar="DIR",
    callback=existing_data_dir,
    help="The daemon's data directory; default: ALICIACFG_DATA_DIR, else data.",
)


def write(command: Any) -> Any:
    """Add the options of every command that writes one configuration."""
    for option in (answer, comment, allow_breaking, dry_run, expected, environment):
        command = option(command)
    return command


def request_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as fields of a request, without those that were not used: None, and flags that are off."""
    return {name: value for name, value in options.items() if value is not None and value is not False}


def settings(*fields: str) -> Callable[[Any], Any]:
    """Add an option for each of these settings of the daemon; for all settings if none is named."""

    def decorate(command: Any) -> Any:
        for setting in reversed([row for row in SETTINGS if row.field in fields or not fields]):
            default = "" if setting.default in {None, ""} else f" [default: {setting.default}]"
            option = click.option(
                setting.flag, setting.field, metavar="TEXT", help=f"{setting.help} ({setting.name}){default}"
            )
            command = option(command)
        return command

    return decorate


def daemon_settings(flags: Mapping[str, str | None], *, code: int = EXIT_USAGE) -> Resolved:
    """Return the daemon's settings, from flags, the environment and ``.env``, which a command reads once.

    Invalid values end the program.

    Args:
        flags: Values by field of ``Settings``; None where the option was not used.
        code: The exit code for invalid values.
    """
    used = {field: value for field, value in flags.items() if value is not None}
    context = click.get_current_context(silent=True)
    # To answer, a command asks some five times: for its broker, its own name, whose home it is.
    known: dict[tuple[tuple[str, str], ...], Resolved] = {} if context is None else context.meta.setdefault(_KNOWN, {})
    key = tuple(sorted(used.items()))
    if key not in known:
        try:
            # Of the copy each variable is decoded once.
            known[key] = resolve(used, environ=dict(os.environ), dotenv_values=read_dotenv(Path()))
        except SettingsError as error:
            fail(str(error), code)
    return known[key]
