"""Copies of a database file: made while it is being written, and described without changing them."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from aliciacfg.errors import Unavailable
from aliciacfg.file_errors import reason, unwritable
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.rows import CHAIN, TABLES, Row, parse_position
from aliciacfg.storage.shared_keys import KeyTable
from aliciacfg.storage.sqlite.adoption import find_origin
from aliciacfg.storage.sqlite.chain_tail import SELECT_CHAIN_END
from aliciacfg.storage.sqlite.damage import is_locked, may_pass, translated_damage
from aliciacfg.storage.sqlite.maintenance import connect_to_read, connect_to_rest, decode, verify_rows
from aliciacfg.storage.sqlite.schema import MIGRATIONS, check_readable, create_tables, is_readable, version
from aliciacfg.storage.store import AddRows, Origin, StoreError, Summary
from aliciacfg.storage.verifier import Findings

# A quarter of a megabyte at once, then a rest: the thread that writes gets the disk and the interpreter in between.
_PAGES_PER_STEP = 64
_PAUSE_SECONDS = 0.001
_ROWS_COPIED = 200
_COUNTS = (
    # Those that are not deleted; of the others only the history is left.
    (
        "SELECT count(*) FROM (SELECT environment AS e, service AS s, max(revision) AS r FROM revisions GROUP BY e, s)"
        " JOIN revisions ON environment = e AND service = s AND revision = r WHERE deleted = 0"
    ),
    "SELECT count(*) FROM revisions",
)
_SELECT_META = "SELECT name, value FROM meta"


def copy_file(path: Path, target: Path, *, at_rest: bool, ended: Callable[[], bool] = lambda: False) -> None:
    """Copy a database as it is at one moment, with SQLite's online backup; commits go on meanwhile.

    Args:
        path: The database file, with its write-ahead log if there is one; is only read.
        target: The copy, without a log; created with mode 0600, and removed again if it cannot be completed.
        at_rest: Whether no other process has the database open, so that nothing beside it needs to be created to read
            it.
        ended: Asked between two steps; True ends the copy.

    Raises:
        Unavailable: The database cannot be read or the copy not be written, or it was ended.
    """

    def rest(_status: int, _remaining: int, _total: int) -> None:
        if ended():
            raise Unavailable("The daemon is stopping.")
        time.sleep(_PAUSE_SECONDS)

    _create(target)
    try:
        with (
            contextlib.closing(_connect(path, at_rest=at_rest)) as source,
            contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy,
            translated_damage(),
        ):
            # It is read back before it is relied on.
            copy.execute("PRAGMA synchronous=OFF")
            # Holds on to this moment: without it, every commit would make SQLite begin again.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            source.backup(copy, pages=_PAGES_PER_STEP, progress=rest)
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error | OSError):
            why = reason(error) if isinstance(error, OSError) else error
            raise Unavailable(f"The database cannot be copied: {why}.") from error
        raise


def _connect(path: Path, *, at_rest: bool) -> sqlite3.Connection:
    """Open a database file for reading, whether its disk can be written or not."""
    try:
        return connect_to_read(path, more=_more(path) if at_rest else "")
    except sqlite3.Error as error:
        if is_locked(error) or not may_pass(error):
            raise
        return connect_to_rest(path)


def copy_rows(path: Path, add: AddRows) -> None:
    """Add every row of a database, as it is at one moment, to a copy; see ``Database.copy_rows``.

    Raises:
        Unavailable: It cannot be read, has to be upgraded before, or the copy cannot be written.
    """
    try:
        with contextlib.closing(connect_to_read(path, more=_more(path))) as connection, translated_damage():
            connection.execute("BEGIN")
            check_readable(connection)
            for table, columns in TABLES.items():
                found = connection.execute(f"SELECT {', '.join(columns)} FROM {table}")
                while rows := found.fetchmany(_ROWS_COPIED):
                    add(table, rows)
            add(CHAIN, connection.execute(SELECT_CHAIN_END).fetchall())
    except sqlite3.Error as error:
        raise Unavailable(f"The database cannot be copied: {error}.") from error


class SqliteFilling:
    """Implements ``storage.store.Filling``, in a transaction of a new file.

    Attributes:
        keys: None: the keys are a file beside it.
    """

    keys: KeyTable | None = None

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(self, table: str, rows: Sequence[Row]) -> None:
        """Add rows."""
        columns = "one, sequence, mac, standing, sealed" if table == CHAIN else ", ".join(TABLES[table])
        values = [(1, *row) for row in rows] if table == CHAIN else rows
        places = ", ".join("?" * (columns.count(",") + 1))
        try:
            self._connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", values)
        except (sqlite3.Error, OverflowError) as error:
            raise Unavailable(f"Rows of the table {table} cannot be written: {error}.") from error

    def verify(self, chain: Chain) -> Findings:
        """Compare every row with the chain."""
        try:
            return verify_rows(self._connection, chain)
        except sqlite3.Error as error:
            raise Unavailable(f"The copy cannot be read: {error}.") from error


@contextlib.contextmanager
def writing_copy(target: Path) -> Generator[SqliteFilling]:
    """Yield what adds rows of another backend's database to a new file, as they are.

    Args:
        target: The file; created with mode 0600, and removed again if the block fails.

    Raises:
        Unavailable: It cannot be written.
    """
    _create(target)
    try:
        with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
            copy.text_factory = decode
            # It is read back before it is relied on.
            copy.execute("PRAGMA synchronous=OFF")
            copy.execute("PRAGMA auto_vacuum=INCREMENTAL")
            copy.executescript(f"{create_tables()} BEGIN;")
            yield SqliteFilling(copy)
            copy.execute("COMMIT")
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error | OSError):
            why = reason(error) if isinstance(error, OSError) else error
            raise Unavailable(f"The database cannot be copied: {why}.") from error
        raise


def _create(target: Path) -> None:
    """Make an empty file.

    Raises:
        Unavailable: It cannot be made, or is there already.
    """
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Unavailable(f"{unwritable(target, error)}.") from error


def _more(path: Path) -> str:
    """Return what lets SQLite read a database as it is, if no write-ahead log belongs to it."""
    log = path.with_name(f"{path.name}-wal")
    return "" if log.exists() and log.stat().st_size else "&immutable=1"


def describe_file(path: Path) -> Summary:
    """Return what a database says of itself; see ``Database.describe``.

    Raises:
        StoreError: It is not a database, or one of a newer aliciacfg.
    """
    try:
        with contextlib.closing(connect_to_read(path, more=_more(path))) as connection, translated_damage():
            found = version(connection)
            if found > len(MIGRATIONS):
                raise StoreError(
                    f"the database has format {found}, this aliciacfg knows up to {len(MIGRATIONS)}: use the newer "
                    "aliciacfg that wrote it"
                )
            if found == 0:
                raise StoreError("the database is empty, or not one of aliciacfg")
            end = connection.execute(SELECT_CHAIN_END).fetchone() if found > 1 else None
            configurations, revisions = (connection.execute(count).fetchone()[0] for count in _COUNTS)
            meta = {str(name): str(value) for name, value in connection.execute(_SELECT_META)}
    except sqlite3.Error as error:
        raise StoreError(f"the database cannot be read: {error}") from error
    sequence, mac = (end[0], end[1]) if end is not None else (0, b"")
    return Summary(
        format=found,
        position=parse_position(meta),
        meta=meta,
        rows=sequence if isinstance(sequence, int) else 0,
        head=mac.hex() if isinstance(mac, bytes) else "",
        configurations=configurations,
        revisions=revisions,
    )


def origin_of_file(path: Path, chain: Chain) -> Origin:
    """Return which key wrote a database; see ``Database.origin``. Of one that has to be upgraded nothing is known.

    Raises:
        StoreError: It cannot be read.
    """
    if not path.exists():
        return Origin(is_own=False, key_name="")
    try:
        with contextlib.closing(connect_to_read(path, more=_more(path))) as connection, translated_damage():
            return find_origin(connection, chain) if is_readable(connection) else Origin(is_own=False, key_name="")
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
