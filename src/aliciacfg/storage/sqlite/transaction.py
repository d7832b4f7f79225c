"""Applies writes in one transaction, and keeps the end of the hash chain up to date."""

import contextlib
import sqlite3
from collections.abc import Generator, Sequence

import msgspec

from aliciacfg.errors import InvalidRequest
from aliciacfg.model.records import Announcement, AuditEntry, Overlay, Record, Write
from aliciacfg.storage.hash_chain import START, TORN, Chain, End, sum_macs
from aliciacfg.storage.sqlite.rows import (
    AUDIT_COLUMNS,
    OVERLAY_COLUMNS,
    RECORD_COLUMNS,
    RENEWED_COLUMNS,
    SELECT_OVERLAYS,
    SELECT_RECORD_BY_ROW,
    SELECT_RECORDS,
    STANDING_COLUMNS,
    Row,
    announcement_row,
    confirmed_record,
    overlay_row,
    parse_record,
    parse_stored_overlay,
    record_row,
    standing_rows,
)
from aliciacfg.storage.store import Reseal

# When COMMIT fails with these, the frame that ends the transaction was not written.
_NOTHING_COMMITTED = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY})

SELECT_CHAIN_END = "SELECT sequence, mac, standing, sealed FROM chain"
# Without the names of columns: a migration that is later than the one that first writes it renames the third one.
REPLACE_CHAIN_END = "INSERT OR REPLACE INTO chain VALUES (1,?,?,?,?)"
REPLACE_OVERLAY = f"INSERT OR REPLACE INTO overlays ({OVERLAY_COLUMNS}) VALUES (?,?,?,?,?)"

_INSERT_RECORD = f"INSERT INTO revisions ({RECORD_COLUMNS}, sequence, mac, code) VALUES ({{}})"
_INSERT_AUDIT = f"INSERT INTO audit ({AUDIT_COLUMNS}, sequence, mac, code) VALUES ({{}})"
# An edited row may hold a text or a huge number as its sequence: SQLite enforces no types.
_MAX_SEQUENCE = 2**62
_SELECT_LAST_SEQUENCE = f"""
    SELECT max(coalesce((SELECT max(sequence) FROM revisions WHERE sequence <= {_MAX_SEQUENCE}), 0),
               coalesce((SELECT max(sequence) FROM audit WHERE sequence <= {_MAX_SEQUENCE}), 0))
"""
_SELECT_BEHIND = "SELECT sequence, mac FROM {} WHERE sequence > ? ORDER BY sequence LIMIT 1000"
_SELECT_OVERLAY_MAC = "SELECT mac FROM overlays WHERE environment = ? AND service = ?"
_DELETE_OVERLAY = "DELETE FROM overlays WHERE environment = ? AND service = ?"
_CONFIRM_ANNOUNCEMENT = "UPDATE outbox SET pending = 0, mac = ? WHERE subject = ? AND sequence = ?"
_DELETE_APPLIED = "DELETE FROM applied WHERE service = ? AND instance = ?"
_THIS_RECORD = "WHERE environment = ? AND service = ? AND revision = ?"
_UPDATE_RECORD = f"UPDATE revisions SET config = ?, checksum = ?, code = ? {_THIS_RECORD}"
# A number that is none: the row stays as evidence.
_MOVE_RECORD = f"UPDATE revisions SET revision = revision || ' forged ' || hex(randomblob(4)) {_THIS_RECORD}"
_SELECT_SEALED = "SELECT rowid FROM revisions WHERE instr(config, CAST('sealed:v1:' AS BLOB)) > 0"
_UPDATE_CONFIG = "UPDATE revisions SET config = ?, code = ? WHERE rowid = ?"


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
        end = chain.confirmed_end(connection.execute(SELECT_CHAIN_END).fetchone())
        if end is None:
            # Rows may have been removed. A chain that simply went on would hide that from every later verification.
            (self._sequence,) = connection.execute(_SELECT_LAST_SEQUENCE).fetchone()
            self._mac = TORN
            tables = ("overlays", *STANDING_COLUMNS)
            macs = [mac for table in tables for mac in self._select_macs(f"SELECT mac FROM {table}")]
            self._standing = sum_macs(START, *macs)
        else:
            self._sequence, self._mac, self._standing, _ = end
        # Rows that were added behind the end by hand already occupy their sequences.
        self._behind = {
            sequence: mac
            for table in ("revisions", "audit")
            for sequence, mac in connection.execute(_SELECT_BEHIND.format(table), (self._sequence,))
        }

    def append(self, row: Record | AuditEntry) -> None:
        """Add a row to the chain; a row that somebody put in its place is moved away."""
        self._changed = True
        self._sequence += 1
        while self._sequence in self._behind:
            # Goes on from what is stored, as a verification does: only the row that was put there is broken.
            mac = self._behind[self._sequence]
            self._mac = mac if isinstance(mac, bytes) else self._mac
            self._sequence += 1
        self._mac = self._chain.link(self._mac, row)
        if isinstance(row, Record):
            self._insert_record(row)
        else:
            code = self._chain.audit_code(row, self._sequence)
            values = (*msgspec.structs.astuple(row), self._sequence, self._mac, code)
            self._connection.execute(_INSERT_AUDIT.format(_places(values)), values)

    def _insert_record(self, record: Record) -> None:
        """Insert a revision.

        Raises:
            sqlite3.IntegrityError: There is a revision of this number, and this daemon wrote it.
        """
        values = (*record_row(record), self._sequence, self._mac, self._chain.record_code(record, self._sequence))
        insert = _INSERT_RECORD.format(_places(values))
        try:
            self._connection.execute(insert, values)
        except sqlite3.IntegrityError:
            place = record.environment, record.service, record.revision
            found = self._connection.execute(f"{SELECT_RECORDS} {_THIS_RECORD}", place).fetchone()
            if found is None or confirmed_record(found, self._chain) is not None:
                raise
            self._connection.execute(_MOVE_RECORD, place)
            self._connection.execute(insert, values)

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
        replaced = self._select_macs(f"SELECT mac FROM {table} WHERE {STANDING_COLUMNS[table][0]} = ?", row[:1])
        mac = replace_coded(self._connection, self._chain, table, row)
        self._standing = sum_macs(self._standing, *replaced, mac)

    def write_end(self) -> None:
        """Write the end of the chain if a row was added or replaced."""
        if self._changed:
            self.written = self._chain.end(self._sequence, self._mac, self._standing)
            self._connection.execute(REPLACE_CHAIN_END, self.written)

    def _select_macs(self, query: str, parameters: Row = ()) -> list[bytes]:
        return [mac for (mac,) in self._connection.execute(query, parameters) if isinstance(mac, bytes)]


def replace_coded(connection: sqlite3.Connection, chain: Chain, table: str, row: Row) -> bytes:
    """Add or replace a row of a table of ``STANDING_COLUMNS`` or ``RENEWED_COLUMNS``, and return its code."""
    columns = (STANDING_COLUMNS | RENEWED_COLUMNS)[table]
    values = (*row, chain.row_mac(table, row))
    insert = f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}, mac) VALUES ({_places(values)})"
    connection.execute(insert, values)
    return values[-1]


def _places(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


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


def check_writable(connection: sqlite3.Connection) -> None:
    """Begin to write and write nothing: on a read-only disk, SQLite opens a file without saying so.

    Raises:
        sqlite3.Error: The database is read-only, or locked.
    """
    connection.execute("BEGIN IMMEDIATE")
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


def apply(connection: sqlite3.Connection, chain: Chain, writes: Sequence[Write]) -> None:
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


def _apply_all(connection: sqlite3.Connection, chain: Chain, writes: Sequence[Write]) -> End | None:
    """Apply writes in the present transaction; return the end of the chain if it changed."""
    tail = ChainTail(connection, chain)
    # Of what is replaced the last one of a key counts: every write that readers are told of replaces the position of
    # the home, and of many writes of one configuration each its overlay and its announcement.
    standing: dict[tuple[str, object], Row] = {}
    overlays: dict[tuple[str, str], Overlay] = {}
    announcements: dict[str, Announcement] = {}
    for write in writes:
        for row in (*write.records, *write.audit):
            tail.append(row)
        overlays.update({(overlay.environment, overlay.service): overlay for overlay in write.overlays})
        standing.update({(table, row[0]): row for table, row in standing_rows(write)})
        announcements.update({item.subject: item for item in write.announcements})
    for overlay in overlays.values():
        tail.replace_overlay(overlay)
    for (table, _), row in standing.items():
        tail.replace_row(table, row)
    for item in announcements.values():
        replace_coded(connection, chain, "outbox", announcement_row(item))
    for write in writes:
        _apply_unchained(connection, chain, write)
    tail.write_end()
    return tail.written


def reseal_rows(connection: sqlite3.Connection, chain: Chain, reseal: Reseal) -> None:
    """Reseal every stored configuration and overlay in one transaction; see ``Store.reseal``.

    Raises:
        sqlite3.Error: Nothing was changed.
    """
    with transaction(connection):
        for number in [number for (number,) in connection.execute(_SELECT_SEALED)]:
            row = connection.execute(SELECT_RECORD_BY_ROW, (number,)).fetchone()
            # A row that is not what was written stays as it is, also where it is no longer JSON.
            with contextlib.suppress(InvalidRequest, msgspec.MsgspecError):
                _reseal_record(connection, chain, number, row, reseal)
        tail = ChainTail(connection, chain)
        for row in connection.execute(SELECT_OVERLAYS).fetchall():
            overlay = parse_stored_overlay(row, chain)
            # A fresh MAC would hide that the overlay was edited.
            if overlay.confirmed:
                patch = reseal(overlay.patch or b"{}", overlay.environment, overlay.service)
                tail.replace_overlay(msgspec.structs.replace(overlay, patch=patch))
        tail.write_end()


def _reseal_record(connection: sqlite3.Connection, chain: Chain, number: int, row: Row, reseal: Reseal) -> None:
    """Reseal a revision; what was not confirmed before is not confirmed afterwards.

    Raises:
        InvalidRequest: Its configuration is not JSON.
        MsgspecError: It cannot be parsed.
    """
    *values, sequence, code = row
    record = parse_record(tuple(values))
    resealed = msgspec.structs.replace(record, config=reseal(record.config, record.environment, record.service))
    if confirmed_record(row, chain) is not None and isinstance(sequence, int):
        code = chain.record_code(resealed, sequence)
    connection.execute(_UPDATE_CONFIG, (resealed.config, code, number))


def _apply_unchained(connection: sqlite3.Connection, chain: Chain, write: Write) -> None:
    """Apply the part of a write that does not change the chain or its end, but for its announcements."""
    for item in write.confirmed:
        mac = chain.row_mac("outbox", announcement_row(msgspec.structs.replace(item, pending=False)))
        connection.execute(_CONFIRM_ANNOUNCEMENT, (mac, item.subject, item.sequence))
    for applied in write.applied:
        replace_coded(connection, chain, "applied", msgspec.structs.astuple(applied))
    for applied in write.forgotten:
        connection.execute(_DELETE_APPLIED, (applied.service, applied.instance))
    for record in write.resealed:
        place = record.environment, record.service, record.revision
        row = connection.execute(f"{SELECT_RECORDS} {_THIS_RECORD}", place).fetchone()
        stored = None if row is None else confirmed_record(row, chain)
        if row is None or stored is None:
            # Somebody changed it since it was read.
            continue
        sealed = msgspec.structs.replace(stored, config=record.config, checksum=record.checksum)
        code = chain.record_code(sealed, row[-2])
        connection.execute(_UPDATE_RECORD, (sealed.config, sealed.checksum, code, *place))
