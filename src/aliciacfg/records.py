"""What the store keeps: revisions, overlays, announcements."""

from typing import Literal

import msgspec

Cause = Literal["api", "file", "activation", "registration", "migration", "rollback", "restore"]
AppliedStatus = Literal["applied", "rejected", "restart_pending"]
DriftKind = Literal["retained", "file", "row", "instance"]


class Record(msgspec.Struct, frozen=True):
    """One revision of one service in one environment; written once, never changed.

    Attributes:
        revision: 1, 2, 3 … per environment and service, never reused.
        version: The semantic version, which belongs to the daemon.
        timestamp: Unix seconds.
        author: The requester, or where the change came from.
        checksum: As ``composing.Composer.checksum`` has it; empty for a deletion.
        config: The effective configuration as JSON, ``version`` included, every secret sealed.
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
    config: bytes
    changed: list[str]
    restart_required: list[str]
    breaking: bool = False
    comment: str | None = None
    deleted: bool = False


class Overlay(msgspec.Struct, frozen=True):
    """What was changed at run time; ``patch`` is a merge patch as JSON with secrets sealed, None if dropped."""

    environment: str
    service: str
    patch: bytes | None


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


class Write(msgspec.Struct, frozen=True):
    """What goes into the store together or not at all."""

    records: tuple[Record, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    announcements: tuple[Announcement, ...] = ()
    confirmed: tuple[Announcement, ...] = ()
    meta: tuple[tuple[str, str], ...] = ()


class StoredState(msgspec.Struct, frozen=True):
    """What a start finds: the newest revision of each configuration, all overlays and announcements."""

    records: list[Record]
    overlays: list[Overlay]
    announcements: list[Announcement]
    meta: dict[str, str]
