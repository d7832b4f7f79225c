"""Chooses the database backend: the only module outside of a backend's package that names one."""

from pathlib import Path

from aliciacfg.storage.sqlite.copies import writing_copy
from aliciacfg.storage.sqlite.database import FILE_NAME, SqliteDatabase
from aliciacfg.storage.store import Database, StoreError


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
    try:
        # Only here: it needs a package that a daemon on SQLite does not have.
        from aliciacfg.storage.postgres.database import PostgresDatabase  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise StoreError(
            "a database on PostgreSQL needs the package asyncpg: pip install 'aliciacfg[postgres]'"
        ) from error
    return PostgresDatabase(directory, url, lambda target: writing_copy(target / FILE_NAME))
