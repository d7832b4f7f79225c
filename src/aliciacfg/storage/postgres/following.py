"""Which transaction memory follows, and how it learns of the transactions of other daemons.

``Following`` holds the state, and ``ChangeReader`` reads from the database what the others changed.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from aliciacfg.errors import Unavailable, WentBack
from aliciacfg.model.records import Position, StoredState, Write
from aliciacfg.storage.conflicts import is_superseded
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.postgres import queries
from aliciacfg.storage.postgres.calls import READ_SECONDS, Calls
from aliciacfg.storage.postgres.connections import FOLLOWING
from aliciacfg.storage.postgres.driver import Values
from aliciacfg.storage.postgres.queries import Change
from aliciacfg.storage.postgres.reached import Reached
from aliciacfg.storage.postgres.tasks import Tasks
from aliciacfg.storage.postgres.transaction import Written

_log = structlog.get_logger(__name__)

# There may be much to read: after each read that got no answer in time, the next one waits twice as long.
MAX_READ_SECONDS = 160.0
_RESTART = (
    "The database went back: transactions that this daemon has seen are not in it, after a failover or a restore. "
    "Restart the daemon; it raises the epoch and publishes everything again."
)


@dataclass(slots=True)
class Basis:
    """What memory was notified of since writes were handed over: they were planned without it.

    Attributes:
        epoch: The epoch of memory at that time.
        changes: What others changed.
    """

    epoch: int | None
    changes: list[Change] = field(default_factory=list[Change])

    def is_superseded(self, writes: Sequence[Write]) -> bool:
        """Return whether writes were planned on what has changed since."""
        return any(self.contradicts(writes, change) for change in self.changes)

    def contradicts(self, writes: Sequence[Write], change: Change) -> bool:
        """Return whether writes were planned on what a change changed."""
        return is_superseded(writes, change.state, change.created, epoch=self.epoch)


class Following:
    """The state of memory relative to the database.

    Attributes:
        commit: The number of the transaction that memory follows; None before ``begin``.
        end: The end of the chain after that transaction.
        epoch: The epoch that memory follows; None before ``begin``.
        format: The format of the home after that transaction; None before ``begin``.
        mine: The number of a transaction of this store that memory does not follow yet, although it may be in the
            database.
        in_doubt: A transaction of this store of which it is not known whether it was made.
        lost: Set once the database lacks what memory follows.
        bases: Of every commit that has not ended.
    """

    def __init__(self, name: str, reached: Reached) -> None:
        self.commit: int | None = None
        self.end: Values | None = None
        self.epoch: int | None = None
        self.format: int | None = None
        self.mine: int | None = None
        self.in_doubt: Written | None = None
        self.lost: WentBack | None = None
        self.bases: list[Basis] = []
        self._name = name
        self._reached = reached
        self._followed_mine = asyncio.Event()
        self._followed_mine.set()
        self._listeners: list[Callable[[StoredState], None]] = []

    def listen(self, listener: Callable[[StoredState], None]) -> None:
        """Have a function called with what other daemons changed."""
        self._listeners.append(listener)

    def begin(self, state: StoredState, end: Values, number: int) -> None:
        """Follow what comes after a state that was loaded, the end of its chain, and the format of the home."""
        self.format = number
        self.commit, self.epoch, self.end = state.commit, state.position.epoch, end
        self._reached.raise_to(state.position)

    def follow(self, written: Written) -> None:
        """Follow a transaction of this store, if memory follows anything."""
        if self.commit is not None:
            self.commit, self.end = written.commit, written.end

    def raise_position(self, position: Position) -> None:
        """Take over the position that a transaction of this store wrote."""
        self.epoch = max(position.epoch, self.epoch or 0)
        self._reached.note_soon(position)

    def notify(self, change: Change) -> None:
        """Have memory follow what others changed, if they changed anything."""
        state = change.state
        if self.commit is None or state.commit <= self.commit:
            return
        self.commit, self.epoch, self.end = state.commit, state.position.epoch, change.end
        self.format = change.format
        self._reached.note_soon(state.position)
        for basis in self.bases:
            basis.changes.append(change)
        for listener in self._listeners:
            listener(state)

    def went_back(self, stored: Position) -> WentBack:
        """Return the error about lost transactions, and have the next start find that something is lost."""
        if self.lost is None:
            _log.error("database_went_back", database=self._name, remedy="restart the daemon")
            self.lost = WentBack(_RESTART)
            self._reached.note_lost(stored)
        return WentBack(self.lost.message)

    def begin_mine(self, written: Written) -> None:
        """Note a transaction of this store that is about to be committed."""
        self.mine = written.commit
        self._followed_mine.clear()

    def forget_mine(self) -> None:
        """Note that memory follows the last transaction of this store, or that it was not made."""
        self.mine = None
        self._followed_mine.set()

    def doubt(self, written: Written) -> None:
        """Note that it is not known whether a transaction was made."""
        self.in_doubt = written
        self._followed_mine.set()

    def forget_doubt(self) -> None:
        """Have memory notified of a transaction in doubt as of those of others, if it was made; no caller waits for it.

        The next transaction has the lock only when that one is over.
        """
        self.in_doubt = None
        self.forget_mine()

    async def wait_mine(self) -> None:
        """Wait until memory follows the last transaction of this store.

        Raises:
            Unavailable: It is not known whether that transaction was made.
        """
        if self.in_doubt is None:
            await self._followed_mine.wait()
        if self.in_doubt is not None:
            raise Unavailable("The store cannot write: it finds out whether it made the write before this one.")


class ChangeReader:
    """Reads what other daemons changed; callers that ask before a read has begun share it."""

    def __init__(self, calls: Calls, chain: Chain, following: Following, tasks: Tasks) -> None:
        self._calls = calls
        self._chain = chain
        self._following = following
        self._tasks = tasks
        # The read that goes on, and the one behind it.
        self._current: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._patience = READ_SECONDS

    async def catch_up(self) -> None:
        """Read what others changed, and have memory follow it.

        Raises:
            Unavailable: The database cannot be read, or a transaction of this store is in doubt; or ``WentBack``.
        """
        if self._next is None:
            self._next = self._tasks.start(self._read_after(self._current))
            # Retrieves the exception also where no caller waits any more.
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._next)

    async def _read_after(self, current: "asyncio.Task[None] | None") -> None:
        """Read when a read that has begun is over."""
        if current is not None:
            await asyncio.wait({current})
        self._current, self._next = self._next, None
        await self._read()

    async def _read(self) -> None:
        following = self._following
        while (since := following.commit) is not None:
            patience, self._patience = self._patience, min(2 * self._patience, MAX_READ_SECONDS)
            load_since = partial(
                queries.load_since, chain=self._chain, commit=since, seen=following.end, before=following.format
            )
            change = await self._calls.read(load_since, purpose=FOLLOWING, patience=patience)
            self._patience = READ_SECONDS
            if following.mine is not None and change.state.commit >= following.mine:
                # It includes a write of this store, which memory follows in another way.
                await following.wait_mine()
            elif following.commit == since:
                if change.is_lost:
                    raise following.went_back(change.state.position)
                following.notify(change)
                return
