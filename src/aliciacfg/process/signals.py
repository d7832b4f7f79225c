"""The signals of the process, as events of the loop."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Generator
from types import FrameType

from aliciacfg.process.stop_deadline import StopDeadline


class Signals:
    """Turns the process's signals into events.

    Attributes:
        stop: The daemon is asked to stop.
        hangup: The daemon is asked to read its files again.
    """

    def __init__(self, deadline: StopDeadline) -> None:
        self.stop, self.hangup = asyncio.Event(), asyncio.Event()
        self._starting: asyncio.Task[object] | None = None
        self._deadline = deadline
        self._terminals = _terminals()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not a handler of the event loop: the deadline has to begin while the loop is held up, too.
            signal.signal(number, self._on_stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._deadline.begin()
        with contextlib.suppress(RuntimeError):
            # Raised if the loop is closed already, at the very end.
            self._loop.call_soon_threadsafe(self._stop)

    def _on_hangup(self) -> None:
        # A closing terminal sends SIGHUP too; then the daemon stops, because the terminal could no longer stop it.
        if _terminals() == self._terminals:
            self.hangup.set()
        else:
            self._deadline.begin()
            self._stop()

    def _stop(self) -> None:
        self.stop.set()
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None

    @contextlib.contextmanager
    def starting(self) -> Generator[None]:
        """End the block with a cancellation at a signal to stop: the start may wait for a lock, or for files."""
        self._starting = asyncio.current_task()
        try:
            yield
        finally:
            self._starting = None


def _terminals() -> list[int]:
    """Return which of the standard streams are a terminal that is still there."""
    return [number for number in range(3) if os.isatty(number)]
