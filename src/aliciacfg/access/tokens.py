"""Bearer tokens: ``acfg_<id>_<secret>``.

The id is public and identifies the stored token; the secret has 256 random bits. Only the SHA-256 of the whole text is
stored. A slow password hash is not needed, because it protects secrets that can be guessed.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from aliciacfg.errors import InvalidRequest, Unauthorized
from aliciacfg.model import names
from aliciacfg.model.records import Role, Token

PREFIX = "acfg_"

_ID_BYTES = 6
_SECRET_BYTES = 32
_FORM = re.compile(r"acfg_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)
# The digest to compare with if no token has the id, so that an unknown id takes as long as a wrong secret.
_NO_DIGEST = "0" * 64
_CREATE_ONE = "create one with `aliciacfg token create`"


class Presented(NamedTuple):
    """A token as a caller presents it; it may be anything of the right form.

    Attributes:
        token_id: The public part.
        digest: Of the whole text, as ``Token.digest``.
    """

    token_id: str
    digest: str


def generate() -> str:
    """Return the text of a new token; it is shown to its bearer once and not stored."""
    return f"{PREFIX}{secrets.token_hex(_ID_BYTES)}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def token(text: str, *, name: str, role: Role, now: float, expires: float | None = None) -> Token:
    """Return the record to store of a token.

    Args:
        text: The text, as ``generate`` returns it.
        name: The name of its bearer.
        role: The rights that it adds to the access rules for that name.
        now: The current time in Unix seconds.
        expires: The time from which it is invalid in Unix seconds; None for never.

    Raises:
        InvalidRequest: The text is not a token, the name is invalid, or the token would be expired already.
    """
    if problem := names.caller_problem(name):
        raise InvalidRequest(f"{problem}.")
    if expires is not None and expires <= now:
        raise InvalidRequest("The token would be expired already; give it a later time, or none.")
    form = _FORM.fullmatch(text)
    if form is None:
        raise InvalidRequest(f"This is not a token; {_CREATE_ONE}.")
    return Token(token_id=form[1], digest=_digest(text), name=name, role=role, created=now, expires=expires)


def presented(text: str) -> Presented:
    """Return the token that a caller sent as text, which may be anything.

    Raises:
        Unauthorized: The text is malformed.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise Unauthorized(f"This is not a complete token: a token begins with {PREFIX} and has 61 characters.")
    return Presented(form[1], _digest(text))


def verify(text: str, known: Mapping[str, Token], *, now: float) -> Token:
    """Return the stored token of a text; like ``confirm`` of what ``presented`` reads.

    Raises:
        Unauthorized: The text is malformed, or not that of a valid token.
    """
    return confirm(presented(text), known, now=now)


def confirm(sent: Presented, known: Mapping[str, Token], *, now: float) -> Token:
    """Return the stored token that a caller presents, in a time that does not depend on the secret.

    Args:
        sent: What the caller presents.
        known: Every stored token by its id.
        now: The current time in Unix seconds.

    Raises:
        Unauthorized: It is no stored token; or the token was changed in the database, is revoked or expired. These last
            three reasons are given only to a caller who has the right text.
    """
    found = known.get(sent.token_id)
    right = hmac.compare_digest(sent.digest, _NO_DIGEST if found is None else found.digest)
    if found is None or not right:
        raise Unauthorized(f"The token is not known; {_CREATE_ONE}.")
    if not found.confirmed:
        raise Unauthorized(f"The token {found.token_id} was changed in the database; revoke it and {_CREATE_ONE}.")
    if found.revoked is not None:
        raise Unauthorized(f"The token {found.token_id} was revoked; {_CREATE_ONE}.")
    if found.expires is not None and found.expires <= now:
        raise Unauthorized(f"The token {found.token_id} is expired; {_CREATE_ONE}.")
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
