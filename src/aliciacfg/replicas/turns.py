"""Waiting for the next change of something."""

import asyncio
from collections.abc import Callable


class Turns:
    """Wakes all who wait whenever something changed; nothing is kept for those who come later."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
        """Wake all who wait now."""
        turn, self._next = self._next, asyncio.Event()
        turn.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition holds, which is asked now and after each change."""
        while not holds():
            await self._next.wait()
