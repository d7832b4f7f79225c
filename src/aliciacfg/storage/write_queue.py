"""Group commit: writes wait in a queue, and one task commits all that wait in one transaction."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Sequence
from typing import Self

import msgspec
import structlog

from aliciacfg.errors import Blocked, Busy, Damaged, Superseded, Unavailable, Unconfirmed
from aliciacfg.model.records import Basis, StoredState, Write
from aliciacfg.monitoring.store_condition import StoreCondition
from aliciacfg.storage.conflicts import PROBE, may_supersede
from aliciacfg.storage.store import Store

_log = structlog.get_logger(__name__)

_MAX_WAITING = 4096
_MAX_BATCH = 256
# How many of those that were committed together go on in one turn of the event loop.
_MAX_RESUMED = 8
_PROBE_SECONDS = 1.0
_SLOW_SECONDS = 2.0
_HUNG_SECONDS = 10.0
# An edit that changes 100,000 services is one transaction of 9 s of work; a busy processor takes several times as long.
_SECONDS_PER_ROW = 0.001
# For this long after writes were superseded the home is locked before the next ones are taken from the queue.
_CONTENDED_SECONDS = 1.0
# The same after others changed anything while writes waited.
_OTHERS_WRITE_SECONDS = 0.1
# So long those who were superseded may take to plan again while the home is locked.
_REPLANNED_SECONDS = 0.2
_PROBE = Write(meta=((PROBE, ""),))
_NOTHING = Write()
_UNKNOWN = "It is not known whether this was written; read it before you send it again."
_SUPERSEDED = "Another daemon changed what this was planned on. Nothing was changed."

InTurn = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Awaits a step when memory follows what other daemons changed before; begins to wait before its first await."""


class _Waiting(msgspec.Struct):
    write: Write
    on_commit: Callable[[], None] | None
    done: asyncio.Future[None]

    @property
    def was_planned(self) -> bool:
        """Whether it builds on something: on its basis, or as a ``flush`` on those before it."""
        return self.write.basis is not None or self.write == _NOTHING


class _Pause:
    """A time in which nothing is committed.

    Attributes:
        begun: Set when the task that commits is at rest.
        over: Set when it may go on.
    """

    def __init__(self) -> None:
        self.begun, self.over = asyncio.Event(), asyncio.Event()


class Unfinished(msgspec.Struct, frozen=True):
    """The writes that a process which ended now would leave behind, none of them answered.

    Attributes:
        unknown: Writes of a commit under way: the next start shows whether they were made.
        lost: Writes that wait for the next commit.
    """

    unknown: int
    lost: int


class WriteQueue:
    """The only way to write to a store.

    ``async with WriteQueue(store, condition) as queue`` starts the task that commits. Leaving the block refuses new
    writes, commits those that wait, and ends the task. If the task fails unexpectedly, for example because an
    ``on_commit`` callback raised, memory and database may differ: the block is cancelled and ends with that error.

    A commit may fail in such a way that it is not known whether it was made: the disk took the bytes, but not the order
    to keep them. Then its writes fail as unknown, further ones are refused, and the queue asks the store every second
    what it holds, until it knows; only then memory follows, or does not.

    Where several daemons share the database, another one may have changed what writes were planned on. Then all that
    were planned fail as superseded, and those that build on nothing are committed all the same, in their order. For a
    second after that, and while others write as well, the queue locks the home first: a superseded writer then plans
    again at once, and what waits is committed while no other daemon writes.

    Attributes:
        healthy: False from a failed commit to the next successful one; a probe is written every second meanwhile.
        audited: How many writes with entries for the audit log became durable, those of other daemons included.
    """

    def __init__(
        self,
        store: Store,
        condition: StoreCondition,
        *,
        probe_seconds: float = _PROBE_SECONDS,
        slow_seconds: float = _SLOW_SECONDS,
        hung_seconds: float = _HUNG_SECONDS,
    ) -> None:
        """Make a queue that has not begun.

        Args:
            store: Where to write.
            condition: Learns when commits fail, and when one takes long.
            probe_seconds: The time between two probes.
            slow_seconds: The time after which a commit under way counts as slow.
            hung_seconds: The time after which a commit under way counts as hung; new writes are refused meanwhile.
        """
        self.healthy = True
        self.audited = 0
        self._store = store
        self._condition = condition
        self._probe_seconds = probe_seconds
        self._slow_seconds = slow_seconds
        self._hung_seconds = hung_seconds
        self._queue: deque[_Waiting] = deque()
        self._committing: list[_Waiting] = []
        # The writes of a commit of which it is not known whether it was made.
        self._unknown: list[_Waiting] = []
        # Whether there is such a commit, be it of a probe alone.
        self._in_doubt = False
        self._wake = asyncio.Event()
        self._closing = False
        self._abort_listeners: list[Callable[[], None]] = []
        self._in_turn: InTurn | None = None
        # Whether others changed what one of the writes that wait was planned on.
        self._stale = False
        # Until then, in the event loop's time, others are likely to change what is planned here.
        self._contended_until = 0.0
        # Whether a caller of ``holding`` has locked the home.
        self._held = False
        self._pause: _Pause | None = None

    async def __aenter__(self) -> Self:
        owner = asyncio.current_task()
        if owner is None:
            raise RuntimeError("a WriteQueue is entered in a task")
        self._owner = owner
        self._cancelled_owner = False
        self._writer = asyncio.create_task(self._write_until_closed(), name="write-queue")
        self._writer.add_done_callback(self._writer_ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._cancelled_owner:
            # As asyncio.timeout does: a cancellation that came from here becomes the error.
            self._owner.uncancel()
        else:
            self._closing = True
            self._wake.set()
            try:
                await asyncio.wait({self._writer})
            finally:
                # Matters only if the wait was cancelled: the task must not outlive the block.
                self._writer.cancel()
        if self._writer.cancelled():
            raise RuntimeError("the task that commits writes was cancelled")
        self._writer.result()

    @property
    def waiting(self) -> int:
        """The number of writes that wait for the next transaction."""
        return len(self._queue)

    def begin_unwritable(self, reason: Unavailable) -> None:
        """Behave as after a failed commit: the store can only be read at present."""
        self._note(reason)
        self._wake.set()

    @property
    def unfinished(self) -> Unfinished:
        """The writes that are not known to be durable."""
        return Unfinished(len(self._committing) + len(self._unknown), len(self._queue))

    def listen_abort(self, listener: Callable[[], None]) -> None:
        """Have a function called whenever writes are dropped, before their futures are done.

        After a commit whose result is unknown it is called when the result is known, also if nothing was committed.
        """
        self._abort_listeners.append(listener)

    def follow(self, in_turn: InTurn) -> None:
        """Share the database with other daemons.

        Args:
            in_turn: Awaited with the step that has memory follow a commit: before it, memory has to follow what others
                committed before.
        """
        self._in_turn = in_turn

    def note_others(self, change: StoredState) -> None:
        """Have writes superseded that wait, and were planned on what other daemons changed."""
        self.audited += change.audited
        if len(self._queue) > 1:
            # While the home is locked by others more writes come, which belong into the same transaction.
            self._contended_until = max(
                self._contended_until, asyncio.get_running_loop().time() + _OTHERS_WRITE_SECONDS
            )
        if self._queue and not self._stale:
            # What is submitted later was planned on that change, or its author knows better.
            self._stale = may_supersede(self._bases(), change)

    @contextlib.asynccontextmanager
    async def holding(self) -> AsyncGenerator[None]:
        """Have no other write begin while the block plans, only its own, which it submits and awaits.

        Every write that was planned before must be durable; one block at a time.

        Raises:
            Unavailable: The database cannot be written, or the queue is closed.
        """
        self.check_open()
        pause = self._pause = _Pause()
        self._wake.set()
        try:
            await pause.begun.wait()
            self.check_open()
            async with self._store.holding():
                self._held = True
                yield
        finally:
            self._held = False
            self._resume()

    def _resume(self) -> None:
        if self._pause is not None:
            self._pause.over.set()
            self._pause = None

    def check_open(self) -> None:
        """Raise Unavailable if no write is accepted at present, however many wait."""
        if self._closing:
            raise Unavailable("The daemon is stopping; send the request again to the next one.")
        if self._in_doubt:
            raise Unavailable("The store is finding out whether it made the write before this one; try again later.")
        if self._condition.has("hung"):
            raise Unavailable("A write hangs at the disk; try again later.")

    def submit(self, write: Write, on_commit: Callable[[], None] | None = None) -> asyncio.Future[None]:
        """Queue a write.

        Writes are committed in the order of submission. When a commit fails, its writes and all that wait behind
        them fail, because they were planned on top of it.

        Args:
            write: Is applied as a whole or not at all.
            on_commit: Called in the event loop when the write is durable, in the order of submission, even if the
                future was cancelled. Must not raise.

        Returns:
            A future that is done when the write is durable. It fails with Unavailable if nothing was written, with
            Superseded if that is because another daemon changed what it was planned on, with Unconfirmed if it is not
            known whether anything was written. Cancelling it does not take the write back.

        Raises:
            Busy: 4096 writes wait.
            Unavailable: The queue is closed, a commit hangs, or it is not known whether one was made.
        """
        self.check_open()
        if len(self._queue) >= _MAX_WAITING:
            raise Busy(f"{_MAX_WAITING} writes wait for the disk; try again in a second.")
        done = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(write, on_commit, done))
        self._wake.set()
        if self._pause is not None and write.basis is not None:
            # The one for which nothing else was committed.
            self._resume()
        return done

    def flush(self) -> asyncio.Future[None]:
        """Return a future that is done when every write submitted before is durable.

        It fails with Unavailable if a write that still waited for the disk failed.

        Raises:
            Busy: As for ``submit``.
            Unavailable: As for ``submit``.
        """
        if self._pause is not None and self._pause.begun.is_set():
            # Everything that was planned before is durable.
            done = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        return self.submit(_NOTHING)

    async def _write_until_closed(self) -> None:
        while self._queue or not self._closing:
            if self._pause is not None:
                self._pause.begun.set()
                await self._pause.over.wait()
            contended = self._stale or asyncio.get_running_loop().time() < self._contended_until
            if self._queue and contended and not self._held:
                await self._commit_holding()
            elif self._stale:
                # Not before: those of a commit under way stay the heads that others build on.
                self._supersede(())
            elif self._queue:
                await self._commit_next()
            else:
                self._wake.clear()
                await self._wait_for_work()

    async def _commit_next(self) -> None:
        """Commit the writes that wait, but no more than belong into one transaction."""
        self._committing = [self._queue.popleft() for _ in range(min(len(self._queue), _MAX_BATCH))]
        await self._commit(self._committing)
        self._committing = []

    async def _commit_holding(self) -> None:
        """Lock the home, have those plan again who are superseded, and commit what waits then."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                with self._timed():
                    await stack.enter_async_context(self._store.holding())
            except Exception as unlocked:  # noqa: BLE001 - as in ``_failure``
                error = _expected(unlocked)
                self._note(error)
                self._abort(list(self._queue), error)
                return
            if self._in_turn is not None:
                await self._in_turn(_nothing)
            if self._stale:
                await self._replan()
            if self._queue:
                await self._commit_next()

    async def _replan(self) -> None:
        """Drop the writes that wait, and give those who planned them some time to plan them again."""
        planned = len(self._bases())
        self._supersede(())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REPLANNED_SECONDS):
                while len(bases := self._bases()) < planned and not self._closing:
                    # Behind one that builds on everything, and before a hold, no plan is made.
                    if self._pause is not None or any(basis.everything for basis in bases):
                        break
                    self._wake.clear()
                    await self._wake.wait()

    def _bases(self) -> list[Basis]:
        """Return what the writes that wait build on."""
        return [item.write.basis for item in self._queue if item.write.basis is not None]

    def _supersede(self, batch: Sequence[_Waiting]) -> None:
        """Drop the writes of a commit that was refused and those that wait, but for those that build on nothing."""
        waiting = [*batch, *self._queue]
        self._queue = deque(item for item in waiting if not item.was_planned)
        self._stale = False
        self._contended_until = asyncio.get_running_loop().time() + _CONTENDED_SECONDS
        for listener in self._abort_listeners:
            listener()
        _fail((item for item in waiting if item.was_planned), Superseded(_SUPERSEDED))

    async def _wait_for_work(self) -> None:
        if self.healthy:
            await self._wake.wait()
            return
        try:
            async with asyncio.timeout(self._probe_seconds):
                await self._wake.wait()
        except TimeoutError:
            if self._in_doubt:
                await self._settle()
                return
            # A write of a user's reports that the disk is full; that there is room again must not need one.
            error = await self._failure([_PROBE])
            self._note(error)
            if isinstance(error, Unconfirmed):
                await self._doubt((), error)

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        writes = [item.write for item in batch if item.write != _NOTHING]
        if writes:
            # A write may find nothing to change, and its success then says nothing about a disk that failed before.
            error = await self._failure(writes if self.healthy else [*writes, _PROBE])
            if isinstance(error, Superseded) and any(item.was_planned for item in batch):
                self._supersede(batch)
                return
            self._note(error)
            if isinstance(error, Unconfirmed):
                await self._doubt(batch, error)
                return
            if error is not None:
                self._abort([*batch, *self._queue], error)
                return
        if self._in_turn is None:
            await self._have_memory_follow(batch)
        else:
            await self._in_turn(lambda: self._have_memory_follow(batch))

    async def _have_memory_follow(self, batch: Sequence[_Waiting]) -> None:
        """Have memory follow writes that are durable, a few at a time."""
        for start in range(0, len(batch), _MAX_RESUMED):
            # Those who wait go on in the next turn of the event loop, and render and send an answer each: of 20 at
            # once, each get that comes meanwhile would wait for all.
            self._done(batch[start : start + _MAX_RESUMED])
            self._committing = list(batch[start + _MAX_RESUMED :])
            if self._committing:
                await asyncio.sleep(0)

    def _done(self, batch: Sequence[_Waiting]) -> None:
        """Have memory follow writes that are durable."""
        for item in batch:
            if item.write.audit:
                self.audited += 1
            if item.on_commit is not None:
                item.on_commit()
            if not item.done.done():
                item.done.set_result(None)

    async def _failure(self, writes: Sequence[Write]) -> Unavailable | None:
        """Commit, and return why that failed."""
        try:
            with self._timed(sum(len(write.records) + len(write.announcements) for write in writes) * _SECONDS_PER_ROW):
                await self._store.commit(writes)
        except Exception as error:  # noqa: BLE001 - the boundary of all writes: the store rolled back, the daemon goes on
            return _expected(error)
        return None

    @contextlib.contextmanager
    def _timed(self, allowed_seconds: float = 0.0) -> Generator[None]:
        """Report to the condition if the block takes longer than some seconds, and those that its work takes."""
        # One timer, which sets the next: nearly every commit ends before the first.
        self._timer = asyncio.get_running_loop().call_later(self._slow_seconds + allowed_seconds, self._report_slow)
        try:
            yield
        finally:
            self._timer.cancel()
            self._condition.clear("slow", "hung")

    def _report_slow(self) -> None:
        self._condition.report(
            "slow",
            f"A write has been waiting for the disk for more than {self._slow_seconds:g} s. See what holds it up; "
            "reads go on.",
        )
        left = self._hung_seconds - self._slow_seconds
        self._timer = asyncio.get_running_loop().call_later(left, self._report_hung)

    def _report_hung(self) -> None:
        self._condition.report(
            "hung",
            f"A write has been hanging at the disk for more than {self._hung_seconds:g} s, so further ones are "
            "refused. See what holds it up; the daemon goes on by itself when the disk does.",
        )

    def _note(self, error: Unavailable | None) -> None:
        """Note how the last commit went."""
        self.healthy = error is None
        if error is None:
            self._condition.clear("write")
        else:
            reported = f"{error.message} Writes are refused, reads go on."
            if not isinstance(error, Damaged | Blocked):
                reported += " See whether its disk is full or failing."
            if not isinstance(error, Damaged):
                reported += " The daemon goes on by itself when it can write."
            self._condition.report("write", reported)

    async def _doubt(self, batch: Sequence[_Waiting], error: Unconfirmed) -> None:
        """Fail what waits, and find out whether a commit was made."""
        self._in_doubt = True
        self._unknown, self._committing = list(batch), []
        waiting = list(self._queue)
        self._queue.clear()
        _fail(batch, Unconfirmed(f"{error.message} {_UNKNOWN}"))
        _fail(waiting, Unavailable(f"{error.message} Nothing was changed."))
        await self._settle()

    async def _settle(self) -> None:
        """Ask the store whether the commit in doubt was made; if it knows, have memory follow."""
        try:
            with self._timed():
                made = await self._store.settle()
        except Unavailable as error:
            self._note(error)
            return
        self._note(None)
        _log.warning("write_settled", made=made, writes=len(self._unknown))
        unknown, self._unknown = self._unknown, []
        self._in_doubt = False
        if made and self._in_turn is not None:
            await self._in_turn(lambda: self._have_memory_follow(unknown))
        elif made:
            self._done(unknown)
        # What was planned behind it was refused meanwhile.
        for listener in self._abort_listeners:
            listener()

    def _abort(self, failed: Sequence[_Waiting], error: Unavailable) -> None:
        self._queue.clear()
        for listener in self._abort_listeners:
            listener()
        _fail(failed, Unavailable(f"{error.message} Nothing was changed."))

    def _writer_ended(self, _: asyncio.Task[None]) -> None:
        if not self._closing:
            self._closing = True
            self._cancelled_owner = True
            self._owner.cancel()
        if self._pause is not None:
            # Its waiter finds the queue closed.
            self._pause.begun.set()
        _fail(
            [*self._committing, *self._queue],
            Unconfirmed(
                "The daemon is stopping, and does not know whether this was written; read it from the next one."
            ),
        )


def _expected(error: Exception) -> Unavailable:
    """Return an error of the store; one that it does not promise is logged."""
    if isinstance(error, Unavailable):
        return error
    _log.error("commit_failed", exc_info=error)
    # The text of an unexpected error may quote a value.
    return Unavailable(f"The store cannot write: unexpected {type(error).__name__}, see the log.")


async def _nothing() -> None:
    """Do nothing: a caller that awaits its turn waits for what comes before."""


def _fail(items: Iterable[_Waiting], error: Unavailable) -> None:
    for item in items:
        if not item.done.done():
            # One for each: a traceback is added to an exception wherever it is raised.
            item.done.set_exception(type(error)(error.message))
            # Marks the exception as retrieved: the waiter may be gone.
            item.done.exception()
