"""The lock on the row of the home: whose turn it is in this daemon, and transactions that hold the lock meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from aliciacfg.errors import Unavailable
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.postgres import queries
from aliciacfg.storage.postgres.connections import Connections
from aliciacfg.storage.postgres.driver import Link, ServerError
from aliciacfg.storage.postgres.failures import STANDBY, unwritable
from aliciacfg.storage.postgres.following import Following
from aliciacfg.storage.postgres.tasks import Tasks
from aliciacfg.storage.postgres.transaction import BEGIN, ROLLBACK

KEPT_SECONDS = 3.0


@dataclass(slots=True)
class Hold:
    """A transaction that holds the lock while its caller plans.

    Attributes:
        link: Has begun it.
        over: Is set when something else is to be done with it.
        kept: Sends statements to the server until then.
    """

    link: Link
    over: asyncio.Event
    kept: "asyncio.Task[None]"

    async def end(self) -> Link:
        """Return the connection, on which nothing goes on any more."""
        self.over.set()
        await asyncio.wait({self.kept})
        return self.link


async def _keep(link: Link, over: asyncio.Event) -> None:
    """Send a statement every few seconds: the server takes the lock back from a process that it hears nothing of."""
    with contextlib.suppress(ServerError):
        while not over.is_set():
            try:
                await asyncio.wait_for(over.wait(), KEPT_SECONDS)
            except TimeoutError:
                await link.run("SELECT 1")


class HomeLock:
    """Takes the lock on the row of the home, on the connection that writes.

    Attributes:
        turn: Whose turn it is on that connection.
        unwritable: Why the database can only be read; None if it can be written, as far as is known.
    """

    def __init__(self, connections: Connections, chain: Chain, following: Following, tasks: Tasks) -> None:
        self.turn = asyncio.Lock()
        self.unwritable: Unavailable | None = None
        self._connections = connections
        self._chain = chain
        self._following = following
        self._tasks = tasks
        self._hold: Hold | None = None

    async def take(self) -> Link:
        """Begin a transaction that holds the lock; return its connection.

        Raises:
            ServerError: The server cannot be reached, or did not give the lock in time.
            Unavailable: The server can only be read.
        """
        for fresh in (False, True):
            link = await self._connections.writer()
            if link.read_only:
                self.note_read_only()
                raise Unavailable(f"The store cannot write: {STANDBY}.")
            try:
                await link.run(BEGIN)
            except ServerError as error:
                if not error.lost:
                    await self.roll_back(link)
                self._connections.drop_writer()
                if fresh or not error.lost:
                    raise
            else:
                return link
        raise AssertionError

    def note_read_only(self) -> None:
        """Note that the server can only be read."""
        self.unwritable = Unavailable(f"The store cannot write: {STANDBY}.")

    async def roll_back(self, link: Link) -> None:
        """End a transaction without a trace; a connection that does not answer is dropped, which does the same."""
        try:
            if not link.closed:
                await link.run(ROLLBACK)
                return
        except ServerError:
            pass
        self._connections.drop_writer()

    @contextlib.asynccontextmanager
    async def holding(self) -> AsyncGenerator[None]:
        """Lock the home, have memory follow what others changed, and let the block plan; then end the transaction.

        Raises:
            Unavailable: The home cannot be locked; or ``WentBack``, ``OtherFormat``.
        """
        await self.turn.acquire()
        try:
            hold = self._hold = await self._held()
        except BaseException as error:
            self.turn.release()
            if isinstance(error, ServerError):
                raise unwritable(error) from error
            raise
        try:
            yield
        finally:
            if self._hold is hold:
                # Nothing was committed in the block.
                self._hold = None
                try:
                    await self.roll_back(await hold.end())
                finally:
                    self.turn.release()

    def take_over(self) -> Hold | None:
        """Return the hold, if there is one, which the caller ends; the caller then has the turn."""
        hold, self._hold = self._hold, None
        return hold

    async def _held(self) -> Hold:
        """Lock the home, and have memory follow what others changed."""
        following = self._following
        await following.wait_mine()
        link = await self.take()
        try:
            if following.commit is not None:
                change = await queries.load_since(link, self._chain, following.commit, following.end, following.format)
                if change.is_lost:
                    raise following.went_back(change.state.position)
                following.notify(change)
        except BaseException:
            await self.roll_back(link)
            raise
        over = asyncio.Event()
        return Hold(link, over, self._tasks.start(_keep(link, over)))
