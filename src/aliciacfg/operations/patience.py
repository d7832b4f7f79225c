"""How long a write is waited for while the database stands still.

A COMMIT that was sent is never given up: it may be carried out whenever the database goes on. But the
requester gets the answer after a while that its outcome is not known.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aliciacfg.cancellation import note_end
from aliciacfg.errors import Unconfirmed

T = TypeVar("T")

_PATIENCE_SECONDS = 10.0
_LOOK_SECONDS = 1.0
_UNKNOWN = (
    f"The database has not answered for {_PATIENCE_SECONDS:g} seconds, so it is not known whether this will be "
    "written. Send the request again with the same request_id, or read it later."
)


class WritePatience:
    """Waits for writes as long as the database answers, and some seconds if it does not."""

    def __init__(self, stands_still: Callable[[], bool]) -> None:
        """Wait for nothing yet.

        Args:
            stands_still: Returns whether the database has not answered for several seconds.
        """
        self._stands_still = stands_still
        # Writes without a waiter.
        self._left: set[asyncio.Task[Any]] = set()

    async def wait(self, write: Coroutine[Any, Any, T], *, ended: Callable[[], None] | None = None) -> T:
        """Return what a write returns. If the caller is cancelled, so is the write.

        Args:
            write: The write.
            ended: Called when it has ended, also if it has no waiter any more.

        Raises:
            Unconfirmed: The database stands still; the write goes on.
            OperationError: As the write.
        """
        task = asyncio.create_task(write)
        if ended is not None:
            task.add_done_callback(lambda _: ended())
        try:
            if not await self._ends(task):
                self._leave(task)
                raise Unconfirmed(_UNKNOWN)
        except asyncio.CancelledError:
            # It may end with a refusal all the same.
            task.add_done_callback(note_end)
            task.cancel()
            await asyncio.wait({task})
            raise
        return task.result()

    async def join(self, write: asyncio.Future[None]) -> None:
        """Wait for a write of another caller.

        Args:
            write: Is done when that one has ended.

        Raises:
            Unconfirmed: The database stands still.
        """
        if not await self._ends(write):
            raise Unconfirmed(_UNKNOWN)

    async def _ends(self, write: asyncio.Future[Any]) -> bool:
        """Wait for a write; return False if the database stands still."""
        patience = _PATIENCE_SECONDS
        while not (await asyncio.wait({write}, timeout=patience))[0]:
            if self._stands_still():
                return False
            patience = _LOOK_SECONDS
        return True

    def _leave(self, task: asyncio.Task[Any]) -> None:
        self._left.add(task)
        task.add_done_callback(self._left.discard)
        task.add_done_callback(note_end)
