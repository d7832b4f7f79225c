"""Work that outlives the connection on which it was asked for: a write goes on when the broker goes away."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any


class BackgroundTasks:
    """Tasks of the session as a whole; none is started before ``running`` and after ``close``."""

    def __init__(self, report: Callable[[str, Exception], None]) -> None:
        """Run no task yet.

        Args:
            report: Called with the name of a task and the error that it raised; everything else goes on.
        """
        self._report = report
        self._group: asyncio.TaskGroup | None = None
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Run tasks inside this context; it ends when the tasks have ended."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                yield
        finally:
            self._group = None

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Start a task."""
        if self._group is None or self._closed:
            work.close()
            return
        self._count += 1
        self._idle.clear()
        self._group.create_task(self._counted(work, name), name=name)

    async def wait_idle(self) -> None:
        """Wait until no task runs."""
        await self._idle.wait()

    def close(self) -> None:
        """Start nothing any more; what runs goes on."""
        self._closed = True

    async def _counted(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the boundary of these tasks: none may end the session
            self._report(name, error)
        finally:
            self._count -= 1
            if not self._count:
                self._idle.set()
