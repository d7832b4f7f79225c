"""What requesters send and what they are answered: the fields of every operation.

Request structs describe the JSON object of a request over MQTT; over HTTP the same fields come from body and
query. ``dict[str, Any]`` stands for a JSON object whose members the operation looks at itself: msgspec cannot
express the recursive type of a JSON value.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aliciacfg.documents import encode
from aliciacfg.errors import BatchRefused, Conflict, ErrorCode, OperationError, Problem
from aliciacfg.model.records import AppliedStatus, Audited, Cause, DriftKind, Role

MAX_REQUEST_ID_BYTES = 64
MAX_WAIT_SECONDS = 300
MAX_BATCH_UPDATES = 100
MAX_BATCH_BYTES = 4 * 1024 * 1024
SOURCE = "config_service"

RequestId = Annotated[str, Meta(description=f"Echoed in the answer; at most {MAX_REQUEST_ID_BYTES} bytes.")]
Revision = Annotated[int, Meta(ge=1, le=2**63 - 1, description="1, 2, 3 … per environment and service, never reused.")]
Pointers = Annotated[list[str], Meta(description="JSON Pointers (RFC 6901).")]
Form = Literal["json", "yaml", "env"]
Timestamp = Annotated[float, Meta(description="Unix seconds.")]
DryRun = Annotated[bool, Meta(description="The whole pipeline without a change; answers the difference.")]
Comment = Annotated[str, Meta(max_length=1024, description="Goes into the history.")]
AllowBreaking = Annotated[bool, Meta(description="Let keys disappear or change their JSON type.")]
Difference = Annotated[
    dict[str, list[dict[str, Any]]],
    Meta(description="JSON Patch (RFC 6902) of the effective configuration by service; secrets as ***."),
]


@dataclass(frozen=True, slots=True)
class Answer:
    """An operation's encoded answer.

    Attributes:
        body: A JSON object without ``status`` and ``request_id``; in another ``form`` the whole answer.
        etag: Opaque; of answers that show one configuration.
        created: The configuration did not exist before.
        form: What ``body`` is.
    """

    body: bytes
    etag: str | None = None
    created: bool = False
    form: Form = "json"

    @classmethod
    def of(cls, fields: msgspec.Struct) -> "Answer":
        """An answer that has no etag: the fields as JSON."""
        return cls(encode(fields))


class Caller(msgspec.Struct, frozen=True):
    """Who asks.

    Attributes:
        name: What the transport proved or at least carried; None is anonymous.
        transport: Where the request came in.
        address: The peer's, where there is one.
        private: Nobody but the peer reads along: TLS, or this machine alone.
        proven: The name is proven: by a token, or by a broker whose access list is in force.
        role: Of the token; over the bus there is none.
    """

    name: str | None
    transport: str
    proven: bool = False
    role: Role = "service"
    address: str | None = None
    private: bool = False

    @property
    def where(self) -> str:
        """How it is written into the audit where the request came in."""
        return self.transport if self.address is None else f"{self.transport} {self.address}"

    @property
    def author(self) -> str:
        """How the caller is written into history."""
        return self.name or f"anonymous ({self.transport})"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that every operation takes."""

    request_id: RequestId | None = None
    environment: Annotated[str, Meta(description="Default: the active environment.")] | None = None


class WriteRequest(Request, frozen=True, kw_only=True):
    """Fields that every write takes."""

    expected_revision: Annotated[int, Meta(ge=0, le=2**63 - 1, description="0: must not exist yet.")] | None = None
    dry_run: DryRun = False
    comment: Comment | None = None
    allow_breaking: AllowBreaking = False


class GetRequest(Request, frozen=True, kw_only=True):
    """``get``: the effective configuration, or an old revision of it.

    Attributes:
        if_checksum: Answers only ``unchanged`` if it is still right.
        revision: An old one instead of the newest.
    """

    if_checksum: str | None = None
    revision: Revision | None = None
    pointer: Annotated[str | None, Meta(description="Only the value at this JSON Pointer (RFC 6901).")] = None
    format: Annotated[Form, Meta(description="yaml and env answer the bare configuration as text.")] = "json"
    wait_seconds: Annotated[
        float,
        Meta(ge=0, le=MAX_WAIT_SECONDS, description="With If-None-Match: answer when its ETag is no longer current."),
    ] = 0


class SetRequest(WriteRequest, frozen=True, kw_only=True):
    """``set``: what is stored is the smallest overlay that yields ``config``.

    Attributes:
        config: The whole wanted configuration; a secret that stays may be ``***``.
    """

    config: dict[str, Any]


class PatchRequest(WriteRequest, frozen=True, kw_only=True):
    """``patch``: changes what it names, ``null`` removes, and leaves the rest to the files.

    Attributes:
        patch: A merge patch (RFC 7396) on the effective configuration.
    """

    patch: dict[str, Any]


class UnsetRequest(WriteRequest, frozen=True, kw_only=True):
    """``unset``: drops one place from the overlay, so that what the files say shows again.

    Attributes:
        pointer: A JSON Pointer (RFC 6901); the empty one drops the whole overlay.
    """

    pointer: str


class ValidateRequest(Request, frozen=True, kw_only=True):
    """``validate``: says whether ``set`` would take a configuration, and everything that is wrong with it.

    Attributes:
        config: The whole configuration.
    """

    config: dict[str, Any]


class BatchUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One write of a ``batch``: either ``config`` as for ``set``, or ``patch`` as for ``patch``."""

    service: str
    config: dict[str, Any] | UnsetType = UNSET
    patch: dict[str, Any] | UnsetType = UNSET
    expected_revision: Annotated[int, Meta(ge=0, le=2**63 - 1, description="0: must not exist yet.")] | None = None


class BatchRequest(Request, frozen=True, kw_only=True):
    """``batch``: writes that go into one transaction; later ones build on earlier ones.

    Attributes:
        updates: In their order; answered in the same.
    """

    # Not max_length: a batch over the limit is too_large, not malformed.
    updates: Annotated[list[BatchUpdate], Meta(min_length=1, extra_json_schema={"maxItems": MAX_BATCH_UPDATES})]
    atomic: Annotated[bool, Meta(description="All or none; otherwise all that is valid.")] = False
    dry_run: DryRun = False
    comment: Comment | None = None
    allow_breaking: AllowBreaking = False


class HistoryRequest(Request, frozen=True, kw_only=True):
    """``history``: the revisions of one configuration, newest first.

    Attributes:
        limit: The size of a page.
    """

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    before: (
        Annotated[Revision, Meta(description="Only revisions below this one: the ``next`` of the page before.")] | None
    ) = None


class RollbackRequest(WriteRequest, frozen=True, kw_only=True):
    """``rollback``: a new revision with the content of an old one.

    Attributes:
        revision: The old one.
    """

    revision: Revision


class CompareRequest(Request, frozen=True, kw_only=True):
    """``compare``: two environments, or two revisions.

    The first side is ``rev1`` (default: the newest) of ``env1`` (default: ``environment``), the second ``rev2`` of
    ``env2`` (default: ``env1``).

    Attributes:
        env1: Environment of the first side.
        env2: Environment of the second side.
        rev1: Revision of the first side.
        rev2: Revision of the second side.
    """

    env1: str | None = None
    env2: str | None = None
    rev1: Revision | None = None
    rev2: Revision | None = None


class ActivateRequest(Request, frozen=True, kw_only=True):
    """``activate``: every service is checked first, and nothing changes if one would be invalid."""

    dry_run: DryRun = False
    comment: Comment | None = None


class ReloadRequest(Request, frozen=True, kw_only=True):
    """``reload``: read the files now; ``environment`` is ignored, all are read."""

    dry_run: DryRun = False
    migrate: Annotated[bool, Meta(description="Carry out the schema migrations that wait.")] = False


class RecipientRequest(Request, frozen=True, kw_only=True):
    """``recipient``: the key that a service's secrets are sealed to."""

    public_key: Annotated[
        str | None, Meta(description="X25519, base64; null takes it back, and secrets show as *** again.")
    ]


class AuditRequest(Request, frozen=True, kw_only=True):
    """``audit``: what was done and refused, newest first.

    Attributes:
        limit: The size of a page.
    """

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    before: (
        Annotated[Revision, Meta(description="Only entries below this one: the ``next`` of the page before.")] | None
    ) = None
    service: Annotated[str, Meta(description="Only what is about this service.")] | None = None


class TokenCreateRequest(Request, frozen=True, kw_only=True):
    """``token_create``: a bearer token for HTTP."""

    name: str
    role: Role = "service"
    expires_in_seconds: Annotated[float, Meta(gt=0)] | None = None


class TokenRevokeRequest(Request, frozen=True, kw_only=True):
    """``token_revoke``"""

    token_id: str


class KeyAddRequest(Request, frozen=True, kw_only=True):
    """``keys_add``: a key that opens what was sealed with it elsewhere; it does not seal."""

    private_key: Annotated[str, Meta(description="X25519, base64.")]


class KeyRemoveRequest(Request, frozen=True, kw_only=True):
    """``keys_remove``: a key that nothing is sealed with any more."""

    key_id: str


class ListRequest(Request, frozen=True, kw_only=True):
    """``list``: the configurations of one environment, by name.

    Attributes:
        prefix: Only names that begin so.
        limit: The size of a page.
        after: Only names after this one: the ``next`` of the page before.
        include: ``config`` has each configuration with it.
    """

    prefix: str = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    after: str = ""
    include: Literal["config"] | None = None


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


class AppliedReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a service publishes after it took, or refused, a configuration."""

    instance: Annotated[str, Meta(min_length=1, max_length=128)]
    revision: Revision
    checksum: Annotated[str, Meta(max_length=128)]
    status: AppliedStatus
    error: Annotated[str, Meta(max_length=1024)] | None = None


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


class UpdateMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What a service finds retained at its start, and receives after every change."""

    message_id: str
    timestamp: Timestamp
    source: str
    service: str
    environment: str
    version: str
    revision: Revision
    epoch: int
    checksum: str
    config: dict[str, Any] | msgspec.Raw
    changed: Pointers
    restart_required: Pointers


Results = Annotated[list[msgspec.Raw], Meta(description="Of an atomic batch: the answer to each update, in order.")]


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every refusal, over every transport."""

    status: Literal["error"]
    code: ErrorCode
    message: str
    problems: list[Problem]
    request_id: str | None
    revision: int | UnsetType = UNSET
    checksum: str | UnsetType = UNSET
    results: (
        Annotated[list[msgspec.Raw], Meta(description="Of an atomic batch: one answer for each update.")] | UnsetType
    ) = UNSET
    applied: int | UnsetType = UNSET
    failed: int | UnsetType = UNSET


def encode_success(body: bytes, request_id: str | None) -> bytes:
    """Put ``status`` and ``request_id`` in front of an encoded answer.

    Args:
        body: A JSON object without these two members.
        request_id: Echoed.
    """
    head = _SUCCESS if request_id is None else b'{"status":"success","request_id":' + encode(request_id)
    return head + (b"}" if body == b"{}" else b"," + body[1:])


_SUCCESS = b'{"status":"success","request_id":null'


def encode_failure(error: OperationError, request_id: str | None) -> bytes:
    """The error object of a refusal."""
    failure = Failure(
        status="error", code=error.code, message=error.message, problems=list(error.problems), request_id=request_id
    )
    if isinstance(error, Conflict):
        failure = msgspec.structs.replace(failure, revision=error.revision, checksum=error.checksum)
    elif isinstance(error, BatchRefused):
        results = [msgspec.Raw(result) for result in error.results]
        failure = msgspec.structs.replace(failure, results=results, applied=0, failed=len(results))
    return encode(failure)


def encode_internal(request_id: str | None) -> bytes:
    """The error object of a failure nobody foresaw: tells nothing."""
    message = "The daemon failed on this request; its log says why."
    return encode(Failure(status="error", code="internal", message=message, problems=[], request_id=request_id))
