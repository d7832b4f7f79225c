"""What a command's exit code says; ``aliciacfg.cli`` lists them for people."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

import click

from aliciacfg.errors import AliciacfgError, OperationError, SettingsError, SourceError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_ANSWER = 7
EXIT_CANNOT_START = 8
EXIT_ANOTHER_DAEMON = 9
EXIT_CODES = {
    "not_found": 3,
    "validation_failed": 4,
    "invalid_request": 4,
    "too_large": 4,
    "conflict": 5,
    "incompatible": 5,
    "unauthorized": 6,
    "forbidden": 6,
    "busy": EXIT_NO_ANSWER,
    "unavailable": EXIT_NO_ANSWER,
    "internal": EXIT_FAILED,
}


def fail(message: str, code: int) -> NoReturn:
    """End the program: the reason on standard error, the kind of reason as exit code."""
    click.echo(f"aliciacfg: {message}", err=True)
    sys.exit(code)


@contextmanager
def failing() -> Generator[None]:
    """End the program with the right code if settings, files or anything else of ours is wrong inside."""
    try:
        yield
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)
    except SourceError as error:
        fail(f"the files are not valid:\n{error}", EXIT_CODES["validation_failed"])
    except OperationError as error:
        fail(str(error), EXIT_CODES.get(error.code, EXIT_FAILED))
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)
