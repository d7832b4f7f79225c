"""The outbox: retained messages that the broker has to hold, and whether it is known to hold them.

An announcement is committed in the transaction of the revision that it announces. The bus adapter publishes pending
announcements and confirms them; after a crash an announcement is still pending, and the next start publishes it again.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import msgspec

from aliciacfg.api.bus_messages import RetainedMessage, UpdateMessage
from aliciacfg.api.fields import SOURCE
from aliciacfg.core.message_ids import MessageIds
from aliciacfg.documents import JsonObject
from aliciacfg.model.records import SERVICE_SUBJECT, Announcement, Record

ENVIRONMENT = "environment"
KEY = "key"


def service_subject(service: str) -> str:
    """Return the subject of a service's configuration."""
    return SERVICE_SUBJECT + service


def subject_service(subject: str) -> str | None:
    """Return the service whose configuration a subject is; None for any other subject."""
    return subject.removeprefix(SERVICE_SUBJECT) if subject.startswith(SERVICE_SUBJECT) else None


def _not_taken() -> bool:
    return False


class Outbox:
    """The newest announcement of each subject.

    Attributes:
        on_added: Called when announcements were added; returns whether they are published without ``changed``.
        changed: Set when something has to be published.
    """

    def __init__(
        self,
        announcements: Iterable[Announcement] = (),
        *,
        message_ids: MessageIds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Continue with the announcements of the previous run.

        Args:
            announcements: The stored announcements, pending or not. One that is not what an outbox made is not used.
            message_ids: Signs messages, and knows those that it signed.
            clock: Returns monotonic seconds.
        """
        self._clock = clock
        self._message_ids = message_ids
        stored = list(announcements)
        self._current = {item.subject: item for item in stored if self._is_stored_form(item)}
        # What the broker may hold of a subject instead of a message that this program signed.
        self._unsigned = {item.subject: item.payload for item in stored if not self._is_stored_form(item)}
        # The time at which each subject became pending; a newer announcement keeps the time of the one it replaces.
        self._pending = {item.subject: clock() for item in self._current.values() if item.pending}
        self._confirmed: dict[str, Announcement] = {}
        # The subjects of what became pending since the last call.
        self._added: dict[str, None] = {}
        self.on_added: Callable[[], bool] = _not_taken
        self.changed = asyncio.Event()
        if self._pending:
            self.changed.set()

    @property
    def current(self) -> Mapping[str, Announcement]:
        """The newest announcement by subject, confirmed or not."""
        return self._current

    @property
    def pending(self) -> int:
        """The number of subjects with a pending announcement."""
        return len(self._pending)

    @property
    def fresh(self) -> int:
        """How many subjects ``added`` looks at."""
        return len(self._added)

    @property
    def oldest_seconds(self) -> float:
        """The seconds that the oldest announcement has been pending since the start; 0 if none is pending."""
        # A subject keeps its place until it is confirmed, so the first one is the oldest.
        since = next(iter(self._pending.values()), None)
        return 0.0 if since is None else self._clock() - since

    def announce(self, subject: str, message: RetainedMessage) -> Announcement:
        """Return an announcement of a message, which has to be committed and then passed to ``add``."""
        return Announcement(subject, message.sequence, self._message_ids.sign(subject, message))

    def remove(self, subject: str, sequence: int) -> Announcement:
        """Return an announcement that a subject has no message any more, to be used as that of ``announce``."""
        return Announcement(subject, sequence, b"")

    def is_ours(self, subject: str, payload: bytes) -> bool:
        """Return whether an outbox with the same keys made a message of a subject, at any time.

        A removal has no content that could be signed: see ``Retained``.
        """
        return self._message_ids.signed(subject, payload)

    def unsigned(self, subject: str) -> bytes:
        """Return the message that the store held of a subject if these keys did not sign it; empty if there is none.

        It is from before messages were signed, or its keys were lost.
        """
        return self._unsigned.get(subject, b"")

    def _is_stored_form(self, item: Announcement) -> bool:
        return not item.payload or self._message_ids.signed(item.subject, item.payload)

    def add(self, announcements: Iterable[Announcement]) -> None:
        """Make committed announcements pending, unless a newer one of the same subject was added before.

        One that is not ``pending`` was confirmed by another daemon that shares the outbox.
        """
        current, pending = self._current, self._pending
        # Of a subject, each has a higher place than the one before. Whole dictionaries at a time, as an edit may
        # announce 10,000, and nothing else goes on until all are added.
        newer = {
            item.subject: item
            for item in announcements
            if (known := current.get(item.subject)) is None
            or known.sequence < item.sequence
            or (not item.pending and known.sequence == item.sequence)
        }
        current.update(newer)
        for subject in self._confirmed.keys() & newer.keys():
            del self._confirmed[subject]
        for item in [item for item in newer.values() if not item.pending]:
            del newer[item.subject]
            pending.pop(item.subject, None)
        self._added.update(dict.fromkeys(newer))
        pending.update(dict.fromkeys([subject for subject in newer if subject not in pending], self._clock()))
        if self._added and not self.on_added():
            self.changed.set()

    def repeat(self, subject: str) -> None:
        """Make the newest announcement of a subject pending again."""
        if subject in self._current:
            self._pending.setdefault(subject, self._clock())
            self._added[subject] = None
            self.changed.set()

    def due(self) -> list[Announcement]:
        """Return the pending announcements: what ``added`` returns, then the others, oldest first."""
        added = self.added()
        if len(added) == len(self._pending):
            return added
        known = {item.subject for item in added}
        return [*added, *(self._current[subject] for subject in self._pending if subject not in known)]

    def added(self) -> list[Announcement]:
        """Return the announcements that became pending since the last call of this or of ``due``, in order."""
        found = [self._current[subject] for subject in self._added if subject in self._pending]
        self._added.clear()
        return found

    def is_pending(self, announcement: Announcement) -> bool:
        """Return whether this announcement, not a newer one of its subject, is pending."""
        return announcement.subject in self._pending and self._current[announcement.subject] is announcement

    def confirm(self, announcement: Announcement) -> None:
        """Note that the broker holds an announcement; ignored if a newer one replaced it."""
        current = self._current.get(announcement.subject)
        if current is not None and current.sequence == announcement.sequence:
            self._pending.pop(announcement.subject, None)
            self._confirmed[announcement.subject] = announcement

    def drain_confirmed(self, most: int) -> tuple[Announcement, ...]:
        """Return announcements that were confirmed, each once, and that no newer one has replaced.

        Args:
            most: The largest number; the others are returned by the next call.
        """
        drained = tuple(islice(self._confirmed.values(), most))
        for item in drained:
            del self._confirmed[item.subject]
        return drained


@dataclass(frozen=True, slots=True)
class ChangedPointers:
    """The changed places of a configuration.

    Attributes:
        changed: JSON Pointers of all changed places.
        restart_required: Those that the service applies only after a restart.
    """

    changed: list[str]
    restart_required: list[str]


def announce_record(
    outbox: Outbox,
    record: Record,
    *,
    shown: JsonObject | msgspec.Raw,
    epoch: int,
    now: float,
    pointers: ChangedPointers | None = None,
) -> Announcement:
    """Return an announcement of a configuration, with an ``UpdateMessage`` as its payload.

    Args:
        outbox: Signs the announcement.
        record: The revision to announce.
        shown: The document with its secrets redacted or sealed to the service's key, encoded or not.
        epoch: The epoch of the home.
        now: Unix seconds.
        pointers: The changed places; None for those of the record.
    """
    pointers = pointers or ChangedPointers(record.changed, record.restart_required)
    message = UpdateMessage(
        message_id="",
        epoch=epoch,
        sequence=record.home_sequence,
        timestamp=now,
        source=SOURCE,
        service=record.service,
        environment=record.environment,
        version=record.version,
        revision=record.revision,
        checksum=record.checksum,
        config=shown,
        changed=pointers.changed,
        restart_required=pointers.restart_required,
    )
    return outbox.announce(service_subject(record.service), message)
