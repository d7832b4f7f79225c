"""How an administrator's command reaches the daemon of a data directory: through the socket ``admin.sock`` there.

Write access to the data directory is what authorises the caller. While no daemon runs, the operation itself is carried
out here, under the directory's lock.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from aliciacfg.cli import options, progress
from aliciacfg.cli.answers import exit_if_refused
from aliciacfg.cli.exits import EXIT_ANOTHER_DAEMON, EXIT_CODES, exit_on_error, fail
from aliciacfg.cli.loop import run
from aliciacfg.cli.requests import current_user
from aliciacfg.documents import JsonObject, decode_object
from aliciacfg.errors import BrokerUnavailable, DataDirectoryInUse, OperationError
from aliciacfg.storage.data_directory import SOCKET

if TYPE_CHECKING:
    from aliciacfg.settings import Settings

_TIMEOUT_SECONDS = 120.0


def administer(operation: str, target: str | None, fields: dict[str, Any], *, data_dir: str | None) -> JsonObject:
    """Carry out an operation on a data directory, and return its answer; a refusal ends the program."""
    return administer_with(options.daemon_settings({"data_dir": data_dir}).settings, operation, target, fields)


def administer_with(
    settings: "Settings", operation: str, target: str | None, fields: dict[str, Any], *, load_files: bool = False
) -> JsonObject:
    """Carry out an operation on the data directory of the settings; a refusal ends the program.

    Args:
        settings: The daemon's.
        operation: A name of the operations table.
        target: The service or environment that it concerns.
        fields: The request's fields.
        load_files: Where no daemon runs, load the files before, as the next start would.
    """
    answer = ask_daemon(settings, operation, target, fields)
    if answer is None:
        _exit_without_home(settings)
        answer = _run_offline(settings, operation, target, fields, load_files=load_files)
    return exit_if_refused(answer)


def ask_daemon(settings: "Settings", operation: str, target: str | None, fields: dict[str, Any]) -> JsonObject | None:
    """Send a request to the running daemon; return its answer, a refusal too, or None if no daemon listens."""
    from aliciacfg.http import client

    socket = Path(settings.data_dir) / SOCKET
    asked = client.ask("http://localhost", operation, target, fields, timeout_seconds=_TIMEOUT_SECONDS, socket=socket)
    try:
        with progress.shown("waiting for the daemon"):
            return run(asked)
    except BrokerUnavailable:
        return None


def next_active_environment(settings: "Settings") -> str:
    """Return the environment that is active after the next start; while a daemon runs, end the program."""
    from aliciacfg import logs
    from aliciacfg.bootstrap.offline import next_environment

    # Without this, warnings would go to standard output. One says that a key was made, of which to keep a copy.
    logs.configure(level="warning", form="auto")
    try:
        return run(next_environment(settings))
    except DataDirectoryInUse:
        exit_locked(settings)


def exit_running(settings: "Settings") -> NoReturn:
    """End the program: it changes what the daemon of this home has in memory."""
    from aliciacfg.storage.data_directory import holder

    found = holder(Path(settings.data_dir))
    fail(
        f"the daemon on the data directory {settings.data_dir} runs{'' if found is None else f' (pid {found})'}",
        EXIT_ANOTHER_DAEMON,
        hint="stop it with Ctrl-C or `systemctl stop aliciacfg`, run this again, and start it",
    )


def exit_locked(settings: "Settings") -> NoReturn:
    """End the program: the data directory is locked, but no daemon listens on its socket."""
    fail(
        f"{settings.data_dir} is locked, but no daemon answers on {SOCKET} there; wait if it is starting, and run the "
        "same version of aliciacfg as the daemon",
        EXIT_ANOTHER_DAEMON,
    )


def _exit_without_home(settings: "Settings") -> None:
    """End the program where there is no home: a token that is made beside it would open nothing."""
    if not Path(settings.data_dir).exists() and not Path(settings.environments_dir).is_dir():
        fail(
            f"there is no home here: neither {settings.data_dir} nor {settings.environments_dir} exists",
            EXIT_CODES["not_found"],
            hint="run it in the home's directory, or name its data with --data-dir or ALICIACFG_DATA_DIR",
        )


def _run_offline(
    settings: "Settings", operation: str, target: str | None, fields: dict[str, Any], *, load_files: bool
) -> JsonObject:
    from aliciacfg import logs
    from aliciacfg.api.encoding import encode_failure
    from aliciacfg.bootstrap.offline import run_offline

    logs.configure(level="error", form="auto")
    with exit_on_error(), progress.shown("working on the data directory"):
        try:
            body = run(run_offline(settings, operation, target or "", fields, user=current_user(), starting=load_files))
        except DataDirectoryInUse:
            exit_locked(settings)
        except OperationError as error:
            body = encode_failure(error, None)
        return decode_object(body)
