"""What the store keeps: revisions, overlays, announcements."""

from typing import Literal

import msgspec

Cause = Literal["api", "file", "activation", "registration", "migration", "rollback", "restore"]
AppliedStatus = Literal["applied", "rejected", "restart_pending"]
AuditOutcome = Literal["done", "refused", "secrets_delivered"]
DriftKind = Literal["retained", "file", "row", "instance"]
Role = Literal["service", "reader", "writer", "admin"]
"""What a token adds to the rules: nothing, reading everything, writing everything, administration."""


class RecordHead(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of one service in one environment without its content; written once, never changed.

    Attributes:
        revision: 1, 2, 3 … per environment and service, never reused.
        version: The semantic version, which belongs to the daemon.
        timestamp: Unix seconds.
        author: The requester, or where the change came from.
        checksum: As ``integrity.checksum`` has it; empty for a deletion.
        digest: Keyed digest of the content with its secrets in the open, as ``integrity.Chain.digest`` has it; empty
            where secrets did not open when the revision was taken into the chain.
        changed: JSON Pointers that differ from the revision before.
        restart_required: Those of ``changed`` that the service takes only at a restart.
        breaking: A key disappeared or changed its JSON type.
        deleted: The configuration ceased to exist with this revision.
    """

    environment: str
    service: str
    revision: int
    version: str
    timestamp: float
    author: str
    cause: Cause
    checksum: str
    digest: str
    changed: list[str]
    restart_required: list[str]
    breaking: bool = False
    comment: str | None = None
    deleted: bool = False


class Record(RecordHead, frozen=True, kw_only=True):
    """One revision; ``config`` is the effective configuration as JSON, ``version`` included, every secret sealed."""

    config: bytes


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done or refused; written once, never changed.

    Attributes:
        timestamp: Unix seconds.
        who: The requester, or what else caused it.
        where: Where it came in: ``mqtt``, ``http 127.0.0.1``, ``local`` (the data directory), ``files``.
        operation: The operation's name, or what else it was.
        environment: Where, if it is about one.
        service: Whose, if it is about one.
        outcome: What came of it.
        before: The revision before, if there was one.
        after: The revision that it made, if it made one.
        detail: What else there is to know; never a secret.
        count: How many times, where many of a kind are written as one.
    """

    timestamp: float
    who: str
    where: str
    operation: str
    outcome: AuditOutcome
    environment: str | None = None
    service: str | None = None
    before: int | None = None
    after: int | None = None
    detail: str | None = None
    count: int = 1


class Audited(AuditEntry, frozen=True, kw_only=True):
    """An entry as it is read: with its place in the chain, and the checksums that its revisions have."""

    sequence: int
    before_checksum: str | None = None
    after_checksum: str | None = None


class ChainedRow(msgspec.Struct, frozen=True):
    """A row as it stands in the keyed chain.

    Attributes:
        sequence: Its place, 1, 2, 3 … over all rows of the database.
        row: What was written.
        mac: What links it to the one before.
    """

    sequence: int
    row: Record | AuditEntry
    mac: bytes


class Overlay(msgspec.Struct, frozen=True):
    """What was changed at run time.

    Attributes:
        patch: A merge patch as JSON with secrets sealed; None if dropped.
        origins: The revision that brought each leaf of the patch, by JSON Pointer.
        confirmed: It is what was written; of one that is not, nothing may be believed.
    """

    environment: str
    service: str
    patch: bytes | None
    origins: dict[str, int] = {}
    confirmed: bool = True


class ServingSchema(msgspec.Struct, frozen=True):
    """A schema file that serves: what stored configurations were last checked against.

    Attributes:
        document: The service's own schema as JSON; None if its file is gone.
    """

    service: str
    document: bytes | None


class Applied(msgspec.Struct, frozen=True):
    """What a running copy of a service last reported; see ``messages.InstanceItem``."""

    service: str
    instance: str
    environment: str
    revision: int
    checksum: str
    status: AppliedStatus
    error: str | None
    since: float
    last_seen: float


class Announcement(msgspec.Struct, frozen=True):
    """A message that the bus has to hold for whoever comes later.

    Attributes:
        subject: What it is about; one announcement per subject, the newest counts.
        sequence: Tells announcements of one subject apart; higher is newer.
        payload: The exact bytes; empty takes it away.
        pending: The bus has not been seen to hold it yet.
    """

    subject: str
    sequence: int
    payload: bytes
    pending: bool = True


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A bearer token as it is kept: nobody gets back from here to its text.

    Attributes:
        token_id: Its public part, by which it is found and revoked.
        digest: SHA-256 of the whole text, in hexadecimal.
        name: Who its bearer is.
        role: What it adds to the rules for that name.
        created: Unix seconds.
        expires: Unix seconds from which it is no longer taken; None for never.
        revoked: Unix seconds at which it was taken back.
        confirmed: It is what was written; one that is not proves nothing.
    """

    token_id: str
    digest: str
    name: str
    role: Role
    created: float
    expires: float | None = None
    revoked: float | None = None
    confirmed: bool = True


class Recipient(msgspec.Struct, frozen=True):
    """The X25519 public key that a service's secrets are sealed to, in base64; None if it has none any more."""

    service: str
    public_key: str | None


class Write(msgspec.Struct, frozen=True):
    """What goes into the store together or not at all."""

    records: tuple[Record, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    announcements: tuple[Announcement, ...] = ()
    confirmed: tuple[Announcement, ...] = ()
    schemas: tuple[ServingSchema, ...] = ()
    applied: tuple[Applied, ...] = ()
    forgotten: tuple[Applied, ...] = ()
    audit: tuple[AuditEntry, ...] = ()
    tokens: tuple[Token, ...] = ()
    resealed: tuple[Record, ...] = ()
    recipients: tuple[Recipient, ...] = ()
    meta: tuple[tuple[str, str], ...] = ()


class StoredState(msgspec.Struct, frozen=True):
    """What a start finds: the newest revision of each configuration, and everything else whole."""

    records: list[Record]
    overlays: list[Overlay]
    announcements: list[Announcement]
    schemas: list[ServingSchema]
    meta: dict[str, str]
