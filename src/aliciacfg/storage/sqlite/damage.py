"""What SQLite's errors mean: damage, or circumstances that may pass."""

import contextlib
import sqlite3
from collections.abc import Generator
from pathlib import Path

from aliciacfg.storage.store import StoreError

RESTORE = "stop the daemon, restore it from a backup (`aliciacfg restore FILE`), and start again"

_MAY_PASS = frozenset(
    {
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL,
    }
)  # fmt: skip
_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_FORMAT,
    }
)


@contextlib.contextmanager
def translated_damage() -> Generator[None]:
    """Raise sqlite3.DatabaseError where the sqlite3 module cannot even decode SQLite's message about a damaged file."""
    try:
        yield
    except UnicodeDecodeError as error:
        damaged = sqlite3.DatabaseError("malformed text, in the schema for example")
        damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damaged from error


def may_pass(error: sqlite3.Error) -> bool:
    """Return whether an error has a cause that may pass: a full, read-only or failing disk, a lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _MAY_PASS


def is_locked(error: sqlite3.Error) -> bool:
    """Return whether another program holds a lock on the database."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error means that the content of the file is not a sound database.

    A damaged page of the schema makes tables or columns unknown: SQLITE_ERROR.
    """
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def unusable(path: Path, error: sqlite3.Error) -> StoreError:
    """Return the error that says why a database cannot be used at all, and what to do."""
    if not hasattr(error, "sqlite_errorcode"):
        # Not of SQLite: of another version.
        return StoreError(f"{path} cannot be used: {error}")
    if not may_pass(error):
        return StoreError(f"{path} cannot be used: {error}; {RESTORE}")
    if not path.exists():
        return not_created(path, error)
    return StoreError(f"{path} can neither be written nor read: {error}; {_remedy(error)}")


def not_upgraded(path: Path, error: sqlite3.Error) -> StoreError:
    """Return the error that says why a database of an older version cannot be used, and what to do."""
    return StoreError(f"{path} is of an older aliciacfg and cannot be upgraded: {error}; {_remedy(error)}")


def not_created(path: Path, error: sqlite3.Error) -> StoreError:
    """Return the error that says why there is no database, and what to do."""
    return StoreError(f"{path} cannot be created: {error}; {_remedy(error)}")


def _remedy(error: sqlite3.Error) -> str:
    """Return what to do about an error that may pass; SQLite tells less than the operating system."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "free some space"
        case sqlite3.SQLITE_IOERR:
            return "see whether the disk is full or failing (`df`, `dmesg`)"
        case sqlite3.SQLITE_READONLY:
            return "see whether the disk is mounted read-only, and whether this user may write there"
        case _:
            return "see whether the disk is full or read-only, and whether this user may read and write there"
