"""What the bus has to hold, and whether it was seen to: commit first, then announce.

An announcement is committed together with the revision it is about. A bus adapter publishes what is pending
and confirms it; a crash anywhere leaves it pending, and the next start publishes it again.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from aliciacfg import documents
from aliciacfg.api.bus_messages import UpdateMessage
from aliciacfg.api.fields import SOURCE
from aliciacfg.documents import JsonObject
from aliciacfg.model.records import Announcement, Record

ENVIRONMENT = "environment"
KEY = "key"
_SERVICE = "service/"


def service_subject(service: str) -> str:
    """The subject of a service's configuration."""
    return _SERVICE + service


def subject_service(subject: str) -> str | None:
    """The service that a subject is about, if it is about one."""
    return subject.removeprefix(_SERVICE) if subject.startswith(_SERVICE) else None


class Outbox:
    """The newest announcement of each subject."""

    def __init__(
        self, announcements: Iterable[Announcement] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Go on where the last run ended.

        Args:
            announcements: What it left, pending or not.
            clock: Seconds, monotonic.
        """
        self._clock = clock
        self._current = {item.subject: item for item in announcements}
        self._sequence = max((item.sequence for item in self._current.values()), default=0)
        # Since when each has been waiting; a newer announcement waits since the first that it replaces.
        self._pending = {item.subject: clock() for item in self._current.values() if item.pending}
        self._confirmed: dict[str, Announcement] = {}
        self.changed = asyncio.Event()
        if self._pending:
            self.changed.set()

    @property
    def current(self) -> Mapping[str, Announcement]:
        """The newest announcement by subject, confirmed or not."""
        return self._current

    @property
    def pending(self) -> int:
        """How many subjects the bus has not been seen to hold."""
        return len(self._pending)

    @property
    def oldest_seconds(self) -> float:
        """How long what waits longest has been waiting, this start at most; 0 if nothing waits."""
        # A subject keeps its place until it is confirmed, so the first waits longest.
        since = next(iter(self._pending.values()), None)
        return 0.0 if since is None else self._clock() - since

    def create(self, subject: str, payload: bytes) -> Announcement:
        """An announcement to be committed and then ``add``-ed."""
        self._sequence += 1
        return Announcement(subject, self._sequence, payload)

    def add(self, announcements: Iterable[Announcement]) -> None:
        """These are committed now: publish them."""
        for item in announcements:
            known = self._current.get(item.subject)
            if known is None or known.sequence < item.sequence:
                self._current[item.subject] = item
                self._pending.setdefault(item.subject, self._clock())
        self.changed.set()

    def repeat(self, subject: str) -> None:
        """Publish a subject's announcement again."""
        if subject in self._current:
            self._pending.setdefault(subject, self._clock())
            self.changed.set()

    def due(self) -> list[Announcement]:
        """The pending announcements, longest waiting first."""
        return [self._current[subject] for subject in self._pending]

    def is_pending(self, announcement: Announcement) -> bool:
        """Whether this very announcement still has to be published."""
        return announcement.subject in self._pending and self._current[announcement.subject] is announcement

    def confirm(self, announcement: Announcement) -> None:
        """The bus was seen to hold it."""
        current = self._current.get(announcement.subject)
        if current is not None and current.sequence == announcement.sequence:
            self._pending.pop(announcement.subject, None)
            self._confirmed[announcement.subject] = announcement

    def drain_confirmed(self) -> tuple[Announcement, ...]:
        """What was confirmed since the last call, to be written down with the next write."""
        taken = tuple(self._confirmed.values())
        self._confirmed.clear()
        return taken


@dataclass(frozen=True, slots=True)
class Announced:
    """What a service is told of a change: the pointers that differ, and those it takes only at a restart."""

    changed: list[str]
    restart_required: list[str]


def announce_record(
    outbox: Outbox, record: Record, *, shown: JsonObject, epoch: int, now: float, announced: Announced | None = None
) -> Announcement:
    """The message that tells a service its configuration; by default what changed with its own revision.

    Args:
        outbox: Makes the announcement.
        record: The configuration.
        shown: Its document as every reader may see it.
        epoch: Of the database.
        now: Unix seconds.
        announced: The pointers that differ; by default those of the record.
    """
    announced = announced or Announced(record.changed, record.restart_required)
    message = UpdateMessage(
        message_id=str(uuid.uuid4()),
        timestamp=now,
        source=SOURCE,
        service=record.service,
        environment=record.environment,
        version=record.version,
        revision=record.revision,
        epoch=epoch,
        checksum=record.checksum,
        config=shown,
        changed=announced.changed,
        restart_required=announced.restart_required,
    )
    return outbox.create(service_subject(record.service), documents.encode(message))
