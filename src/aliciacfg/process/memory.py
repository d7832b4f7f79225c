"""The memory of the process: what the collector of cycles looks at, and what is given back to the system.

Python looks for objects that refer to each other among all objects, the more of them the longer: 130 ms with 10,000
configurations, in which nothing else goes on. Configurations hold no such cycles, so they are kept out of its sight.

glibc gives large blocks back at once, each is a mapping of its own. But the first time that such a block is freed, it
raises the size that counts as large to that of the block, up to 32 MB: from then on blocks of 2 MB lie between small
ones, and a flood of large requests leaves holes that are never given back. Small blocks it keeps as long as a few that
are still in use lie between. Python itself keeps objects that refer to each other until it looks at all objects, which
it does the more rarely the more there are.
"""

import asyncio
import contextlib
import ctypes
import gc
import resource
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

_SECONDS = 20.0
# More than an ordinary load adds and frees again.
_GROWTH_BYTES = 8 * 1024 * 1024
# Of the time that it takes to look at all objects, which holds up everything else.
_PAUSE_FACTOR = 200
# From malloc.h.
_M_MMAP_THRESHOLD = -3
# As large as a configuration may be; what is smaller comes and goes too often for a mapping of its own.
_LARGE_BYTES = 256 * 1024
# New objects that Python looks among at a time; by default 700.
_YOUNG = 20_000
# While objects are made that stay: each is looked at twice all the same, but fewer at a time. With the values above,
# every tenth look is at 200,000 objects, and nothing else goes on for 20 ms.
_YOUNG_THAT_STAY, _MIDDLE_THAT_STAY = 5_000, 2
# Collections of the middle generation for one of all objects.
_NEVER = 2**30
_FREED_AT_ONCE = 100
_FREEING_PAUSE_SECONDS = 0.001
# How many times as many blocks may be in use as when all objects had been looked at.
_GROWTH = 2
_STATUS = Path("/proc/self/statm")


def keep_large_blocks_apart() -> None:
    """Have the C library give every large block back when it is freed, independent of what was freed before.

    Call it before much is allocated. Other C libraries than glibc are left alone.
    """
    if (library := _glibc()) is not None:
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def look_for_cycles_rarely() -> None:
    """Have Python look among new objects less often: that took a tenth of the time of a write, and found no cycle.

    A request makes some hundred objects and most are freed at its end, before they are looked at. What a cycle keeps
    until then is bounded by the number of objects; ``give_back_forever`` looks as soon as it is large.
    """
    _, middle, old = gc.get_threshold()
    gc.set_threshold(_YOUNG, middle, old)


@dataclass
class _Stayed:
    """How many blocks of memory were in use when all objects had been looked at; 0 before the first time."""

    blocks: int = 0


_stayed = _Stayed()


@contextlib.contextmanager
def making_what_stays() -> Generator[None]:
    """Keep what a block makes out of the sight of the collector: it is freed when nothing refers to it any more.

    During the block, cycles are looked for among new objects only. Afterwards none is found any more that consists of
    objects which are there now. So it is for the start, and for a change of very many configurations, not for each
    edit: what a client has open at its end would stay if it became a cycle. Such cycles do not add up: when twice as
    much is in use as was needed, all objects are looked at before the block.
    """
    # Counting the objects out of sight would take 15 ms.
    looks_at_all = 0 < _GROWTH * _stayed.blocks < sys.getallocatedblocks()
    if looks_at_all:
        gc.unfreeze()
    gc.collect()
    if looks_at_all:
        gc.freeze()
        _stayed.blocks = sys.getallocatedblocks()
    thresholds = gc.get_threshold()
    gc.set_threshold(_YOUNG_THAT_STAY, _MIDDLE_THAT_STAY, _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.freeze()
        _stayed.blocks = _stayed.blocks or sys.getallocatedblocks()


async def free_slowly(held: list[object]) -> None:
    """Free what a list holds, a few objects at a time, and let others go on in between.

    Freeing is one step for everything that hangs on an object: the last reference to the files and configurations of a
    home with 10,000 services, dropped at once, holds everything up for 40 ms. With a pause after each piece, as threads
    need the interpreter too: without one, a write took 20 ms meanwhile instead of three.
    """
    while held:
        del held[-_FREED_AT_ONCE:]
        await asyncio.sleep(_FREEING_PAUSE_SECONDS)


async def give_back() -> None:
    """Give back what was freed, off the loop: it takes some milliseconds for each 100 MB."""
    if (library := _glibc()) is not None:
        await asyncio.to_thread(library.malloc_trim, 0)


async def give_back_forever(seconds: float = _SECONDS) -> None:
    """Give back what was freed while the process is larger than it was, until cancelled.

    Nothing shows how much was freed since the last time, so it is tried again and again; the looking takes less than
    half a percent of the time.
    """
    if _glibc() is None:
        return
    least, pause = _resident_bytes(), seconds
    # A start reads all of the database and the files at once.
    await give_back()
    while True:
        await asyncio.sleep(pause)
        resident = _resident_bytes()
        least, pause = min(least, resident), seconds
        if resident - least > _GROWTH_BYTES:
            began = perf_counter()
            gc.collect()
            pause = max(seconds, _PAUSE_FACTOR * (perf_counter() - began))
            await give_back()


def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc and there is a ``/proc``."""
    if not _STATUS.exists():
        return None
    try:
        library = ctypes.CDLL(None)
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


def _resident_bytes() -> int:
    return int(_STATUS.read_text("ascii").split()[1]) * resource.getpagesize()
