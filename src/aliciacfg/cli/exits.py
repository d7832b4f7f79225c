"""Exit codes, and how a command ends with one. ``aliciacfg --help`` lists them.

Every error is printed on standard error, in one style:

    error: what is wrong, and where
      /limits/x: found 'a'; expected a number
    hint: what to do

With ``-o json`` or ``-o yaml`` standard error has an object instead: ``status``, ``code``, ``message``, ``problems``.
"""

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import msgspec

from aliciacfg.cli import notices, output_format, problem_texts
from aliciacfg.documents import JsonObject
from aliciacfg.errors import (
    AliciacfgError,
    BrokerUnavailable,
    OperationError,
    OtherHome,
    Problem,
    SettingsError,
    SourceError,
)

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

_CODES = {
    EXIT_FAILED: "failed",
    EXIT_USAGE: "usage",
    3: "not_found",
    4: "validation_failed",
    5: "conflict",
    6: "forbidden",
    EXIT_NO_ANSWER: "unavailable",
    EXIT_CANNOT_START: "cannot_start",
    EXIT_ANOTHER_DAEMON: "another_daemon",
    EXIT_CUT_SHORT: "cut_short",
}
"""Error code, for programs, of an error that no daemon has given one."""


_NO_ANSWER = (
    "does the daemon run, and is this its broker? `aliciacfg serve --dev` runs both on this machine; MQTT_BROKER or "
    "--broker HOST:PORT names another broker"
)


def error_code(code: int) -> str:
    """Return the error code that programs get for an exit code."""
    return _CODES.get(code, _CODES[EXIT_FAILED])


def fail(message: str, code: int, *, hint: str | None = None, problems: Sequence[Problem] = ()) -> NoReturn:
    """Print an error on standard error and end the program.

    Args:
        message: What is wrong, and where.
        code: The exit code.
        hint: What to do, if the message does not say it.
        problems: The places that are wrong.
    """
    listed = msgspec.to_builtins(list(problems))
    answer: JsonObject = {"status": "error", "code": error_code(code), "message": message, "problems": listed}
    fail_with(answer, code, hint=hint, problems=problems)


def fail_with(answer: JsonObject, code: int, *, hint: str | None, problems: Sequence[Problem] = ()) -> NoReturn:
    """Print an error, of which programs get ``answer``, and end the program.

    Args:
        answer: An error object, such as a daemon's refusal.
        code: The exit code.
        hint: What to do, if the message does not say it.
        problems: The places that are wrong.
    """
    if output_format.chosen() in {"json", "yaml"}:
        notices.print_object({**answer, "hint": hint} if hint else answer)
    else:
        notices.print_error(str(answer.get("message")), problem_texts.lines(problems), hint=hint)
    sys.exit(code)


@contextmanager
def exit_on_error() -> Generator[None]:
    """End the program with the message and the exit code of an error that is raised inside."""
    try:
        yield
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)
    except BrokerUnavailable as error:
        fail(str(error), EXIT_NO_ANSWER, hint=_NO_ANSWER)
    except SourceError as error:
        fail(f"the files are not valid:\n{error}", EXIT_CODES["validation_failed"])
    except OperationError as error:
        fail(str(error), EXIT_CODES.get(error.code, EXIT_FAILED))
    except OtherHome as error:
        fail(str(error), EXIT_ANOTHER_DAEMON, hint=error.hint)
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)
