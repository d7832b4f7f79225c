"""The connections of a store to its server: one that writes, a few that read, each made when it is needed."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

import structlog

from aliciacfg.storage.postgres.driver import Link, ServerError, late

_log = structlog.get_logger(__name__)

_MAX_READERS = 4
LEASE, PRESENCE, FOLLOWING = "lease", "presence", "following"
"""Have a connection each that no other read can keep: without them a daemon loses its lead, or looks dead."""
# After a failed attempt to connect the next ones fail at once for this long, then for twice as long, and so on.
_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 2.0


class Connections:
    """Connects, keeps idle connections, and drops broken ones."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[Link] = []
        self._readers = {"": asyncio.Semaphore(_MAX_READERS)}
        self._readers |= {purpose: asyncio.Semaphore(1) for purpose in (LEASE, PRESENCE, FOLLOWING)}
        self._writer: Link | None = None
        self._failed: ServerError | None = None
        self._pause = 0.0
        self._retry_at = 0.0

    async def connect(self) -> Link:
        """Return a new connection, which the caller closes.

        Raises:
            ServerError: The server cannot be reached, or could not a moment ago.
        """
        if self._failed is not None and time.monotonic() < self._retry_at:
            raise ServerError(
                self._failed.message, sqlstate=self._failed.sqlstate, lost=True, refused=self._failed.refused
            )
        try:
            link = await Link.connect(self._url)
        except ServerError as error:
            self._pause = min(max(2 * self._pause, _FIRST_PAUSE_SECONDS), _MAX_PAUSE_SECONDS)
            self._failed, self._retry_at = error, time.monotonic() + self._pause
            raise
        self._failed, self._pause = None, 0.0
        return link

    async def writer(self) -> Link:
        """Return the connection that writes.

        Raises:
            ServerError: As ``connect``; or the server only lets itself be read.
        """
        if self._writer is not None and (self._writer.closed or self._writer.read_only):
            # A standby may have become the primary, or another server has.
            self.drop_writer()
        if self._writer is None:
            self._writer = await self.connect()
        return self._writer

    @property
    def writer_process(self) -> int | None:
        """The server's process of the connection that writes."""
        return None if self._writer is None or self._writer.closed else self._writer.process

    def drop_writer(self) -> None:
        """End the connection that writes, with its transaction."""
        if self._writer is not None:
            self._writer.terminate()
            self._writer = None

    @contextlib.asynccontextmanager
    async def reading(
        self, *, snapshot: bool = False, purpose: str = "", patience: float | None = None
    ) -> AsyncGenerator[Link]:
        """Yield a connection for the block alone.

        Args:
            snapshot: Whether everything that the block reads has to be of one moment.
            purpose: ``LEASE``, ``PRESENCE`` or ``FOLLOWING``; empty for all others, of which a few go on at a time.
            patience: The seconds to wait for a connection, and for each answer; None for ever.

        Raises:
            ServerError: As ``connect``; or no connection is free in time.
        """
        async with self._turn(self._readers[purpose], patience):
            link = await self._idle_link()
            link.patience = patience
            try:
                if snapshot:
                    await link.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                elif link.pooled:
                    await link.run("BEGIN")
                yield link
                if snapshot or link.pooled:
                    await link.run("COMMIT")
            except BaseException:
                # It may be in the middle of an answer, or of a transaction.
                link.terminate()
                raise
            if link.read_only:
                # By the next time there may be a server that takes writes.
                await link.close()
            else:
                self._idle.append(link)

    @staticmethod
    @contextlib.asynccontextmanager
    async def _turn(readers: asyncio.Semaphore, patience: float | None) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(patience):
                await readers.acquire()
        except TimeoutError as error:
            raise late(patience or 0.0) from error
        try:
            yield
        finally:
            readers.release()

    async def _idle_link(self) -> Link:
        while self._idle:
            link = self._idle.pop()
            if not link.closed:
                return link
        return await self.connect()

    def drop_idle(self) -> None:
        """End all idle connections: the server was another one, or is gone."""
        for link in self._idle:
            link.terminate()
        self._idle.clear()

    async def close(self) -> None:
        """End all connections."""
        links = [*self._idle, *([self._writer] if self._writer is not None else [])]
        self._idle.clear()
        self._writer = None
        for link in links:
            await link.close()
