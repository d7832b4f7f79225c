"""Options that several commands take."""

import os
from pathlib import Path
from typing import Any

import click

from aliciacfg.settings import SETTINGS, Resolved, read_dotenv, resolve

environment = click.option("-e", "--environment", metavar="NAME", help="Default: the active one.")
answer = click.option("--answer", is_flag=True, help="Print the whole answer instead of the configuration.")
_expected = click.option(
    "--expected-revision", type=int, metavar="N", help="Refuse if it is at another revision; 0: must not exist."
)
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
_comment = click.option("-m", "--comment", metavar="TEXT", help="Goes into the history.")


def write(command: Any) -> Any:
    """What every write takes."""
    for option in (answer, _comment, _dry_run, _expected, environment):
        command = option(command)
    return command


def daemon_settings(command: Any) -> Any:
    """A flag for each of the daemon's own settings."""
    for setting in reversed(SETTINGS):
        default = "" if setting.default in {None, ""} else f" [default: {setting.default}]"
        option = click.option(
            setting.flag, setting.field, metavar="TEXT", help=f"{setting.help} ({setting.name}){default}"
        )
        command = option(command)
    return command


def settle(flags: dict[str, str | None]) -> Resolved:
    """The daemon's settings, from these flags, the environment and ``.env``.

    Raises:
        SettingsError: Values that cannot be.
    """
    given = {field: value for field, value in flags.items() if value is not None}
    return resolve(given, environ=os.environ, dotenv_values=read_dotenv(Path.cwd()))
