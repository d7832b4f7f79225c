"""Work on a whole database file: connect, verify, reseal, find key ids."""

import contextlib
import dataclasses
import heapq
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from aliciacfg.errors import Unavailable
from aliciacfg.file_errors import reason
from aliciacfg.model.records import ChainedRow
from aliciacfg.sealing.boxes import key_ids
from aliciacfg.storage.hash_chain import Chain, MalformedRow
from aliciacfg.storage.row_checks import chained_audit, chained_records, coded_overlays
from aliciacfg.storage.rows import (
    AUDIT_COLUMNS,
    RECORD_COLUMNS,
    RENEWED_COLUMNS,
    STANDING_COLUMNS,
)
from aliciacfg.storage.sqlite.chain_tail import SELECT_CHAIN_END
from aliciacfg.storage.sqlite.damage import is_damage, is_locked, may_pass, translated_damage, unusable
from aliciacfg.storage.sqlite.rows import SELECT_OVERLAYS, chain_start, select_coded
from aliciacfg.storage.sqlite.schema import SELECT_PROGRAMS, adopt_database, check_readable, migrate, quoted
from aliciacfg.storage.sqlite.transaction import reseal_rows
from aliciacfg.storage.store import Adoption, Reseal, StoreError
from aliciacfg.storage.verifier import Findings, Verifier

_SELECT_CHAIN = f"SELECT sequence, mac, code, {RECORD_COLUMNS} FROM revisions"
_SELECT_AUDIT_CHAIN = f"SELECT sequence, mac, code, {AUDIT_COLUMNS} FROM audit"
# The sequence of the last row of the next piece; no row if fewer are left.
_SELECT_PIECE_END = """
    SELECT sequence FROM revisions WHERE sequence > ? UNION ALL SELECT sequence FROM audit WHERE sequence > ?
    ORDER BY sequence LIMIT 1 OFFSET ?
"""
# Takes about two milliseconds, so that other threads get the interpreter in between.
_ROWS_PER_PIECE = 20
_MAX_DAMAGE = 20
# How often a verification begins again because rows are being removed.
_MAX_BEGINNINGS = 3
_STEPS_BETWEEN_LOOKS = 10_000
_MIN_SEQUENCE = -(2**63)
# How long another program's lock is waited for: a backup or a look at the database is over by then.
_BUSY_SECONDS = 1.0
_BUSY_TIMEOUT = f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000:.0f}"


def connect(path: Path) -> sqlite3.Connection:
    """Open a database file, or create it, with the settings of every connection that may write.

    Raises:
        sqlite3.Error: The file is not a database, or cannot be opened for writing.
    """
    _check_permissions(path)
    is_new = not path.exists() or not path.stat().st_size
    connection = sqlite3.connect(path, _BUSY_SECONDS, isolation_level=None)
    connection.text_factory = decode
    try:
        with translated_damage():
            if is_new:
                # What retention frees can go back to the disk. In a file with tables this changes nothing.
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # A value that was stored in plain text before a schema marked it as secret must not stay in free pages.
        connection.execute("PRAGMA secure_delete=ON")
        # What another program wrote into the schema of the file must not call functions that have effects.
        connection.execute("PRAGMA trusted_schema=OFF")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _check_permissions(path: Path) -> None:
    """Raise sqlite3.OperationalError if this user cannot write the files, or their disk is read-only.

    SQLite would open them for reading without saying so, and go on with that when they can be written again.
    """
    names = ("", "-wal", "-shm")
    for file in (path.parent, *(path.with_name(path.name + name) for name in names)):
        if file.exists() and not os.access(file, os.W_OK):
            error = sqlite3.OperationalError(f"{file} is read-only, or this user may not write it")
            error.sqlite_errorcode = sqlite3.SQLITE_READONLY
            raise error


def connect_to_rest(path: Path) -> sqlite3.Connection:
    """Open a database that cannot be written now, because its disk is full or read-only for example, for reading.

    SQLite needs to write a little to read a database in WAL mode. Without a write-ahead log nothing can be missed by
    reading the file as it is; otherwise file and log are copied to the directory for temporary files. The connection
    shares nothing with those that are opened for writing later.

    Raises:
        sqlite3.Error: The database cannot be read either.
        OSError: The same.
    """
    if not path.exists():
        raise sqlite3.OperationalError("there is no database")
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() or not log.stat().st_size:
        return connect_to_read(path, more="&immutable=1")
    with tempfile.TemporaryDirectory(prefix="aliciacfg-") as directory:
        for file in (path, log):
            shutil.copyfile(file, Path(directory) / file.name)
        # Removing the files does not disturb a connection that has them open.
        return connect_to_read(Path(directory) / path.name)


def probe_file(path: Path) -> None:
    """Read the end of the chain, from the disk or the cache of the operating system.

    Raises:
        sqlite3.Error: The database cannot be read.
    """
    with contextlib.closing(connect_to_read(path)) as connection:
        probe(connection)


def probe(connection: sqlite3.Connection) -> None:
    """Read the end of the chain."""
    connection.execute(SELECT_CHAIN_END).fetchone()


def truncate_log(connection: sqlite3.Connection) -> bool:
    """Copy the write-ahead log into the database and truncate it; return False while an older state is being read."""
    # Without waiting: SQLite would keep the lock for writers while it waits for readers.
    connection.execute("PRAGMA busy_timeout=0")
    try:
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(_BUSY_TIMEOUT)
    return not busy


def verify_file(
    path: Path,
    chain: Chain,
    *,
    between: Callable[[], object] = lambda: None,
    ended: Callable[[], bool] = lambda: False,
    copied: bool = True,
) -> Findings:
    """Compare every row of a database with the keyed chain, and check the file; a daemon may be writing meanwhile.

    Args:
        path: The database file; is only read.
        chain: Computes the MACs.
        between: Called after every few rows; may wait, or raise to end the verification.
        ended: Called often; returns True to end the check of the file.
        copied: Whether a copy may be verified where SQLite cannot open the file. Not while this process has it open to
            write: closing any descriptor of a file drops the POSIX locks that SQLite holds on it.

    Raises:
        Unavailable: The database cannot be read, or has to be upgraded before.
    """
    damage: list[str] = []
    try:
        with contextlib.closing(_connect_to_verify(path, copied=copied)) as connection, translated_damage():
            damage += _check_file(connection, ended)
            findings = verify_rows(connection, chain, between)
    except (sqlite3.Error, OSError) as error:
        if not isinstance(error, sqlite3.Error) or not is_damage(error):
            why = reason(error) if isinstance(error, OSError) else error
            raise Unavailable(f"The store cannot be read: {why}.") from error
        findings = Findings()
        damage.append(str(error))
    return dataclasses.replace(findings, damage=damage)


def _check_file(connection: sqlite3.Connection, ended: Callable[[], bool]) -> list[str]:
    """Return what is wrong with the pages of a database and its indexes; empty if nothing is."""
    # Without a pause: a long transaction keeps the write-ahead log from being truncated.
    connection.set_progress_handler(ended, _STEPS_BETWEEN_LOOKS)
    try:
        rows = connection.execute(f"PRAGMA integrity_check({_MAX_DAMAGE})").fetchall()
    finally:
        connection.set_progress_handler(None, 0)
    lines = [line for (found,) in rows for line in str(found).splitlines()]
    # The first line only names the database.
    return [line for line in lines if line != "ok" and not line.startswith("***")][:_MAX_DAMAGE]


def adopt_file(path: Path, chain: Chain) -> Adoption | None:
    """Give every row of a database a code of this key; see ``Database.adopt``.

    Raises:
        StoreError: The database cannot be read or written; nothing was changed.
    """
    if not path.exists():
        return None
    try:
        with contextlib.closing(connect(path)) as connection:
            return adopt_database(connection, chain)
    except sqlite3.Error as error:
        raise unusable(path, error) from error


def reseal_file(path: Path, chain: Chain, reseal: Reseal) -> None:
    """Reseal every stored configuration and overlay of a database, all or none; no daemon may be using it.

    Raises:
        StoreError: The database cannot be read or written; nothing was changed.
    """
    try:
        with contextlib.closing(connect(path)) as connection:
            migrate(connection, chain)
            reseal_rows(connection, chain, reseal)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be resealed, and stays as it was: {error}") from error


def key_ids_in_file(path: Path) -> set[str]:
    """Return the ids of the keys that any value in a database is sealed with.

    Raises:
        StoreError: The database cannot be read.
    """
    try:
        with contextlib.closing(connect(path)) as connection:
            return select_key_ids(connection)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def select_key_ids(connection: sqlite3.Connection) -> set[str]:
    """Return the ids of the keys that any value in any table is sealed with."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    rows = (row for (name,) in tables for row in connection.execute(f"SELECT * FROM {quoted(name)}"))
    return {
        key_id
        for row in rows
        for value in row
        if isinstance(value, bytes | str)
        for key_id in key_ids(value if isinstance(value, bytes) else value.encode())
    }


def decode(text: bytes) -> str:
    """Decode a stored text; bytes that are not UTF-8 must not make the whole row unreadable."""
    return text.decode(errors="replace")


def connect_to_read(path: Path, *, more: str = "") -> sqlite3.Connection:
    """Open a database file that exists, only for reading; ``more`` is added to its URI.

    Raises:
        sqlite3.Error: It cannot be read.
    """
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro{more}", _BUSY_SECONDS, uri=True, isolation_level=None
    )
    connection.text_factory = decode
    try:
        with translated_damage():
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _connect_to_verify(path: Path, *, copied: bool) -> sqlite3.Connection:
    """Open a database file for reading, whether its disk can be written or not."""
    try:
        return connect_to_read(path)
    except sqlite3.Error as error:
        if not copied or is_locked(error) or not may_pass(error):
            raise
        return connect_to_rest(path)


def verify_rows(connection: sqlite3.Connection, chain: Chain, between: Callable[[], object] = lambda: None) -> Findings:
    """Compare every row of a database with the keyed chain.

    Args:
        connection: Reads it; in a transaction, or not.
        chain: Computes the MACs.
        between: As for ``verify_file``.

    Raises:
        sqlite3.Error: It cannot be read, or has to be upgraded before.
    """
    check_readable(connection)
    for _ in range(_MAX_BEGINNINGS):
        findings = _verify_in_pieces(connection, chain, between)
        if findings is not None:
            return findings
    # At one moment, from which on nothing is removed that it has not read.
    connection.execute("BEGIN")
    findings = _verify_in_pieces(connection, chain, between)
    if findings is None:
        raise sqlite3.OperationalError("the start of the chain differs within one transaction")
    return findings


def _verify_in_pieces(connection: sqlite3.Connection, chain: Chain, between: Callable[[], object]) -> Findings | None:
    """Compare every row with the chain, in pieces; return None if rows were removed meanwhile (retention)."""
    in_pieces = not connection.in_transaction
    start = chain_start(connection, chain)
    verifier = Verifier(chain, start)
    after = _MIN_SEQUENCE
    # The chain only ever grows at its end, so that pieces read at different moments fit together. One long transaction
    # would keep SQLite from truncating the write-ahead log.
    while True:
        if in_pieces:
            connection.execute("BEGIN")
        last = connection.execute(_SELECT_PIECE_END, (after, after, _ROWS_PER_PIECE - 1)).fetchone()
        if last is None:
            break
        piece = _select_chained(connection, verifier, "sequence > ? AND sequence <= ?", (after, last[0]))
        verifier.check_chain(piece)
        if in_pieces:
            connection.execute("COMMIT")
        after = last[0]
        between()
    if chain_start(connection, chain) != start:
        connection.execute("COMMIT")
        return None
    # The last rows and everything else are read in the same transaction as the end of the chain.
    verifier.check_chain(_select_chained(connection, verifier, "sequence > ?", (after,)))
    verifier.check_chain(_select_chained(connection, verifier, "sequence IS NULL", ()))
    verifier.check_overlays(coded_overlays(connection.execute(SELECT_OVERLAYS), verifier))
    for table in STANDING_COLUMNS:
        verifier.check_rows(table, select_coded(connection, table))
    for kind, name in connection.execute(SELECT_PROGRAMS):
        verifier.reject_program(str(kind), str(name))
    for table in RENEWED_COLUMNS:
        verifier.check_rows(table, select_coded(connection, table), counted=False)
    return verifier.finish(connection.execute(SELECT_CHAIN_END).fetchone())


def _select_chained(
    connection: sqlite3.Connection, verifier: Verifier, where: str, parameters: tuple[object, ...]
) -> Iterator[ChainedRow | MalformedRow]:
    """Yield the revisions and audit entries that a condition selects, in the order of the chain."""
    revisions = connection.execute(f"{_SELECT_CHAIN} WHERE {where} ORDER BY sequence", parameters)
    audit = connection.execute(f"{_SELECT_AUDIT_CHAIN} WHERE {where} ORDER BY sequence", parameters)
    return heapq.merge(
        chained_records(revisions, verifier),
        chained_audit(audit, verifier),
        key=lambda row: row.sequence,
    )
