"""Watching the files that people edit.

By polling ``stat``, which follows symbolic links and sees replaced directories; inotify misses both, and shows
half-written files. Some 20 files cost well under a millisecond.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

_INTERVAL_SECONDS = 0.25

Snapshot = dict[str, tuple[int, int, int]]


class FileWatcher:
    """Calls back when files have changed and then stayed the same for two looks."""

    def __init__(
        self,
        paths: Callable[[], Iterable[Path]],
        on_change: Callable[[], Awaitable[bool]],
        *,
        interval_seconds: float = _INTERVAL_SECONDS,
    ) -> None:
        """Take what to watch.

        Args:
            paths: The files there are now.
            on_change: Awaited after a change; must not raise. False makes it be called again at the next look.
            interval_seconds: Between two looks.
        """
        self._paths = paths
        self._on_change = on_change
        self._interval = interval_seconds
        self._loaded = self._look()

    async def run(self) -> None:
        """Watch until cancelled."""
        previous = self._loaded
        while True:
            await asyncio.sleep(self._interval)
            seen = self._look()
            # A file that is still being written differs between two looks.
            if seen != self._loaded and seen == previous and await self._on_change():
                self._loaded = seen
            previous = seen

    def _look(self) -> Snapshot:
        seen: Snapshot = {}
        for path in self._paths():
            try:
                status = path.stat()
            except OSError:
                continue
            seen[str(path)] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return seen
