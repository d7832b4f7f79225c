"""When a daemon loads files that changed: the one that leads at once, another one when the leader has the same."""

import asyncio
import time
from collections.abc import Callable

from aliciacfg.replicas.presence import Presence

_REACHES_ALL_SECONDS = 10.0


class EditTurn:
    """Says whether it is this daemon's turn to load files that changed.

    Each daemon composes configurations of the files that it has loaded, and goes by their access rules. So all load an
    edit. But files that only one machine has must not replace those of all others: the leader's count.
    """

    def __init__(
        self, presence: Presence, take_digest: Callable[[], str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Wait for nothing yet.

        Args:
            presence: Which daemon leads, and which files each has.
            take_digest: Returns the digest of the files on this daemon's disk as they are now.
            clock: Seconds, monotonic.
        """
        self._presence = presence
        self._take_digest = take_digest
        self._clock = clock
        self._since: float | None = None

    @property
    def soon(self) -> bool:
        """Whether the turn has not come yet because an edit takes its time to reach all machines."""
        return self._since is not None and self._clock() - self._since < _REACHES_ALL_SECONDS

    async def comes(self) -> bool:
        """Return whether this daemon may load its files now."""
        if await self._comes():
            self._since = None
            return True
        if self._since is None:
            self._since = self._clock()
        return False

    async def _comes(self) -> bool:
        registry = self._presence.registry
        if registry is None or self._presence.leadership.leading:
            return True
        leader = registry.leader
        if leader is None or leader.files != self._presence.files():
            return False
        # The digest that is reported is up to a second old.
        return await asyncio.to_thread(self._take_digest) == leader.files
