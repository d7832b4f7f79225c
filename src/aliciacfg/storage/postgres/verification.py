"""Compares every row of a database with the keyed chain."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from aliciacfg.errors import Unavailable
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.postgres.driver import Link, ServerError, Values
from aliciacfg.storage.postgres.failures import MISSING, is_damage, unreadable
from aliciacfg.storage.postgres.queries import chain_start, coded_rows
from aliciacfg.storage.postgres.schema import UnknownFormat, programs
from aliciacfg.storage.postgres.slices import ATTEMPTS, ChainedValues, ChainSlices, Moved
from aliciacfg.storage.postgres.snapshots import NoTables, connected, snapshot
from aliciacfg.storage.postgres.statements import SCHEMA, SELECT_END, SELECT_OVERLAYS
from aliciacfg.storage.row_checks import chained_audit, chained_records, coded_overlays
from aliciacfg.storage.rows import AUDIT_COLUMNS, RECORD_COLUMNS, RENEWED_COLUMNS, STANDING_COLUMNS, Row
from aliciacfg.storage.store import StoreError
from aliciacfg.storage.verifier import Findings, Verifier

_COLUMNS = {"revisions": f"mac, code, {RECORD_COLUMNS}", "audit": f"mac, code, {AUDIT_COLUMNS}"}
_PARSERS = {"revisions": chained_records, "audit": chained_audit}
# Takes about two milliseconds, so that other threads get the interpreter in between.
_ROWS_PER_PIECE = 20


async def verify_database(url: str, chain: Chain, *, pause_seconds: float = 0.0) -> Findings:
    """Compare every row with the keyed chain, as they are when this begins.

    No transaction takes longer than to read a few hundred rows of the chain, or all other rows, unless rows of the
    chain are removed or sealed anew all the time.

    Args:
        url: The database.
        chain: Computes the MACs.
        pause_seconds: The time to rest after every few rows.

    Raises:
        Unavailable: The database cannot be read.
    """
    try:
        for _ in range(ATTEMPTS):
            try:
                async with connected(url) as link:
                    return await verify_slices(link, chain, pause_seconds=pause_seconds)
            except Moved:
                continue
        async with snapshot(url) as link:
            return await verify_rows(link, chain, pause_seconds=pause_seconds)
    except (NoTables, UnknownFormat) as error:
        raise Unavailable(f"The store cannot be read: {error}.") from error
    except StoreError as error:
        return Findings(damage=[str(error)])
    except ServerError as error:
        return _damage(error)


async def verify_rows(link: Link, chain: Chain, *, pause_seconds: float = 0.0) -> Findings:
    """Compare every row with the keyed chain, in a transaction.

    Args:
        link: Has begun it, so that all its statements read the same state.
        chain: Computes the MACs.
        pause_seconds: The time to rest after every few rows.

    Raises:
        Unavailable: The database cannot be read.
    """
    try:
        verifier = Verifier(chain, await chain_start(link, chain))
        piece: list[ChainedValues] = []
        async for row in _merged(link):
            piece.append(row)
            if len(piece) == _ROWS_PER_PIECE:
                await _check_chain(verifier, piece, pause_seconds)
                piece = []
        await _check_chain(verifier, piece, pause_seconds)
        return _finish(verifier, await _others(link))
    except ServerError as error:
        return _damage(error)


async def verify_slices(link: Link, chain: Chain, *, pause_seconds: float = 0.0) -> Findings:
    """Compare every row, those of the chain a slice at a time, each in a transaction.

    Args:
        link: Has begun none.
        chain: Computes the MACs.
        pause_seconds: The time to rest after every few rows.

    Raises:
        ServerError: The database cannot be read.
        Moved: Rows of the chain were removed or replaced meanwhile.
    """
    slices = ChainSlices(link, chain)
    async with slices.begin():
        verifier = Verifier(chain, await chain_start(link, chain))
        others = await _others(link)
    async for rows in slices.read(_COLUMNS):
        await _check_chain(verifier, rows, pause_seconds)
    await _check_chain(verifier, await slices.surplus(_COLUMNS), pause_seconds)
    return _finish(verifier, others)


def _damage(error: ServerError) -> Findings:
    """Return the findings about damage that the server found.

    Raises:
        Unavailable: The error is about something else.
    """
    if not is_damage(error) and error.sqlstate not in MISSING:
        raise unreadable(error) from error
    return Findings(damage=[str(error)])


async def _check_chain(verifier: Verifier, rows: Sequence[ChainedValues], pause_seconds: float) -> None:
    """Compare rows of the chain, with a rest after every few."""
    for first in range(0, len(rows), _ROWS_PER_PIECE):
        for row in rows[first : first + _ROWS_PER_PIECE]:
            verifier.check_chain(_PARSERS[row.table]([(row.sequence, *row.values)], verifier))
        await asyncio.sleep(pause_seconds)


async def _merged(link: Link) -> AsyncIterator[ChainedValues]:
    """Yield the rows of the chain in its order, in a transaction."""
    sources = {
        table: link.each(f"SELECT sequence, {columns} FROM {SCHEMA}.{table} ORDER BY sequence")
        for table, columns in _COLUMNS.items()
    }
    heads = {table: await anext(source, None) for table, source in sources.items()}
    while True:
        waiting = [(row[0], table, row) for table, row in heads.items() if row is not None]
        if not waiting:
            return
        sequence, table, row = min(waiting)
        yield ChainedValues(sequence, table, row[1:])
        heads[table] = await anext(sources[table], None)


@dataclass(frozen=True, slots=True)
class _Others:
    """What a verification compares besides the rows of the chain, of one moment.

    Attributes:
        overlays: The overlays.
        tables: The rows of ``STANDING_COLUMNS`` and ``RENEWED_COLUMNS``, each with its code, by table.
        programs: Kind and name of triggers, rules and views.
        end: The stored end of the chain; None if its row is gone.
    """

    overlays: list[Values]
    tables: dict[str, list[tuple[Row, object]]]
    programs: list[Values]
    end: Values | None


async def _others(link: Link) -> _Others:
    """Read what is not in the chain, in a transaction."""
    overlays = await link.rows(SELECT_OVERLAYS)
    tables = {table: await coded_rows(link, table) for table in (*STANDING_COLUMNS, *RENEWED_COLUMNS)}
    found = await programs(link)
    end = await link.rows(SELECT_END)
    return _Others(overlays, tables, found, end[0] if end else None)


def _finish(verifier: Verifier, others: _Others) -> Findings:
    """Compare the rows that are not in the chain; return all findings."""
    verifier.check_overlays(coded_overlays(others.overlays, verifier))
    for table in STANDING_COLUMNS:
        verifier.check_rows(table, others.tables[table])
    for kind, name, _ in others.programs:
        verifier.reject_program(kind, name)
    for table in RENEWED_COLUMNS:
        verifier.check_rows(table, others.tables[table], counted=False)
    return verifier.finish(others.end)
