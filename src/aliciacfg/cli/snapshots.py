"""How a command gets a copy of the database: from the running daemon, or itself while none runs."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aliciacfg.cli.answers import exit_if_refused
from aliciacfg.cli.exits import EXIT_FAILED, fail
from aliciacfg.cli.local_client import ask_daemon, exit_locked
from aliciacfg.errors import DataDirectoryInUse

if TYPE_CHECKING:
    from aliciacfg.settings import Settings


@contextmanager
def snapshot(settings: "Settings") -> Generator[Path]:
    """Yield a directory with a copy of the database, and room for more; it is removed at the end.

    Raises:
        AliciacfgError: The database cannot be copied.
    """
    data = Path(settings.data_dir)
    if not data.is_dir():
        fail(f"{data} does not exist", EXIT_FAILED, hint="name the data directory with --data-dir")
    answer = ask_daemon(settings, "backup", None, {})
    if answer is not None:
        made = data / str(exit_if_refused(answer)["snapshot"])
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return
    from aliciacfg.storage.backend import database_in
    from aliciacfg.storage.data_directory import DataDirectory

    database = database_in(data, settings.database_url)
    if not database.exists():
        if settings.database_url is not None:
            fail(f"{database.name} holds no home yet", EXIT_FAILED, hint="start the daemon, or restore a backup")
        fail(f"{data} has no database yet", EXIT_FAILED, hint="name the data directory with --data-dir")
    try:
        directory = DataDirectory(data)
    except DataDirectoryInUse:
        exit_locked(settings)
    made = None
    try:
        made = directory.make_snapshot_directory()
        database.backup(made)
        yield made
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        directory.release()
