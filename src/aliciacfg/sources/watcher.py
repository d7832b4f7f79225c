"""Watching the files that people edit.

By polling ``stat``, which follows symbolic links and sees replaced directories; inotify misses both, and shows
half-written files. Some 20 files cost well under a millisecond.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

_INTERVAL_SECONDS = 0.25

Snapshot = Mapping[str, tuple[int, int, int]]


class FileWatcher:
    """Calls back when files have changed and then stayed the same for two looks."""

    def __init__(
        self,
        look: Callable[[], Snapshot],
        on_change: Callable[[], Awaitable[bool]],
        *,
        on_settled: Callable[[Snapshot], None] = lambda _seen: None,
        again: Callable[[], bool] = lambda: False,
        interval_seconds: float = _INTERVAL_SECONDS,
    ) -> None:
        """Take what to watch.

        Args:
            look: The files there are now, by path, with what tells a file from itself after an edit.
            on_change: Awaited after a change; must not raise. False makes it be called again at the next look.
            on_settled: Called with every look that equals the one before, unless ``on_change`` has just taken it.
            again: Whether ``on_change`` shall be called though no file has changed.
            interval_seconds: Between two looks.
        """
        self._look = look
        self._on_change = on_change
        self._on_settled = on_settled
        self._again = again
        self._interval = interval_seconds
        self._handled = look()

    async def run(self) -> None:
        """Watch until cancelled."""
        previous = self._handled
        while True:
            await asyncio.sleep(self._interval)
            seen = self._look()
            # A file that is still being written differs between two looks.
            if seen == previous:
                if seen == self._handled and not self._again():
                    self._on_settled(seen)
                elif await self._on_change():
                    self._handled = seen
                else:
                    self._on_settled(seen)
            previous = seen
