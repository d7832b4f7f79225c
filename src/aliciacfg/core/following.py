"""Has memory follow what other daemons commit to the same database.

The store notifies of each change in order. A change becomes a plan, as if it had been made here, and ``Commits`` puts
it in memory: so there is one way into memory, and every waiter for a change learns of it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from aliciacfg.core.commits import Commits
from aliciacfg.core.others_changes import OthersChanges
from aliciacfg.core.served_files import ServedFiles
from aliciacfg.errors import Answered, OtherFormat, Unavailable, WentBack
from aliciacfg.model.records import StoredState
from aliciacfg.process.memory import free_slowly
from aliciacfg.replicas.clock import boottime
from aliciacfg.replicas.readiness import MAX_LAG_SECONDS
from aliciacfg.storage.store import Store

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_POLL_SECONDS = 0.5
# So long a write waits at most for files that others put in force: a megabyte of them is loaded in about one.
_LOADED_SECONDS = 5.0
# So long a requester waits at most for what the database has to say about an answer; less if it has not answered for
# a while.
_CONFIRMED_SECONDS = 2.0
_CUT_OFF_SECONDS = 0.5
# Entries that are freed at once; more are freed slowly.
_FREED_AT_ONCE = 10
# After which time keys that could not be read are read again.
_KEYS_AGAIN_SECONDS = 3.0


@dataclass(slots=True)
class _Step:
    """A step that waits for its turn among the changes of others."""

    run: Callable[[], Awaitable[None]]
    done: asyncio.Future[None]


class Following:
    """Puts the changes of other daemons and the commits of this one in memory, in the order in which they were made.

    Register ``deliver`` with the store, ``in_turn`` with the write queue, and the object itself with ``Commits``.

    Attributes:
        followed: How many changes of others memory has followed.
    """

    def __init__(
        self,
        store: Store,
        commits: Commits,
        changes: OthersChanges,
        *,
        served: ServedFiles,
        follow_files: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = boottime,
    ) -> None:
        """Begin with a memory that holds what the store held when it was loaded, just now.

        Args:
            store: Notifies of the changes.
            commits: Puts them in memory.
            changes: Makes plans of them.
            served: Knows which files serve.
            follow_files: Puts them in force here; raises Unavailable if it is to be tried again.
            clock: Seconds, monotonic; those in which the machine slept count.
        """
        self._clock = clock
        # Memory holds everything that was committed until then.
        self._complete_until = clock()
        self.followed = 0
        self._store = store
        self._commits = commits
        self._changes = changes
        self._waiting: deque[StoredState | _Step] = deque()
        # How many items were ever added to those that wait, and how many of them are done.
        self._added = self._done = 0
        # Puts what waits in memory; a task of its own, as its waiters may be cancelled in the middle.
        self._applying: asyncio.Task[None] | None = None
        self._freeing: set[asyncio.Task[None]] = set()
        self._keys_again = 0.0
        self._served = served
        self._follow_files = follow_files
        self._loading: asyncio.Task[None] | None = None
        self._load_again = False
        # Whether memory may hold what the files before did not yield, and those that serve have not composed yet.
        self._uncomposed = False

    @property
    def composes(self) -> bool:
        """Whether memory composes from the files that serve, and has done so with all that came before them."""
        return not (self._served.stale or self._uncomposed)

    async def load_files(self) -> None:
        """Return when memory composes from the files that serve.

        Raises:
            Unavailable: They cannot be loaded, or not in time.
        """
        if self._loading is not None:
            await asyncio.wait({self._loading}, timeout=_LOADED_SECONDS)
        if not self.composes:
            raise Unavailable(
                "Other files serve the home since a moment ago, and this daemon has not loaded them yet; try again, or "
                "ask another daemon."
            )

    def load_files_again(self) -> None:
        """Have memory load once more what serves: with other keys, more of it may open. Plans go on meanwhile."""
        self._load_again = True
        self._begin_loading()

    def _begin_loading(self) -> None:
        self._uncomposed = self._uncomposed or self._served.pending
        if (self._served.pending or self._load_again) and self._loading is None:
            self._loading = asyncio.create_task(self._load(), name="files that serve")

    async def _load(self) -> None:
        try:
            while self._served.pending or self._load_again:
                again, self._load_again = self._load_again, False
                try:
                    await self._follow_files()
                    # What changed while they were loaded.
                    await self.in_turn(self._changes.recompose)
                except Unavailable as error:
                    self._load_again = self._load_again or again
                    _log.debug("files_not_followed", reason=error.message)
                    await asyncio.sleep(_POLL_SECONDS)
        finally:
            self._uncomposed = False
            self._loading = None

    async def stop(self) -> None:
        """End what runs in the background."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait({self._loading})

    @property
    def pending_changes(self) -> list[StoredState]:
        """The changes from the store that memory does not follow yet."""
        return [item for item in self._waiting if isinstance(item, StoredState)]

    def deliver(self, change: StoredState) -> None:
        """Take a change from the store; memory follows it soon, or in the next ``drain``."""
        self._add(change)
        self._commits.note_others(change)

    async def in_turn(self, step: Callable[[], Awaitable[None]]) -> None:
        """Await a step after every change that came from the store so far, and before later ones."""
        waiting = _Step(step, asyncio.get_running_loop().create_future())
        self._add(waiting)
        await self.drain()
        await waiting.done

    async def drain(self) -> None:
        """Return when memory follows every change that came from the store so far."""
        last = self._added
        while self._done < last:
            if self._applying is None:
                self._applying = asyncio.create_task(self._apply_waiting(), name="following")
            await asyncio.shield(self._applying)

    async def _apply_waiting(self) -> None:
        try:
            while self._waiting:
                await self._follow(self._waiting[0])
                # Not before: until it is in memory, plans are made on what was before.
                self._waiting.popleft()
                self._done += 1
        finally:
            self._applying = None

    async def catch_up(self) -> None:
        """Return when memory follows everything that others committed before the call.

        Raises:
            Unavailable: The database cannot be read.
        """
        began = self._clock()
        await self._store.catch_up()
        await self.drain()
        self._complete_until = max(self._complete_until, began)

    async def confirm(self) -> None:
        """Catch up so that an answer can be given, which does not wait for ever for a database that stands still.

        Raises:
            Unavailable: The database cannot be read, or does not answer in time.
        """
        seconds = _CONFIRMED_SECONDS if self.behind_seconds <= MAX_LAG_SECONDS else _CUT_OFF_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await self.catch_up()
        except TimeoutError:
            raise Unavailable(
                f"The database did not answer within {seconds:g} seconds, so it is not known whether "
                "another daemon changed this; try again later."
            ) from None

    @property
    def behind_seconds(self) -> float:
        """Since when something may have been committed that memory does not hold."""
        return self._clock() - self._complete_until

    @property
    def commit(self) -> int:
        """The number of the last transaction that memory holds, its own included."""
        return self._store.followed

    def check_fresh(self) -> None:
        """Return if memory is at most two seconds behind.

        Raises:
            Unavailable: It may be further behind.
        """
        if self.behind_seconds > MAX_LAG_SECONDS:
            raise Unavailable(
                "The database cannot be reached, so it is not known whether another daemon changed this; try again "
                "later, or ask another daemon."
            )

    async def while_it_answers(self, read: Coroutine[Any, Any, T]) -> T:
        """Return what a read of the database returns, which takes as long as it takes; give it up if nothing is read.

        Raises:
            Unavailable: Nothing was read from the database for some seconds.
        """
        task = asyncio.create_task(read)
        # Also of a failure that no caller waits for any more.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            patience = _CONFIRMED_SECONDS
            while not (await asyncio.wait({task}, timeout=patience))[0]:
                self.check_fresh()
                patience = _POLL_SECONDS
        finally:
            task.cancel()
        return task.result()

    async def follow_forever(self) -> None:
        """Follow the others until cancelled: twice a second, and whenever the store has a hint that there is news.

        Raises:
            WentBack: Memory holds what the database has lost; only a start can find out what is to be served.
            OtherFormat: Daemons of a newer version raised the format of the database.
        """
        hints = asyncio.Event() if self._store.shared is None else self._store.shared.hints()
        while True:
            hints.clear()
            try:
                await self.catch_up()
                await self._read_keys_again()
            except (WentBack, OtherFormat):
                raise
            except Unavailable as error:
                # The store's condition reports it.
                _log.debug("not_followed", reason=error.message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await hints.wait()

    async def _read_keys_again(self) -> None:
        """Read keys again from time to time that could not be read: what was wrong with a file may be put right."""
        if self._changes.keys_pending and self._clock() >= self._keys_again:
            self._keys_again = self._clock() + _KEYS_AGAIN_SECONDS
            self.deliver(StoredState(keys=True))
            await self.drain()

    def _add(self, item: StoredState | _Step) -> None:
        self._waiting.append(item)
        self._added += 1

    async def check_unanswered(self, requester: str, request_id: str) -> None:
        """Return if no daemon has kept an answer to a request.

        Raises:
            Answered: One has.
            Unavailable: The database cannot be read.
        """
        shared = self._store.shared
        kept = None if shared is None else await shared.answer(requester, request_id)
        if kept is not None:
            raise Answered(kept)

    async def _follow(self, item: StoredState | _Step) -> None:
        if isinstance(item, StoredState):
            plan, replaced = await self._changes.planned(item)
            self._commits.apply_others(plan)
            self.followed += 1
            self._begin_loading()
            await self._changes.announce_rest(item)
            if len(replaced) > _FREED_AT_ONCE:
                freeing = asyncio.create_task(free_slowly(replaced))
                self._freeing.add(freeing)
                freeing.add_done_callback(self._freeing.discard)
            return
        try:
            await item.run()
        except Exception as error:  # noqa: BLE001 - passed on to the waiter of the step
            item.done.set_exception(error)
            # Marks the exception as retrieved: the waiter may be gone.
            item.done.exception()
        else:
            item.done.set_result(None)
