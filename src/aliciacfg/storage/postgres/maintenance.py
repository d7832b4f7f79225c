"""Work on the whole database: verify, reseal, copy, rewrite, find key ids."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TypeVar

import msgspec
import structlog

from aliciacfg.errors import InvalidRequest, Unavailable
from aliciacfg.model.records import Overlay, Write
from aliciacfg.sealing.boxes import key_ids
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.postgres.driver import Link, ServerError, Values
from aliciacfg.storage.postgres.failures import LOCK_TIMEOUT, MISSING, is_damage, unreadable
from aliciacfg.storage.postgres.queries import chain_start, coded_rows
from aliciacfg.storage.postgres.schema import UnknownFormat, check, programs
from aliciacfg.storage.postgres.statements import (
    COLUMNS,
    NOTE_RESIDUE,
    SCHEMA,
    SELECT_COMMIT,
    SELECT_END,
    SELECT_OVERLAYS,
    SELECT_RECORDS,
)
from aliciacfg.storage.row_checks import chained_audit, chained_records, coded_overlays
from aliciacfg.storage.rows import (
    AUDIT_COLUMNS,
    CHAIN,
    RECORD_COLUMNS,
    RENEWED_COLUMNS,
    STANDING_COLUMNS,
    TABLES,
    confirmed_record,
    parse_record,
    parse_stored_overlay,
)
from aliciacfg.storage.store import AddRows, Reseal, StoreError
from aliciacfg.storage.verifier import Findings, Verifier

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_CHAINED = {
    "revisions": (f"SELECT sequence, mac, code, {RECORD_COLUMNS} FROM {SCHEMA}.revisions", chained_records),
    "audit": (f"SELECT sequence, mac, code, {AUDIT_COLUMNS} FROM {SCHEMA}.audit", chained_audit),
}
# Takes about two milliseconds, so that other threads get the interpreter in between.
_ROWS_PER_PIECE = 20
_ROWS_COPIED = 200
_SEALED = "position('sealed:v1:'::bytea IN config) > 0"
_UPDATE_CONFIG = f"""
    UPDATE {SCHEMA}.revisions SET config = $1, code = $2, commit = (SELECT commit + 1 FROM {SCHEMA}.home)
    WHERE sequence = $3
"""
_SELECT_RESIDUE = f"SELECT residue FROM {SCHEMA}.home"
_END_RESIDUE = f"UPDATE {SCHEMA}.home SET residue = 0 WHERE residue = $1"
_REWRITTEN = ("revisions", "overlays", "outbox")
_REWRITE_LOCK_SECONDS = 2
# Somebody who reads an older state keeps the rows of that state in the tables.
_SELECT_READERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database()
"""


class NoTables(StoreError):
    """There is nothing that could be read."""


@contextlib.asynccontextmanager
async def snapshot(url: str) -> AsyncGenerator[Link]:
    """Yield a connection that reads the database as it is at one moment.

    Raises:
        ServerError: The database cannot be read.
        StoreError: It is none of aliciacfg, or one of a newer version.
    """
    link = await Link.connect(url)
    try:
        await link.run(_SNAPSHOT)
        if not await check(link):
            raise NoTables("there are no tables of aliciacfg")
        yield link
    finally:
        link.terminate()


async def verify_database(url: str, chain: Chain, *, pause_seconds: float = 0.0) -> Findings:
    """Compare every row with the keyed chain, as they are at one moment.

    Args:
        url: The database.
        chain: Computes the MACs.
        pause_seconds: The time to rest after every few rows.

    Raises:
        Unavailable: The database cannot be read.
    """
    try:
        async with snapshot(url) as link:
            return await verify_rows(link, chain, pause_seconds=pause_seconds)
    except NoTables as error:
        raise Unavailable(f"The store cannot be read: {error}.") from error
    except UnknownFormat as error:
        raise Unavailable(f"The store cannot be read: {error}.") from error
    except StoreError as error:
        return Findings(damage=[str(error)])
    except ServerError as error:
        raise unreadable(error) from error


async def verify_rows(link: Link, chain: Chain, *, pause_seconds: float = 0.0) -> Findings:
    """Compare every row with the keyed chain, in a transaction.

    Args:
        link: Has begun it.
        chain: Computes the MACs.
        pause_seconds: The time to rest after every few rows.

    Raises:
        ServerError: The database cannot be read.
    """
    try:
        return await _verify(link, chain, pause_seconds)
    except ServerError as error:
        if not is_damage(error) and error.sqlstate not in MISSING:
            raise
        return Findings(damage=[str(error)])


async def _verify(link: Link, chain: Chain, pause_seconds: float) -> Findings:
    verifier = Verifier(chain, await chain_start(link, chain))
    async for piece in _pieces(_merged(link)):
        for table, row in piece:
            verifier.check_chain(_CHAINED[table][1]([row], verifier))
        await asyncio.sleep(pause_seconds)
    verifier.check_overlays(coded_overlays(await link.rows(SELECT_OVERLAYS), verifier))
    for table in STANDING_COLUMNS:
        verifier.check_rows(table, await coded_rows(link, table))
    for kind, name, _ in await programs(link):
        verifier.reject_program(kind, name)
    for table in RENEWED_COLUMNS:
        verifier.check_rows(table, await coded_rows(link, table), counted=False)
    end = await link.rows(SELECT_END)
    return verifier.finish(end[0] if end else None)


async def _merged(link: Link) -> AsyncIterator[tuple[str, Values]]:
    """Yield the rows of the chain in its order, each with its table."""
    sources = {table: link.each(f"{query} ORDER BY sequence") for table, (query, _) in _CHAINED.items()}
    heads = {table: await anext(source, None) for table, source in sources.items()}
    while True:
        waiting = [(row[0], table, row) for table, row in heads.items() if row is not None]
        if not waiting:
            return
        _, table, row = min(waiting)
        yield table, row
        heads[table] = await anext(sources[table], None)


async def _pieces(rows: AsyncIterator[T]) -> AsyncIterator[list[T]]:
    piece: list[T] = []
    async for row in rows:
        piece.append(row)
        if len(piece) == _ROWS_PER_PIECE:
            yield piece
            piece = []
    yield piece


async def copy_database(url: str, add: AddRows) -> None:
    """Add every row, as it is stored at one moment, to a copy.

    Raises:
        Unavailable: The database cannot be read, or the copy cannot be written.
    """
    try:
        async with snapshot(url) as link:
            for table, columns in TABLES.items():
                query = SELECT_OVERLAYS if table == "overlays" else f"SELECT {', '.join(columns)} FROM {SCHEMA}.{table}"
                rows: list[Values] = []
                async for row in link.each(query):
                    rows.append(row)
                    if len(rows) == _ROWS_COPIED:
                        add(table, rows)
                        rows = []
                add(table, rows)
            add(CHAIN, await link.rows(SELECT_END))
    except StoreError as error:
        raise Unavailable(f"The database cannot be copied: {error}.") from error
    except ServerError as error:
        raise unreadable(error) from error


async def reseal_rows(link: Link, chain: Chain, reseal: Reseal) -> list[Write]:
    """Reseal every stored configuration under the lock; return what is to be written of overlays in the same commit.

    Args:
        link: Has the lock.
        chain: Computes the codes.
        reseal: Seals a document anew; called in another thread.

    Raises:
        ServerError: Nothing is changed once the transaction is rolled back.
    """
    sequences = [row[0] for row in await link.rows(f"SELECT sequence FROM {SCHEMA}.revisions WHERE {_SEALED}")]
    for start in range(0, len(sequences), _ROWS_COPIED):
        some = sequences[start : start + _ROWS_COPIED]
        rows = await link.rows(f"{SELECT_RECORDS} WHERE sequence = ANY($1::bigint[])", some)
        await link.repeat(_UPDATE_CONFIG, await asyncio.to_thread(_resealed, rows, chain, reseal))
    overlays = await link.rows(SELECT_OVERLAYS)
    changed = await asyncio.to_thread(_resealed_overlays, overlays, chain, reseal)
    ((commit,),) = await link.rows(SELECT_COMMIT)
    await link.rows(NOTE_RESIDUE, commit + 1)
    return [Write(overlays=tuple(changed))]


def _resealed(rows: Sequence[Values], chain: Chain, reseal: Reseal) -> list[Values]:
    """Return config, code and sequence of revisions that are sealed anew.

    What was not confirmed before is not confirmed afterwards, and what is no JSON stays as it is.
    """
    found: list[Values] = []
    for row in rows:
        *values, sequence, code = row
        with contextlib.suppress(InvalidRequest, msgspec.MsgspecError):
            record = parse_record(tuple(values))
            config = reseal(record.config, record.environment, record.service)
            if confirmed_record(row, chain) is not None:
                code = chain.record_code(msgspec.structs.replace(record, config=config), sequence)
            found.append((config, code, sequence))
    return found


def _resealed_overlays(rows: Sequence[Values], chain: Chain, reseal: Reseal) -> list[Overlay]:
    found: list[Overlay] = []
    for row in rows:
        overlay = parse_stored_overlay(row, chain)
        # A fresh MAC would hide that the overlay was edited.
        if overlay.confirmed:
            patch = reseal(overlay.patch or b"{}", overlay.environment, overlay.service)
            found.append(msgspec.structs.replace(overlay, patch=patch))
    return found


async def rewrite_tables(link: Link) -> bool:
    """Write the tables anew in which rows from before a resealing are left; return False while somebody reads them.

    Through a pooler that is not possible.

    The files before are removed. What the server's write-ahead log, its archive, its standbys and copies of its
    directory hold is beyond the reach of a client.

    Raises:
        ServerError: They cannot be written.
    """
    ((residue,),) = await link.rows(_SELECT_RESIDUE)
    if not residue:
        return True
    if link.pooled:
        # It cannot be done in a transaction, and a pooler keeps nothing together that is in none.
        _log.debug("tables_not_rewritten", remedy="name the server itself in ALICIACFG_DATABASE_URL for a start")
        return False
    ((readers,),) = await link.rows(_SELECT_READERS)
    if readers:
        return False
    await link.run(f"SET lock_timeout = '{_REWRITE_LOCK_SECONDS}s'")
    try:
        for table in _REWRITTEN:
            await link.run(f"VACUUM (FULL) {SCHEMA}.{table}")
    except ServerError as error:
        if error.sqlstate == LOCK_TIMEOUT:
            return False
        raise
    finally:
        if not link.closed:
            await link.run("RESET lock_timeout")
    await link.rows(_END_RESIDUE, residue)
    return True


async def key_ids_of(link: Link) -> set[str]:
    """Return the ids of the keys that any value is sealed with; in a transaction.

    Raises:
        ServerError: The database cannot be read.
    """
    found: set[str] = set()
    for table, columns in COLUMNS.items():
        async for row in link.each(f"SELECT {', '.join(columns)} FROM {SCHEMA}.{table}"):
            for value in row:
                if isinstance(value, bytes | str):
                    found |= set(key_ids(value if isinstance(value, bytes) else value.encode()))
    return found
