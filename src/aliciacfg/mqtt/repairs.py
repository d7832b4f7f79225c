"""The back-off of repairs: what others overwrite is restored at once, and ever more slowly if they go on."""

_AT_ONCE = 8
_MAX_SECONDS = 60.0
_QUIET_SECONDS = 120.0


class Repairs:
    """The back-off of one topic that other programs overwrite.

    Attributes:
        count: How many repairs there were since it was quiet.
        at: When the last one began, in seconds on a monotonic clock.
        waiting: Whether a repair is under way.
    """

    def __init__(self) -> None:
        self.count = 0
        self.at = 0.0
        self.waiting = False

    def delay(self, now: float) -> float:
        """Count a repair; return the seconds to wait before it: none at first, then twice as long each time.

        A message that was published by hand is repaired at once; a program that publishes all the time is not fought
        at its speed.
        """
        if now - self.at > _QUIET_SECONDS:
            self.count = 0
        self.count += 1
        self.at = now
        if self.count <= _AT_ONCE:
            return 0.0
        # Bounded: the count of a topic that is overwritten for ever has no largest value.
        return min(2.0 ** min(self.count - _AT_ONCE - 1, 16), _MAX_SECONDS)
