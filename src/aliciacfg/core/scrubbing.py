"""Removes what was sealed or deleted from the database's files, where it stays readable in a write-ahead log.

That is not possible while another program reads an older state of the database. It is tried again until it is done, and
at every start, because the program that was asked to do it may have ended before.
"""

import asyncio

import structlog

from aliciacfg.errors import Unavailable
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.storage.store import Store

_log = structlog.get_logger(__name__)

ALERT = "plain_copies"

# For the daemon's own reads, which end at once.
_FIRST_PAUSES = (0.0, 0.02, 0.1, 0.3)
_PAUSE_SECONDS = 1.0


class Scrubbing:
    """Scrubs the store; ``run`` completes what could not be done at once."""

    def __init__(self, store: Store, alerts: Alerts) -> None:
        self._store = store
        self._alerts = alerts
        self._wanted = asyncio.Event()

    def request(self) -> None:
        """Have ``run`` scrub the store soon."""
        self._wanted.set()

    async def scrub(self) -> None:
        """Scrub the store now; if that is not possible yet, raise an alert until it is done."""
        self.request()
        for pause in _FIRST_PAUSES:
            await asyncio.sleep(pause)
            if not await self._is_read():
                return
        self._alerts.raise_(
            ALERT,
            "Another program reads the database, so that values which were sealed or deleted meanwhile can still be "
            "read in its write-ahead log. End that program, such as a backup or an inspection; it is tried again "
            "every second.",
        )

    async def run(self) -> None:
        """Repeat what could not be done at once, until cancelled."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(_PAUSE_SECONDS)
            if self._wanted.is_set() and await self._is_read():
                await self.scrub()

    async def _is_read(self) -> bool:
        """Scrub the store, and return whether another program kept that from being done."""
        try:
            done = await self._store.scrub()
        except Unavailable as error:
            # There is an alert about the store, and it is tried again.
            _log.debug("store_not_scrubbed", reason=error.message)
            return False
        if done:
            self._wanted.clear()
            self._alerts.clear(ALERT)
        return not done
