"""Audit entries that do not belong to a write: refused access, and secrets that were delivered or may be guessed."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import structlog

from aliciacfg.access.caller import Caller
from aliciacfg.errors import Busy, OperationError, Unavailable, Unconfirmed
from aliciacfg.model.records import AuditEntry, AuditOutcome, Write
from aliciacfg.storage.write_queue import WriteQueue

_log = structlog.get_logger(__name__)

_SUMMARY_SECONDS = 60.0
_MAX_GROUPS = 512
# Unproven callers have a limit of their own, so that they cannot displace the groups of proven callers.
_MAX_UNPROVEN_GROUPS = 32
# Of entries that wait until the database can be written again.
_MAX_UNWRITTEN = 1024
_MAX_TEXT = 200
_ANONYMOUS = "anonymous"

_Group = tuple[str, ...]


class AuditLog:
    """Writes audit entries; further ones of the same group become one entry a minute, so that the disk cannot fill.

    Those of a proven caller are grouped by operation and service, those of other callers by origin. Entries that cannot
    be written wait in memory and are tried again every minute.
    """

    def __init__(self, queue: WriteQueue, clock: Callable[[], float]) -> None:
        self._queue = queue
        self._clock = clock
        # The entry of each group, with the number of others since the last one that was written.
        self._groups: dict[_Group, AuditEntry] = {}
        self._unwritten: list[AuditEntry] = []
        # How many there was no room for.
        self._dropped = 0

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
        """Write the summaries, and what could not be written before, once a minute and when it is cancelled."""
        try:
            while True:
                await asyncio.sleep(_SUMMARY_SECONDS)
                self.flush()
        finally:
            self.flush()

    def flush(self) -> None:
        """Write the summaries, and what could not be written before, now."""
        if self._dropped:
            _log.warning("audit_not_written", entries=self._dropped)
            self._dropped = 0
        unwritten, self._unwritten = self._unwritten, []
        summaries = [
            msgspec.structs.replace(entry, timestamp=self._clock()) for entry in self._groups.values() if entry.count
        ]
        self._groups.clear()
        if unwritten or summaries:
            self.write([*unwritten, *summaries])

    def write(self, entries: Sequence[AuditEntry]) -> None:
        """Pass entries to the write queue; they wait if it does not accept them, or cannot write them."""
        try:
            done = self._queue.submit(Write(audit=tuple(entries)))
        except (Busy, Unavailable) as error:
            self._keep(entries, error)
        else:
            done.add_done_callback(partial(self._see, entries))

    def _see(self, entries: Sequence[AuditEntry], done: "asyncio.Future[None]") -> None:
        """Keep entries whose write failed. Of one that may have been made after all, none is written twice."""
        error = None if done.cancelled() else done.exception()
        if isinstance(error, Unavailable) and not isinstance(error, Unconfirmed):
            self._keep(entries, error)

    def _keep(self, entries: Sequence[AuditEntry], error: OperationError) -> None:
        if not self._unwritten:
            _log.warning("audit_waits", reason=error.message, remedy="none needed; it is tried again every minute")
        kept = entries[: _MAX_UNWRITTEN - len(self._unwritten)]
        self._unwritten += kept
        self._dropped += len(entries) - len(kept)
