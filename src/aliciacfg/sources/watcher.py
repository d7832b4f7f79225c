"""A watcher for changes of the files that people edit.

It polls ``stat``, which follows symbolic links and notices replaced directories. inotify does neither, and it reports
files that are only half written. Polling 20 files takes less than a millisecond. Polling runs in a thread, because a
network directory may not answer.

Now and then it compares the content too: two writes of the same size within one tick of the file system's clock leave
the same stamp, and not every file system keeps the times that a stamp consists of.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

_INTERVAL_SECONDS = 0.25
_LOOKS_PER_DIGEST = 20

Snapshot = Mapping[str, tuple[int, ...]]


class FileWatcher:
    """Calls back when files have changed, once two snapshots in a row are equal."""

    def __init__(
        self,
        take_snapshot: Callable[[], Snapshot],
        on_change: Callable[[], Awaitable[bool]],
        *,
        take_digest: Callable[[], bytes] = bytes,
        on_settled: Callable[[Snapshot], None] = lambda _seen: None,
        again: Callable[[], bool] = lambda: False,
        interval_seconds: float = _INTERVAL_SECONDS,
    ) -> None:
        """Make a watcher; the files as they are now count as unchanged.

        Args:
            take_snapshot: Returns the stamps of the files by path; a stamp changes with every edit.
            on_change: Is awaited after a change. If it returns False, it is called again after the next snapshot.
            take_digest: Returns a digest of the content of all files.
            on_settled: Is called with every snapshot that equals the one before, unless ``on_change`` returns True for
                it.
            again: Returns whether to call ``on_change`` although no file changed.
            interval_seconds: The time between two snapshots.
        """
        self._take_snapshot = take_snapshot
        self._on_change = on_change
        self._take_digest = take_digest
        self._on_settled = on_settled
        self._again = again
        self._interval = interval_seconds
        self._handled = take_snapshot()
        self._digest = take_digest()

    async def run(self) -> None:
        """Watch until cancelled; errors of the callbacks are raised, and the change is handled by the next ``run``."""
        previous = self._handled
        looks = 0
        while True:
            await asyncio.sleep(self._interval)
            looks += 1
            seen = await asyncio.to_thread(self._take_snapshot)
            # A file that is still being written differs from one snapshot to the next.
            if seen == previous:
                changed = seen != self._handled or self._again()
                if changed or (looks % _LOOKS_PER_DIGEST == 0 and await self._content_changed()):
                    await self._handle(seen)
                else:
                    self._on_settled(seen)
            previous = seen

    async def _content_changed(self) -> bool:
        return await asyncio.to_thread(self._take_digest) != self._digest

    async def _handle(self, seen: Snapshot) -> None:
        # Before the files are read: an edit that comes in between is found by the next comparison.
        digest = await asyncio.to_thread(self._take_digest)
        if await self._on_change():
            self._handled = seen
            self._digest = digest
        else:
            self._on_settled(seen)
