"""Work on a database file as a whole: open, verify, seal anew."""

import contextlib
import heapq
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from aliciacfg.errors import Unavailable
from aliciacfg.model.records import AuditEntry, ChainedRow, Overlay, Record
from aliciacfg.sealing.boxes import key_ids
from aliciacfg.storage.hash_chain import Chain, Misshapen
from aliciacfg.storage.sqlite.rows import (
    AUDIT_COLUMNS,
    SELECT_CHAIN,
    SELECT_OVERLAYS,
    STANDING_COLUMNS,
    Row,
    coded_rows,
    parse_audit_entry,
    parse_overlay,
    parse_record,
)
from aliciacfg.storage.sqlite.schema import MIGRATIONS, migrate
from aliciacfg.storage.sqlite.transaction import SELECT_CHAIN_END, reseal_rows
from aliciacfg.storage.store import Reseal, StoreError
from aliciacfg.storage.verifier import Findings, Verifier

_SELECT_AUDIT_CHAIN = f"SELECT sequence, mac, {AUDIT_COLUMNS} FROM audit"  # noqa: S608 - constant
# The last one of the next rows, if there are so many.
_SELECT_PIECE_END = """
    SELECT sequence FROM revisions WHERE sequence > ? UNION ALL SELECT sequence FROM audit WHERE sequence > ?
    ORDER BY sequence LIMIT 1 OFFSET ?
"""
# Two milliseconds of work, five of rest: a read waits no longer than for any other thread.
_VERIFIED_AT_ONCE = 20
_MIN_SEQUENCE = -(2**63)


def connect(path: Path) -> sqlite3.Connection:
    """Open a database file, or create it, with the settings that every connection has."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.text_factory = _lenient
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # What was in the open before a schema called it secret must not stay behind in free pages.
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("PRAGMA busy_timeout=5000")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def verify_file(path: Path, chain: Chain, *, between: Callable[[], object] = lambda: None) -> Findings:
    """Compare every row of a database with the keyed chain; a daemon may go on writing.

    Args:
        path: The SQLite file.
        chain: What links its rows.
        between: Called after every few rows; may wait, or raise to end it.

    Raises:
        Unavailable: It cannot be read.
    """
    try:
        return _verify(path, chain, between)
    except sqlite3.Error as error:
        raise Unavailable(f"The store cannot be read: {error}.") from error


def _verify(path: Path, chain: Chain, between: Callable[[], object]) -> Findings:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as found:
        found.text_factory = _lenient
        (version,) = found.execute("PRAGMA user_version").fetchone()
        if version != len(MIGRATIONS):
            raise sqlite3.DatabaseError(f"its schema has version {version}; start this aliciacfg on it once")
        verifier = Verifier(chain)
        after = _MIN_SEQUENCE
        # Rows are only ever added, so that pieces of different moments fit. One long transaction would keep SQLite
        # from folding the write-ahead log in, and its reader the interpreter from serving anybody else.
        while True:
            found.execute("BEGIN")
            last = found.execute(_SELECT_PIECE_END, (after, after, _VERIFIED_AT_ONCE - 1)).fetchone()
            if last is None:
                break
            verifier.feed(_chained(found, verifier, "sequence > ? AND sequence <= ?", (after, last[0])))
            found.execute("COMMIT")
            after = last[0]
            between()
        # What is left, and what has no place, as of the same moment as the end.
        verifier.feed(_chained(found, verifier, "sequence > ?", (after,)))
        verifier.feed(_chained(found, verifier, "sequence IS NULL", ()))
        verifier.check_overlays(_coded_overlays(found.execute(SELECT_OVERLAYS), verifier))
        for table in STANDING_COLUMNS:
            verifier.check_rows(table, coded_rows(found, table))
        return verifier.end(found.execute(SELECT_CHAIN_END).fetchone())


def reseal_file(path: Path, chain: Chain, reseal: Reseal, *, adopt: bool = False) -> None:
    """Seal every stored configuration and overlay of a database anew, all or none; no daemon may be using it.

    The chain confirms the rows as before: it covers their secrets in the open.

    Args:
        path: The SQLite file.
        chain: Links overlays, of which it covers the sealed form.
        reseal: Makes the new document from the stored one, its environment and its service.
        adopt: As for ``Store.open``.

    Raises:
        StoreError: It cannot be read or written.
    """
    try:
        with contextlib.closing(connect(path)) as connection:
            migrate(connection, chain, adopt=adopt)
            reseal_rows(connection, chain, reseal)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be sealed anew, and stays as it was: {error}") from error


def sealed_with(path: Path) -> set[str]:
    """The ids of the keys that anything in a database is sealed with.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        with contextlib.closing(connect(path)) as connection:
            return key_ids_in(connection)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def key_ids_in(connection: sqlite3.Connection) -> set[str]:
    """Return the ids of the keys that any value in the database is sealed with."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = (row for name in tables for row in connection.execute(f'SELECT * FROM "{name}"'))  # noqa: S608 - names of tables
    return {
        key_id
        for row in rows
        for value in row
        if isinstance(value, bytes | str)
        for key_id in key_ids(value if isinstance(value, bytes) else value.encode())
    }


def _lenient(text: bytes) -> str:
    """Text as SQLite has it; what is not UTF-8 must not keep anybody from finding out where it stands."""
    return text.decode(errors="replace")


def _chained(
    found: sqlite3.Connection, verifier: Verifier, where: str, parameters: tuple[object, ...]
) -> Iterator[ChainedRow | Misshapen]:
    """The rows of revisions and audit that stand in the chain, in its order."""
    records = _placed(
        found.execute(f"{SELECT_CHAIN} WHERE {where} ORDER BY sequence", parameters), parse_record, verifier
    )
    audit = found.execute(f"{_SELECT_AUDIT_CHAIN} WHERE {where} ORDER BY sequence", parameters)
    return heapq.merge(records, _placed(audit, parse_audit_entry, verifier), key=lambda row: row.sequence)


def _placed(
    rows: Iterable[Row], parse: Callable[[Row], Record | AuditEntry], verifier: Verifier
) -> Iterator[ChainedRow | Misshapen]:
    """The rows that have a place in the chain; what has none is told at once."""
    for sequence, mac, *values in rows:
        subject, environment, service = f"audit/{sequence}", "", ""
        if parse is parse_record:
            environment, service, revision = map(str, values[:3])
            subject = f"{environment}/{service}/{revision}"
        if not isinstance(sequence, int) or not isinstance(mac, bytes):
            verifier.reject(subject, environment, service)
            continue
        try:
            yield ChainedRow(sequence, parse(tuple(values)), mac)
        except msgspec.MsgspecError:
            yield Misshapen(subject, environment, service, sequence, mac)


def _coded_overlays(rows: Iterable[Row], verifier: Verifier) -> Iterator[tuple[Overlay, bytes]]:
    for row in rows:
        environment, service, *_, mac = row
        try:
            yield parse_overlay(row), msgspec.convert(mac, bytes)
        except msgspec.MsgspecError:
            verifier.reject(f"{environment}/{service}/overlay", str(environment), str(service))
