"""What requesters send and what they are answered: the fields of every operation.

Request structs describe the JSON object of a request over MQTT; over HTTP the same fields come from body and
query. ``dict[str, Any]`` stands for a JSON object whose members the operation looks at itself: msgspec cannot
express the recursive type of a JSON value.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aliciacfg.api.fields import Difference, Pointers, Revision, Timestamp
from aliciacfg.errors import Problem
from aliciacfg.model.records import AppliedStatus, Audited, Cause, DriftKind, Role


class ConfigAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration as one reader may see it."""

    service: str
    config: dict[str, Any] | msgspec.Raw
    version: str
    last_updated: Timestamp
    environment: str
    revision: Revision
    epoch: Annotated[int, Meta(description="Raised when a database is restored from a backup.")]
    checksum: str


class PickedAnswer(ConfigAnswer, frozen=True, kw_only=True):
    """``get`` with a ``pointer``: ``config`` is the value at that place."""

    config: Any


class UnchangedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``get`` with an ``if_checksum`` that is still right."""

    revision: Revision
    checksum: str
    unchanged: bool = True


class WriteAnswer(ConfigAnswer, frozen=True, kw_only=True, omit_defaults=True):
    """A configuration after a write; ``difference`` (RFC 6902) only for a dry run."""

    message: str
    changed: Pointers
    restart_required: Pointers
    warnings: list[str]
    unchanged: bool = False
    dry_run: bool = False
    remains: bool | UnsetType = UNSET
    difference: Difference | UnsetType = UNSET


class DeletedAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``delete`` of a configuration that no file defines."""

    service: str
    environment: str
    revision: Revision
    epoch: int
    message: str
    remains: Annotated[bool | None, Meta(description="False: nothing is left of it.")] = None
    dry_run: bool = False
    difference: Difference | UnsetType = UNSET


class ValidateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``validate``"""

    valid: bool
    problems: list[Problem]


class SchemaAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``schema``: the whole JSON Schema, base contract included."""

    service: str
    schema: dict[str, Any]
    version: str


class ListItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One configuration in a ``list``."""

    service: str
    environment: str
    version: str
    revision: Revision
    checksum: str
    last_updated: Timestamp
    config: dict[str, Any] | UnsetType = UNSET


class ListAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``list``; ``next`` is the ``after`` of the next page, null on the last."""

    configs: list[ListItem]
    next: str | None


class EnvironmentItem(msgspec.Struct, frozen=True, kw_only=True):
    """One environment; ``problems`` say why it cannot be activated."""

    name: str
    protected: bool
    files: list[str]
    services: list[str]
    problems: list[Problem]


class EnvironmentsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``environments``"""

    active: str
    environments: list[EnvironmentItem]


class Migration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A schema's move to another major version, and what it makes of the run-time changes stored under the old one.

    Attributes:
        service: Whose schema.
        from_version: The schema that serves.
        to_version: The schema on disk.
        files: The migration files, in the order in which they are applied.
        environments: Where run-time changes are stored.
        problems: Why it cannot be carried out; each names environment and place.
        done: It was carried out.
        difference: By environment, for a dry run.
    """

    service: str
    from_version: str
    to_version: str
    files: list[str]
    environments: list[str]
    problems: list[Problem]
    done: bool
    difference: Difference | UnsetType = UNSET


class ReloadAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``reload``: the services of the active environment whose configuration changed.

    ``migrations`` are the schemas that wait for one, or had one.
    """

    environment: str
    changed: list[str]
    restart_required: list[str]
    message: str
    migrations: list[Migration]
    dry_run: bool = False
    difference: Difference | UnsetType = UNSET


class HistoryItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One revision; ``deleted`` where the configuration ended with it."""

    revision: Revision
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
    """``batch``: one answer for each update, in order: a write's, or an error object."""

    results: list[msgspec.Raw]
    applied: int
    failed: int


class Overridden(msgspec.Struct, frozen=True, kw_only=True):
    """What a lower layer says; see ``Explained``."""

    layer: str
    line: int | None
    value: Any


class Explained(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where one value comes from.

    Attributes:
        value: The value; a secret is ``***``.
        layer: ``schema``, ``environments/<file>#defaults``, ``environments/<file>#services``, ``overlay``, or
            ``daemon`` for the ``version``, which no layer holds.
        line: 1-based line of the file; null where the layer is no file.
        revision: Of an ``overlay``: the revision that brought the value.
        overridden: What lower layers say, highest first; a value they have around or below this place too.
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


class ExplainAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``explain``: every leaf of the configuration by JSON Pointer; put together they are the configuration."""

    service: str
    environment: str
    revision: Revision
    values: dict[str, Explained]
    removed: dict[str, Removed]


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """One place as the two sides have it."""

    env1: Any
    env2: Any


class CompareAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``compare``: what turns the first side into the second.

    Attributes:
        equal: Nothing differs, secrets left out unless the reader may know.
        changed: Places that both have, with different values, by JSON Pointer.
        only_in_env1: Members that only the first side has; the whole member where it is an object.
        only_in_env2: The same of the second side.
        secrets: Secrets that both have; whether they are equal is not told.
    """

    service: str
    env1: str
    env2: str
    rev1: Revision
    rev2: Revision
    equal: bool
    changed: dict[str, Sides]
    only_in_env1: dict[str, Any]
    only_in_env2: dict[str, Any]
    secrets: Pointers


class ActivateAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``activate``: ``changed`` services get another configuration, ``restart_required`` take it at a restart."""

    environment: str
    previous: str
    changed: list[str]
    restart_required: list[str]
    message: str
    dry_run: bool = False
    difference: Difference | UnsetType = UNSET


class InstanceItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one running copy of a service says of itself.

    Attributes:
        instance: Its own name.
        revision: The revision it runs.
        checksum: Of what it runs.
        status: As it reported.
        since: When it first reported this revision and status.
        last_seen: When it reported last.
        current: It runs the current revision of the active environment.
        error: Why it rejected a revision.
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
    """``instances``: by name."""

    service: str
    environment: str
    revision: Revision
    instances: list[InstanceItem]


class DriftItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is not as the store has it.

    Attributes:
        kind: ``retained``, ``file``, ``row`` or ``instance``.
        subject: Which one: a topic, a file, a row, ``<service>/<instance>``.
        message: What was found and what to do.
        since: When it was found.
        service: The service concerned, if it is one.
    """

    kind: DriftKind
    subject: str
    message: str
    since: Timestamp
    service: str | None = None


class DriftAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``drift``: what drifts now, and how often each kind was found since the start."""

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


class TokenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``token_create``; ``token`` is told this once and kept nowhere."""

    token: str
    token_id: str
    name: str
    role: Role
    expires: Timestamp | None


class TokenItem(msgspec.Struct, frozen=True, kw_only=True):
    """One token, without what proves it; one that is not ``confirmed`` somebody put into the database."""

    token_id: str
    name: str
    role: Role
    created: Timestamp
    expires: Timestamp | None
    revoked: Timestamp | None
    confirmed: bool


class TokensAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``token_list``, ``token_revoke``"""

    tokens: list[TokenItem]


class KeyItem(msgspec.Struct, frozen=True, kw_only=True):
    """One sealing key; ``in_use``: something in the store or the files is sealed with it."""

    key_id: str
    public_key: str
    current: bool
    created: Timestamp | None
    in_use: bool


class KeysAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``keys_show`` and what changes keys."""

    keys: list[KeyItem]
    message: str


class PasswordsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``broker_passwords``: by user name."""

    environment: str
    passwords: dict[str, str]


class HealthAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``health``; ``status`` is the daemon's own, not that of the answer."""

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
