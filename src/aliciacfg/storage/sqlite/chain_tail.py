"""The end of the hash chain during a transaction: rows that are added or replaced, with their MACs."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from aliciacfg.model.records import Announcement, AuditEntry, Overlay, Position, Record
from aliciacfg.storage.hash_chain import START, TORN, Chain, End, sum_macs
from aliciacfg.storage.rows import (
    AUDIT_COLUMNS,
    OVERLAY_COLUMNS,
    RECORD_COLUMNS,
    RENEWED_COLUMNS,
    STANDING_COLUMNS,
    Row,
    announcement_row,
    confirmed_record,
    overlay_row,
    position_rows,
    record_row,
)
from aliciacfg.storage.sqlite.rows import SELECT_RECORDS

SELECT_CHAIN_END = "SELECT sequence, mac, standing, sealed FROM chain"
REPLACE_CHAIN_END = "INSERT OR REPLACE INTO chain VALUES (1,?,?,?,?)"
REPLACE_OVERLAY = f"INSERT OR REPLACE INTO overlays ({OVERLAY_COLUMNS}) VALUES (?,?,?,?,?)"


def _places(columns: str) -> str:
    return ",".join("?" * (columns.count(",") + 1))


# How many rows one statement adds. At each statement the thread gives the interpreter away and waits to get it back,
# half a millisecond if the event loop is busy: of 64 writers' changes, 20 in a transaction are 40 rows.
_TOGETHER = (16, 4, 1)


def _inserts(table: str, columns: str) -> dict[int, str]:
    """Return the statements that add rows, by how many each adds."""
    row = f"({_places(columns)})"
    return {rows: f"INSERT INTO {table} ({columns}) VALUES {','.join([row] * rows)}" for rows in _TOGETHER}


_INSERT_RECORDS = _inserts("revisions", f"{RECORD_COLUMNS}, sequence, mac, code")
_INSERT_AUDIT = _inserts("audit", f"{AUDIT_COLUMNS}, sequence, mac, code")
# An edited row may hold a text or a huge number as its sequence: SQLite enforces no types.
_MAX_SEQUENCE = 2**62
_SELECT_LAST_SEQUENCE = f"""
    SELECT max(coalesce((SELECT max(sequence) FROM revisions WHERE sequence <= {_MAX_SEQUENCE}), 0),
               coalesce((SELECT max(sequence) FROM audit WHERE sequence <= {_MAX_SEQUENCE}), 0))
"""
_SELECT_BEHIND = "SELECT sequence, mac FROM {} WHERE sequence > ? ORDER BY sequence LIMIT 1000"
THIS_RECORD = "WHERE environment = ? AND service = ? AND revision = ?"
_DELETE_OVERLAY = "DELETE FROM overlays WHERE environment = ? AND service = ?"
# A number that is none: the row stays as evidence.
_MOVE_RECORD = f"UPDATE revisions SET revision = revision || ' forged ' || hex(randomblob(4)) {THIS_RECORD}"


def _replace(table: str, columns: Sequence[str]) -> str:
    """Return the statement that adds or replaces a row with its code.

    A row that is there is changed in place: its key stays where it is in the index, and SQLite writes a page less.
    """
    names = ", ".join((*columns, "mac"))
    key = ("service", "instance") if table == "applied" else columns[:1]
    changes = ", ".join(f"{name} = excluded.{name}" for name in (*columns, "mac") if name not in key)
    clause = f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
    return f"INSERT INTO {table} ({names}) VALUES ({_places(names)}) {clause}"


_REPLACE = {table: _replace(table, columns) for table, columns in (STANDING_COLUMNS | RENEWED_COLUMNS).items()}
_SELECT_MAC = {table: f"SELECT mac FROM {table} WHERE {key} = ?" for table, (key, *_) in STANDING_COLUMNS.items()}
_SELECT_MAC["overlays"] = "SELECT mac FROM overlays WHERE environment = ? AND service = ?"
_SELECT_DATA_VERSION = "PRAGMA data_version"
_MAX_KNOWN = 4096


class KnownTail:
    """What a connection knows of the chain from its own last transaction, so that the next one need not read it.

    It depends on one thing: that no other connection changed the database since. SQLite has a number that differs once
    another connection has (``PRAGMA data_version``). A transaction takes what is known and gives it back once it is
    committed, so after one that failed nothing is known. Of rows that are replaced it knows those that this connection
    wrote, at most 4096; a row that was only read may not be what its code says.

    Reading took 6 of the 15 statements of a lone write, and two of its MACs.
    """

    def __init__(self) -> None:
        self._version: int | None = None
        self._end: End | None = None
        self._macs: dict[Row, bytes] = {}

    def take(self, version: int) -> tuple[End | None, dict[Row, bytes]]:
        """Return the end of the chain, None if it has to be read, and codes by table and key; nothing is known then."""
        end, macs = (self._end, self._macs) if self._version == version else (None, {})
        self._version, self._end, self._macs = None, None, {}
        return end, macs if end is not None else {}

    def keep(self, version: int, end: End, macs: dict[Row, bytes]) -> None:
        """Remember what a committed transaction left."""
        if len(macs) > _MAX_KNOWN:
            macs.clear()
        self._version, self._end, self._macs = version, end, macs


class ChainTail:
    """The end of the chain during a transaction: adds and replaces rows with their MACs.

    Attributes:
        written: The end of the chain that ``write_end`` wrote, if it did.
    """

    def __init__(self, connection: sqlite3.Connection, chain: Chain, known: KnownTail | None = None) -> None:
        """Begin with the end of the chain as it is stored, or as it is known."""
        self._cursor = connection.cursor()
        self._chain = chain
        self._known = known or KnownTail()
        self._changed = False
        self.written: End | None = None
        ((self._version,),) = self._select(_SELECT_DATA_VERSION)
        # ``_macs`` holds the codes of rows that this connection wrote.
        self._begun, self._macs = self._known.take(self._version)
        # Rows of the chain that ``flush`` will insert.
        self._records: list[tuple[Record, Row]] = []
        self._audit: list[Row] = []
        # Rows that were added behind the end by hand already occupy their sequences.
        self._behind: dict[int, object] = {}
        if self._begun is None:
            self._begun = self._read()
        else:
            self._sequence, self._mac, self._standing, _ = self._begun

    def _read(self) -> End | None:
        """Read the end of the chain, and what stands behind it; return None if it is not to be trusted."""
        stored = self._select(SELECT_CHAIN_END)
        end = self._chain.confirmed_end(stored[0] if stored else None)
        if end is None:
            # Rows may have been removed. A chain that simply went on would hide that from every later verification.
            ((self._sequence,),) = self._select(_SELECT_LAST_SEQUENCE)
            self._mac = TORN
            tables = ("overlays", *STANDING_COLUMNS)
            self._standing = sum_macs(START, *(mac for table in tables for mac in self._macs_in(table)))
        else:
            self._sequence, self._mac, self._standing, _ = end
        for table in ("revisions", "audit"):
            self._behind.update(self._select(_SELECT_BEHIND.format(table), (self._sequence,)))
        return end

    def _macs_in(self, table: str) -> list[bytes]:
        return [mac for (mac,) in self._select(f"SELECT mac FROM {table}") if isinstance(mac, bytes)]

    def append(self, row: Record | AuditEntry) -> None:
        """Add a row to the chain; ``flush`` or ``write_end`` inserts it."""
        self._changed = True
        self._sequence += 1
        while self._sequence in self._behind:
            # Goes on from what is stored, as a verification does: only the row that was put there is broken.
            mac = self._behind[self._sequence]
            self._mac = mac if isinstance(mac, bytes) else self._mac
            self._sequence += 1
        self._mac, code = self._chain.link_and_code(self._mac, row, self._sequence)
        if isinstance(row, Record):
            self._records.append((row, (*record_row(row), self._sequence, self._mac, code)))
        else:
            self._audit.append((*msgspec.structs.astuple(row), self._sequence, self._mac, code))

    def flush(self) -> None:
        """Insert the rows that were added to the chain; a forged row in the place of one is moved away.

        Raises:
            sqlite3.IntegrityError: There is a revision of the number of a new one, and this daemon wrote it.
        """
        records, audit = self._records, self._audit
        self._records, self._audit = [], []
        while records:
            together = records[: _largest(len(records))]
            del records[: len(together)]
            try:
                self._insert(_INSERT_RECORDS, [values for _, values in together])
            except sqlite3.IntegrityError:
                for record, values in together:
                    self._insert_record(record, values)
        while audit:
            together = audit[: _largest(len(audit))]
            del audit[: len(together)]
            self._insert(_INSERT_AUDIT, together)

    def _insert(self, statements: dict[int, str], rows: Sequence[Row]) -> None:
        self._cursor.execute(statements[len(rows)], [value for row in rows for value in row])

    def _insert_record(self, record: Record, values: Row) -> None:
        """Insert a revision; errors as for ``flush``."""
        try:
            self._insert(_INSERT_RECORDS, [values])
        except sqlite3.IntegrityError:
            place = record.environment, record.service, record.revision
            found = self._select(f"{SELECT_RECORDS} {THIS_RECORD}", place)
            if not found or confirmed_record(found[0], self._chain) is not None:
                raise
            self._cursor.execute(_MOVE_RECORD, place)
            self._insert(_INSERT_RECORDS, [values])

    def replace_overlay(self, overlay: Overlay) -> None:
        """Add or replace an overlay; delete it if its patch is None."""
        key = overlay.environment, overlay.service
        if overlay.patch is None:
            self._sum("overlays", key, None)
            self._cursor.execute(_DELETE_OVERLAY, key)
        else:
            mac = self._chain.overlay_mac(overlay)
            self._sum("overlays", key, mac)
            self._cursor.execute(REPLACE_OVERLAY, overlay_row(overlay, mac))

    def replace_row(self, table: str, row: Row) -> None:
        """Add or replace a row of a table of ``STANDING_COLUMNS``.

        Also one that is there as it is: a transaction that shows whether the disk works has to write to it.
        """
        self._replace_row(table, row, self._chain.row_mac(table, row))

    def replace_position(self, position: Position) -> None:
        """Replace the position of the home; what is known to be stored is not written, as the epoch of most writes."""
        for table, row in position_rows(position):
            mac = self._chain.row_mac(table, row)
            if self._macs.get((table, row[0])) != mac:
                self._replace_row(table, row, mac)

    def _replace_row(self, table: str, row: Row, mac: bytes) -> None:
        self._sum(table, row[:1], mac)
        self._cursor.execute(_REPLACE[table], (*row, mac))

    def replace_announcement(self, item: Announcement) -> None:
        """Add or replace an announcement, which the chain does not cover."""
        row = announcement_row(item)
        self._cursor.execute(_REPLACE["outbox"], (*row, self._chain.row_mac("outbox", row)))

    def _sum(self, table: str, key: Row, mac: bytes | None) -> None:
        """Have the sum of standing rows hold the code of a row in place of the one that is stored; None for none."""
        self._changed = True
        place = (table, *key)
        replaced = self._macs.pop(place, None)
        if replaced is None:
            ((replaced,),) = self._select(_SELECT_MAC[table], key) or [(None,)]
        if mac is not None:
            self._macs[place] = mac
        self._standing = sum_macs(self._standing, *(code for code in (replaced, mac) if isinstance(code, bytes)))

    def write_end(self) -> None:
        """Insert what is left, and write the end of the chain if a row was added or replaced; errors as ``flush``."""
        self.flush()
        if self._changed:
            self.written = self._chain.end(self._sequence, self._mac, self._standing)
            self._cursor.execute(REPLACE_CHAIN_END, self.written)

    def committed(self) -> None:
        """Have the next transaction of the connection know what this one left, which was committed."""
        end = self.written or self._begun
        if end is not None and not self._behind:
            self._known.keep(self._version, end, self._macs)

    def _select(self, query: str, parameters: Row = ()) -> list[Any]:
        return self._cursor.execute(query, parameters).fetchall()


def _largest(rows: int) -> int:
    """Return how many of some rows the largest statement adds."""
    return next(size for size in _TOGETHER if size <= rows)


def replace_coded(connection: sqlite3.Connection, chain: Chain, table: str, row: Row) -> bytes:
    """Add or replace a row of a table of ``STANDING_COLUMNS`` or ``RENEWED_COLUMNS``, and return its code."""
    mac = chain.row_mac(table, row)
    connection.execute(_REPLACE[table], (*row, mac))
    return mac
