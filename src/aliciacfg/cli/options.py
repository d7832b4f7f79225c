"""Options that several commands take."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from aliciacfg.settings import SETTINGS, Resolved, read_dotenv, resolve

environment = click.option("-e", "--environment", metavar="NAME", help="Default: the active one.")
answer = click.option("--answer", is_flag=True, help="Print the whole answer instead of the configuration.")
expected = click.option(
    "--expected-revision", type=int, metavar="N", help="Refuse if it is at another revision; 0: must not exist."
)
dry_run = click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
comment = click.option("-m", "--comment", metavar="TEXT", help="Goes into the history.")
allow_breaking = click.option("--allow-breaking", is_flag=True, help="Let keys disappear or change their type.")
data_dir = click.option("--data-dir", metavar="DIR", help="The daemon's; default: ALICIACFG_DATA_DIR, else data.")


def write(command: Any) -> Any:
    """What every write of one configuration takes."""
    for option in (answer, comment, allow_breaking, dry_run, expected, environment):
        command = option(command)
    return command


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """A request's fields without those that nobody gave; a flag that is not set is the default."""
    return {name: value for name, value in fields.items() if value is not None and value is not False}


def settings(*fields: str) -> Callable[[Any], Any]:
    """A flag for each of these settings of the daemon; for all of them where none is named."""

    def decorate(command: Any) -> Any:
        for setting in reversed([row for row in SETTINGS if row.field in fields or not fields]):
            default = "" if setting.default in {None, ""} else f" [default: {setting.default}]"
            option = click.option(
                setting.flag, setting.field, metavar="TEXT", help=f"{setting.help} ({setting.name}){default}"
            )
            command = option(command)
        return command

    return decorate


def settle(flags: dict[str, str | None]) -> Resolved:
    """The daemon's settings, from these flags, the environment and ``.env``.

    Raises:
        SettingsError: Values that cannot be.
    """
    given = {field: value for field, value in flags.items() if value is not None}
    return resolve(given, environ=os.environ, dotenv_values=read_dotenv(Path.cwd()))
