"""Who the caller is, tokens, keys, passwords, the audit log and backups."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from aliciacfg.api.fields import Timestamp
from aliciacfg.model.records import Audited, Role


class RecipientAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``recipient``"""

    service: str
    key_id: str | None
    message: str


class AuditAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``audit``; ``next`` is the ``before`` of the next page, null on the last."""

    entries: list[Audited]
    next: int | None


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
        open: Whether there are neither access rules nor tokens, so that every caller may do everything.
        proven: Whether the name is proven.
        private: Whether only the caller can read the connection: HTTPS, or on one machine without a proxy.
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
