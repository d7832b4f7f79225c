"""From a wanted change to what has to be written: revisions, overlays, announcements.

Nothing here waits or has an effect; ``service.ConfigService`` carries plans out.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from aliciacfg import documents, sealing, versions
from aliciacfg.composing import Composer, Effective
from aliciacfg.documents import JsonObject
from aliciacfg.errors import ValidationFailed
from aliciacfg.messages import SOURCE, UpdateMessage
from aliciacfg.outbox import Outbox, service_subject
from aliciacfg.records import Announcement, Cause, Overlay, Record, Write
from aliciacfg.sealing import REDACTED, CannotOpen, Keyring
from aliciacfg.state import Entry, Key


@dataclass(frozen=True, slots=True)
class Origin:
    """Why a change happens.

    Attributes:
        author: Who caused it.
        cause: What kind of event it was.
        comment: What the author said about it.
    """

    author: str
    cause: Cause
    comment: str | None = None


@dataclass(slots=True)
class Plan:
    """A write and what it makes of the state.

    Attributes:
        entries: The entries after the write.
        records: The revisions to append.
        overlays: The overlays to replace or drop.
        announcements: What the bus has to be told.
        meta: Names and values for the store's own table.
    """

    entries: dict[Key, Entry] = field(default_factory=dict[Key, Entry])
    records: list[Record] = field(default_factory=list[Record])
    overlays: list[Overlay] = field(default_factory=list[Overlay])
    announcements: list[Announcement] = field(default_factory=list[Announcement])
    meta: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def write(self) -> Write:
        """What goes into the store."""
        return Write(
            records=tuple(self.records),
            overlays=tuple(self.overlays),
            announcements=tuple(self.announcements),
            meta=tuple(self.meta.items()),
        )

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.records or self.overlays or self.announcements or self.meta)


class Planner:
    """Plans revisions of one moment's files; the epoch and the keys are the database's."""

    def __init__(
        self, *, composer: Composer, keyring: Keyring, outbox: Outbox, epoch: int, clock: Callable[[], float]
    ) -> None:
        self.composer = composer
        self._keyring = keyring
        self._outbox = outbox
        self._epoch = epoch
        self._clock = clock

    def change(
        self,
        plan: Plan,
        key: Key,
        entry: Entry,
        *,
        effective: Effective,
        overlay: JsonObject | None,
        origin: Origin,
        announce: bool,
    ) -> Entry:
        """Add to a plan what makes ``effective`` the configuration of ``key``.

        Args:
            plan: Is added to.
            key: Which configuration.
            entry: What it is on the head.
            effective: What it shall be.
            overlay: The overlay that makes it so, secrets in the open; None for none.
            origin: Why.
            announce: The environment is the active one.

        Returns:
            The entry after the plan; with the same record where the effective configuration does not differ.

        Raises:
            ValidationFailed: The version asked for is below what the change needs.
        """
        if not _same_overlay(entry.overlay, overlay):
            plan.overlays.append(self._overlay(key, overlay, effective.secrets))
        live = entry.live
        if live is not None and live.checksum == effective.checksum:
            after = Entry(live, overlay, effective)
        else:
            record = self._record(key, entry, effective, origin)
            plan.records.append(record)
            if announce:
                plan.announcements.append(announce_record(self._outbox, record, epoch=self._epoch, now=self._clock()))
            after = Entry(record, overlay, effective)
        plan.entries[key] = after
        return after

    def tombstone(self, plan: Plan, key: Key, entry: Entry, *, origin: Origin, announce: bool) -> Entry:
        """Add to a plan what ends a configuration: its revision counter stays, its retained message goes."""
        environment, service = key
        record = Record(
            environment=environment,
            service=service,
            revision=(entry.record.revision if entry.record else 0) + 1,
            version=entry.record.version if entry.record else versions.FIRST,
            timestamp=self._clock(),
            author=origin.author,
            cause=origin.cause,
            checksum="",
            config=b"{}",
            changed=[""],
            restart_required=[],
            breaking=True,
            comment=origin.comment,
            deleted=True,
        )
        plan.records.append(record)
        if entry.overlay is not None:
            plan.overlays.append(Overlay(environment, service, None))
        if announce:
            plan.announcements.append(self._outbox.create(service_subject(service), b""))
        plan.entries[key] = Entry(record)
        return plan.entries[key]

    def recorded(self, record: Record) -> JsonObject:
        """The document of a revision without ``version``, its secrets opened where they open."""
        document = _stored(record)
        document.pop("version", None)
        opened: dict[str, str] = {}
        for pointer, value in documents.walk_strings(document):
            if sealing.is_sealed(value):
                try:
                    opened[pointer] = self._keyring.open(
                        value, service=record.service, environment=record.environment, pointer=pointer
                    )
                except CannotOpen:
                    opened[pointer] = REDACTED
        result = documents.replace_strings(document, opened)
        return result if isinstance(result, dict) else {}

    def _record(self, key: Key, entry: Entry, effective: Effective, origin: Origin) -> Record:
        environment, service = key
        previous = entry.record
        live = entry.live
        old: JsonObject = {}
        if live is not None:
            old = entry.effective.document if entry.effective is not None else self.recorded(live)
        changes = list(documents.changes(old, effective.document))
        version, problem = effective.requested_version or versions.FIRST, None
        if previous is not None:
            bump = versions.bump_for(changes)
            version, problem = versions.next_version(previous.version, bump, effective.requested_version)
        if problem is not None:
            raise ValidationFailed(f"The version asked for {service} is too low", [problem])
        changed = [change.pointer for change in changes]
        document = self.composer.sealed(environment, service, effective.document, effective.secrets)
        return Record(
            environment=environment,
            service=service,
            revision=(previous.revision if previous else 0) + 1,
            version=version,
            timestamp=self._clock(),
            author=origin.author,
            cause=origin.cause,
            checksum=effective.checksum,
            config=documents.canonical({**document, "version": version}),
            changed=changed,
            restart_required=self.composer.sources.schema(service).restart_required(changed) if live else [],
            breaking=live is not None and any(change.bump == "major" for change in changes),
            comment=origin.comment,
        )

    def _overlay(self, key: Key, overlay: JsonObject | None, secrets: Mapping[str, str]) -> Overlay:
        environment, service = key
        if overlay is None:
            return Overlay(environment, service, None)
        sealed = self.composer.sealed(environment, service, overlay, dict(secrets))
        return Overlay(environment, service, documents.canonical(sealed))


def announce_record(outbox: Outbox, record: Record, *, epoch: int, now: float) -> Announcement:
    """The message that tells a service its configuration, secrets redacted."""
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
        config=redact_sealed(record),
        changed=record.changed,
        restart_required=record.restart_required,
    )
    return outbox.create(service_subject(record.service), documents.encode(message))


def redact_sealed(record: Record) -> JsonObject:
    """The document of a revision as any reader may see it, ``version`` included."""
    document = _stored(record)
    hidden = {pointer: REDACTED for pointer, value in documents.walk_strings(document) if sealing.is_sealed(value)}
    result = documents.replace_strings(document, hidden)
    return result if isinstance(result, dict) else {}


def _stored(record: Record) -> JsonObject:
    return msgspec.json.decode(record.config)


def _same_overlay(old: JsonObject | None, new: JsonObject | None) -> bool:
    if old is None or new is None:
        return old is new
    return documents.equal(old, new)
