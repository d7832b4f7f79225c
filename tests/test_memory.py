"""Memory that was freed goes back to the system."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from aliciacfg import memory
from inprocess import eventually

BLOCK = 8_000
BLOCKS = 8_000


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(memory._trim() is None, reason="this C library has no malloc_trim")  # pyright: ignore[reportPrivateUsage]
async def test_what_was_freed_between_small_blocks_is_given_back():
    """64 MB in blocks, of which every hundredth stays: the C library alone would keep all of it."""
    task = asyncio.create_task(memory.give_back_forever(0.02))
    try:
        await asyncio.sleep(0)
        before = resident()
        blocks = [bytes([number % 256]) * BLOCK for number in range(BLOCKS)]
        assert resident() - before > 48 * 1024 * 1024
        left = blocks[::100]
        del blocks
        await eventually(lambda: resident() - before < 16 * 1024 * 1024)
        assert len(left) == BLOCKS / 100
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
