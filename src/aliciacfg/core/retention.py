"""Retention: removes old revisions and audit entries in the background."""

import asyncio
from collections.abc import Callable

import structlog

from aliciacfg.access.audit_log import AuditLog
from aliciacfg.core.plan import ChangeContext
from aliciacfg.counted import counted
from aliciacfg.errors import Unavailable
from aliciacfg.storage.store import Kept, Removed, Store

_log = structlog.get_logger(__name__)

_DAY_SECONDS = 86400.0
# Not while a start has other things to do.
_FIRST_SECONDS = 60.0
_INTERVAL_SECONDS = 3600.0
# Between two transactions of some milliseconds: readers and writers hardly notice a long clean-up.
_PAUSE_SECONDS = 0.05
_CONTEXT = ChangeContext("config_service", "restore", operation="retention", where="local")


class Retention:
    """Removes what the settings do not keep: one minute after the start, then every hour."""

    def __init__(
        self,
        store: Store,
        audit_log: AuditLog,
        *,
        history_keep: int,
        history_days: float,
        audit_keep: int,
        audit_days: float,
        clock: Callable[[], float],
    ) -> None:
        """Make it; 0 as a number or as days stands for everything.

        Args:
            store: What is removed from.
            audit_log: Gets an entry about what was removed.
            history_keep: How many revisions of each configuration are kept.
            history_days: For how many days a revision is kept; the newest one always is.
            audit_keep: How many audit entries are kept.
            audit_days: For how many days an audit entry is kept.
            clock: Unix seconds.
        """
        self._store = store
        self._audit_log = audit_log
        self._history_keep = history_keep
        self._history_days = history_days
        self._audit_keep = audit_keep
        self._audit_days = audit_days
        self._clock = clock

    async def run(self) -> None:
        """Remove what is outdated every hour, until cancelled."""
        await asyncio.sleep(_FIRST_SECONDS)
        while True:
            try:
                await self.apply()
            except Unavailable as error:
                # The store's condition reports it, and it is tried again.
                _log.debug("history_not_removed", reason=error.message)
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def apply(self) -> Removed:
        """Remove what is outdated now, and return how much that was.

        Raises:
            Unavailable: The store cannot be read or written.
        """
        now = self._clock()
        kept = Kept(
            revisions=self._history_keep or None,
            revisions_since=now - self._history_days * _DAY_SECONDS if self._history_days else None,
            audit=self._audit_keep or None,
            audit_since=now - self._audit_days * _DAY_SECONDS if self._audit_days else None,
        )
        removed = await self._store.remove_old(kept, pause=_pause)
        if removed.revisions or removed.audit:
            detail = f"removed: {counted(removed.revisions, 'revision')}, {removed.audit} of the audit log"
            self._audit_log.write([_CONTEXT.audit_entry(now, detail=detail)])
            _log.info("history_removed", revisions=removed.revisions, audit_entries=removed.audit)
        return removed


async def _pause() -> None:
    await asyncio.sleep(_PAUSE_SECONDS)
