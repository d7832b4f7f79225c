"""Reaching the daemon of a data directory: through its socket there, or in its place while none runs.

Whoever may write that directory administers.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from aliciacfg.cli import options
from aliciacfg.cli.client import refusal_ends, user
from aliciacfg.cli.exits import EXIT_ANOTHER_DAEMON, EXIT_CODES, EXIT_FAILED, EXIT_USAGE, fail
from aliciacfg.cli.loop import run
from aliciacfg.documents import JsonObject, decode_object
from aliciacfg.errors import (
    AliciacfgError,
    BrokerUnavailable,
    DataDirectoryInUse,
    OperationError,
    SettingsError,
    SourceError,
)
from aliciacfg.storage.data_directory import SOCKET

if TYPE_CHECKING:
    from aliciacfg.settings import Settings

_TIMEOUT_SECONDS = 120.0


def administer(operation: str, target: str | None, fields: dict[str, Any], *, data_dir: str | None) -> JsonObject:
    """Ask the daemon of a data directory, or do it alone if none runs; a refusal ends the program."""
    try:
        settings = options.settle({"data_dir": data_dir}).settings
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)
    return administer_by(settings, operation, target, fields)


def administer_by(
    settings: "Settings", operation: str, target: str | None, fields: dict[str, Any], *, starting: bool = False
) -> JsonObject:
    """``administer`` with settings that are settled; ``starting`` takes the files over first where no daemon runs."""
    answer = ask_daemon(settings, operation, target, fields)
    return refusal_ends(_alone(settings, operation, target, fields, starting=starting) if answer is None else answer)


def ask_daemon(settings: "Settings", operation: str, target: str | None, fields: dict[str, Any]) -> JsonObject | None:
    """Ask the daemon of a data directory through its socket there; None if none listens."""
    from aliciacfg.http import client  # noqa: PLC0415 - keeps the other commands quick

    socket = Path(settings.data_dir) / SOCKET
    try:
        return run(
            client.ask("http://localhost", operation, target, fields, timeout_seconds=_TIMEOUT_SECONDS, socket=socket)
        )
    except BrokerUnavailable:
        return None


def _alone(
    settings: "Settings", operation: str, target: str | None, fields: dict[str, Any], *, starting: bool
) -> JsonObject:
    from aliciacfg import logs  # noqa: PLC0415 - keeps the other commands quick
    from aliciacfg.api.encoding import encode_failure  # noqa: PLC0415
    from aliciacfg.offline import run_offline  # noqa: PLC0415

    logs.configure(level="error", form="auto")
    try:
        body = run(run_offline(settings, operation, target or "", fields, user=user(), starting=starting))
    except DataDirectoryInUse:
        daemon_is_silent(settings)
    except OperationError as error:
        body = encode_failure(error, None)
    except SourceError as error:
        fail(f"the files are not valid:\n{error}", EXIT_CODES["validation_failed"])
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)
    return decode_object(body)


def daemon_is_silent(settings: "Settings") -> NoReturn:
    """End the program: nothing listens on the socket, and yet the directory is locked."""
    fail(
        f"a daemon holds {settings.data_dir} and does not answer on {SOCKET} there; is it starting, or of another "
        "version?",
        EXIT_ANOTHER_DAEMON,
    )
