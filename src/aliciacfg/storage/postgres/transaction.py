"""Applies writes in one transaction, under the lock on the row of the home.

Four round trips: begin and lock, read what is replaced, write everything, commit. That row is lock, fence and clock at
once: it holds the number of the last commit and the end of the chain, and every transaction that writes changes it.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from aliciacfg.errors import Damaged, Superseded
from aliciacfg.model.records import START as START_POSITION
from aliciacfg.model.records import Announcement, Applied, AuditEntry, Position, Record, Write
from aliciacfg.storage.batch import Batch
from aliciacfg.storage.hash_chain import START, TORN, Chain, sum_macs
from aliciacfg.storage.postgres import formats
from aliciacfg.storage.postgres.driver import Link, Values
from aliciacfg.storage.postgres.failures import HOME_IS_GONE
from aliciacfg.storage.postgres.pace import unhurried
from aliciacfg.storage.postgres.statements import (
    BEGIN_WRITING,
    COLUMNS,
    CONFIRMED,
    FORGOTTEN,
    NOTE_RESIDUE,
    SCHEMA,
    SELECT_RECORDS,
    add,
    is_flag,
    read_held,
    read_keys,
    write,
)
from aliciacfg.storage.rows import (
    STANDING_COLUMNS,
    Row,
    announcement_row,
    confirmed_record,
    overlay_row,
    parse_position,
    position_rows,
    record_row,
)

# Of a process that hangs or was frozen in a transaction, the server takes the lock back; who waits, waits longer.
_HELD_SECONDS = 10
_LOCK_SECONDS = 15
BEGIN = (
    f"{BEGIN_WRITING}; SET LOCAL idle_in_transaction_session_timeout = '{_HELD_SECONDS}s';"
    f" SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'; SET LOCAL statement_timeout = 0;"
    f" SELECT FROM {SCHEMA}.home FOR UPDATE"
)
COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"

# Encoding so many delays no other task.
_ROWS_AT_ONCE = 1000
_MAX_SEQUENCE = 2**62
_THIS_RECORD = "WHERE environment = $1 AND service = $2 AND revision = $3"
# A number that is none: the row stays as evidence.
_MOVE_RECORD = f"UPDATE {SCHEMA}.revisions SET revision = $4 {_THIS_RECORD}"
_UPDATE_RECORD = f"UPDATE {SCHEMA}.revisions SET config = $4, checksum = $5, code = $6, commit = $7 {_THIS_RECORD}"
_SELECT_LAST_SEQUENCE = f"""
    SELECT greatest(coalesce((SELECT max(sequence) FROM {SCHEMA}.revisions WHERE sequence <= {_MAX_SEQUENCE}), 0),
                    coalesce((SELECT max(sequence) FROM {SCHEMA}.audit WHERE sequence <= {_MAX_SEQUENCE}), 0))
"""
_STANDING_TABLES = ("overlays", *STANDING_COLUMNS)
_SELECT_MACS = " UNION ALL ".join(
    f"SELECT mac FROM {SCHEMA}.{table} WHERE mac IS NOT NULL" for table in _STANDING_TABLES
)


@dataclass(slots=True)
class Held:
    """The row of the home and what belongs to it, read under the lock.

    Attributes:
        commit: The number of the last commit.
        end: The end of the chain as it is stored.
        behind: MACs of forged rows behind the end of the chain, by the sequences that they occupy.
        macs: The codes of the rows that are replaced, by table and key.
        format: The format of the home, in which the rows are written.
        position: The stored position of the home.
        answered: Whether there is an answer already to one of the requests.
    """

    commit: int
    end: Values
    format: int
    behind: dict[int, object] = field(default_factory=dict[int, object])
    macs: dict[Values, object] = field(default_factory=dict[Values, object])
    position: Position = START_POSITION
    answered: bool = False


@dataclass(slots=True)
class Written:
    """What a transaction wrote, by which it is found again if the answer to its COMMIT is lost.

    Attributes:
        commit: Its number.
        end: The end of the chain after it.
        link: Sequence and MAC of the last row that it added to the chain; None if it added none.
        standing: Table, key and code of the standing rows that it replaced; the code is None for one that is gone.
    """

    commit: int
    end: Values
    link: tuple[int, bytes] | None = None
    standing: list[tuple[str, Values, bytes | None]] = field(default_factory=list[tuple[str, Values, "bytes | None"]])

    @property
    def matters(self) -> bool:
        """Whether it wrote anything that memory follows."""
        return self.link is not None or bool(self.standing)


async def read_home(link: Link, batch: Batch, answers: Sequence[tuple[str, str]]) -> Held:
    """Return what a transaction has to know before it writes a batch, in one round trip.

    Args:
        link: Has the lock.
        batch: The rows to write.
        answers: Requester and id of the requests whose answers are kept.

    Raises:
        ServerError: It cannot be read.
        Damaged: There is no row of the home.
        OtherFormat: The home has a format that this program does not work with.
    """
    keys: dict[str, list[Row]] = {"meta": [("epoch",), ("sequence",)]}
    if batch.overlays:
        keys["overlays"] = list(batch.overlays)
    for table, key in batch.standing:
        keys.setdefault(table, []).append((str(key),))
    if answers:
        keys["answers"] = list(answers)
    tables = tuple(sorted(keys))
    arguments = [[row[place] for row in keys[table]] for table in tables for place in range(read_keys(table))]
    held: Held | None = None
    meta: dict[str, str] = {}
    behind: dict[int, object] = {}
    macs: dict[Values, object] = {}
    answered = False
    async for table, row in unhurried(await link.rows(read_held(tables), *arguments)):
        match table:
            case "home":
                commit, *end, number, needs = row
                formats.check(number, needs)
                held = Held(commit, tuple(end), number)
            case "behind":
                behind[row[0]] = row[1]
            case "answers":
                answered = True
            case "meta":
                name, mac, value = row
                meta[name] = value
                macs["meta", name] = mac
            case _:
                *key, mac = row
                macs[table, *key] = mac
    if held is None:
        raise Damaged(HOME_IS_GONE)
    held.behind, held.macs, held.answered = behind, macs, answered
    held.position = parse_position(meta)
    return held


async def write_batch(link: Link, chain: Chain, writes: Sequence[Write], batch: Batch, held: Held) -> Written:
    """Write the rows of a batch and the row of the home, in one round trip unless they are very many.

    Args:
        link: Has the lock.
        chain: Computes the MACs.
        writes: The writes, for what the chain does not cover.
        batch: What they come to.
        held: What ``read_home`` returned.

    Raises:
        ServerError: Nothing is written once the transaction is rolled back. Its code is that of a duplicate if a
            revision exists already.
    """
    commit = held.commit + 1
    written = Written(commit, held.end)
    end = chain.confirmed_end(held.end)
    if end is None:
        # Rows may have been removed. A chain that simply went on would hide that from every later verification.
        ((sequence,),) = await link.rows(_SELECT_LAST_SEQUENCE)
        mac = TORN
        standing = sum_macs(START, *[code for (code,) in await link.rows(_SELECT_MACS)])
    else:
        sequence, mac, standing, _ = end
    rows = _Rows(link, commit)
    async for row in unhurried(batch.chained):
        sequence += 1
        while sequence in held.behind:
            # Goes on from what is stored, as a verification does: only the row that was put there is broken.
            stored = held.behind[sequence]
            mac = stored if isinstance(stored, bytes) else mac
            sequence += 1
        mac, code = chain.link_and_code(mac, row, sequence)
        table, values = _chained_row(row)
        await rows.add(table, (*values, sequence, mac, code))
        written.link = (sequence, mac)
    async for table, key, values, code in unhurried(_standing(chain, batch, held.position)):
        replaced = held.macs.get((table, *key))
        standing = sum_macs(standing, *(mac_ for mac_ in (replaced, code) if isinstance(mac_, bytes)))
        await rows.add(table, values)
        written.standing.append((table, key, code))
    async for table, values in unhurried(_unchained(chain, writes, batch)):
        await rows.add(table, values)
    if written.matters:
        written.end = chain.end(sequence, mac, standing)
    await rows.end(written.end)
    return written


class _Rows:
    """The rows that a commit writes: many of them go to the server in several statements.

    One alone would keep the event loop busy for as long as it takes to encode; and a server takes the lock back from
    whom it hears nothing of for long.
    """

    def __init__(self, link: Link, commit: int) -> None:
        self._link = link
        self._commit = commit
        self._rows: dict[str, list[Row]] = {}
        self._count = 0

    async def add(self, table: str, values: Row) -> None:
        """Add a row to a table.

        Raises:
            ServerError: Rows before it could not be written.
        """
        self._rows.setdefault(table, []).append(values)
        self._count += 1
        if self._count == _ROWS_AT_ONCE:
            await self._write()

    async def _write(self) -> None:
        for table, rows in self._rows.items():
            await self._link.rows(add(table), self._commit, *_columns(table, rows))
        self._rows, self._count = {}, 0

    async def end(self, end: Values) -> None:
        """Write what is left, and the row of the home.

        Raises:
            ServerError: They could not be written.
        """
        tables = tuple(sorted(self._rows))
        columns = [column for table in tables for column in _columns(table, self._rows[table])]
        await self._link.rows(write(tables), self._commit, *end, *columns)


def _chained_row(row: Record | AuditEntry) -> tuple[str, Row]:
    if isinstance(row, Record):
        return "revisions", record_row(row)
    return "audit", msgspec.structs.astuple(row)


def _standing(chain: Chain, batch: Batch, stored: Position) -> Iterator[tuple[str, Row, Row, bytes | None]]:
    """Yield the standing rows to write: table, key, values and code."""
    for key, overlay in batch.overlays.items():
        # An overlay that was dropped stays as a row without a code: those who follow learn of it.
        code = None if overlay.patch is None else chain.overlay_mac(overlay)
        yield "overlays", key, (*overlay_row(overlay, b"")[:-1], code), code
    standing = dict(batch.standing)
    if batch.position is not None and batch.position > stored:
        standing.update({(table, row[0]): row for table, row in position_rows(batch.position)})
    for (table, key), row in standing.items():
        code = chain.row_mac(table, row)
        yield table, (str(key),), (*row, code), code


def _unchained(chain: Chain, writes: Sequence[Write], batch: Batch) -> Iterator[tuple[str, Row]]:
    """Yield the rows that are neither in the chain nor standing, each with its table."""
    announcements = dict(batch.announcements)
    confirmed: dict[tuple[str, int], Announcement] = {}
    reports: dict[tuple[str, str], Applied | None] = {}
    for one in writes:
        for item in one.confirmed:
            new = announcements.get(item.subject)
            if new is None:
                confirmed[item.subject, item.sequence] = item
            elif new.sequence == item.sequence:
                announcements[item.subject] = msgspec.structs.replace(new, pending=False)
        reports.update({(item.service, item.instance): item for item in one.applied})
        reports.update({(item.service, item.instance): None for item in one.forgotten})
    answers = {(item.requester, item.request_id): item for one in writes for item in one.answers}
    for item in announcements.values():
        yield "outbox", _coded(chain, "outbox", announcement_row(item))
    for place, item in confirmed.items():
        code = chain.row_mac("outbox", announcement_row(msgspec.structs.replace(item, pending=False)))
        yield CONFIRMED, (*place, code)
    for place, item in reports.items():
        if item is None:
            yield FORGOTTEN, place
        else:
            yield "applied", _coded(chain, "applied", msgspec.structs.astuple(item))
    for item in answers.values():
        requester, request_id, content = row = msgspec.structs.astuple(item)
        yield "answers", (requester, request_id, chain.row_mac("answers", row) + content)


def confirmed_answer(chain: Chain, requester: str, request_id: str, stored: bytes) -> bytes | None:
    """Return the content of an answer as it is stored, its code in front; None if it is not what was written."""
    length = len(chain.row_mac("answers", ()))
    content = stored[length:]
    return content if chain.confirms_row("answers", (requester, request_id, content), stored[:length]) else None


def _coded(chain: Chain, table: str, row: Row) -> Row:
    return (*row, chain.row_mac(table, row))


def _columns(table: str, rows: list[Row]) -> list[list[object]]:
    """Return the values of a table's rows by columns, as the arguments of ``statements.write`` and ``add``."""
    columns: list[list[object]] = [list(column) for column in zip(*rows, strict=True)]
    for place, name in enumerate(COLUMNS.get(table, ())):
        if is_flag(name):
            columns[place] = [bool(value) for value in columns[place]]
    return columns


async def move_forged(link: Link, chain: Chain, batch: Batch) -> bool:
    """Move forged rows away from the places of new revisions; return whether there was any.

    Raises:
        Superseded: There is a revision of the number of a new one, and a daemon wrote it.
        ServerError: Nothing is changed.
    """
    moved = False
    for record in batch.chained:
        if not isinstance(record, Record):
            continue
        place = record.environment, record.service, record.revision
        for row in await link.rows(f"{SELECT_RECORDS} {_THIS_RECORD}", *place):
            if confirmed_record(row, chain) is not None:
                raise Superseded("The store cannot write: a revision of this number exists already.")
            await link.rows(_MOVE_RECORD, *place, -secrets.randbits(62))
            moved = True
    return moved


async def reseal_written(link: Link, chain: Chain, writes: Sequence[Write], commit: int) -> None:
    """Write content and checksum of revisions that are sealed further; a tampered one stays as it is."""
    for record in (record for one in writes for record in one.resealed):
        place = record.environment, record.service, record.revision
        for row in await link.rows(f"{SELECT_RECORDS} {_THIS_RECORD}", *place):
            stored = confirmed_record(row, chain)
            if stored is not None:
                sealed = msgspec.structs.replace(stored, config=record.config, checksum=record.checksum)
                code = chain.record_code(sealed, row[-2])
                await link.rows(_UPDATE_RECORD, *place, sealed.config, sealed.checksum, code, commit)
                await link.rows(NOTE_RESIDUE, commit)


async def was_made(link: Link, written: Written) -> bool:
    """Return whether a transaction is in the database; the lock has to be held, so that it is over.

    Of one that added nothing to the chain, a row that it replaced shows it; if others have replaced all of them since,
    it makes no difference.

    Raises:
        ServerError: It cannot be read.
    """
    if written.link is not None:
        sequence, mac = written.link
        found = [
            code
            for table in ("revisions", "audit")
            for (code,) in await link.rows(f"SELECT mac FROM {SCHEMA}.{table} WHERE sequence = $1", sequence)
        ]
        return mac in found
    for table, key, code in written.standing:
        names = COLUMNS[table][: read_keys(table)]
        where = " AND ".join(f"{name} = ${number + 2}" for number, name in enumerate(names))
        query = f"SELECT mac FROM {SCHEMA}.{table} WHERE commit = $1 AND {where}"
        if (code,) in await link.rows(query, written.commit, *key):
            return True
    return False
