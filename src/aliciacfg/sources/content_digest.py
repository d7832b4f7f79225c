"""The digest of the files on disk, kept up to date: daemons of one home compare theirs."""

import asyncio
from collections.abc import Callable

from aliciacfg.sources.watcher import Snapshot

_LOOK_SECONDS = 1.0
# Some edits leave the stamps as they were: see ``watcher``.
_LOOKS_PER_DIGEST = 20


class ContentDigest:
    """Takes the digest anew when files changed.

    Attributes:
        value: The digest, or what it was a second ago.
    """

    def __init__(
        self,
        take_snapshot: Callable[[], Snapshot],
        take_digest: Callable[[], str],
        *,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        """Take the digest.

        Args:
            take_snapshot: Returns the stamps of the files by path.
            take_digest: Returns the digest of their content.
            look_seconds: The time between two looks at the stamps.
        """
        self._take_snapshot = take_snapshot
        self._take_digest = take_digest
        self._look_seconds = look_seconds
        self._seen = take_snapshot()
        self.value = take_digest()

    async def run(self) -> None:
        """Look once a second until cancelled."""
        looks = 0
        while True:
            await asyncio.sleep(self._look_seconds)
            looks += 1
            # In a thread: a network directory may not answer.
            seen = await asyncio.to_thread(self._take_snapshot)
            if seen != self._seen or looks % _LOOKS_PER_DIGEST == 0:
                self.value = await asyncio.to_thread(self._take_digest)
                self._seen = seen
