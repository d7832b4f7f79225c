"""Runs functions with a connection: reads, and changes that need no lock on the home."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from aliciacfg.storage.postgres.connections import Connections
from aliciacfg.storage.postgres.driver import Link, ServerError
from aliciacfg.storage.postgres.failures import MISSING, unreadable, unwritable
from aliciacfg.storage.postgres.formats import check_home

T = TypeVar("T")

# A read waits this long for an answer: another session holds a lock on a table (VACUUM FULL), or the server hangs.
READ_SECONDS = 10.0


class Calls:
    """Lends connections to functions, and reports to listeners how each read ended."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._listeners: list[Callable[[str | None], None]] = []

    def listen_reads(self, listener: Callable[[str | None], None]) -> None:
        """Have a function called after every read: with the error's message, or None after a success."""
        self._listeners.append(listener)

    async def select(
        self,
        select: Callable[[Link], Awaitable[T]],
        *,
        snapshot: bool = False,
        purpose: str = "",
        patience: float | None = None,
    ) -> T:
        """Call a function with a connection; once more with a new one if an idle one turns out to be broken.

        Args:
            select: Reads or writes.
            snapshot: As in ``Connections.reading``, like the other arguments.
            purpose: The same.
            patience: The same.

        Raises:
            ServerError: The database cannot be read.
            OtherFormat: The home has a format that this program does not work with.
        """
        reading = partial(self._connections.reading, snapshot=snapshot, purpose=purpose, patience=patience)
        try:
            async with reading() as link:
                return await select(link)
        except ServerError as error:
            if error.sqlstate in MISSING:
                # A newer version may have taken it away.
                async with self._connections.reading(snapshot=False, purpose="", patience=patience) as link:
                    await check_home(link)
            if not error.lost or error.late:
                raise
        self._connections.drop_idle()
        async with reading() as link:
            return await select(link)

    async def read(
        self,
        select: Callable[[Link], Awaitable[T]],
        *,
        snapshot: bool = False,
        purpose: str = "",
        patience: float | None = None,
    ) -> T:
        """Read with a connection, and report the outcome to the listeners.

        Args:
            select: Reads.
            snapshot: As in ``Connections.reading``.
            purpose: The same.
            patience: The same; by default ``READ_SECONDS``, and no limit for a snapshot.

        Raises:
            Unavailable: The database cannot be read.
        """
        if patience is None and not snapshot:
            patience = READ_SECONDS
        try:
            found = await self.select(select, snapshot=snapshot, purpose=purpose, patience=patience)
        except ServerError as error:
            failure = unreadable(error)
            for listener in self._listeners:
                listener(failure.message)
            raise failure from error
        for listener in self._listeners:
            listener(None)
        return found

    async def change(self, change: Callable[[Link], Awaitable[T]], *, purpose: str = "") -> T:
        """Change what the lock on the home does not cover, on a connection that reads otherwise.

        Args:
            change: Writes.
            purpose: As in ``Connections.reading``. With a purpose, each answer has to come within ``READ_SECONDS``;
                without one there is no limit.

        Raises:
            Unavailable: The database cannot be written.
        """
        try:
            return await self.select(change, purpose=purpose, patience=READ_SECONDS if purpose else None)
        except ServerError as error:
            raise unwritable(error) from error
