"""Takes, renews and lets go of the lease that decides which daemon of a home leads."""

import asyncio
from collections.abc import Callable

import structlog

from aliciacfg.errors import Unavailable
from aliciacfg.replicas.leadership import Leadership
from aliciacfg.storage.store import SharedHome

_log = structlog.get_logger(__name__)

LEASE_SECONDS = 3.0
"""How long a lease lasts: for so long no daemon leads after a leader has died."""

_RENEWAL_SECONDS = 1.0
_RELEASE_SECONDS = 2.0


class Lease:
    """The lease of one daemon, renewed once a second.

    The database's clock alone says when a lease ends for others; ``Leadership`` ends it here, no later. A daemon that
    cannot reach the database leads until its lease ends.
    """

    def __init__(
        self,
        shared: SharedHome,
        leadership: Leadership,
        *,
        replica: str,
        may_lead: Callable[[bool], bool],
        seconds: float = LEASE_SECONDS,
        renewal_seconds: float = _RENEWAL_SECONDS,
    ) -> None:
        """Hold no lease yet.

        Args:
            shared: Has the lease.
            leadership: Gets the result.
            replica: The id of this daemon.
            may_lead: Returns whether this daemon may take the lease, or with True whether it may keep it.
            seconds: How long the lease lasts from each renewal on.
            renewal_seconds: The time between two renewals, and the longest that one may take.
        """
        self._shared = shared
        self._leadership = leadership
        self._replica = replica
        self._may_lead = may_lead
        self._seconds = seconds
        self._renewal_seconds = renewal_seconds
        self._failing = False

    async def run(self) -> None:
        """Take the lease whenever it is free, and renew it, until cancelled."""
        while True:
            if self._may_lead(self._leadership.leading):
                await self._renew()
            elif self._leadership.leading:
                _log.info("lease_given_up", replica=self._replica)
                await self.release()
            await asyncio.sleep(self._renewal_seconds)

    async def release(self) -> None:
        """Stop leading, and have another daemon take the lease at once if it is held here."""
        self._leadership.lose()
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._shared.release_lease(self._replica)
        except (Unavailable, TimeoutError):
            _log.info("lease_not_released", remedy=f"none needed; it ends within {self._seconds:g} s")

    async def _renew(self) -> None:
        """Take or renew the lease; if that fails, the one that is held goes on until it ends."""
        led = self._leadership.leading
        asked = self._leadership.now()
        try:
            # A renewal that is cut off may count all the same, which does no harm: the next one says so.
            async with asyncio.timeout(self._renewal_seconds):
                held = await self._shared.renew_lease(self._replica, self._seconds)
        except (Unavailable, TimeoutError) as error:
            self._note_failure(str(error) or "no answer in time")
            return
        self._failing = False
        if held:
            self._leadership.hold(self._seconds, asked=asked)
        else:
            self._leadership.lose()
        if led is not self._leadership.leading:
            _log.info("leading" if self._leadership.leading else "lease_lost", replica=self._replica)

    def _note_failure(self, reason: str) -> None:
        if not self._failing:
            _log.warning("lease_not_renewed", reason=reason, leading=self._leadership.leading)
        self._failing = True
