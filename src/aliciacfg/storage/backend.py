"""Chooses the database backend: the only module outside of a backend's package that names one."""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from aliciacfg.errors import SettingsError
from aliciacfg.settings import database_url_problem
from aliciacfg.storage.shared_keys import KeyTable
from aliciacfg.storage.sqlite.copies import writing_copy
from aliciacfg.storage.sqlite.database import FILE_NAME, SqliteDatabase
from aliciacfg.storage.store import Database, StoreError

_FILE, _SERVER = "sqlite:", "postgresql:"
SCHEMES = (_FILE, _SERVER)
"""The beginnings of addresses."""
_SERVER_URLS = ("postgresql://", "postgres://")


def database_in(directory: Path, url: str | None = None) -> Database:
    """Return the database of a home; nothing is opened or created yet.

    Args:
        directory: The data directory.
        url: ``postgresql://…`` if the database is on a server, which several daemons may share; None if it is in the
            data directory.

    Raises:
        StoreError: What the backend needs is not installed.
    """
    if url is None:
        return SqliteDatabase(directory)
    with _needing_driver():
        # Only here: it needs a package that a daemon on SQLite does not have.
        from aliciacfg.storage.postgres.database import PostgresDatabase  # noqa: PLC0415
    return PostgresDatabase(directory, url, lambda target: writing_copy(target / FILE_NAME))


def key_table(url: str) -> KeyTable:
    """Return the place for the keys in a database that several daemons share; nothing is opened or created yet.

    Args:
        url: ``postgresql://…``

    Raises:
        StoreError: What the backend needs is not installed.
    """
    with _needing_driver():
        from aliciacfg.storage.postgres.keys import PostgresKeyTable  # noqa: PLC0415
    return PostgresKeyTable(url, database_in(Path(), url).name)


@contextlib.contextmanager
def _needing_driver() -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise StoreError(
            "a database on PostgreSQL needs the package asyncpg: pip install 'aliciacfg[postgres]'"
        ) from error


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database is.

    Attributes:
        directory: The data directory of a database that is a file; of one on a server, that of this machine's daemon.
        url: ``postgresql://…`` of a database on a server; None for a file.
    """

    directory: Path
    url: str | None = None

    @property
    def database(self) -> Database:
        """The database; errors as for ``database_in``."""
        return database_in(self.directory, self.url)


def parse_address(text: str, *, directory: Path, url: str | None) -> Place:
    """Return where the database of an address is.

    Args:
        text: ``sqlite:`` and a data directory or the file in it, or ``postgresql://…``. The scheme alone stands for
            the database of a home's settings.
        directory: The data directory of the settings.
        url: The address of a database on a server in the settings; None if there is none.

    Raises:
        SettingsError: It is none. The message does not quote it: it may hold a password.
    """
    if text == _SERVER:
        if url is None:
            raise SettingsError([f"{_SERVER} stands for ALICIACFG_DATABASE_URL, which is not set"])
        return Place(directory, url)
    if text.startswith(_FILE) and not text.startswith(f"{_FILE}//"):
        path = Path(text.removeprefix(_FILE)) if text != _FILE else directory
        return Place(path.parent if path.name == FILE_NAME else path)
    if not text.startswith(_SERVER_URLS):
        raise SettingsError(
            [f"an address is none of a database; expected {_FILE}DIR (a data directory) or postgresql://user@host/name"]
        )
    if (problem := database_url_problem(text)) is not None:
        raise SettingsError([f"the address of a database: {problem}"])
    return Place(directory, text)
