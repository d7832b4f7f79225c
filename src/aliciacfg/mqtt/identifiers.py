"""The packet identifiers of one connection (MQTT 5 §2.2.1)."""

MAX_IDENTIFIER = 65_535


class Identifiers:
    """Packet identifiers for what the daemon sends.

    Attributes:
        used: Those of publications and subscriptions under way.
        last: The one that was given last.
    """

    __slots__ = ("last", "used")

    def __init__(self) -> None:
        self.used: set[int] = set()
        self.last = 0

    def take(self) -> int:
        """Return an identifier that is not in use, and use it."""
        while True:
            self.last = self.last % MAX_IDENTIFIER + 1
            if self.last not in self.used:
                self.used.add(self.last)
                return self.last
