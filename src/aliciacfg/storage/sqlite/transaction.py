"""Applies writes in one transaction, and keeps the end of the hash chain up to date."""

import contextlib
import sqlite3
from collections.abc import Sequence

import msgspec

from aliciacfg.errors import InvalidRequest
from aliciacfg.model.records import AuditEntry, Overlay, Record, Write
from aliciacfg.storage.hash_chain import START, TORN, Chain, total
from aliciacfg.storage.sqlite.rows import (
    APPLIED_COLUMNS,
    AUDIT_COLUMNS,
    COLUMNS,
    SELECT_OVERLAYS,
    STANDING_COLUMNS,
    Row,
    overlay_row,
    record_row,
    standing_rows,
    stored_overlay,
)
from aliciacfg.storage.store import Reseal

_INSERT_RECORD = f"INSERT INTO revisions ({COLUMNS}, sequence, mac) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - constant
_INSERT_AUDIT = f"INSERT INTO audit (sequence, mac, {AUDIT_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - constant
SELECT_CHAIN_END = "SELECT sequence, mac, standing, sealed FROM chain"
# By place: the third column has another name while ``adopt_rows`` writes it.
UPSERT_CHAIN_END = "INSERT OR REPLACE INTO chain VALUES (1,?,?,?,?)"
# SQLite lets text and much too large numbers stand in the place of a sequence.
_MAX_SEQUENCE = 2**62
_SELECT_LAST = f"""
    SELECT max(coalesce((SELECT max(sequence) FROM revisions WHERE sequence <= {_MAX_SEQUENCE}), 0),
               coalesce((SELECT max(sequence) FROM audit WHERE sequence <= {_MAX_SEQUENCE}), 0))
"""  # noqa: S608 - constant
_SELECT_OVERLAY_CODE = "SELECT mac FROM overlays WHERE environment = ? AND service = ?"
UPSERT_OVERLAY = "INSERT OR REPLACE INTO overlays (environment, service, patch, origins, mac) VALUES (?,?,?,?,?)"
_DELETE_OVERLAY = "DELETE FROM overlays WHERE environment = ? AND service = ?"
_UPSERT_OUTBOX = "INSERT OR REPLACE INTO outbox (subject, sequence, payload, pending) VALUES (?,?,?,?)"
_CONFIRM_OUTBOX = "UPDATE outbox SET pending = 0 WHERE subject = ? AND sequence = ?"
_UPSERT_APPLIED = f"INSERT OR REPLACE INTO applied ({APPLIED_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)"  # noqa: S608 - constant
_UPDATE_RECORD = "UPDATE revisions SET config = ?, checksum = ? WHERE environment = ? AND service = ? AND revision = ?"
_DELETE_APPLIED = "DELETE FROM applied WHERE service = ? AND instance = ?"
_SELECT_SEALED = "SELECT rowid FROM revisions WHERE instr(config, CAST('sealed:v1:' AS BLOB)) > 0"
_SELECT_CONTENT = "SELECT environment, service, config FROM revisions WHERE rowid = ?"
_UPDATE_CONTENT = "UPDATE revisions SET config = ? WHERE rowid = ?"


def reseal_rows(connection: sqlite3.Connection, chain: Chain, reseal: Reseal) -> None:
    """Seal every stored configuration and overlay anew, all or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        rows = [number for (number,) in connection.execute(_SELECT_SEALED)]
        for number in rows:
            environment, service, config = connection.execute(_SELECT_CONTENT, (number,)).fetchone()
            # What somebody made no JSON of holds nothing that could be sealed.
            with contextlib.suppress(InvalidRequest):
                connection.execute(_UPDATE_CONTENT, (reseal(config, environment, service), number))
        tail = Tail(connection, chain)
        for row in connection.execute(SELECT_OVERLAYS).fetchall():
            overlay = stored_overlay(row, chain)
            # Of one that somebody changed a new code would hide it.
            if overlay.confirmed:
                patch = reseal(overlay.patch or b"{}", overlay.environment, overlay.service)
                tail.replace(msgspec.structs.replace(overlay, patch=patch))
        tail.write()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class Tail:
    """The end of the chain while a transaction writes."""

    def __init__(self, connection: sqlite3.Connection, chain: Chain) -> None:
        self._connection = connection
        self._chain = chain
        self._changed = False
        (last,) = connection.execute(_SELECT_LAST).fetchone()
        end = chain.confirmed_end(connection.execute(SELECT_CHAIN_END).fetchone())
        if end is None:
            # Rows may have been cut off. Going on as if nothing was would hide it: this is told for ever.
            self._sequence, self._mac = last, TORN
            tables = ("overlays", *STANDING_COLUMNS)
            codes = [code for table in tables for code in self._codes(f"SELECT mac FROM {table}")]  # noqa: S608 - constants
            self._standing = total(START, *codes)
        else:
            self._sequence, self._mac, self._standing, _ = end
            # What somebody put behind the end must not be in the way of what comes.
            self._sequence = max(self._sequence, last)

    def append(self, row: Record | AuditEntry) -> None:
        """Add a row."""
        self._changed = True
        self._sequence += 1
        self._mac = self._chain.link(self._mac, row)
        if isinstance(row, Record):
            self._connection.execute(_INSERT_RECORD, (*record_row(row), self._sequence, self._mac))
        else:
            self._connection.execute(_INSERT_AUDIT, (self._sequence, self._mac, *msgspec.structs.astuple(row)))

    def replace(self, overlay: Overlay) -> None:
        """Replace an overlay, or drop it."""
        self._changed = True
        key = overlay.environment, overlay.service
        self._standing = total(self._standing, *self._codes(_SELECT_OVERLAY_CODE, key))
        if overlay.patch is None:
            self._connection.execute(_DELETE_OVERLAY, key)
        else:
            self._standing = total(self._standing, self._chain.seal_overlay(overlay))
            self._connection.execute(UPSERT_OVERLAY, overlay_row(overlay, self._chain))

    def put(self, table: str, row: Row) -> None:
        """Add another standing row, or replace the one with the same key."""
        self._changed = True
        columns = STANDING_COLUMNS[table]
        code = self._chain.seal_row(table, row)
        old = self._codes(f"SELECT mac FROM {table} WHERE {columns[0]} = ?", row[:1])  # noqa: S608 - constants
        self._standing = total(self._standing, *old, code)
        places = ",".join("?" * (len(columns) + 1))
        self._connection.execute(
            f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}, mac) VALUES ({places})",  # noqa: S608 - constants
            (*row, code),
        )

    def write(self) -> None:
        """Note the end down, if it moved."""
        if self._changed:
            end = self._chain.seal_end(self._sequence, self._mac, self._standing)
            self._connection.execute(UPSERT_CHAIN_END, end)

    def _codes(self, query: str, parameters: Row = ()) -> list[bytes]:
        return [code for (code,) in self._connection.execute(query, parameters) if isinstance(code, bytes)]


def apply(connection: sqlite3.Connection, chain: Chain, writes: Sequence[Write]) -> None:
    """One transaction. Rolled back whole on any error: later writes were planned on top of earlier ones."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        tail = Tail(connection, chain)
        for write in writes:
            for row in (*write.records, *write.audit):
                tail.append(row)
            for overlay in write.overlays:
                tail.replace(overlay)
            for table, row in standing_rows(write):
                tail.put(table, row)
            _apply_rest(connection, write)
        tail.write()
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _apply_rest(connection: sqlite3.Connection, write: Write) -> None:
    for item in write.announcements:
        connection.execute(_UPSERT_OUTBOX, (item.subject, item.sequence, item.payload, item.pending))
    for item in write.confirmed:
        connection.execute(_CONFIRM_OUTBOX, (item.subject, item.sequence))
    for applied in write.applied:
        connection.execute(_UPSERT_APPLIED, msgspec.structs.astuple(applied))
    for applied in write.forgotten:
        connection.execute(_DELETE_APPLIED, (applied.service, applied.instance))
    for record in write.resealed:
        place = (record.environment, record.service, record.revision)
        connection.execute(_UPDATE_RECORD, (record.config, record.checksum, *place))
