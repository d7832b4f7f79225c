"""Ending a task by cancellation, also where a library drops one."""

import asyncio
from typing import Any

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
