"""Ending tasks, although a cancellation may be lost.

``asyncio.wait_for`` of Python 3.11, which aiomqtt uses, returns its result instead of a cancellation that comes in the
same turn of the event loop; Python 3.12 does not.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

_AGAIN_SECONDS = 0.1


def is_cancelled() -> bool:
    """Return whether the running task was cancelled, even if that was lost."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks that have nothing to do at their end, again and again until they end; what they raise is dropped."""
    every = list(tasks)
    while running := [task for task in every if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_AGAIN_SECONDS)
    await asyncio.gather(*every, return_exceptions=True)


async def uninterrupted(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end, even if the caller is cancelled meanwhile; that is raised behind it."""
    running = asyncio.ensure_future(coroutine)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
