"""Work on a whole database file: connect, verify, reseal, find key ids."""

import contextlib
import heapq
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from aliciacfg.errors import Unavailable
from aliciacfg.model.records import AuditEntry, ChainedRow, Overlay, Record
from aliciacfg.sealing.boxes import key_ids
from aliciacfg.storage.hash_chain import Chain, MalformedRow
from aliciacfg.storage.sqlite.rows import (
    AUDIT_COLUMNS,
    RECORD_COLUMNS,
    RENEWED_COLUMNS,
    SELECT_OVERLAYS,
    STANDING_COLUMNS,
    Row,
    parse_audit_entry,
    parse_overlay,
    parse_record,
    record_subject,
    select_coded,
)
from aliciacfg.storage.sqlite.schema import adopt_database, check_version, migrate
from aliciacfg.storage.sqlite.transaction import SELECT_CHAIN_END, reseal_rows
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
_BUSY_TIMEOUT = "PRAGMA busy_timeout=5000"
_MIN_SEQUENCE = -(2**63)


def connect(path: Path) -> sqlite3.Connection:
    """Open a database file, or create it, with the settings of every connection that may write.

    Raises:
        sqlite3.Error: The file is not a database, or cannot be opened.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    connection.text_factory = _decode
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # A value that was stored in plain text before a schema marked it as secret must not stay in free pages.
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute(_BUSY_TIMEOUT)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def probe_file(path: Path) -> None:
    """Read the end of the chain, from the disk or the cache of the operating system.

    Raises:
        sqlite3.Error: The database cannot be read.
    """
    with contextlib.closing(_connect_to_read(path)) as connection:
        connection.execute(SELECT_CHAIN_END).fetchone()


def truncate_log(connection: sqlite3.Connection) -> bool:
    """Copy the write-ahead log into the database and truncate it; return False while somebody reads an older state."""
    # Without waiting: SQLite would keep the lock for writers while it waits for readers.
    connection.execute("PRAGMA busy_timeout=0")
    try:
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(_BUSY_TIMEOUT)
    return not busy


def verify_file(path: Path, chain: Chain, *, between: Callable[[], object] = lambda: None) -> Findings:
    """Compare every row of a database with the keyed chain; a daemon may be writing meanwhile.

    Args:
        path: The database file; is only read.
        chain: Computes the MACs.
        between: Called after every few rows; may wait, or raise to end the verification.

    Raises:
        Unavailable: The database cannot be read, or does not have the tables of this version.
    """
    try:
        return _verify(path, chain, between)
    except sqlite3.Error as error:
        raise Unavailable(f"The store cannot be read: {error}.") from error


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
        raise StoreError(f"{path} cannot be used: {error}; restore it from a backup") from error


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
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = (row for name in tables for row in connection.execute(f'SELECT * FROM "{name}"'))
    return {
        key_id
        for row in rows
        for value in row
        if isinstance(value, bytes | str)
        for key_id in key_ids(value if isinstance(value, bytes) else value.encode())
    }


def _decode(text: bytes) -> str:
    """Decode a stored text; bytes that are not UTF-8 must not make the whole row unreadable."""
    return text.decode(errors="replace")


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a database file that exists, only for reading."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    connection.text_factory = _decode
    return connection


def _verify(path: Path, chain: Chain, between: Callable[[], object]) -> Findings:
    with contextlib.closing(_connect_to_read(path)) as connection:
        check_version(connection)
        verifier = Verifier(chain)
        after = _MIN_SEQUENCE
        # The chain only ever grows, so that pieces read at different moments fit together. One long transaction would
        # keep SQLite from truncating the write-ahead log.
        while True:
            connection.execute("BEGIN")
            last = connection.execute(_SELECT_PIECE_END, (after, after, _ROWS_PER_PIECE - 1)).fetchone()
            if last is None:
                break
            piece = _select_chained(connection, verifier, "sequence > ? AND sequence <= ?", (after, last[0]))
            verifier.check_chain(piece)
            connection.execute("COMMIT")
            after = last[0]
            between()
        # The last rows and everything else are read in the same transaction as the end of the chain.
        verifier.check_chain(_select_chained(connection, verifier, "sequence > ?", (after,)))
        verifier.check_chain(_select_chained(connection, verifier, "sequence IS NULL", ()))
        verifier.check_overlays(_parse_overlays(connection.execute(SELECT_OVERLAYS), verifier))
        for table in STANDING_COLUMNS:
            verifier.check_rows(table, select_coded(connection, table))
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
        _parse_chained(revisions, parse_record, verifier),
        _parse_chained(audit, parse_audit_entry, verifier),
        key=lambda row: row.sequence,
    )


def _parse_chained(
    rows: Iterable[Row], parse: Callable[[Row], Record | AuditEntry], verifier: Verifier
) -> Iterator[ChainedRow | MalformedRow]:
    """Yield rows that have a place in the chain; reject the others."""
    for sequence, mac, code, *values in rows:
        subject, environment, service = f"audit/{sequence}", "", ""
        if parse is parse_record:
            environment, service, _ = map(str, values[:3])
            subject = record_subject(tuple(values))
        if not isinstance(sequence, int) or not isinstance(mac, bytes):
            verifier.reject(subject, environment, service)
            continue
        try:
            yield ChainedRow(sequence, parse(tuple(values)), mac, code if isinstance(code, bytes) else b"")
        except msgspec.MsgspecError:
            yield MalformedRow(subject, environment, service, sequence, mac)


def _parse_overlays(rows: Iterable[Row], verifier: Verifier) -> Iterator[tuple[Overlay, bytes]]:
    """Yield overlays with their MACs; reject rows that cannot be parsed."""
    for row in rows:
        environment, service, *_, mac = row
        try:
            yield parse_overlay(row), msgspec.convert(mac, bytes)
        except msgspec.MsgspecError:
            verifier.reject(f"{environment}/{service}/overlay", str(environment), str(service))
