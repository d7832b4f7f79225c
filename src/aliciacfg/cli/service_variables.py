"""The configuration of a service, as the commands ``env`` and ``exec`` make variables of it."""

import contextlib
import os
from typing import Any, NoReturn

import click
import msgspec

from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, exit_on_error, fail
from aliciacfg.cli.inputs import read_object
from aliciacfg.execution.preparation import Unusable, Values
from aliciacfg.terminal_text import printable
from aliciacfg.variables.resolution import names_any, names_in

derived = click.option(
    "--all",
    "derived",
    is_flag=True,
    help="Also values without x-env, under names made from their pointers, such as SETTINGS_MAX_SESSIONS.",
)
allow_redacted = click.option(
    "--allow-redacted", is_flag=True, help="Leave out secrets that cannot be read here, instead of failing."
)


file = click.option(
    "--file",
    metavar="FILE",
    help="Take the configuration from a JSON or YAML file, secrets in the open, instead of from the daemon.",
)
schema = click.option(
    "--schema", metavar="FILE", help="With --file: the service's schema, which names the variables (x-env)."
)


def values_of(target: Target, service: str, *, environment: str | None, file: str | None, schema: str | None) -> Values:
    """Return a configuration from a file, if one is named, else from the daemon.

    No answer ends the program, and so does an invalid file.
    """
    if file is not None:
        if environment is not None:
            raise click.UsageError("--file is one configuration, of whatever environment; leave -e out")
        return _file_values(service, file, schema)
    if schema is not None:
        raise click.UsageError("--schema needs --file; the daemon has schemas of its own")
    return ask_values(target, service, environment)


def _file_values(service: str, file: str, schema: str | None) -> Values:
    from aliciacfg.schemas.schema_check import schema_problems

    content = read_object(file)
    answered = content.get("config")
    config = answered if isinstance(answered, dict) and "revision" in content else content
    found = {} if schema is None else read_object(schema)
    if problems := schema_problems(found, title=service):
        fail(f"{schema} is not a usable schema", EXIT_CODES["validation_failed"], problems=problems)
    return Values(config=config, name_of=names_in({"allOf": [found]}), names_any=names_any(found))


def ask_values(target: Target, service: str, environment: str | None) -> Values:
    """Ask the daemon once for a configuration and its schema; no answer ends the program.

    Secrets that are sealed to the service are opened with the key in ``ALICIACFG_KEY_FILE``.
    """
    from pathlib import Path

    from aliciacfg.client.current import Trust
    from aliciacfg.client.keys import SETTING, KeyFile
    from aliciacfg.client.messages import Update
    from aliciacfg.client.values import Reader

    answer = ask(target, "get", service, {"environment": environment})
    schema = ask(target, "schema", service, {"environment": environment})["schema"]
    if not isinstance(schema, dict):
        fail("The answer has no schema; does the daemon have this version?", EXIT_FAILED)
    named = os.environ.get(SETTING)
    keys = KeyFile(Path(named) if named else None)
    with exit_on_error():
        keys.load()
        try:
            update = msgspec.convert(answer, Update)
        except msgspec.ValidationError as error:
            fail(f"The answer has another form than expected; does the daemon have this version? {error}", EXIT_FAILED)
        reader: Reader[dict[str, Any]] = Reader(dict, keys, Trust())
        record = reader.read(update, source="live")
    return Values(config=record.config, name_of=names_in(schema), names_any=names_any(schema), hidden=record.redacted)


def fail_unusable(service: str, error: Unusable) -> NoReturn:
    """End the program because variables of a service cannot be used."""
    code = EXIT_CODES.get(error.code, EXIT_FAILED)
    fail(f"{service}: {error}", code, hint=error.remedy)


def say(service: str, line: str) -> None:
    """Print a line on standard error, which a program shares with this one, if that is read."""
    with contextlib.suppress(OSError):
        click.echo(printable(f"aliciacfg: {service}: {line}"), err=True)
