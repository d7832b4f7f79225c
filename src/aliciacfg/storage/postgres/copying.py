"""Copies every row of a database, as it is stored."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress

from aliciacfg.errors import Unavailable
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.postgres.driver import Link, ServerError, Values
from aliciacfg.storage.postgres.failures import unreadable
from aliciacfg.storage.postgres.slices import ATTEMPTS, ChainSlices, Moved
from aliciacfg.storage.postgres.snapshots import connected, snapshot
from aliciacfg.storage.postgres.statements import SCHEMA, SELECT_END, SELECT_OVERLAYS
from aliciacfg.storage.rows import CHAIN, TABLES
from aliciacfg.storage.store import AddRows, Filling, StoreError

_ROWS_AT_ONCE = 200
_CHAINED = ("revisions", "audit")


async def copy_database(url: str, add: AddRows) -> None:
    """Add every row, as it is stored at one moment, to a copy, in one transaction.

    Raises:
        Unavailable: The database cannot be read, or the copy cannot be written.
    """
    with _copying():
        async with snapshot(url) as link:
            for table in TABLES:
                await _copy_table(link, table, add)
            add(CHAIN, await link.rows(SELECT_END))


async def back_up(url: str, chain: Chain, target: Callable[[], AbstractContextManager[Filling]]) -> None:
    """Copy the rows as they are when this begins, those of the chain in slices.

    Rows that were put behind the end of the chain are not copied.

    Args:
        url: The database.
        chain: Confirms the end of the chain.
        target: Makes what is filled; called again where rows were removed or replaced meanwhile.

    Raises:
        Unavailable: The database cannot be read, or the copy cannot be written.
    """
    for _ in range(ATTEMPTS):
        with suppress(Moved), _copying():
            async with connected(url) as link:
                with target() as filling:
                    await _copy_slices(ChainSlices(link, chain), link, filling.add)
            return
    with target() as filling:
        await copy_database(url, filling.add)


async def _copy_slices(slices: ChainSlices, link: Link, add: AddRows) -> None:
    async with slices.begin():
        for table in TABLES:
            if table not in _CHAINED:
                await _copy_table(link, table, add)
        end = await link.rows(SELECT_END)
    for table in _CHAINED:
        async for rows in slices.read({table: ", ".join(TABLES[table])}):
            add(table, [row.values for row in rows])
    add(CHAIN, end)


async def _copy_table(link: Link, table: str, add: AddRows) -> None:
    """Copy a table, in a transaction."""
    # Tombstones of overlays, without a code, are for daemons that follow.
    query = SELECT_OVERLAYS if table == "overlays" else f"SELECT {', '.join(TABLES[table])} FROM {SCHEMA}.{table}"
    rows: list[Values] = []
    async for row in link.each(query):
        rows.append(row)
        if len(rows) == _ROWS_AT_ONCE:
            add(table, rows)
            rows = []
    add(table, rows)


@contextmanager
def _copying() -> Generator[None]:
    """Raise Unavailable for what the database raises."""
    try:
        yield
    except StoreError as error:
        raise Unavailable(f"The database cannot be copied: {error}.") from error
    except ServerError as error:
        raise unreadable(error) from error
