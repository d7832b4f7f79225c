"""Encoded answers to ``get``, so that the path of a read is: name, cached bytes, send."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from aliciacfg.core.state import Key


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """One encoded answer.

    Attributes:
        body: The answer as a JSON object, without ``status`` and ``request_id``.
        etag: Opaque; differs whenever what this answer shows differs.
        revision: The revision it shows.
        checksum: Its checksum.
        expires: When it is stale, on the cache's clock.
    """

    body: bytes
    etag: str
    revision: int
    checksum: str
    expires: float


class AnswerCache:
    """Written through on every change; an entry nobody renewed is read from the store again after its time."""

    def __init__(self, *, ttl_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Make an empty cache.

        Args:
            ttl_seconds: How long an entry serves; 0 or less caches nothing.
            clock: Seconds, monotonic.
        """
        self._ttl = ttl_seconds
        self._clock = clock
        self._entries: dict[Key, CachedAnswer] = {}
        self.hits = 0
        self.misses = 0

    @property
    def hit_rate(self) -> float:
        """Hits per look-up since the start, 0 to 1; 0 before the first look-up."""
        total = self.hits + self.misses
        return self.hits / total if total else 0.0

    def get(self, key: Key) -> CachedAnswer | None:
        """The answer, if there is a fresh one."""
        found = self.hit(key)
        if found is None:
            self.misses += 1
        return found

    def hit(self, key: Key) -> CachedAnswer | None:
        """The answer, if there is a fresh one; a miss is not counted, since whoever misses goes on to ``get``."""
        found = self._entries.get(key)
        if found is None or found.expires <= self._clock():
            return None
        self.hits += 1
        return found

    def put(self, key: Key, *, body: bytes, etag: str, revision: int, checksum: str) -> CachedAnswer:
        """Keep an answer, replacing what was there."""
        answer = CachedAnswer(body, etag, revision, checksum, self._clock() + self._ttl)
        if self._ttl > 0:
            self._entries[key] = answer
        return answer

    def discard(self, key: Key) -> None:
        """Forget an answer."""
        self._entries.pop(key, None)
