"""How a command gets a copy of the database: from the running daemon, or itself while none runs."""

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aliciacfg.cli.answers import exit_if_refused
from aliciacfg.cli.exits import EXIT_FAILED, fail
from aliciacfg.cli.local_client import ask_daemon, exit_locked
from aliciacfg.errors import DataDirectoryInUse, Unavailable
from aliciacfg.file_errors import unwritable

if TYPE_CHECKING:
    from aliciacfg.settings import Settings
    from aliciacfg.storage.data_directory import DataDirectory
    from aliciacfg.storage.store import Database


@contextmanager
def snapshot(settings: "Settings", *, elsewhere: Path | None = None) -> Generator[Path]:
    """Yield a directory with a copy of the database, and room for more; it is removed at the end.

    It is in the data directory. If that cannot be written, because its disk is full or read-only, what is there can be
    saved all the same.

    Args:
        settings: The daemon's.
        elsewhere: Where the copy is made then; None for the directory of temporary files.

    Raises:
        AliciacfgError: The database cannot be copied.
    """
    data = Path(settings.data_dir)
    if not data.is_dir():
        fail(f"{data} does not exist", EXIT_FAILED, hint="name the data directory with --data-dir")
    answer = ask_daemon(settings, "backup", None, {})
    # Until the end: a start removes every copy in the data directory.
    with nullcontext() if answer is not None else _locked(settings) as locked, ExitStack() as stack:
        if answer is None:
            made = _copy(settings, locked, elsewhere, stack)
        elif answer.get("code") == Unavailable.code:
            made = _copy_elsewhere(settings, elsewhere, stack, at_rest=False)
        else:
            made = _removed_at_end(data / str(exit_if_refused(answer)["snapshot"]), stack)
        yield made


@contextmanager
def _locked(settings: "Settings") -> "Generator[DataDirectory | None]":
    """Lock the data directory while no daemon answers; yield None if a daemon that could not make its socket has it."""
    from aliciacfg.storage.data_directory import DataDirectory

    data, database = Path(settings.data_dir), _database(settings)
    if not database.exists():
        if settings.database_url is not None:
            fail(f"{database.name} holds no home yet", EXIT_FAILED, hint="start the daemon, or restore a backup")
        fail(f"{data} has no database yet", EXIT_FAILED, hint="name the data directory with --data-dir")
    try:
        directory = DataDirectory(data)
    except DataDirectoryInUse:
        if os.access(data, os.W_OK):
            exit_locked(settings)
        yield None
        return
    try:
        yield directory
    finally:
        directory.release()


def _database(settings: "Settings") -> "Database":
    from aliciacfg.storage.backend import database_in

    return database_in(Path(settings.data_dir), settings.database_url)


def _copy(settings: "Settings", directory: "DataDirectory | None", elsewhere: Path | None, stack: ExitStack) -> Path:
    """Copy the database while no process writes to it, return the directory of the copy; ``stack`` removes it."""
    if directory is not None:
        with suppress(Unavailable):
            made = _removed_at_end(directory.make_snapshot_directory(), stack)
            _database(settings).backup(made, at_rest=True)
            return made
    return _copy_elsewhere(settings, elsewhere, stack, at_rest=True)


def _removed_at_end(directory: Path, stack: ExitStack) -> Path:
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    return directory


def _copy_elsewhere(settings: "Settings", place: Path | None, stack: ExitStack, *, at_rest: bool) -> Path:
    """Copy the database where the data directory cannot hold a copy, into a directory that ``stack`` removes.

    Raises:
        Unavailable: It cannot be read, or there is no room there either.
    """
    from aliciacfg.backups.work_directory import work_directory

    place = place or Path(tempfile.gettempdir())
    try:
        made = stack.enter_context(work_directory(place, Path(settings.data_dir)))
    except OSError as error:
        raise Unavailable(f"{unwritable(Path(error.filename or place), error, done='created')}.") from error
    _database(settings).backup(made, at_rest=at_rest)
    return made
