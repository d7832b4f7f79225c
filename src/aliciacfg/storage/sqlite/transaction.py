"""Applies writes in one transaction, and keeps the end of the hash chain up to date."""

import contextlib
import sqlite3
from collections.abc import Generator, Iterable

import msgspec

from aliciacfg.errors import InvalidRequest
from aliciacfg.model.records import AuditEntry, Overlay, Record, Write
from aliciacfg.storage.hash_chain import START, TORN, Chain, End, sum_macs
from aliciacfg.storage.sqlite.rows import (
    APPLIED_COLUMNS,
    AUDIT_COLUMNS,
    OVERLAY_COLUMNS,
    RECORD_COLUMNS,
    SELECT_OVERLAYS,
    STANDING_COLUMNS,
    Row,
    overlay_row,
    parse_stored_overlay,
    record_row,
    standing_rows,
)
from aliciacfg.storage.store import Reseal

# When COMMIT fails with these, the frame that ends the transaction was not written.
_NOTHING_COMMITTED = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY})

SELECT_CHAIN_END = "SELECT sequence, mac, standing, sealed FROM chain"
# Without the names of columns: the third one is renamed by a later migration than the one that first writes it.
REPLACE_CHAIN_END = "INSERT OR REPLACE INTO chain VALUES (1,?,?,?,?)"
REPLACE_OVERLAY = f"INSERT OR REPLACE INTO overlays ({OVERLAY_COLUMNS}) VALUES (?,?,?,?,?)"

_INSERT_RECORD = f"INSERT INTO revisions ({RECORD_COLUMNS}, sequence, mac) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_INSERT_AUDIT = f"INSERT INTO audit (sequence, mac, {AUDIT_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
# An edited row may hold a text or a huge number as its sequence: SQLite enforces no types.
_MAX_SEQUENCE = 2**62
_SELECT_LAST_SEQUENCE = f"""
    SELECT max(coalesce((SELECT max(sequence) FROM revisions WHERE sequence <= {_MAX_SEQUENCE}), 0),
               coalesce((SELECT max(sequence) FROM audit WHERE sequence <= {_MAX_SEQUENCE}), 0))
"""
_SELECT_OVERLAY_MAC = "SELECT mac FROM overlays WHERE environment = ? AND service = ?"
_DELETE_OVERLAY = "DELETE FROM overlays WHERE environment = ? AND service = ?"
_REPLACE_ANNOUNCEMENT = "INSERT OR REPLACE INTO outbox (subject, sequence, payload, pending) VALUES (?,?,?,?)"
_CONFIRM_ANNOUNCEMENT = "UPDATE outbox SET pending = 0 WHERE subject = ? AND sequence = ?"
_REPLACE_APPLIED = f"INSERT OR REPLACE INTO applied ({APPLIED_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)"
_DELETE_APPLIED = "DELETE FROM applied WHERE service = ? AND instance = ?"
_UPDATE_RECORD = "UPDATE revisions SET config = ?, checksum = ? WHERE environment = ? AND service = ? AND revision = ?"
_SELECT_SEALED = "SELECT rowid FROM revisions WHERE instr(config, CAST('sealed:v1:' AS BLOB)) > 0"
_SELECT_CONFIG = "SELECT environment, service, config FROM revisions WHERE rowid = ?"
_UPDATE_CONFIG = "UPDATE revisions SET config = ? WHERE rowid = ?"


class CommitInDoubt(sqlite3.OperationalError):
    """COMMIT failed after its bytes may have reached the disk: after a crash the transaction may be there.

    Attributes:
        end: The end of the chain with the transaction; None if the transaction did not change it.
    """

    end: End | None = None


class ChainTail:
    """The end of the chain during a transaction: adds and replaces rows with their MACs.

    Attributes:
        written: The end of the chain that ``write_end`` wrote, if it did.
    """

    def __init__(self, connection: sqlite3.Connection, chain: Chain) -> None:
        self._connection = connection
        self._chain = chain
        self._changed = False
        self.written: End | None = None
        (last,) = connection.execute(_SELECT_LAST_SEQUENCE).fetchone()
        end = chain.confirmed_end(connection.execute(SELECT_CHAIN_END).fetchone())
        if end is None:
            # Rows may have been removed. A chain that simply went on would hide that from every later verification.
            self._sequence, self._mac = last, TORN
            tables = ("overlays", *STANDING_COLUMNS)
            macs = [mac for table in tables for mac in self._select_macs(f"SELECT mac FROM {table}")]
            self._standing = sum_macs(START, *macs)
        else:
            sequence, self._mac, self._standing, _ = end
            # Rows that were added behind the end by hand already occupy their sequences.
            self._sequence = max(sequence, last)

    def append(self, row: Record | AuditEntry) -> None:
        """Add a row to the chain."""
        self._changed = True
        self._sequence += 1
        self._mac = self._chain.link(self._mac, row)
        if isinstance(row, Record):
            self._connection.execute(_INSERT_RECORD, (*record_row(row), self._sequence, self._mac))
        else:
            self._connection.execute(_INSERT_AUDIT, (self._sequence, self._mac, *msgspec.structs.astuple(row)))

    def replace_overlay(self, overlay: Overlay) -> None:
        """Add or replace an overlay; delete it if its patch is None."""
        self._changed = True
        key = overlay.environment, overlay.service
        self._standing = sum_macs(self._standing, *self._select_macs(_SELECT_OVERLAY_MAC, key))
        if overlay.patch is None:
            self._connection.execute(_DELETE_OVERLAY, key)
        else:
            self._standing = sum_macs(self._standing, self._chain.overlay_mac(overlay))
            self._connection.execute(REPLACE_OVERLAY, overlay_row(overlay, self._chain))

    def replace_row(self, table: str, row: Row) -> None:
        """Add or replace a row of a table of ``STANDING_COLUMNS``."""
        self._changed = True
        columns = STANDING_COLUMNS[table]
        mac = self._chain.row_mac(table, row)
        replaced = self._select_macs(f"SELECT mac FROM {table} WHERE {columns[0]} = ?", row[:1])
        self._standing = sum_macs(self._standing, *replaced, mac)
        places = ",".join("?" * (len(columns) + 1))
        self._connection.execute(
            f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}, mac) VALUES ({places})",
            (*row, mac),
        )

    def write_end(self) -> None:
        """Write the end of the chain if a row was added or replaced."""
        if self._changed:
            self.written = self._chain.end(self._sequence, self._mac, self._standing)
            self._connection.execute(REPLACE_CHAIN_END, self.written)

    def _select_macs(self, query: str, parameters: Row = ()) -> list[bytes]:
        return [mac for (mac,) in self._connection.execute(query, parameters) if isinstance(mac, bytes)]


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Commit what the block writes; undo all of it if the block or the commit fails.

    Raises:
        CommitInDoubt: The commit failed, and what was undone here may be there after a crash. The next transaction
            that is committed writes over it.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        _undo(connection)
        raise
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        _undo(connection)
        if error.sqlite_errorcode & 0xFF in _NOTHING_COMMITTED:
            raise
        raise CommitInDoubt(str(error)) from error


def _undo(connection: sqlite3.Connection) -> None:
    # SQLite has rolled back already if the disk is full.
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def settle(connection: sqlite3.Connection, chain: Chain, end: End | None) -> bool:
    """Return whether a transaction in doubt was made, and see to it that this stays so over a crash.

    A COMMIT that failed may have left its frames in the write-ahead log without being part of the database; a
    transaction that follows takes their place.

    Args:
        connection: The connection on which the COMMIT failed, or a later one.
        chain: Computes the MACs.
        end: As in ``CommitInDoubt``.

    Raises:
        sqlite3.Error: It is still not known.
    """
    with transaction(connection):
        tail = ChainTail(connection, chain)
        found = connection.execute(SELECT_CHAIN_END).fetchone()
        tail.replace_row("meta", ("probe", ""))
        tail.write_end()
    return end is not None and found == end


def apply(connection: sqlite3.Connection, chain: Chain, writes: Iterable[Write]) -> None:
    """Apply writes in one transaction; see ``Store.commit``.

    Raises:
        CommitInDoubt: It is not known whether anything was written.
        sqlite3.Error: Nothing was written.
    """
    end: End | None = None
    try:
        with transaction(connection):
            end = _apply_all(connection, chain, writes)
    except CommitInDoubt as error:
        error.end = end
        raise


def _apply_all(connection: sqlite3.Connection, chain: Chain, writes: Iterable[Write]) -> End | None:
    """Apply writes in the present transaction; return the end of the chain if it changed."""
    tail = ChainTail(connection, chain)
    for write in writes:
        for row in (*write.records, *write.audit):
            tail.append(row)
        for overlay in write.overlays:
            tail.replace_overlay(overlay)
        for table, row in standing_rows(write):
            tail.replace_row(table, row)
        _apply_unchained(connection, write)
    tail.write_end()
    return tail.written


def reseal_rows(connection: sqlite3.Connection, chain: Chain, reseal: Reseal) -> None:
    """Reseal every stored configuration and overlay in one transaction; see ``Store.reseal``.

    Raises:
        sqlite3.Error: Nothing was changed.
    """
    with transaction(connection):
        for number in [number for (number,) in connection.execute(_SELECT_SEALED)]:
            environment, service, config = connection.execute(_SELECT_CONFIG, (number,)).fetchone()
            # An edited configuration that is no longer JSON stays as it is.
            with contextlib.suppress(InvalidRequest):
                connection.execute(_UPDATE_CONFIG, (reseal(config, environment, service), number))
        tail = ChainTail(connection, chain)
        for row in connection.execute(SELECT_OVERLAYS).fetchall():
            overlay = parse_stored_overlay(row, chain)
            # A fresh MAC would hide that the overlay was edited.
            if overlay.confirmed:
                patch = reseal(overlay.patch or b"{}", overlay.environment, overlay.service)
                tail.replace_overlay(msgspec.structs.replace(overlay, patch=patch))
        tail.write_end()


def _apply_unchained(connection: sqlite3.Connection, write: Write) -> None:
    """Apply the part of a write that has no MACs, or changes none."""
    for item in write.announcements:
        connection.execute(_REPLACE_ANNOUNCEMENT, (item.subject, item.sequence, item.payload, item.pending))
    for item in write.confirmed:
        connection.execute(_CONFIRM_ANNOUNCEMENT, (item.subject, item.sequence))
    for applied in write.applied:
        connection.execute(_REPLACE_APPLIED, msgspec.structs.astuple(applied))
    for applied in write.forgotten:
        connection.execute(_DELETE_APPLIED, (applied.service, applied.instance))
    for record in write.resealed:
        place = record.environment, record.service, record.revision
        connection.execute(_UPDATE_RECORD, (record.config, record.checksum, *place))
