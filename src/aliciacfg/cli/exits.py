"""What a command's exit code says; ``aliciacfg.cli`` lists them for people."""

import sys
from typing import NoReturn

import click

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
