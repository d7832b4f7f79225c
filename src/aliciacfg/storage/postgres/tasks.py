"""Tasks that go on when their caller is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


class Tasks:
    """Starts tasks, keeps references to them, and waits for all of them at the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def start(self, work: Coroutine[object, object, T], name: str | None = None) -> "asyncio.Task[T]":
        """Start a task that a cancelled caller does not end."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self, cancelled: str) -> None:
        """Wait for all tasks; those of the given name are cancelled first."""
        for task in self._tasks:
            if task.get_name() == cancelled:
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
