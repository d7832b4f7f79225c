"""Removes old revisions and audit entries, a few at a time, so that the chain still shows whether others are missing.

A chain cannot lose links in its middle. So it gets another start first: the rows up to there are confirmed one by one,
by their codes, and the start holds a sum over their places (``hash_chain.ChainStart``). Of those rows any may be
removed; what an attacker removes differs from the sum. The start moves over rows in their order, each of which has to
be there: what was missing before stays missing.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from aliciacfg.storage.hash_chain import Chain, ChainStart, sum_macs
from aliciacfg.storage.rows import CHAIN_START, Row, confirmed_audit_entry, confirmed_record, encode_chain_start
from aliciacfg.storage.sqlite.chain_tail import ChainTail, KnownTail
from aliciacfg.storage.sqlite.maintenance import connect_to_read
from aliciacfg.storage.sqlite.rows import SELECT_AUDIT, SELECT_RECORDS, chain_start
from aliciacfg.storage.sqlite.transaction import transaction
from aliciacfg.storage.store import Kept, Outdated

# A transaction with this many takes a few milliseconds, which is how long a commit may wait for it.
_REMOVED_AT_ONCE = 25
_PASSED_AT_ONCE = 1000
_FREED_AT_ONCE = 64

_SELECT_CONFIGURATIONS = "SELECT DISTINCT environment, service FROM revisions"
_OF_ONE = "environment = ? AND service = ? AND typeof(revision) = 'integer'"
_SELECT_NTH_REVISION = f"SELECT revision FROM revisions WHERE {_OF_ONE} ORDER BY revision DESC LIMIT 1 OFFSET ?"
_SELECT_TIMES = f"SELECT revision, timestamp FROM revisions WHERE {_OF_ONE} ORDER BY revision"
_SELECT_NTH_AUDIT = "SELECT sequence FROM audit ORDER BY sequence DESC LIMIT 1 OFFSET ?"
_SELECT_AUDIT_TIMES = "SELECT sequence, timestamp FROM audit ORDER BY sequence"
_SELECT_NEWEST = f"{SELECT_RECORDS} WHERE {_OF_ONE} ORDER BY revision DESC"
_SELECT_OLD_RECORDS = f"{SELECT_RECORDS} WHERE {_OF_ONE} AND revision <= ? ORDER BY revision"
_SELECT_OLD_AUDIT = f"{SELECT_AUDIT} WHERE sequence <= ? ORDER BY sequence"
_SELECT_PLACES = """
    SELECT sequence FROM revisions WHERE sequence > ?1 AND sequence <= ?2
    UNION ALL SELECT sequence FROM audit WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3
"""
_SELECT_LINK = "SELECT mac FROM {} WHERE sequence = ?"


def outdated_in_file(path: Path, kept: Kept) -> list[Outdated]:
    """Return what ``find_outdated`` does, on a connection of its own.

    Raises:
        sqlite3.Error: The database cannot be read.
    """
    with contextlib.closing(connect_to_read(path)) as connection:
        return find_outdated(connection, kept)


def find_outdated(connection: sqlite3.Connection, kept: Kept) -> list[Outdated]:
    """Return what may be removed: for each configuration its oldest revisions, and the oldest audit entries."""
    found: list[Outdated] = []
    for environment, service in connection.execute(_SELECT_CONFIGURATIONS).fetchall():
        of_one = environment, service
        upto = _last_outdated(
            connection, (_SELECT_NTH_REVISION, _SELECT_TIMES), of_one, kept.revisions, kept.revisions_since
        )
        if upto is not None:
            found.append(Outdated("revisions", upto, str(environment), str(service)))
    upto = _last_outdated(connection, (_SELECT_NTH_AUDIT, _SELECT_AUDIT_TIMES), (), kept.audit, kept.audit_since)
    if upto is not None:
        found.append(Outdated("audit", upto))
    return found


def _last_outdated(
    connection: sqlite3.Connection, queries: tuple[str, str], key: Row, most: int | None, since: float | None
) -> int | None:
    """Return the number of the last row that is beyond the count or older than the time; the newest never is."""
    nth, times = queries
    found: list[int] = []
    if most is not None:
        found += [number for (number,) in connection.execute(nth, (*key, max(most, 1)))]
    newest = connection.execute(nth, (*key, 0)).fetchone()
    if since is not None and newest is not None:
        for number, timestamp in connection.execute(times, key):
            # From the oldest on, so that what is kept has no gap.
            if number == newest[0] or not isinstance(timestamp, int | float) or timestamp >= since:
                break
            found.append(number)
    return max(found, default=None)


def remove_some(
    connection: sqlite3.Connection, chain: Chain, outdated: Outdated, known: KnownTail | None = None
) -> tuple[int, bool]:
    """Remove a few outdated rows in one transaction; return how many, and whether to call this again.

    Rows that are not what was written stay as evidence, and so do those behind a place where a row is missing.

    Raises:
        sqlite3.Error: Nothing was removed.
    """
    with transaction(connection):
        candidates = list(_candidates(connection, chain, outdated))
        if not candidates:
            return 0, False
        before = chain_start(connection, chain)
        start = _moved(connection, chain, before, max(candidates))
        removed = [sequence for sequence in candidates if sequence <= start.sequence]
        connection.executemany(f"DELETE FROM {outdated.table} WHERE sequence = ?", [(one,) for one in removed])
        kept = sum_macs(start.kept, *map(chain.presence, removed))
        tail = ChainTail(connection, chain, known)
        tail.replace_row("meta", (CHAIN_START, encode_chain_start(ChainStart(start.sequence, start.mac, kept))))
        tail.write_end()
    tail.committed()
    return len(removed), start.sequence > before.sequence or len(removed) == _REMOVED_AT_ONCE


def free_some(connection: sqlite3.Connection) -> bool:
    """Give a few free pages at the end of the file back to the disk; return whether there may be more.

    Databases of an older version have to be written anew once for that (``schema.migrate``); until then their free
    pages are used again.

    Raises:
        sqlite3.Error: It cannot be written.
    """
    (before,) = connection.execute("PRAGMA freelist_count").fetchone()
    if not before:
        return False
    # Not ``execute``: SQLite answers a row without columns for each page, and the sqlite3 module ends at the first one.
    connection.executescript(f"PRAGMA incremental_vacuum({_FREED_AT_ONCE})")
    (after,) = connection.execute("PRAGMA freelist_count").fetchone()
    return 0 < after < before


def _candidates(connection: sqlite3.Connection, chain: Chain, outdated: Outdated) -> Iterator[int]:
    """Yield the places in the chain of the rows to remove next: outdated, what was written, and not in force."""
    if outdated.table == "audit":
        rows = connection.execute(_SELECT_OLD_AUDIT, (outdated.upto,))
        found = (None if (entry := confirmed_audit_entry(row, chain)) is None else entry[0] for row in rows)
    else:
        of_one = outdated.environment, outdated.service
        found = _old_records(connection, chain, of_one, min(outdated.upto, _in_force(connection, chain, of_one) - 1))
    count = 0
    for sequence in found:
        if sequence is not None:
            count += 1
            yield sequence
        if count == _REMOVED_AT_ONCE:
            return


def _old_records(connection: sqlite3.Connection, chain: Chain, of_one: Row, upto: int) -> Iterator[int | None]:
    for row in connection.execute(_SELECT_OLD_RECORDS, (*of_one, upto)):
        yield None if confirmed_record(row, chain) is None else row[-2]


def _in_force(connection: sqlite3.Connection, chain: Chain, of_one: Row) -> int:
    """Return the number of the revision that a start would load: the newest one that is what was written."""
    for row in connection.execute(_SELECT_NEWEST, of_one):
        record = confirmed_record(row, chain)
        if record is not None:
            return record.revision
    return 0


def _moved(connection: sqlite3.Connection, chain: Chain, start: ChainStart, upto: int) -> ChainStart:
    """Return the start of the chain moved up to a place, over a limited number of rows and never over a gap."""
    last, kept = start.sequence, start.kept
    for (sequence,) in connection.execute(_SELECT_PLACES, (start.sequence, upto, _PASSED_AT_ONCE)):
        if sequence != last + 1:
            break
        last = sequence
        kept = sum_macs(kept, chain.presence(sequence))
    if last == start.sequence:
        return start
    for table in ("revisions", "audit"):
        for (mac,) in connection.execute(_SELECT_LINK.format(table), (last,)):
            if isinstance(mac, bytes):
                return ChainStart(last, mac, kept)
    return start
