"""The data of each event of ``GET /events``, as Structs. None has a value of a configuration."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from aliciacfg.api.answers.health import HealthAnswer, OtherReplica, ReplicaRole
from aliciacfg.api.answers.monitoring import DriftItem
from aliciacfg.api.answers.refused_edits import RefusedEdits
from aliciacfg.api.fields import Epoch, Pointers, Revision, Sequence, Timestamp
from aliciacfg.model.records import Cause

MAX_POINTERS = 100
"""An event lists at most so many places."""


class HelloEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``hello``, the first event of every stream.

    Attributes:
        environment: The active environment.
        version: The version of the daemon's program.
        instance: The name of the home.
        replica: The name of the daemon among several of its home.
        resumed: Whether the events follow that the reader missed; otherwise it has to read everything that it shows,
            after this event.
    """

    epoch: Epoch
    sequence: Sequence
    environment: str
    version: str
    instance: str
    replica: str | None
    resumed: bool


class ChangeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``change``: a configuration has another revision, or is seen differently by readers with the same one.

    Attributes:
        checksum: Of the configuration; empty if it was deleted.
        timestamp: The time of the revision.
        changed: At most 100 of the places that differ from the revision before.
        changed_count: How many there are.
        restart_required: At most 100 of those that the service applies only at a restart.
        restart_required_count: How many there are.
        deleted: Whether the configuration does not exist any more.
        coalesced: Whether revisions between the one before and this one may have no event.
    """

    service: str
    environment: str
    revision: Revision
    version: str
    checksum: str
    timestamp: Timestamp
    epoch: Epoch
    sequence: Sequence
    author: str
    cause: Cause
    comment: str | None
    breaking: bool
    changed: Pointers
    changed_count: int
    restart_required: Pointers
    restart_required_count: int
    deleted: bool
    coalesced: bool


class EnvironmentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``environment``: another environment is active; the changes of its services have no events of their own."""

    environment: str
    previous: str | None
    epoch: Epoch
    sequence: Sequence


class ResetEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``reset``: what the reader missed cannot be sent; it has to read everything again.

    Attributes:
        reason: ``unknown_id``: too much happened since ``Last-Event-ID``, or it is no id. ``epoch``: the database went
            back. ``slow``: the reader received too slowly. ``access``: the reader may read other services now.
    """

    reason: Literal["unknown_id", "epoch", "slow", "access"]
    epoch: Epoch
    sequence: Sequence


class EndEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``end``, the last event of a stream that the daemon ends.

    Attributes:
        reason: ``unauthorized``: the token was revoked or is expired. ``forbidden``: the reader may read nothing any
            more. ``busy``: all streams are taken, and a caller with fewer of them needs this one. ``stopping``: the
            daemon stops.
    """

    reason: Literal["unauthorized", "forbidden", "busy", "stopping"]


class FilesEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``files``: other files are in force, or other edits are refused."""

    refused_edits: RefusedEdits


class DriftEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``drift``: the differences from the store, for administrators.

    Attributes:
        drift: At most 100, oldest first.
        count: How many there are.
    """

    drift: list[DriftItem]
    count: int


class TokensEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``tokens``: a token was made or revoked; for administrators, who read them with ``GET /tokens``."""


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``audit``: the audit log has more entries; for administrators, who read them with ``GET /audit``."""


class InstancesEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``instances``: what the running copies of a service report is another; read it with ``instances``."""

    service: str


class OnlineEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``online``: services that have registered; true while they have not unregistered.

    Attributes:
        services: All that are known, at the beginning; afterwards those that changed.
    """

    services: dict[str, bool]


class OwnReplicaEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon that sends the event, among those that serve its home."""

    name: str
    role: ReplicaRole
    ready: bool
    leader: str | None


class HealthEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``health``: as the operation of that name, without what changes all the time."""

    service: str
    status: Literal["healthy", "degraded", "unhealthy"]
    service_name: str
    instance: str
    environment: str
    version: str
    configs_managed: int
    mqtt_connected: bool
    outbox_pending: int
    drift: int
    device_registry: str | int
    services_online: int
    alerts: dict[str, str]
    refused_edits: RefusedEdits = []
    replica: OwnReplicaEvent | UnsetType = UNSET
    replicas: list[OtherReplica] = []

    @classmethod
    def of(cls, health: HealthAnswer) -> "HealthEvent":
        """Return the event for a health."""
        fields: dict[str, Any] = {name: getattr(health, name) for name in cls.__struct_fields__}
        own = health.replica
        if not isinstance(own, UnsetType):
            fields["replica"] = OwnReplicaEvent(name=own.name, role=own.role, ready=own.ready, leader=own.leader)
        return cls(**fields)


EventKind = Literal[
    "hello", "change", "environment", "reset", "end", "health", "files", "drift", "instances", "online",
    "tokens", "audit",
]  # fmt: skip
"""The kinds of events."""
EventData = (
    HelloEvent | ChangeEvent | EnvironmentEvent | ResetEvent | EndEvent | FilesEvent | DriftEvent | InstancesEvent
    | OnlineEvent | HealthEvent | TokensEvent | AuditEvent
)  # fmt: skip
DATA: dict[EventKind, type[msgspec.Struct]] = {
    "hello": HelloEvent,
    "change": ChangeEvent,
    "environment": EnvironmentEvent,
    "reset": ResetEvent,
    "end": EndEvent,
    "health": HealthEvent,
    "files": FilesEvent,
    "drift": DriftEvent,
    "instances": InstancesEvent,
    "online": OnlineEvent,
    "tokens": TokensEvent,
    "audit": AuditEvent,
}
"""The data of each kind of event."""
