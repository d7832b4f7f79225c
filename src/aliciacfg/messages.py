"""What requesters send and what they are answered: the fields of every operation.

Request structs describe the JSON object of a request over MQTT; over HTTP the same fields come from body and
query. ``dict[str, Any]`` stands for a JSON object whose members the operation looks at itself: msgspec cannot
express the recursive type of a JSON value.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aliciacfg.documents import encode
from aliciacfg.errors import Conflict, ErrorCode, OperationError, Problem

MAX_REQUEST_ID_BYTES = 64
SOURCE = "config_service"

RequestId = Annotated[str, Meta(description=f"Echoed in the answer; at most {MAX_REQUEST_ID_BYTES} bytes.")]
Revision = Annotated[int, Meta(ge=1, le=2**63 - 1, description="1, 2, 3 … per environment and service, never reused.")]
Pointers = Annotated[list[str], Meta(description="JSON Pointers (RFC 6901).")]
Timestamp = Annotated[float, Meta(description="Unix seconds.")]


class Caller(msgspec.Struct, frozen=True):
    """Who asks.

    Attributes:
        name: What the transport proved or at least carried; None is anonymous.
        transport: Where the request came in.
    """

    name: str | None
    transport: str

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
    dry_run: Annotated[bool, Meta(description="The whole pipeline without a change.")] = False
    comment: Annotated[str, Meta(max_length=1024)] | None = None
    allow_breaking: bool = False


class GetRequest(Request, frozen=True, kw_only=True):
    """``get``"""

    if_checksum: str | None = None
    revision: Revision | None = None


class SetRequest(WriteRequest, frozen=True, kw_only=True):
    """``set``: the whole wanted configuration."""

    config: dict[str, Any]


class PatchRequest(WriteRequest, frozen=True, kw_only=True):
    """``patch``: a merge patch (RFC 7396) on the effective configuration."""

    patch: dict[str, Any]


class UnsetRequest(WriteRequest, frozen=True, kw_only=True):
    """``unset``: drops one place from the overlay; the empty pointer drops all of it."""

    pointer: str


class ValidateRequest(Request, frozen=True, kw_only=True):
    """``validate``: would ``set`` accept this configuration?"""

    config: dict[str, Any]


class ListRequest(Request, frozen=True, kw_only=True):
    """``list``: the configurations of one environment, by name."""

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
    difference: dict[str, list[dict[str, Any]]] | UnsetType = UNSET


class DeletedAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``delete`` of a configuration that no file defines."""

    service: str
    environment: str
    revision: Revision
    epoch: int
    message: str
    remains: Annotated[bool | None, Meta(description="False: nothing is left of it.")] = None
    dry_run: bool = False


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


class ReloadAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``reload``: the services of the active environment whose configuration changed."""

    environment: str
    changed: list[str]
    message: str


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


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every refusal, over every transport."""

    status: Literal["error"]
    code: ErrorCode
    message: str
    problems: list[Problem]
    request_id: str | None
    revision: int | UnsetType = UNSET
    checksum: str | UnsetType = UNSET


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
    return _encode_failure(error.code, error.message, error.problems, request_id, error)


def encode_internal(request_id: str | None) -> bytes:
    """The error object of a failure nobody foresaw: tells nothing."""
    return _encode_failure("internal", "The daemon failed on this request; its log says why.", (), request_id, None)


def _encode_failure(
    code: ErrorCode,
    message: str,
    problems: tuple[Problem, ...],
    request_id: str | None,
    error: OperationError | None,
) -> bytes:
    conflict = error if isinstance(error, Conflict) else None
    return encode(
        Failure(
            status="error",
            code=code,
            message=message,
            problems=list(problems),
            request_id=request_id,
            revision=UNSET if conflict is None else conflict.revision,
            checksum=UNSET if conflict is None else conflict.checksum,
        )
    )
