"""When the format of the database rises: once every daemon of the home can work with a higher one."""

import asyncio
import time
from collections.abc import Callable

import structlog

from aliciacfg.errors import OtherFormat, Unavailable, WentBack
from aliciacfg.model.records import AuditEntry
from aliciacfg.replicas.registry import Registry
from aliciacfg.storage.store import SharedHome

_log = structlog.get_logger(__name__)

SETTLED_SECONDS = 10.0
"""All daemons that report have to know the format for so long: one that hangs for a moment is not left behind."""

_LOOK_SECONDS = 1.0
# Another session reads a table that is to be changed; meanwhile everything goes on.
_AGAIN_SECONDS = 10.0


class FormatRise:
    """Raises the format, if this daemon leads; and says what it waits for, if it does not rise."""

    def __init__(
        self,
        shared: SharedHome,
        registry: Registry,
        *,
        leading: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        """Hold the parts.

        Args:
            shared: Has the format.
            registry: Has the reports of the daemons.
            leading: Returns whether this daemon leads.
            clock: Seconds, monotonic.
            unix_clock: Unix seconds.
        """
        self._shared = shared
        self._registry = registry
        self._leading = leading
        self._clock = clock
        self._unix_clock = unix_clock
        # The format that all know, and since when.
        self._possible = 0
        self._since = 0.0
        self._not_before = 0.0

    @property
    def format(self) -> int:
        """The format of the database, as far as memory knows it."""
        return self._shared.home_format

    @property
    def waits(self) -> str | None:
        """Why the format does not rise, for people; None if no daemon knows a higher one."""
        live, present = self._registry.live, self._shared.home_format
        newest = max((row.format for row in live), default=0)
        if newest <= present:
            return None
        older = sorted(f"{row.name} ({row.version})" for row in live if row.format < newest)
        if not older:
            return f"it rises to {newest} within {SETTLED_SECONDS:g} s, unless a daemon of an older version starts"
        return f"it rises to {newest} when these run a version that works with it, or have ended: {', '.join(older)}"

    async def run(self) -> None:
        """Check once a second until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Raise the format if this daemon leads, and all daemons have known a higher one for a while.

        Raises:
            OtherFormat: A newer version has raised it higher than this one knows.
            WentBack: As ``Store.commit``.
        """
        now, present = self._clock(), self._shared.home_format
        possible = min((row.format for row in self._registry.live), default=0)
        if possible != self._possible:
            self._possible, self._since = possible, now
        if possible <= present or not self._leading() or now < max(self._since + SETTLED_SECONDS, self._not_before):
            return
        detail = f"format {possible} instead of {present}: all daemons work with it"
        entry = AuditEntry(
            timestamp=self._unix_clock(),
            who="config_service",
            where="local",
            operation="format",
            outcome="done",
            detail=detail,
        )
        try:
            raised = await self._shared.raise_format(possible, entry)
        except (OtherFormat, WentBack):
            raise
        except Unavailable as error:
            self._not_before = now + _AGAIN_SECONDS
            _log.warning("format_not_raised", format=possible, reason=error.message, remedy="none; it tries again")
            return
        if raised:
            _log.info("format_raised", format=possible, before=present)
