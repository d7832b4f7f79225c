"""Applies writes in one transaction."""

import contextlib
import sqlite3
from collections.abc import Generator, Sequence

import msgspec

from aliciacfg.errors import InvalidRequest
from aliciacfg.model.records import Write
from aliciacfg.storage.batch import combine
from aliciacfg.storage.hash_chain import Chain, End
from aliciacfg.storage.rows import (
    Row,
    announcement_row,
    confirmed_record,
    parse_record,
    parse_stored_overlay,
)
from aliciacfg.storage.sqlite.chain_tail import SELECT_CHAIN_END, THIS_RECORD, ChainTail, KnownTail, replace_coded
from aliciacfg.storage.sqlite.rows import SELECT_OVERLAYS, SELECT_RECORD_BY_ROW, SELECT_RECORDS
from aliciacfg.storage.store import Reseal

# When COMMIT fails with these, the frame that ends the transaction was not written.
_NOTHING_COMMITTED = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY})

_CONFIRM_ANNOUNCEMENT = "UPDATE outbox SET pending = 0, mac = ? WHERE subject = ? AND sequence = ?"
_DELETE_APPLIED = "DELETE FROM applied WHERE service = ? AND instance = ?"
_UPDATE_RECORD = f"UPDATE revisions SET config = ?, checksum = ?, code = ? {THIS_RECORD}"
_SELECT_SEALED = "SELECT rowid FROM revisions WHERE instr(config, CAST('sealed:v1:' AS BLOB)) > 0"
_UPDATE_CONFIG = "UPDATE revisions SET config = ?, code = ? WHERE rowid = ?"


class CommitInDoubt(sqlite3.OperationalError):
    """COMMIT failed after its bytes may have reached the disk: after a crash the transaction may be there.

    Attributes:
        end: The end of the chain with the transaction; None if the transaction did not change it.
    """

    end: End | None = None


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


def settle(connection: sqlite3.Connection, chain: Chain, end: End | None, known: KnownTail | None = None) -> bool:
    """Return whether a transaction in doubt was made, and see to it that this stays so over a crash.

    A COMMIT that failed may have left its frames in the write-ahead log without being part of the database; a
    transaction that follows takes their place.

    Args:
        connection: The connection on which the COMMIT failed, or a later one.
        chain: Computes the MACs.
        end: As in ``CommitInDoubt``.
        known: As for ``apply``; nothing is known afterwards.

    Raises:
        sqlite3.Error: It is still not known.
    """
    with transaction(connection):
        tail = ChainTail(connection, chain, known)
        found = connection.execute(SELECT_CHAIN_END).fetchone()
        tail.replace_row("meta", ("probe", ""))
        tail.write_end()
    return end is not None and found == end


def apply(
    connection: sqlite3.Connection, chain: Chain, writes: Sequence[Write], known: KnownTail | None = None
) -> None:
    """Apply writes in one transaction; see ``Store.commit``.

    Args:
        connection: Where to write.
        chain: Computes the MACs.
        writes: The writes.
        known: What this connection knows of the chain from its transactions before; None if that is nothing.

    Raises:
        CommitInDoubt: It is not known whether anything was written.
        sqlite3.Error: Nothing was written.
    """
    tail: ChainTail | None = None
    try:
        with transaction(connection):
            tail = ChainTail(connection, chain, known)
            _apply_all(connection, chain, writes, tail)
    except CommitInDoubt as error:
        error.end = None if tail is None else tail.written
        raise
    tail.committed()


def _apply_all(connection: sqlite3.Connection, chain: Chain, writes: Sequence[Write], tail: ChainTail) -> None:
    """Apply writes in the present transaction."""
    batch = combine(writes)
    for row in batch.chained:
        tail.append(row)
    for overlay in batch.overlays.values():
        tail.replace_overlay(overlay)
    for (table, _), row in batch.standing.items():
        tail.replace_row(table, row)
    if batch.position is not None:
        tail.replace_position(batch.position)
    for item in batch.announcements.values():
        tail.replace_announcement(item)
    tail.flush()
    for write in writes:
        _apply_unchained(connection, chain, write)
    tail.write_end()


def reseal_rows(connection: sqlite3.Connection, chain: Chain, reseal: Reseal, known: KnownTail | None = None) -> None:
    """Reseal every stored configuration and overlay in one transaction; see ``Store.reseal``.

    Args:
        connection: Where to write.
        chain: Computes the MACs.
        reseal: Seals a configuration anew.
        known: As for ``apply``; nothing is known afterwards.

    Raises:
        sqlite3.Error: Nothing was changed.
    """
    with transaction(connection):
        for number in [number for (number,) in connection.execute(_SELECT_SEALED)]:
            row = connection.execute(SELECT_RECORD_BY_ROW, (number,)).fetchone()
            # A row that is not what was written stays as it is, also where it is no longer JSON.
            with contextlib.suppress(InvalidRequest, msgspec.MsgspecError):
                _reseal_record(connection, chain, number, row, reseal)
        tail = ChainTail(connection, chain, known)
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
        row = connection.execute(f"{SELECT_RECORDS} {THIS_RECORD}", place).fetchone()
        stored = None if row is None else confirmed_record(row, chain)
        if row is None or stored is None:
            # It was changed since it was read.
            continue
        sealed = msgspec.structs.replace(stored, config=record.config, checksum=record.checksum)
        code = chain.record_code(sealed, row[-2])
        connection.execute(_UPDATE_RECORD, (sealed.config, sealed.checksum, code, *place))
