"""The records that the store keeps: revisions, overlays, announcements, audit entries and others."""

from typing import Literal

import msgspec

Cause = Literal["api", "file", "activation", "registration", "migration", "rollback", "restore"]
AppliedStatus = Literal["applied", "rejected", "restart_pending"]
AuditOutcome = Literal["done", "refused", "secrets_delivered", "secrets_tried"]
DriftKind = Literal["retained", "file", "row", "instance"]
Role = Literal["service", "metrics", "reader", "writer", "admin"]
"""The rights that a token adds to the access rules: none, read all, read and write all, administer."""


class RecordHead(msgspec.Struct, frozen=True, kw_only=True):
    """A revision of a configuration without its content; written once, never changed.

    Attributes:
        environment: The environment of the configuration.
        service: The service of the configuration.
        revision: 1, 2, 3 and so on per configuration; never reused.
        version: The semantic version, which the daemon assigns.
        timestamp: The time of the change in Unix seconds.
        author: The caller, or another source of the change such as ``files``.
        cause: The kind of the change.
        checksum: As ``sealed_documents.checksum`` computes it; empty for a deletion.
        digest: The keyed digest of the content with its secrets in plain text (``hash_chain.Chain.digest``); empty if
            secrets did not open when the revision was added to the chain.
        changed: JSON Pointers of the places that differ from the revision before.
        restart_required: The pointers of ``changed`` that the service applies only at a restart.
        breaking: Whether a key disappeared or changed its JSON type.
        comment: The writer's comment.
        deleted: Whether this revision ended the configuration.
        home_sequence: The place of this revision among all changes of the home that readers are notified of. In memory
            that of the last such change of this configuration, which may be later: see ``Renewal``.
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
    home_sequence: int = 0


class Record(RecordHead, frozen=True, kw_only=True):
    """A revision with its content.

    Attributes:
        config: The effective configuration as JSON, ``version`` included, every secret sealed; ``{}`` for a deletion.
    """

    config: bytes


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the audit log about something done or refused; written once, never changed.

    Attributes:
        timestamp: The time in Unix seconds.
        who: The caller, or another cause.
        where: The origin: ``mqtt``, ``http 127.0.0.1``, ``local`` (the socket in the data directory) or ``files``.
        operation: The name of the operation, or of another event.
        outcome: The result; ``secrets_tried`` if secrets that the caller sent were checked and nothing was stored.
        environment: The environment concerned, if there is one.
        service: The service concerned, if there is one.
        before: The revision before the change, if there was one.
        after: The revision that the change made, if it made one.
        detail: Further information; never a secret.
        count: The number of events, if one entry summarises several.
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
    """An entry of the audit log with its place in the hash chain.

    Attributes:
        sequence: The place, as ``ChainedRow`` has it.
        before_checksum: The checksum of the revision ``before``.
        after_checksum: The checksum of the revision ``after``.
    """

    sequence: int
    before_checksum: str | None = None
    after_checksum: str | None = None


class ChainedRow(msgspec.Struct, frozen=True):
    """A row of the keyed hash chain.

    Attributes:
        sequence: The place in the chain: 1, 2, 3 and so on over all rows of the database.
        row: The row.
        mac: The code that links the row to the row before.
        code: The code of the row as it is stored.
    """

    sequence: int
    row: Record | AuditEntry
    mac: bytes
    code: bytes


class Overlay(msgspec.Struct, frozen=True):
    """The changes of a configuration at run time.

    Attributes:
        environment: The environment of the configuration.
        service: The service of the configuration.
        patch: A merge patch (RFC 7396) on what the files yield, as JSON with secrets sealed; None if it was dropped.
        origins: The revision that set each leaf of the patch, by JSON Pointer.
        confirmed: Whether its code shows that the daemon wrote it; otherwise it must not be used.
    """

    environment: str
    service: str
    patch: bytes | None
    origins: dict[str, int] = {}
    confirmed: bool = True


class ServingSchema(msgspec.Struct, frozen=True):
    """The schema in use for a service: stored configurations were last validated with it.

    Attributes:
        service: The service.
        document: The service's own schema as JSON; None if its file is gone.
    """

    service: str
    document: bytes | None


class Applied(msgspec.Struct, frozen=True):
    """The last report of a running copy of a service; ``api.answers.monitoring.InstanceItem`` describes it."""

    service: str
    instance: str
    environment: str
    revision: int
    checksum: str
    status: AppliedStatus
    error: str | None
    since: float
    last_seen: float


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in the order of all changes that readers are notified of; only a higher one replaces what they hold.

    Attributes:
        epoch: Raised whenever the database went back.
        sequence: Raised by every change that readers are notified of, over the whole home; goes on in a new epoch.
    """

    epoch: int
    sequence: int


START = Position(1, 0)
"""The position of a home without any change."""
SERVICE_SUBJECT = "service/"
"""What the subject of an announcement about a service's configuration begins with; others are about the home."""


class Renewal(msgspec.Struct, frozen=True):
    """The last change of how readers see a configuration that made no revision, such as an activation.

    Attributes:
        environment: The environment of the configuration.
        service: The service of the configuration.
        home_sequence: The place of the change among all those of the home.
    """

    environment: str
    service: str
    home_sequence: int


class Announcement(msgspec.Struct, frozen=True):
    """A message that the broker has to retain.

    Attributes:
        subject: The subject; there is one announcement per subject, and a newer one replaces it.
        sequence: The place of its content among all changes of the home; rises with each announcement of a subject.
        payload: The exact bytes; empty to remove the retained message.
        pending: Whether the broker has not confirmed yet that it retains the message.
    """

    subject: str
    sequence: int
    payload: bytes
    pending: bool = True


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A bearer token as it is stored; its text cannot be recovered from it.

    Attributes:
        token_id: The public part of the token, by which it is found and revoked.
        digest: The SHA-256 of the whole text, in hexadecimal.
        name: The name of its bearer.
        role: The rights that it adds to the access rules for that name.
        created: The time of its creation in Unix seconds.
        expires: The time from which it is invalid in Unix seconds; None for never.
        revoked: The time at which it was revoked in Unix seconds; None if it was not.
        confirmed: Whether its code shows that the daemon wrote it; otherwise it proves nothing.
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
    """The key to which a service's secrets are sealed.

    Attributes:
        service: The service.
        public_key: An X25519 public key in base64; None if the key was removed.
    """

    service: str
    public_key: str | None


class Answer(msgspec.Struct, frozen=True):
    """The answer to a request, kept so that a repetition of the request is not carried out again.

    Attributes:
        requester: Who sent the request.
        request_id: What the requester calls it, a space, and the 32 hexadecimal digits of the digest of what it asks
            for. An answer replaces those that were kept for the same id and something else.
        content: The encoded answer.
    """

    requester: str
    request_id: str
    content: bytes


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One of the daemons that share a home.

    Attributes:
        replica: Its id, which no other daemon ever has.
        name: Its name, for people.
        version: The version of its program.
        url: Where it listens for HTTP; empty if it does not.
        started: When it started, in Unix seconds.
        format: The highest format of the database that it can work with.
        files: The digest of the files on its disk; empty if they cannot be read.
        edited: Whether these were changed since what serves came into force.
        differing: The names of files and variables that differ from what serves, one a line, once that is no edit which
            still reaches the other machines.
        commit: The number of the last transaction that its memory follows.
        lag: For how many seconds its memory may have lacked what others committed, when it reported.
        problem: Why it is not ready; empty if it is.
        connected: Whether it reaches the broker.
        seen: When it last reported, in Unix seconds by the database's clock; the database sets it.
        silent: How many seconds ago that was, by the same clock; the database sets it.
        behind: How many transactions it had not followed when it reported; the database sets it.
        leads: Whether it leads now; the database sets it.
    """

    replica: str
    name: str
    version: str
    url: str
    started: float
    format: int
    files: str
    edited: bool = False
    differing: str = ""
    commit: int = 0
    lag: float = 0.0
    problem: str = ""
    connected: bool = True
    seen: float = 0.0
    silent: float = 0.0
    behind: int = 0
    leads: bool = False


class Basis(msgspec.Struct, frozen=True):
    """What a write was planned on; if another daemon changed that, the write does not count.

    A change of a name with a value (``Write.meta``) or of the epoch changes the basis of every plan.

    Attributes:
        services: The services whose configurations, schema or recipient it builds on, in every environment.
        creates: The environments in which it creates a configuration: their number is limited.
        everything: Whether it builds on the configurations, schemas and recipients of all services.
    """

    services: frozenset[str] = frozenset()
    creates: frozenset[str] = frozenset()
    everything: bool = False


class Write(msgspec.Struct, frozen=True):
    """The content of one transaction of the store.

    Attributes:
        records: New revisions.
        overlays: New overlays; each replaces the one before.
        announcements: New announcements; each replaces the one before of its subject.
        confirmed: Announcements that the broker retains now.
        schemas: Schemas that are in use from now on.
        applied: New reports of running copies of services.
        forgotten: Reports to delete.
        audit: New entries of the audit log.
        tokens: New or changed tokens.
        resealed: Revisions to which only a new content and checksum is written, because more of them is sealed.
        recipients: New recipients; each replaces the one before.
        renewals: New places of configurations without a new revision; each replaces the one before.
        meta: Names with values, such as the active environment.
        position: The position of the home after this write, if that changes.
        answers: Answers to requests, kept for their repetitions where several daemons share the home.
        basis: What the write was planned on; None if it builds on nothing.
    """

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
    renewals: tuple[Renewal, ...] = ()
    meta: tuple[tuple[str, str], ...] = ()
    position: Position | None = None
    answers: tuple[Answer, ...] = ()
    basis: Basis | None = None


class StoredState(msgspec.Struct, frozen=True):
    """The content of the store at a start, without rows that are not what was written; or what changed since then.

    Of a change (``Store.load_since``) each list holds only the rows that other daemons, or this one, wrote since.

    Attributes:
        records: The newest revision of each configuration.
        overlays: All overlays, those that are not ``confirmed`` included. In a change also those that were dropped,
            whose patch is None.
        announcements: All announcements.
        schemas: The schemas in use.
        renewals: New places of configurations without a new revision, at most one for each.
        meta: Names with values, such as the active environment.
        position: The position of the home after the last write.
        used_numbers: By environment and service: the last number that a revision may have had, where rows behind the
            newest revision were changed.
        dropped: The rows that are not what was written, named as in ``storage.verifier.Broken``.
        damaged: The parts of the database that cannot be read, each with the reason; what they hold is missing here.
        incomplete: Whether there may be configurations of which ``records`` has none, because they cannot be read.
        commit: The number of the last transaction that this holds; 0 where one daemon has the database for itself.
        tokens: The tokens that changed; empty at a start, as ``Store.tokens`` returns them.
        recipients: The recipients that changed; empty at a start, as ``Store.recipients`` returns them.
        applied: The reports that changed; empty at a start, as ``Store.applied`` returns them.
        forgotten: Service and instance of reports that were deleted; those in ``applied`` were made after that.
        keys: Whether the keys changed that the daemons share in the database; False at a start.
        format: Whether the format of the database is another one; False at a start.
        audited: Whether the audit log has more entries; False at a start.
    """

    records: list[Record] = []
    overlays: list[Overlay] = []
    announcements: list[Announcement] = []
    schemas: list[ServingSchema] = []
    renewals: list[Renewal] = []
    meta: dict[str, str] = {}
    position: Position = START
    used_numbers: dict[tuple[str, str], int] = {}
    dropped: list[str] = []
    damaged: list[str] = []
    incomplete: bool = False
    commit: int = 0
    tokens: list[Token] = []
    recipients: list[Recipient] = []
    applied: list[Applied] = []
    forgotten: list[tuple[str, str]] = []
    keys: bool = False
    format: bool = False
    audited: bool = False
