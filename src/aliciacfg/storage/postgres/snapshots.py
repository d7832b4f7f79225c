"""Connections that read the database as it is at one moment."""

import contextlib
from collections.abc import AsyncGenerator

from aliciacfg.storage.postgres.driver import Link
from aliciacfg.storage.postgres.schema import PATIENT, check
from aliciacfg.storage.store import StoreError

BEGIN_READING = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {PATIENT}"
"""Begins a transaction all of whose statements read the database as it is at one moment, with any limits of a role."""


class NoTables(StoreError):
    """There is nothing that could be read."""


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Link]:
    """Yield a new connection to a database that has the tables.

    Raises:
        ServerError: The database cannot be read.
        StoreError: It is none of aliciacfg, or one of a newer version.
    """
    link = await Link.connect(url)
    try:
        await link.run(BEGIN_READING)
        if not await check(link):
            raise NoTables("there are no tables of aliciacfg")
        await link.run("COMMIT")
        yield link
    finally:
        link.terminate()


@contextlib.asynccontextmanager
async def snapshot(url: str) -> AsyncGenerator[Link]:
    """Yield a connection that reads the database as it is at one moment, however long that takes.

    Raises:
        ServerError: The database cannot be read.
        StoreError: It is none of aliciacfg, or one of a newer version.
    """
    async with connected(url) as link:
        await link.run(BEGIN_READING)
        yield link
