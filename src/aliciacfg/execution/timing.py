"""When a command is started anew: after changes have come to rest, spread among many, and not too often."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a supervisor waits.

    Attributes:
        debounce_seconds: For how long there must be no further change before a restart.
        most_debounced_seconds: After how long a restart is due although changes keep coming.
        spread_seconds: A restart waits for a random part of it, so that many services do not restart at once.
        stop_seconds: How long a command has to end after SIGTERM before SIGKILL.
        settle_seconds: How long a command must stay up for its configuration to count as applied.
        limit_seconds: The shortest time between two restarts; it doubles while they keep coming.
        most_limit_seconds: The longest such time.
    """

    debounce_seconds: float = 2.0
    most_debounced_seconds: float = 20.0
    spread_seconds: float = 0.0
    stop_seconds: float = 10.0
    settle_seconds: float = 5.0
    limit_seconds: float = 10.0
    most_limit_seconds: float = 300.0


class RestartLimit:
    """Bounds how often a command is restarted, with a pause that doubles while restarts follow each other closely."""

    def __init__(self, timing: Timing) -> None:
        self._first = timing.limit_seconds
        self._most = timing.most_limit_seconds
        self._last: float | None = None
        self._pause = 0.0

    def delay(self, now: float) -> float:
        """Return for how many seconds no restart may happen."""
        return 0.0 if self._last is None else max(0.0, self._last + self._pause - now)

    def count(self, now: float) -> None:
        """Note a restart."""
        close = self._last is not None and now - self._last <= 2 * self._pause
        self._pause = min(self._most, 2 * self._pause) if close else self._first
        self._last = now
