"""Work that outlives the connection on which it was asked for: a write goes on when the broker goes away."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

_MAX_TASKS = 2048


class BackgroundTasks:
    """Tasks of the session as a whole; none is started before ``running`` and after ``close``."""

    def __init__(self, *, limit: int = _MAX_TASKS) -> None:
        self._limit = limit
        self._group: asyncio.TaskGroup | None = None
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Run tasks inside this context; a task that raises ends it."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            yield

    @property
    def full(self) -> bool:
        """Whether as many tasks run as are allowed."""
        return self._count >= self._limit

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Start a task."""
        if self._group is None or self._closed:
            work.close()
            return
        self._count += 1
        self._idle.clear()
        self._group.create_task(self._counted(work), name=name)

    async def wait_idle(self) -> None:
        """Wait until no task runs."""
        await self._idle.wait()

    def close(self) -> None:
        """Start nothing any more; what runs goes on."""
        self._closed = True

    async def _counted(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self._count -= 1
            if not self._count:
                self._idle.set()
