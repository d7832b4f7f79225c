"""Audit entries that do not belong to a write: refused access, and secrets that were delivered or may be guessed."""

import asyncio
from collections.abc import Callable, Iterable

import msgspec
import structlog

from aliciacfg.access.caller import Caller
from aliciacfg.errors import Busy, OperationError, Unavailable
from aliciacfg.model.records import AuditEntry, AuditOutcome, Write
from aliciacfg.storage.write_queue import WriteQueue

_log = structlog.get_logger(__name__)

_SUMMARY_SECONDS = 60.0
_MAX_GROUPS = 512
# Unproven callers have a limit of their own, so that they cannot displace the groups of proven callers.
_MAX_UNPROVEN_GROUPS = 32
_MAX_TEXT = 200
_ANONYMOUS = "anonymous"

_Group = tuple[str, ...]


class AuditLog:
    """Writes audit entries; further ones of the same group become one entry a minute, so that the disk cannot fill.

    Those of a proven caller are grouped by operation and service, those of other callers by origin.
    """

    def __init__(self, queue: WriteQueue, clock: Callable[[], float]) -> None:
        self._queue = queue
        self._clock = clock
        # The entry of each group, with the number of others since the last one that was written.
        self._groups: dict[_Group, AuditEntry] = {}

    def record_refusal(self, caller: Caller, operation: str, service: str | None, error: OperationError) -> None:
        """Record a refused request: write the first of a group at once, and count the others."""
        detail = error.message[:_MAX_TEXT]
        self._count(caller, error.code, self._entry(caller, operation, service, outcome="refused", detail=detail))

    def record_trial(self, caller: Caller, operation: str, service: str) -> None:
        """Record that secrets which a caller sent were checked and not stored, as by who guesses; counted likewise."""
        self._count(caller, "tried", self._entry(caller, operation, service, outcome="secrets_tried"))

    def _entry(
        self, caller: Caller, operation: str, service: str | None, *, outcome: AuditOutcome, detail: str | None = None
    ) -> AuditEntry:
        return AuditEntry(
            timestamp=self._clock(),
            who=caller.author[:_MAX_TEXT],
            where=caller.where[:_MAX_TEXT],
            operation=operation[:_MAX_TEXT],
            outcome=outcome,
            service=service[:_MAX_TEXT] if service else None,
            detail=detail,
        )

    def _count(self, caller: Caller, reason: str, entry: AuditEntry) -> None:
        """Write the first entry of a group, and count the others for its summary."""
        group, limit = (reason, entry.where), _MAX_UNPROVEN_GROUPS
        if caller.proven:
            group, limit = (reason, entry.where, entry.who, entry.operation, entry.service or ""), _MAX_GROUPS
        if group not in self._groups and sum(len(other) == len(group) for other in self._groups) >= limit:
            # Further groups share one for each proven name; these are few.
            group = (reason, entry.who if caller.proven else "", "many")
            entry = msgspec.structs.replace(entry, where="", operation="many", service=None, detail=None)
        first = self._groups.get(group)
        if first is None:
            self._groups[group] = msgspec.structs.replace(entry, count=0)
            self.write([entry])
        else:
            summary = msgspec.structs.replace(first, count=first.count + 1)
            if (first.operation, first.service, first.who) != (entry.operation, entry.service, entry.who):
                # The summary of different requests shows only what they have in common.
                summary = msgspec.structs.replace(summary, operation="many", service=None, detail=None, who=_ANONYMOUS)
            self._groups[group] = summary

    def record_delivery(self, caller: Caller, service: str, environment: str, revision: int) -> None:
        """Record that secrets were delivered in plain text."""
        self.write(
            [
                AuditEntry(
                    timestamp=self._clock(),
                    who=caller.author,
                    where=caller.where,
                    operation="get",
                    outcome="secrets_delivered",
                    environment=environment,
                    service=service,
                    after=revision,
                )
            ]
        )

    async def run(self) -> None:
        """Write the summaries once a minute, until cancelled."""
        while True:
            await asyncio.sleep(_SUMMARY_SECONDS)
            self.flush()

    def flush(self) -> None:
        """Write the summaries now."""
        summaries = [
            msgspec.structs.replace(entry, timestamp=self._clock()) for entry in self._groups.values() if entry.count
        ]
        self._groups.clear()
        if summaries:
            self.write(summaries)

    def write(self, entries: Iterable[AuditEntry]) -> None:
        """Pass entries to the write queue; log those that it does not accept."""
        written = tuple(entries)
        try:
            self._queue.submit(Write(audit=written))
        except (Busy, Unavailable) as error:
            _log.warning("audit_not_written", reason=error.message, entries=[entry.operation for entry in written])
