"""Puts a home that was prepared in a directory into a database on a server."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from aliciacfg.backups.archive import ArchiveError
from aliciacfg.errors import DataDirectoryInUse
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.settings import Settings
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.data_directory import KEY_FILE
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.home_keys import put_keys
from aliciacfg.storage.store import Database
from aliciacfg.storage.witness import FILE_NAME as WITNESS


def refuse_users(database: Database) -> None:
    """Refuse to work on a database on a server that daemons use.

    Raises:
        DataDirectoryInUse: They do.
        StoreError: It cannot be read.
    """
    if users := database.users():
        raise DataDirectoryInUse(
            f"daemons use {database.name}: {', '.join(users)}. Stop all of them, and start none; one that was killed "
            "counts for some seconds more"
        )


def kept_tables(kept_in: str) -> str:
    """Return how a server's database calls the tables of the state before.

    Args:
        kept_in: The name of the directory of the files of that state.
    """
    return f"aliciacfg_{kept_in}".replace("-", "_").lower()


@contextmanager
def replacing(database: Database, prepared: Path, settings: Settings, *, kept_as: str) -> Generator[None]:
    """Let a database on a server hold the rows and keys of a prepared data directory, and take its file away there.

    The rows are there when the block ends; if it fails, all is as before, but for the prepared directory.

    Args:
        database: The database on a server.
        prepared: A data directory with keys and a database, that no process uses.
        settings: Name the database, and the key-encryption key.
        kept_as: The name of the tables that are there.

    Raises:
        ArchiveError: The copy differs.
        DataDirectoryInUse: A daemon uses the database.
        KeyFileError: The keys cannot be stored.
        StoreError: The database cannot be used.
        Unavailable: It cannot be written.
    """
    made = database_in(prepared)
    chain = Chain(KeyFile.load(prepared / KEY_FILE).make_keyring())
    with database.filling(kept_as=kept_as) as filling:
        made.copy_rows(filling.add)
        if filling.verify(chain) != made.verify(chain):
            raise ArchiveError(f"the rows in {database.name} are not what was put there; nothing was kept of them")
        put_keys(settings, (prepared / KEY_FILE).read_bytes(), source=f"{prepared / KEY_FILE}", table=filling.keys)
        for name in made.files:
            if name != WITNESS:
                (prepared / name).unlink(missing_ok=True)
        # What was prepared took its time, in which a daemon may have been started.
        refuse_users(database)
        yield
