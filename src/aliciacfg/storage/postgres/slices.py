"""Reads the chained rows of a home in slices, each in a short transaction.

Commits only add rows to the chain. So the rows up to an end of the chain are the same in any later transaction, unless
retention removed some or a resealing replaced some, which each slice finds out.

A single transaction over all rows would take minutes. Its snapshot would keep the server from removing the old versions
of rows, of which the row of the home gets one with each commit.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass

from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.postgres.driver import Link, Values
from aliciacfg.storage.postgres.snapshots import BEGIN_READING
from aliciacfg.storage.postgres.statements import SCHEMA, SELECT_COMMIT, SELECT_END
from aliciacfg.storage.rows import CHAIN_START

ROWS = 200
"""How many rows of each table a slice has at most; one row may have a megabyte."""
ATTEMPTS = 3
"""How often to read in slices before a single transaction reads all rows: while retention removes many, for example."""
_FIRST = -(2**63)
# Another table of that name: a restore has replaced the home. Another format: tables are made anew.
_SELECT_MARKER = f"""
    SELECT to_regclass('{SCHEMA}.home')::oid::bigint, (SELECT format FROM {SCHEMA}.home),
        (SELECT value FROM {SCHEMA}.meta WHERE name = '{CHAIN_START}'),
        (SELECT mac FROM {SCHEMA}.meta WHERE name = '{CHAIN_START}')
"""


class Moved(Exception):
    """Rows of the chain were removed or replaced since the beginning, or its end does not say which rows there are."""


@dataclass(frozen=True, slots=True)
class ChainedValues:
    """A row of the chain.

    Attributes:
        sequence: Its place.
        table: Its table.
        values: The columns that were asked for.
    """

    sequence: int
    table: str
    values: Values


class ChainSlices:
    """Reads the rows that are there when ``begin`` is entered, on a connection of the caller's.

    All methods raise ServerError, and leave a transaction open when they fail.
    """

    def __init__(self, link: Link, chain: Chain) -> None:
        self._link = link
        self._chain = chain
        self._marker: list[Values] = []
        self._commit = 0
        # The place of the last row.
        self._last = 0

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncGenerator[None]:
        """Fix the moment whose rows are read; the block, in a transaction, reads what is not in the chain.

        Raises:
            Moved: The end of the chain is not what was written.
        """
        async with self._transaction():
            self._marker = await self._link.rows(_SELECT_MARKER)
            self._last = await self._end()
            ((self._commit,),) = await self._link.rows(SELECT_COMMIT)
            yield

    async def read(self, columns: Mapping[str, str]) -> AsyncIterator[list[ChainedValues]]:
        """Yield the rows in the order of the chain, a slice at a time; no transaction is open meanwhile.

        Args:
            columns: The tables, each with what to select.

        Raises:
            Moved: They are not those of the beginning any more.
        """
        first = _FIRST
        while first <= self._last:
            async with self._transaction():
                if await self._link.rows(_SELECT_MARKER) != self._marker:
                    raise Moved
                found = {table: await self._slice(table, names, first) for table, names in columns.items()}
            # There may be more of a table behind a full slice.
            upto = min((rows[-1][0] for rows in found.values() if len(rows) == ROWS), default=self._last)
            slice_: list[ChainedValues] = []
            for table, rows in found.items():
                for sequence, commit, *values in rows:
                    if commit > self._commit:
                        raise Moved
                    if sequence <= upto:
                        slice_.append(ChainedValues(sequence, table, tuple(values)))
            yield sorted(slice_, key=lambda row: (row.sequence, row.table))
            first = upto + 1

    async def _slice(self, table: str, names: str, first: int) -> list[Values]:
        query = f"SELECT sequence, commit, {names} FROM {SCHEMA}.{table}"
        where = "WHERE sequence BETWEEN $1 AND $2 ORDER BY sequence"
        return await self._link.rows(f"{query} {where} LIMIT {ROWS}", first, self._last)

    async def surplus(self, columns: Mapping[str, str]) -> list[ChainedValues]:
        """Return rows behind the end of the chain: no daemon wrote them.

        Args:
            columns: As for ``read``.

        Raises:
            Moved: The end of the chain is not what was written.
        """
        found: list[ChainedValues] = []
        async with self._transaction():
            last = await self._end()
            for table, names in columns.items():
                query = f"SELECT sequence, {names} FROM {SCHEMA}.{table} WHERE sequence > $1 ORDER BY sequence"
                rows = await self._link.rows(f"{query} LIMIT {ROWS}", last)
                found += [ChainedValues(sequence, table, tuple(values)) for sequence, *values in rows]
        return sorted(found, key=lambda row: (row.sequence, row.table))

    async def _end(self) -> int:
        """Return the place of the last row of the chain at present."""
        for stored in await self._link.rows(SELECT_END):
            end = self._chain.confirmed_end(stored)
            if end is not None:
                return end[0]
        raise Moved

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[None]:
        await self._link.run(BEGIN_READING)
        yield
        await self._link.run("COMMIT")
