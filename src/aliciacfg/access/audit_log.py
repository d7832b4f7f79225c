"""What goes into the audit besides writes: refused access, and secrets that were delivered in the open."""

import asyncio
from collections.abc import Callable, Iterable

import msgspec
import structlog

from aliciacfg.access.caller import Caller
from aliciacfg.errors import Busy, OperationError, Unavailable
from aliciacfg.model.records import AuditEntry, Write
from aliciacfg.storage.write_queue import WriteQueue

_log = structlog.get_logger(__name__)

_SUM_SECONDS = 60.0
_MAX_KINDS = 512
# Of those who do not say who they are; what they do must not hide what others do.
_MAX_NOBODYS_KINDS = 32
_MAX_TEXT = 200
_NOBODY = "anonymous"

_Kind = tuple[str, ...]


class AuditLog:
    """Writes entries; many refusals of one kind become one entry a minute, so that nobody can fill the disk.

    Of somebody who proved a name, a kind is an operation on a service; of everybody else, where he came from.
    """

    def __init__(self, queue: WriteQueue, clock: Callable[[], float]) -> None:
        self._queue = queue
        self._clock = clock
        self._counted: dict[_Kind, AuditEntry] = {}

    def record_refusal(self, caller: Caller, operation: str, service: str | None, error: OperationError) -> None:
        """Somebody was refused access; the first of its kind is written at once, what follows is summed up."""
        entry = AuditEntry(
            timestamp=self._clock(),
            who=caller.author[:_MAX_TEXT],
            where=caller.where[:_MAX_TEXT],
            operation=operation[:_MAX_TEXT],
            outcome="refused",
            service=service[:_MAX_TEXT] if service else None,
            detail=error.message[:_MAX_TEXT],
        )
        kind, most = (error.code, entry.where), _MAX_NOBODYS_KINDS
        if caller.proven:
            kind, most = (error.code, entry.where, entry.who, entry.operation, entry.service or ""), _MAX_KINDS
        if kind not in self._counted and sum(len(other) == len(kind) for other in self._counted) >= most:
            # The names of those who proved one are few.
            kind = (error.code, entry.who if caller.proven else "", "many")
            entry = msgspec.structs.replace(entry, where="", operation="many", service=None, detail=None)
        known = self._counted.get(kind)
        if known is None:
            self._counted[kind] = msgspec.structs.replace(entry, count=0)
            self.write([entry])
        else:
            # What is summed up is told by what it has in common.
            common = msgspec.structs.replace(known, count=known.count + 1)
            if (known.operation, known.service, known.who) != (entry.operation, entry.service, entry.who):
                common = msgspec.structs.replace(common, operation="many", service=None, detail=None, who=_NOBODY)
            self._counted[kind] = common

    def record_delivery(self, caller: Caller, service: str, environment: str, revision: int) -> None:
        """Secrets left the daemon in the open."""
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
        """Write the sums once a minute, until cancelled."""
        while True:
            await asyncio.sleep(_SUM_SECONDS)
            self.flush()

    def flush(self) -> None:
        """Write the sums now."""
        sums = [
            msgspec.structs.replace(entry, timestamp=self._clock()) for entry in self._counted.values() if entry.count
        ]
        self._counted.clear()
        if sums:
            self.write(sums)

    def write(self, entries: Iterable[AuditEntry]) -> None:
        """Queue entries for the disk; what cannot be written is logged."""
        written = tuple(entries)
        try:
            self._queue.submit(Write(audit=written))
        except (Busy, Unavailable) as error:
            _log.warning("audit_not_written", reason=error.message, entries=[entry.operation for entry in written])
