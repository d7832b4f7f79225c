"""The fields of every operation's answer, as Structs.

``dict[str, Any]`` stands for a JSON object, because msgspec cannot express the recursive type of a JSON value.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aliciacfg.api.fields import Difference, Epoch, Pointers, Remedies, Revision, RevisionOrNone, Sequence, Timestamp
from aliciacfg.errors import Problem
from aliciacfg.model.records import AppliedStatus, Audited, Cause, DriftKind, Role


class RefusedEdit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem for which the files on disk were refused; the configurations before them stay in force.

    Attributes:
        file: The file's name relative to the home; empty if it is not known.
        line: 1-based line; null for the whole file.
        message: What is wrong; missing where the reader may not know it.
        service: The service that it concerns; missing if it concerns several, or one that the reader may not know.
    """

    file: str
    line: int | None
    message: str | None = None
    service: str | None = None


RefusedEdits = Annotated[
    list[RefusedEdit], Meta(description="Why edits of files are not in force; missing if all files are.")
]


class ConfigAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A configuration as its reader is allowed to see it."""

    service: str
    config: dict[str, Any] | msgspec.Raw
    version: str
    last_updated: Timestamp
    environment: str
    revision: Revision
    sequence: Sequence
    epoch: Epoch
    checksum: str
    refused_edits: RefusedEdits = []


class PickedAnswer(ConfigAnswer, frozen=True, kw_only=True):
    """``get`` with a ``pointer``: ``config`` is the value at that place."""

    config: Any


class UnchangedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``get`` with the ``if_checksum`` of the current revision."""

    revision: Revision
    checksum: str
    unchanged: bool = True


class ValueChange(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a place before and after a change.

    Attributes:
        old: The value before, a secret as ``***``; missing if there was none.
        new: The value after; missing if there is none.
    """

    old: Any = UNSET
    new: Any = UNSET


Changes = Annotated[
    dict[str, dict[str, ValueChange]],
    Meta(
        description="By service: the old and the new value of each changed place, by JSON Pointer. At most 100 places "
        "of a service, none with a value of more than 1 KiB, and 64 KiB of all services."
    ),
]
ChangesLeftOut = Annotated[
    dict[str, int],
    Meta(description="By service: how many changed places are not in `changes` because of its limits."),
]
AddedServices = Annotated[
    list[str], Meta(description="Services that had no configuration before; their values are not in `changes`.")
]
RemovedServices = Annotated[
    list[str], Meta(description="Services that have no configuration afterwards; their values are not in `changes`.")
]


class WarningDetail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of a warning, for programs.

    Attributes:
        kind: ``unknown_name``: no schema describes a member. ``shadowed``: a change made at run time hides the value of
            a file, so that edits of the file have no effect until the change is taken back.
        message: The warning, as in ``warnings``.
        pointer: The place in the configuration; missing in the last one of many, which counts the rest.
        did_you_mean: The place that was probably meant by an unknown name.
        file: The file with the hidden value.
        line: Its 1-based line.
        overlay_revision: The revision that hides it.
    """

    kind: Literal["unknown_name", "shadowed"]
    message: str
    pointer: str | UnsetType = UNSET
    did_you_mean: str | UnsetType = UNSET
    file: str | UnsetType = UNSET
    line: int | UnsetType = UNSET
    overlay_revision: Revision | UnsetType = UNSET


WarningDetails = Annotated[
    list[WarningDetail],
    Meta(description="What each of `warnings` is about, in their order; missing if there are none."),
]
WaitsForBroker = Annotated[
    bool,
    Meta(
        description="The broker is away: the change is stored, `get` returns it, and the daemon publishes it when the "
        "broker is back. In a dry run: that is what would happen."
    ),
]


class WriteAnswer(ConfigAnswer, frozen=True, kw_only=True, omit_defaults=True):
    """A configuration after a write; ``difference`` (RFC 6902) only for a dry run.

    Attributes:
        changes: The old and the new value of each place in ``changed``, by JSON Pointer; none if the configuration is
            new. At most 100 places, none with a value of more than 1 KiB.
        changes_left_out: How many places of ``changed`` are not in ``changes`` for that reason.
    """

    message: str
    changed: Pointers
    restart_required: Pointers
    warnings: list[str]
    warning_details: WarningDetails = []
    waits_for_broker: WaitsForBroker = False
    unchanged: bool = False
    dry_run: bool = False
    changes: dict[str, ValueChange] = {}
    changes_left_out: Annotated[int, Meta(ge=0)] = 0
    remains: bool | UnsetType = UNSET
    difference: Difference | UnsetType = UNSET


class DeletedAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``delete`` of a configuration that no file defines."""

    service: str
    environment: str
    revision: Revision
    sequence: Sequence
    epoch: Epoch
    message: str
    remains: Annotated[bool | None, Meta(description="False: the configuration no longer exists.")] = None
    waits_for_broker: WaitsForBroker = False
    dry_run: bool = False
    difference: Difference | UnsetType = UNSET


class ValidateAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``validate``; ``warnings`` names the members that no schema describes."""

    valid: bool
    problems: list[Problem]
    warnings: list[str] = []
    warning_details: WarningDetails = []


class SchemaAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``schema``: the whole JSON Schema, base contract included."""

    service: str
    schema: dict[str, Any]
    version: str


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a configuration and its service are, in a ``list`` with ``include=status``.

    Attributes:
        author: Who made the newest revision.
        cause: Why.
        comment: The author's comment.
        breaking: Whether it removed a key or changed the JSON type of one.
        changed_count: How many places it changed.
        overlay: Whether there are changes made at run time.
        may_write: Whether the caller may change it.
        online: Whether the service has registered and not unregistered; missing if it never registered.
        drift: How many differences from the store concern it; for administrators.
        instances: How many running copies have reported, in the active environment; without those that have been silent
            for a day and run something else.
        behind: How many of them do not run the newest revision.
        restart_pending: How many of these wait for a restart.
        rejected: How many of these have rejected it.
        problems: For how many reasons the files yield no other configuration; ``explain`` lists them.
    """

    author: str
    cause: Cause
    comment: str | None = None
    breaking: bool = False
    changed_count: int = 0
    overlay: bool = False
    may_write: bool = False
    online: bool | UnsetType = UNSET
    drift: int = 0
    instances: int = 0
    behind: int = 0
    restart_pending: int = 0
    rejected: int = 0
    problems: int = 0


class InvalidService(msgspec.Struct, frozen=True, kw_only=True):
    """A service that the files name and that has no configuration, because what they say is not valid.

    Attributes:
        problems: The reasons, each with file and line.
        missing: The secrets that it lacks, if that is all.
        may_write: Whether the caller may change it.
    """

    service: str
    environment: str
    problems: list[Problem]
    missing: Pointers
    may_write: bool


class ListItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One configuration in a ``list``."""

    service: str
    environment: str
    version: str
    revision: Revision
    checksum: str
    last_updated: Timestamp
    config: dict[str, Any] | UnsetType = UNSET
    status: ServiceStatus | UnsetType = UNSET


class ListAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``list``; ``next`` is the ``after`` of the next page, null on the last.

    Attributes:
        active: With ``include=status``: whether the environment is the active one.
        protected: With ``include=status``: whether a write in it needs ``expected_revision``.
        invalid: With ``include=status``, on the first page: at most 100 services without a configuration.
    """

    configs: list[ListItem]
    next: str | None
    refused_edits: RefusedEdits = []
    active: bool | UnsetType = UNSET
    protected: bool | UnsetType = UNSET
    invalid: list[InvalidService] = []


class EnvironmentItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One environment.

    Attributes:
        problems: The reasons why it cannot be activated.
        hidden: Values of its files that are not valid, which is no problem as long as a change made at run time hides
            them.
        lacking_secrets: By service, the secrets that it has in the active environment and not in this one.
    """

    name: str
    protected: bool
    files: list[str]
    services: list[str]
    problems: list[Problem]
    remedies: Remedies = []
    hidden: list[Problem] = []
    lacking_secrets: dict[str, Pointers] = {}


class EnvironmentsAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``environments``"""

    active: str
    environments: list[EnvironmentItem]
    refused_edits: RefusedEdits = []


class Migration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The migration of a service's stored run-time changes to another major version of its schema.

    Attributes:
        service: The service.
        from_version: The version of the schema in use.
        to_version: The version of the schema on disk.
        files: The migration files, in the order in which they are applied.
        environments: The environments in which run-time changes are stored.
        problems: Reasons why the migration cannot be carried out; each names the environment and the place.
        done: Whether the migration was carried out.
        changes: As in ``ReloadAnswer``, but by environment.
        changes_left_out: As in ``ReloadAnswer``, but by environment.
        difference: By environment; for a dry run only.
    """

    service: str
    from_version: str
    to_version: str
    files: list[str]
    environments: list[str]
    problems: list[Problem]
    done: bool
    changes: Changes = {}
    changes_left_out: ChangesLeftOut = {}
    difference: Difference | UnsetType = UNSET


class ReloadAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``reload``: the services of the active environment whose configuration changed.

    Attributes:
        migrations: Those that wait and those that were carried out.
        warnings: What the files say and probably do not mean, such as a misspelt name; and what changes made at run
            time hide of them.
    """

    environment: str
    changed: list[str]
    restart_required: list[str]
    message: str
    migrations: list[Migration]
    warnings: list[str] = []
    waits_for_broker: WaitsForBroker = False
    dry_run: bool = False
    changes: Changes = {}
    changes_left_out: ChangesLeftOut = {}
    added: AddedServices = []
    removed: RemovedServices = []
    difference: Difference | UnsetType = UNSET


class HistoryItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One revision; ``deleted`` if it ended the configuration."""

    revision: Revision
    sequence: Sequence
    version: str
    timestamp: Timestamp
    author: str
    cause: Cause
    breaking: bool
    comment: str | None
    checksum: str
    changed: Pointers
    restart_required: Pointers
    deleted: bool = False


class HistoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``history``; ``next`` is the ``before`` of the next page, null on the last."""

    service: str
    environment: str
    revisions: list[HistoryItem]
    next: Revision | None


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``batch``: the answer to each update, in order: that of a write, or an error object."""

    results: list[msgspec.Raw]
    applied: int
    failed: int


class Overridden(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a lower layer; see ``Explained``."""

    layer: str
    line: int | None
    value: Any


class Explained(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The origin of one value.

    Attributes:
        value: The value; a secret is ``***``.
        layer: ``schema``, ``environments/<file>#defaults``, ``environments/<file>#services``, ``overlay``, or
            ``daemon`` for the ``version``, which is in no layer.
        line: 1-based line of the file; null if the layer is not a file.
        revision: For an ``overlay``, the revision that set the value.
        overridden: The values of lower layers, highest first, including values around and below this place.
    """

    value: Any
    layer: str
    line: int | None
    overridden: list[Overridden]
    revision: int | None = None


class Removed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A place that a layer removed with ``null``."""

    layer: str
    line: int | None
    overridden: list[Overridden]
    revision: int | None = None


class ExplainAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``explain``: every leaf of the configuration by JSON Pointer; put together they are the configuration.

    Attributes:
        revision: The revision that is served; 0 if there is none, because what the files say is not valid.
        missing: Of a configuration that is not valid: required members that are missing, and values whose variable is
            not set.
        problems: The reasons why what the files say is not valid, each with file and line.
        hidden: As in ``environments``.
    """

    service: str
    environment: str
    revision: RevisionOrNone
    values: dict[str, Explained]
    removed: dict[str, Removed]
    missing: Pointers = []
    problems: list[Problem] = []
    hidden: list[Problem] = []


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """The values of both sides at one place."""

    env1: Any
    env2: Any


class CompareAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``compare``: the differences between two sides.

    Attributes:
        equal: Whether nothing differs; secrets count only for administrators.
        changed: The places with different values on both sides, by JSON Pointer.
        only_in_env1: Members that only the first side has, by JSON Pointer; an object as a whole.
        only_in_env2: Members that only the second side has.
        rev1: The revision of the first side; 0 if its environment yields nothing valid: then it is what its files say.
        rev2: The revision of the second side, or 0.
        secrets: Secrets of both sides that were not compared.
        hidden: The places of differences at which ``secret`` stands for one.
        missing: By environment that yields nothing valid: required members that are missing, and values whose variable
            is not set.
        problems: By environment, the reasons why what its files say of the service is not valid.
        remedies: Commands that correct all of it, where there are any.
        lacking_secrets: Of two environments, the secrets that only the first one has.
    """

    service: str
    env1: str
    env2: str
    rev1: RevisionOrNone
    rev2: RevisionOrNone
    equal: bool
    changed: dict[str, Sides]
    only_in_env1: dict[str, Any]
    only_in_env2: dict[str, Any]
    secrets: Pointers
    missing: dict[str, Pointers] = {}
    problems: dict[str, list[Problem]] = {}
    remedies: Remedies = []
    lacking_secrets: Pointers = []
    hidden: Pointers = []


class ActivateAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``activate``: the services whose configuration changed, and those that have to restart to apply it.

    Attributes:
        lacking_secrets: By service, the secrets that it had in the environment before and has not in this one.
    """

    environment: str
    previous: str
    changed: list[str]
    restart_required: list[str]
    message: str
    lacking_secrets: dict[str, Pointers] = {}
    waits_for_broker: WaitsForBroker = False
    dry_run: bool = False
    changes: Changes = {}
    changes_left_out: ChangesLeftOut = {}
    added: AddedServices = []
    removed: RemovedServices = []
    difference: Difference | UnsetType = UNSET


class InstanceItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last report of a running copy of a service.

    Attributes:
        instance: The name of the copy.
        revision: The revision that it runs.
        checksum: The checksum of the configuration that it runs.
        status: The status that it reported.
        since: The time of the first report of this revision and status.
        last_seen: The time of the last report.
        current: Whether it runs the current revision of the active environment.
        error: The reason why it rejected a revision.
    """

    instance: str
    revision: Revision
    checksum: str
    status: AppliedStatus
    since: Timestamp
    last_seen: Timestamp
    current: bool
    error: str | None = None


class InstancesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``instances``: the running copies of a service, by name."""

    service: str
    environment: str
    revision: Revision
    instances: list[InstanceItem]


class DriftItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A difference from the state in the store.

    Attributes:
        kind: ``retained``, ``file``, ``row`` or ``instance``.
        subject: The topic, file, row, or ``<service>/<instance>`` that differs.
        message: What was found and what to do.
        since: The time when it was found.
        service: The service concerned, if there is one.
    """

    kind: DriftKind
    subject: str
    message: str
    since: Timestamp
    service: str | None = None


class DriftAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``drift``: the differences now, and the number of each kind found since the start."""

    drift: list[DriftItem]
    found: dict[str, int]


class RecipientAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``recipient``"""

    service: str
    key_id: str | None
    message: str


class AuditAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``audit``; ``next`` is the ``before`` of the next page, null on the last."""

    entries: list[Audited]
    next: int | None


class AlertItem(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that an alert tells of, and that is not over.

    Attributes:
        name: Its key in ``alerts`` of ``health``: the kind, and what distinguishes several of one kind.
        kind: The kind.
        message: What happened and what to do.
        since: Since when it is so.
        service: The service concerned, if there is one.
        problems: Details, each with its place.
    """

    name: str
    kind: str
    message: str
    since: Timestamp
    service: str | None
    problems: list[Problem]


class AlertsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``alerts``: the conditions that are not over, the oldest first."""

    alerts: list[AlertItem]


Reach = Annotated[
    Literal["all", "some", "none"], Meta(description="Whether the caller may do it with all services, some or none.")
]


class NamedEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """An environment that a caller may name; ``protected`` if a write in it needs ``expected_revision``."""

    name: str
    protected: bool


class WhoamiAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Who the caller is, and what it may do.

    Attributes:
        name: The caller's name; null if it is anonymous.
        role: The role of its token; null without one.
        open: Whether there are neither access rules nor tokens, so that everybody may do everything.
        proven: Whether the name is proven.
        private: Whether nobody but the caller can read the connection: HTTPS, or on one machine without a proxy.
        admin: Whether it may do what administrators may.
        read: Which services it may read.
        write: Which services it may change.
        tokens: Whether it may create and revoke tokens, here.
        token_id: The id of its token.
        expires: When its token expires; null for never.
        environment: The active environment.
        environments: All environments; none for a caller who may read no service.
    """

    name: str | None
    role: Role | None
    open: bool
    proven: bool
    private: bool
    admin: bool
    read: Reach
    write: Reach
    tokens: bool
    token_id: str | None
    expires: Timestamp | None
    environment: str
    environments: list[NamedEnvironment]


class TokenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A new token; ``token`` is its text, which is shown only here and not stored."""

    token: str
    token_id: str
    name: str
    role: Role
    expires: Timestamp | None


class TokenItem(msgspec.Struct, frozen=True, kw_only=True):
    """One token without its secret; if ``confirmed`` is false, its row in the database is not what the daemon wrote."""

    token_id: str
    name: str
    role: Role
    created: Timestamp
    expires: Timestamp | None
    revoked: Timestamp | None
    confirmed: bool


class TokensAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens without their texts."""

    tokens: list[TokenItem]


class KeyItem(msgspec.Struct, frozen=True, kw_only=True):
    """One sealing key; ``in_use`` if a value in the store or the files is sealed with it."""

    key_id: str
    public_key: str
    current: bool
    created: Timestamp | None
    in_use: bool


class KeysAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``keys_show``, ``keys_rotate``, ``keys_add``, ``keys_remove`` and ``keys_acknowledge``: the keys afterwards."""

    keys: list[KeyItem]
    message: str


class PasswordsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``broker_passwords``: the passwords by user name."""

    environment: str
    passwords: dict[str, str]


class BackupAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``backup``: the name of a new directory in the data directory that holds a copy of the database."""

    snapshot: str


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
        Meta(description="The daemons of the home, this one included, in the same case; `replicas` tells more."),
    ] = []
