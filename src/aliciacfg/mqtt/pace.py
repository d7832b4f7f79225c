"""How fast retained messages are published when very many configurations change at once."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

# How much may be published at once, in seconds of the pace: a home of 1,000 services at the default never waits.
_BURST_SECONDS = 0.2
# How much is published before anything else goes on.
_STEP_SECONDS = 0.02


class Pace:
    """A token bucket (as ITU-T I.371): a burst at once, and then so many messages a second.

    Attributes:
        step: How many messages to take at a time, so that one that is wanted at once waits for few others.
    """

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Start with a full bucket.

        Args:
            per_second: The largest number of messages a second.
            clock: Returns monotonic seconds.
            sleep: Waits for a number of seconds.
        """
        self.step = max(1, math.ceil(per_second * _STEP_SECONDS))
        self._per_second = per_second
        self._burst = per_second * _BURST_SECONDS
        self._clock = clock
        self._sleep = sleep
        self._left = self._burst
        self._at = clock()

    async def take(self, messages: int) -> None:
        """Wait until so many messages may be published."""
        self._fill()
        self._left -= messages
        if self._left < 0:
            await self._sleep(-self._left / self._per_second)

    def take_at_once(self, messages: int) -> bool:
        """Return whether so many messages may be published without waiting; take none if not."""
        self._fill()
        if self._left < messages:
            return False
        self._left -= messages
        return True

    def _fill(self) -> None:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
