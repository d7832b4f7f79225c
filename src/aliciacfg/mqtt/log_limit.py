"""A limit on log entries that others can cause as often as they like."""

import time
from collections.abc import Callable

_SECONDS = 60.0


class LogLimit:
    """Allows one entry a minute."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0

    def allows(self) -> bool:
        """Return whether an entry may be written now, and count it."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + _SECONDS
        return True
