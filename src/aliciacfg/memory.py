"""Memory that the process has freed and the C library still holds: it is given back to the system."""

import asyncio
import ctypes
import resource
from collections.abc import Callable
from pathlib import Path

_SECONDS = 20.0
# More than an ordinary load adds and frees again.
_GROWTH_BYTES = 16 * 1024 * 1024
_STATUS = Path("/proc/self/statm")


async def give_back_forever(seconds: float = _SECONDS) -> None:
    """Give back what was freed whenever the process has grown, until cancelled.

    After many clients at once glibc keeps most of what they took, because a few small blocks that are still in use
    lie between. Other C libraries are left alone.
    """
    trim = _trim()
    if trim is None:
        return
    after = _resident_bytes()
    while True:
        await asyncio.sleep(seconds)
        if _resident_bytes() - after > _GROWTH_BYTES:
            # Off the loop: it takes some milliseconds for each 100 MB.
            await asyncio.to_thread(trim, 0)
            after = _resident_bytes()


def _trim() -> Callable[[int], int] | None:
    """Return glibc's ``malloc_trim``; None where there is none, or no ``/proc``."""
    if not _STATUS.exists():
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None


def _resident_bytes() -> int:
    return int(_STATUS.read_text("ascii").split()[1]) * resource.getpagesize()
