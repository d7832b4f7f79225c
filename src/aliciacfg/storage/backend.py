"""Chooses the database backend: the only module outside of a backend's package that names one."""

from pathlib import Path

from aliciacfg.storage.sqlite.database import SqliteDatabase
from aliciacfg.storage.store import Database


def database_in(directory: Path) -> Database:
    """Return the database of a data directory; nothing is opened or created yet."""
    return SqliteDatabase(directory)
