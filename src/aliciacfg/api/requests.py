"""What is asked, as Structs."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aliciacfg.api.fields import (
    AllowBreaking,
    Comment,
    DryRun,
    Form,
    RequestId,
    Revision,
)
from aliciacfg.model.records import Role

MAX_WAIT_SECONDS = 300
MAX_BATCH_UPDATES = 100
MAX_BATCH_BYTES = 4 * 1024 * 1024


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
