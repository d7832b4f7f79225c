"""Whether this process stood still, as after SIGSTOP, in a frozen machine, or in an event loop that was held up."""

from collections.abc import Callable

from aliciacfg.replicas.clock import boottime


class Pauses:
    """Compares the time with that of the last sign of life."""

    def __init__(self, limit_seconds: float, *, clock: Callable[[], float] = boottime) -> None:
        """Begin with a sign of life.

        Args:
            limit_seconds: What counts as standing still.
            clock: Seconds; goes on while the process does not.
        """
        self._limit = limit_seconds
        self._clock = clock
        self._last = clock()

    def tick(self) -> None:
        """Give a sign of life; to be called several times within the limit."""
        self._last = self._clock()

    @property
    def stood_still(self) -> bool:
        """Whether there was no sign of life for longer than the limit; true at once when the process goes on."""
        return self._clock() - self._last > self._limit
