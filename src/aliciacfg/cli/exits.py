"""Exit codes, and how a command ends with one. ``aliciacfg --help`` lists them."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

import click

from aliciacfg.errors import AliciacfgError, BrokerUnavailable, OperationError, SettingsError, SourceError
from aliciacfg.terminal_text import printable

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_ANSWER = 7
EXIT_CANNOT_START = 8
EXIT_ANOTHER_DAEMON = 9
EXIT_CUT_SHORT = 10
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
"""Exit code by error code."""


def fail(message: str, code: int) -> NoReturn:
    """Print a message on standard error and end the program."""
    click.echo(printable(f"aliciacfg: {message}", keep="\n"), err=True)
    sys.exit(code)


@contextmanager
def exit_on_error() -> Generator[None]:
    """End the program with the message and the exit code of an error that is raised inside."""
    try:
        yield
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)
    except BrokerUnavailable as error:
        fail(str(error), EXIT_NO_ANSWER)
    except SourceError as error:
        fail(f"the files are not valid:\n{error}", EXIT_CODES["validation_failed"])
    except OperationError as error:
        fail(str(error), EXIT_CODES.get(error.code, EXIT_FAILED))
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)
