"""The health of the daemon, and the daemons that serve a home."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aliciacfg.api.answers.refused_edits import RefusedEdits
from aliciacfg.api.fields import Timestamp

ReplicaRole = Literal["leader", "follower"]
ReplicaState = Annotated[
    Literal["ready", "not_ready", "gone"],
    Meta(description="`gone`: it has not reported for more than 5 seconds, without having stopped in order."),
]
_SEVERAL = "Only where several daemons can serve the home (PostgreSQL)."
LagSeconds = Annotated[
    float, Meta(ge=0, description="For so many seconds its memory may lack what other daemons committed.")
]


class ReplicaItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the daemons that serve the home, as it last reported.

    Attributes:
        replica: Its id, another one at each start.
        name: The setting ``ALICIACFG_REPLICA``.
        role: Whether it leads: one daemon does what must happen once in the home.
        state: Whether it is ready for requests.
        version: The version of its program.
        format: The highest format of the database that it works with; only where several daemons can serve the home.
        url: Where it listens for HTTP.
        since: When it started.
        lag_seconds: As described there.
        lag_commits: The number of transactions that its memory did not hold.
        silent_seconds: How long ago it reported; each daemon does once a second.
        files_differ: Whether the files on its disk are others than those that serve the home.
        problem: Why it is not ready.
    """

    replica: str
    name: str
    role: ReplicaRole
    state: ReplicaState
    version: str
    url: str
    since: Timestamp
    lag_seconds: LagSeconds
    lag_commits: Annotated[int, Meta(ge=0)]
    silent_seconds: Annotated[float, Meta(ge=0)]
    files_differ: bool = False
    problem: str | None = None
    format: Annotated[int | UnsetType, Meta(description=f"The highest that it works with. {_SEVERAL}")] = UNSET


class ReplicasAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``replicas``: the daemons that serve the home, the oldest first; ``leader`` is the name of the one that leads.

    ``format`` is that of the database, in which they work; it rises when all of them know a higher one.
    """

    leader: str | None
    format: Annotated[int | UnsetType, Meta(description=_SEVERAL)] = UNSET
    format_waits: Annotated[
        str | UnsetType, Meta(description="Why it does not rise, although a daemon knows a higher one.")
    ] = UNSET
    replicas: list[ReplicaItem]


class OwnReplica(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon that answers, among those that serve its home; ``leader`` is the name of the one that leads."""

    name: str
    role: ReplicaRole
    ready: bool
    lag_seconds: LagSeconds
    leader: str | None


class OtherReplica(msgspec.Struct, frozen=True, kw_only=True):
    """One of the daemons that serve the home."""

    name: str
    role: ReplicaRole
    state: ReplicaState


class HealthAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``health``; ``status`` is the status of the daemon, not of the answer."""

    service: str
    status: Literal["healthy", "degraded", "unhealthy"]
    service_name: str
    instance: str
    environment: str
    version: str
    timestamp: Timestamp
    uptime: Annotated[float, Meta(description="Seconds.")]
    configs_managed: int
    last_update: Timestamp | None
    cache_hit_rate: Annotated[float, Meta(ge=0, le=1)]
    validation_errors: int
    mqtt_connected: bool
    outbox_pending: int
    drift: int
    device_registry: str | int
    services_online: Annotated[int, Meta(description="Registered, and not unregistered since.")]
    messages_processed: int
    errors: int
    alerts: dict[str, str]
    refused_edits: Annotated[RefusedEdits, Meta(description="Without messages; at most 10.")] = []
    replica: Annotated[OwnReplica | UnsetType, Meta(description=_SEVERAL)] = UNSET
    replicas: Annotated[
        list[OtherReplica],
        Meta(description="The daemons of the home, this one included, in the same case; `replicas` has more."),
    ] = []
