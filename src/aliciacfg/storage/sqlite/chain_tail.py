"""The end of the hash chain during a transaction: rows that are added or replaced, with their MACs."""

import sqlite3
from collections.abc import Sequence

import msgspec

from aliciacfg.model.records import AuditEntry, Overlay, Record
from aliciacfg.storage.hash_chain import START, TORN, Chain, End, sum_macs
from aliciacfg.storage.sqlite.rows import (
    AUDIT_COLUMNS,
    OVERLAY_COLUMNS,
    RECORD_COLUMNS,
    RENEWED_COLUMNS,
    SELECT_RECORDS,
    STANDING_COLUMNS,
    Row,
    confirmed_record,
    overlay_row,
    record_row,
)

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
THIS_RECORD = "WHERE environment = ? AND service = ? AND revision = ?"
_DELETE_OVERLAY = "DELETE FROM overlays WHERE environment = ? AND service = ?"
# A number that is none: the row stays as evidence.
_MOVE_RECORD = f"UPDATE revisions SET revision = revision || ' forged ' || hex(randomblob(4)) {THIS_RECORD}"


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
            found = self._connection.execute(f"{SELECT_RECORDS} {THIS_RECORD}", place).fetchone()
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
