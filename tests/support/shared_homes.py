"""What several daemons of a home know of each other, over a real PostgreSQL server: a store for each."""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

from aliciacfg.storage.backend import database_in
from aliciacfg.storage.store import SharedHome
from postgres import Postgres
from stored_rows import CHAIN

OpenHome = Callable[..., Awaitable[SharedHome]]


@contextlib.asynccontextmanager
async def shared_homes(directory: Path, postgres: Postgres, url: str) -> AsyncGenerator[OpenHome]:
    """Yield what opens a store on an empty database; with ``host``, over a way to the server of the test's own."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_one(name: str, host: Path | None = None) -> SharedHome:
            (directory / name).mkdir()
            to = url if host is None else url.replace(str(postgres.directory), str(host))
            store = await stack.enter_async_context(database_in(directory / name, to).open(CHAIN))
            await store.load()
            assert store.shared is not None
            return store.shared

        yield open_one
