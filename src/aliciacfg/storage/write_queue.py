"""Group commit: writes wait in a queue, and one task commits all that wait in one transaction."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import msgspec
import structlog

from aliciacfg.errors import Busy, Unavailable
from aliciacfg.model.records import Write
from aliciacfg.storage.store import Store

_log = structlog.get_logger(__name__)

_MAX_WAITING = 4096
_MAX_BATCH = 256
_PROBE_SECONDS = 1.0
_PROBE = Write(meta=(("probe", ""),))
_NOTHING = Write()


class _Waiting(msgspec.Struct):
    write: Write
    on_commit: Callable[[], None] | None
    done: asyncio.Future[None]


class WriteQueue:
    """The only way to write to a store.

    ``async with WriteQueue(store) as queue`` starts the task that commits. Leaving the block refuses new writes,
    commits those that wait, and ends the task. If the task fails unexpectedly, for example because an ``on_commit``
    callback raised, memory and database may differ: the block is cancelled and ends with that error.

    Attributes:
        healthy: False from a failed commit to the next successful one; a probe is written every second meanwhile.
    """

    def __init__(self, store: Store, *, probe_seconds: float = _PROBE_SECONDS) -> None:
        self.healthy = True
        self._store = store
        self._probe_seconds = probe_seconds
        self._queue: deque[_Waiting] = deque()
        self._committing: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._abort_listeners: list[Callable[[Unavailable], None]] = []

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

    def listen_abort(self, listener: Callable[[Unavailable], None]) -> None:
        """Have a function called once for each failed commit, before the futures of the failed writes are done."""
        self._abort_listeners.append(listener)

    def submit(self, write: Write, on_commit: Callable[[], None] | None = None) -> asyncio.Future[None]:
        """Queue a write.

        Writes are committed in the order of submission. When a commit fails, its writes and all that wait behind
        them fail, because they were planned on top of it.

        Args:
            write: Is applied as a whole or not at all.
            on_commit: Called in the event loop when the write is durable, in the order of submission, even if the
                future was cancelled. Must not raise.

        Returns:
            A future that is done when the write is durable, or fails with Unavailable. Cancelling it does not take
            the write back.

        Raises:
            Busy: 4096 writes wait.
            Unavailable: The queue is closed.
        """
        if self._closing:
            raise Unavailable("The daemon is stopping; send the request again to the next one.")
        if len(self._queue) >= _MAX_WAITING:
            raise Busy(f"{_MAX_WAITING} writes wait for the disk; try again in a second.")
        done = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(write, on_commit, done))
        self._wake.set()
        return done

    def flush(self) -> asyncio.Future[None]:
        """Return a future that is done when every write submitted before is durable.

        It fails with Unavailable if a write that still waited for the disk failed.

        Raises:
            Busy: As for ``submit``.
            Unavailable: As for ``submit``.
        """
        return self.submit(_NOTHING)

    async def _write_until_closed(self) -> None:
        while self._queue or not self._closing:
            if self._queue:
                self._committing = [self._queue.popleft() for _ in range(min(len(self._queue), _MAX_BATCH))]
                await self._commit(self._committing)
                self._committing = []
            else:
                self._wake.clear()
                await self._wait_for_work()

    async def _wait_for_work(self) -> None:
        try:
            async with asyncio.timeout(None if self.healthy else self._probe_seconds):
                await self._wake.wait()
        except TimeoutError:
            # A write of a user's reports that the disk is full; that there is room again must not need one.
            self.healthy = await self._failure([_PROBE]) is None

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        writes = [item.write for item in batch if item.write != _NOTHING]
        if writes:
            error = await self._failure(writes)
            self.healthy = error is None
            if error is not None:
                self._abort(batch, error)
                return
        for item in batch:
            if item.on_commit is not None:
                item.on_commit()
            if not item.done.done():
                item.done.set_result(None)

    async def _failure(self, writes: Sequence[Write]) -> Unavailable | None:
        """Commit, and return why that failed."""
        try:
            await self._store.commit(writes)
        except Unavailable as error:
            return error
        except Exception as error:  # noqa: BLE001 - the boundary of all writes: the store rolled back, the daemon goes on
            _log.exception("commit_failed")
            return Unavailable(f"The store cannot write: {error}.")
        return None

    def _abort(self, batch: Iterable[_Waiting], error: Unavailable) -> None:
        failed = [*batch, *self._queue]
        self._queue.clear()
        for listener in self._abort_listeners:
            listener(error)
        _fail(failed, f"{error.message} Nothing was changed.")

    def _writer_ended(self, _: asyncio.Task[None]) -> None:
        if not self._closing:
            self._closing = True
            self._cancelled_owner = True
            self._owner.cancel()
        _fail(
            [*self._committing, *self._queue],
            "The daemon is stopping, and does not know whether this was written; read it from the next one.",
        )


def _fail(items: Iterable[_Waiting], message: str) -> None:
    for item in items:
        if not item.done.done():
            item.done.set_exception(Unavailable(message))
            # Marks the exception as retrieved: the waiter may be gone.
            item.done.exception()
