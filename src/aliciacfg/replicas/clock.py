"""The clock by which a daemon judges what it knows of the others."""

import time


def boottime() -> float:
    """Return seconds on a clock that no one sets, and that goes on while the process or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
