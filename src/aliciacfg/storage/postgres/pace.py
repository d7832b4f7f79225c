"""Long work in the event loop in short pieces."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import TypeVar

T = TypeVar("T")

# Takes a few milliseconds, independent of the work on each.
_PIECE = 100


async def unhurried(items: Iterable[T]) -> AsyncGenerator[T]:
    """Yield items, and let other tasks go on after every few."""
    for number, item in enumerate(items, 1):
        yield item
        if number % _PIECE == 0:
            await asyncio.sleep(0)
