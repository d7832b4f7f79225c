"""Ending a task by cancellation, also where a library drops one; and tasks without a waiter."""

import asyncio
from typing import Any

from aliciacfg.errors import AliciacfgError

_CANCELLATIONS = 20
_CANCELLATION_SECONDS = 0.25


async def end_task(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait until it has ended, for 5 seconds at most; its result is left unread.

    Once may not be enough: asyncio.wait_for of Python 3.11, by which aiomqtt waits, drops a cancellation when what it
    waits for comes at the same moment.
    """
    for _ in range(_CANCELLATIONS):
        task.cancel()
        if (await asyncio.wait({task}, timeout=_CANCELLATION_SECONDS))[0]:
            # How it ended does not matter any more.
            await asyncio.gather(task, return_exceptions=True)
            return


def note_end(task: "asyncio.Task[Any]") -> None:
    """Handle the end of a task that has no waiter any more; a callback of that task.

    asyncio would log each error. One of the project's own was for the waiter, and is no fault of the program; any
    other one goes to the handler of the event loop, which logs it.
    """
    if task.cancelled() or (error := task.exception()) is None or isinstance(error, AliciacfgError):
        return
    task.get_loop().call_exception_handler(
        {"message": "a task failed that nobody waited for any more", "exception": error, "task": task}
    )
