"""Memory that was freed goes back to the system."""

import asyncio
import contextlib
import gc
import resource
import weakref
from pathlib import Path

import pytest

from aliciacfg.process import memory
from inprocess import eventually

BLOCK = 8_000
BLOCKS = 8_000


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


LIBRARY = memory._glibc()  # pyright: ignore[reportPrivateUsage]
glibc = pytest.mark.skipif(LIBRARY is None, reason="this C library is not glibc")


@pytest.fixture(autouse=True)
def nothing_freed() -> None:
    """Give back what earlier tests freed: the blocks of these would be made of it, and the process would not grow."""
    if LIBRARY is not None:
        gc.collect()
        LIBRARY.malloc_trim(0)


@glibc
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
        # Again, though something was given back when it was still in use.
        del left
        await eventually(lambda: resident() - before < 12 * 1024 * 1024)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@glibc
async def test_what_refers_to_itself_is_given_back():
    """Python looks for it only when many new objects were made; a large message may hang on it."""
    task = asyncio.create_task(memory.give_back_forever(0.02))
    try:
        await asyncio.sleep(0)
        gc.disable()
        before = resident()
        circle: list[object] = [bytes([7]) * (32 * 1024 * 1024)]
        circle.append(circle)
        assert resident() - before > 24 * 1024 * 1024
        del circle
        await eventually(lambda: resident() - before < 8 * 1024 * 1024)
    finally:
        gc.enable()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_what_is_freed_slowly_is_freed_and_others_go_on():
    """Each object is freed before the next turns of the loop are over, the last ones of the list first."""
    alive: set[int] = set()

    class Part:
        def __init__(self, number: int) -> None:
            self.number = number
            alive.add(number)

        def __del__(self) -> None:
            alive.discard(self.number)

    freeing = asyncio.create_task(memory.free_slowly([Part(number) for number in range(1000)]))
    sizes: list[int] = []
    while not freeing.done():
        await asyncio.sleep(0)
        sizes.append(len(alive))
    assert (len(alive), sizes == sorted(sizes, reverse=True)) == (0, True)
    assert len(set(sizes)) >= 10


def test_what_stays_is_out_of_the_collectors_sight_and_is_freed_all_the_same():
    """Objects of the block are not looked at any more; they go when nothing refers to them; its settings are back."""
    before = gc.get_threshold()

    class Kept(dict[str, int]):
        pass

    with memory.making_what_stays():
        kept = [Kept(number=number) for number in range(100)]
        freed = weakref.ref(kept[0])
    assert gc.get_threshold() == before
    assert not any(isinstance(item, Kept) for item in gc.get_objects())
    del kept
    assert freed() is None


def test_new_objects_are_looked_among_less_often():
    """Nothing else about the collector changes."""
    before = gc.get_threshold()
    try:
        memory.look_for_cycles_rarely()
        young, *others = gc.get_threshold()
        assert young > before[0]
        assert others == list(before[1:])
    finally:
        gc.set_threshold(*before)
