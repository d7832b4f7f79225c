"""The fields of every operation's request, as Structs.

Over MQTT they are the members of the payload; over HTTP they come from the body and the query. ``dict[str, Any]``
stands for a JSON object, because msgspec cannot express the recursive type of a JSON value.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aliciacfg.api.fields import (
    AllowBreaking,
    AtLeast,
    Comment,
    DryRun,
    ExpectedRevision,
    Form,
    PageLimit,
    RefuseNearMisses,
    RequestId,
    Revision,
)
from aliciacfg.model.records import AuditOutcome, Role

MAX_WAIT_SECONDS = 300
_CENTURY_SECONDS = 36_525 * 86_400
MAX_BATCH_UPDATES = 100
MAX_BATCH_BYTES = 4 * 1024 * 1024


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of every request."""

    request_id: RequestId | None = None
    environment: Annotated[str, Meta(description="Default: the active environment.")] | None = None


class WriteRequest(Request, frozen=True, kw_only=True):
    """Fields of every request that writes a configuration."""

    expected_revision: ExpectedRevision | None = None
    dry_run: DryRun = False
    comment: Comment | None = None
    allow_breaking: AllowBreaking = False
    refuse_near_misses: RefuseNearMisses = False


class CurrentRequest(Request, frozen=True, kw_only=True):
    """Fields of a request about a configuration of which a revision may be newer than what the daemon knows."""

    at_least: AtLeast | None = None


class GetRequest(CurrentRequest, frozen=True, kw_only=True):
    """``get``: reads the effective configuration, or an old revision of it.

    Attributes:
        if_checksum: If it is the checksum of the current revision, the answer is only ``unchanged``.
        revision: An old revision instead of the newest one.
    """

    if_checksum: str | None = None
    revision: Revision | None = None
    pointer: Annotated[str | None, Meta(description="Only the value at this JSON Pointer (RFC 6901).")] = None
    format: Annotated[Form, Meta(description="yaml and env answer the bare configuration as text.")] = "json"
    wait_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=MAX_WAIT_SECONDS,
            description="With If-None-Match: wait for a configuration with another ETag.",
        ),
    ] = 0


class SetRequest(WriteRequest, frozen=True, kw_only=True):
    """``set``: replaces the configuration; the smallest overlay that yields ``config`` is stored.

    Attributes:
        config: The whole configuration; ``***`` keeps a secret.
    """

    config: dict[str, Any]


class PatchRequest(WriteRequest, frozen=True, kw_only=True):
    """``patch``: changes the members that it names; ``null`` removes a member.

    Attributes:
        patch: A merge patch (RFC 7396) on the effective configuration.
    """

    patch: dict[str, Any]


class UnsetRequest(WriteRequest, frozen=True, kw_only=True):
    """``unset``: removes a place from the overlay, so that the value of the files applies again.

    Attributes:
        pointer: A JSON Pointer (RFC 6901); an empty one removes the whole overlay.
    """

    pointer: str


class ValidateRequest(Request, frozen=True, kw_only=True):
    """``validate``: checks whether ``set`` would accept a configuration, and lists all problems.

    Attributes:
        config: The whole configuration.
    """

    config: dict[str, Any]


class BatchUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One write of a ``batch``: either ``config`` as for ``set``, or ``patch`` as for ``patch``."""

    service: str
    config: dict[str, Any] | UnsetType = UNSET
    patch: dict[str, Any] | UnsetType = UNSET
    expected_revision: ExpectedRevision | None = None


class BatchRequest(Request, frozen=True, kw_only=True):
    """``batch``: several writes in one transaction; each builds on those before it.

    Attributes:
        updates: The writes; their results are in the same order.
    """

    # Not max_length: a batch over the limit is too_large, not malformed.
    updates: Annotated[list[BatchUpdate], Meta(min_length=1, extra_json_schema={"maxItems": MAX_BATCH_UPDATES})]
    atomic: Annotated[bool, Meta(description="Apply all updates or none; otherwise the valid ones are applied.")] = (
        False
    )
    dry_run: DryRun = False
    comment: Comment | None = None
    allow_breaking: AllowBreaking = False
    refuse_near_misses: RefuseNearMisses = False


class HistoryRequest(CurrentRequest, frozen=True, kw_only=True):
    """``history``: lists the revisions of one configuration, newest first."""

    limit: PageLimit = 100
    before: Annotated[Revision, Meta(description="Only older revisions: the ``next`` of the previous page.")] | None = (
        None
    )


class RollbackRequest(WriteRequest, frozen=True, kw_only=True):
    """``rollback``: makes a new revision with the content of an old one.

    Attributes:
        revision: The old revision.
    """

    revision: Revision


class CompareRequest(Request, frozen=True, kw_only=True):
    """``compare``: compares two environments or two revisions of a service.

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
    """``activate``: makes an environment the active one, unless a service would be invalid in it."""

    dry_run: DryRun = False
    comment: Comment | None = None


class ReloadRequest(Request, frozen=True, kw_only=True):
    """``reload``: reads the files of all environments now; ``environment`` is ignored."""

    dry_run: DryRun = False
    migrate: Annotated[bool, Meta(description="Carry out the waiting schema migrations.")] = False


class RecipientRequest(Request, frozen=True, kw_only=True):
    """``recipient``: sets the key to which a service's secrets are sealed."""

    public_key: Annotated[
        str | None, Meta(description="X25519, base64; null removes the key, and secrets show as *** again.")
    ]


class AuditRequest(Request, frozen=True, kw_only=True):
    """``audit``: lists changes and refused requests, newest first."""

    limit: PageLimit = 100
    before: Annotated[Revision, Meta(description="Only older entries: the ``next`` of the previous page.")] | None = (
        None
    )
    service: Annotated[str, Meta(description="Only entries about this service.")] | None = None
    who: Annotated[str, Meta(description="Only entries about this caller.")] | None = None
    outcome: Annotated[AuditOutcome, Meta(description="Only entries with this outcome.")] | None = None


class TokenCreateRequest(Request, frozen=True, kw_only=True):
    """A new bearer token for HTTP.

    Attributes:
        name: The name of its bearer, as in the access rules.
        role: What it adds to the rules for that name.
        expires_in_seconds: How long it is valid, at most 100 years; without it, until it is revoked.
    """

    name: str
    role: Role = "service"
    # Beyond some years calendars have no date for it.
    expires_in_seconds: Annotated[float, Meta(gt=0, le=_CENTURY_SECONDS)] | None = None


class TokenRevokeRequest(Request, frozen=True, kw_only=True):
    """``token_revoke``: revokes a token."""

    token_id: str


class KeyAddRequest(Request, frozen=True, kw_only=True):
    """``keys_add``: adds a private key that opens values sealed with it; it does not seal."""

    private_key: Annotated[str, Meta(description="X25519, base64.")]


class KeyRemoveRequest(Request, frozen=True, kw_only=True):
    """``keys_remove``: removes a key with which no value is sealed any more."""

    key_id: str


class ListRequest(Request, frozen=True, kw_only=True):
    """``list``: lists the configurations of one environment by name.

    Attributes:
        prefix: Only names with this prefix.
        after: Only names after this one: the ``next`` of the previous page.
        include: ``config`` adds each configuration to the answer, ``status`` how each one is.
    """

    prefix: str = ""
    limit: PageLimit = 100
    after: str = ""
    include: Literal["config", "status"] | None = None
