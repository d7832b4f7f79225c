"""The ``env`` command: the variables of a service, as a file for a program that reads one."""

import sys
from pathlib import Path

import click

from aliciacfg.atomic_files import replace_file
from aliciacfg.cli import notices, options, service_variables
from aliciacfg.cli.client import Target
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, fail
from aliciacfg.execution.preparation import Choices, Unusable, notes, select
from aliciacfg.file_errors import unwritable
from aliciacfg.terminal_text import printable
from aliciacfg.variables.dialects import DIALECTS, CannotHold, render

_PRIVATE = 0o600


@click.command()
@click.argument("service")
@click.option(
    "--format",
    "dialect",
    type=click.Choice(DIALECTS),
    default="dotenv",
    show_default=True,
    help="The program that reads it: python-dotenv, sh, anything (JSON), Docker Compose, systemd.",
)
@options.environment
@service_variables.derived
@service_variables.allow_redacted
@service_variables.file
@service_variables.schema
@click.option(
    "--to",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write this file instead, readable for you alone; it is replaced as a whole.",
)
@click.pass_obj
def env(
    target: Target,
    service: str,
    dialect: str,
    environment: str | None,
    path: Path | None,
    file: str | None,
    schema: str | None,
    *,
    derived: bool,
    allow_redacted: bool,
) -> None:
    """Print the environment variables of SERVICE for another program.

    The service's schema names them with x-env; if it names none, all values are printed under names made from their
    pointers. Each format is exact for its reader: a value that it cannot hold is an error that names the variable.

    Examples:
      eval "$(aliciacfg env voice_router --format export)"
      aliciacfg env voice_router --format systemd --to /etc/alicia/voice_router.env
    """
    values = service_variables.values_of(target, service, environment=environment, file=file, schema=schema)
    try:
        found = select(values, choices=Choices(derived=derived, allow_redacted=allow_redacted), kept=())
    except Unusable as error:
        service_variables.fail_unusable(service, error)
    for line in notes(found, kept=()):
        notices.print_note(f"{service}: {line}")
    try:
        text = render(dialect, found.variables)
    except CannotHold as error:
        fail(str(error), EXIT_CODES["validation_failed"])
    if path is None:
        _print(text)
        return
    try:
        replace_file(path, text.encode(), mode=_PRIVATE)
    except OSError as error:
        fail(unwritable(path, error), EXIT_FAILED)


def _print(text: str) -> None:
    """Write a file to standard output as it is; on a terminal, with control characters escaped."""
    if sys.stdout.isatty():
        text = printable(text, keep="\n")
    sys.stdout.flush()
    left = memoryview(text.encode())
    while left:
        left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()
