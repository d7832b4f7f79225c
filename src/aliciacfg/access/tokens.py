"""Bearer tokens: ``acfg_<id>_<secret>``.

The id is public and finds the stored token; the secret has 256 random bits. Only the SHA-256 of the whole text is
kept. A slow password hash would protect guessable secrets; nobody guesses this one.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping

from aliciacfg.errors import InvalidRequest, Unauthorized
from aliciacfg.model import names
from aliciacfg.model.records import Role, Token

PREFIX = "acfg_"

_ID_BYTES = 6
_SECRET_BYTES = 32
_FORM = re.compile(r"acfg_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)
# Compared with where no token has the id, so that an unknown id takes as long as a wrong secret.
_NO_DIGEST = "0" * 64
_MAKE_ONE = "make one with `aliciacfg token create`"


def generate() -> str:
    """The text of a new token; shown to its bearer once and kept nowhere."""
    return f"{PREFIX}{secrets.token_hex(_ID_BYTES)}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def token(text: str, *, name: str, role: Role, now: float, expires: float | None = None) -> Token:
    """What is kept of a token.

    Args:
        text: As ``generate`` makes it.
        name: Who its bearer is.
        role: What it adds to the rules for that name.
        now: Unix seconds.
        expires: Unix seconds from which it is no longer taken.

    Raises:
        InvalidRequest: The text is no token, nobody can have that name, or it would be expired from the start.
    """
    if problem := names.caller_problem(name):
        raise InvalidRequest(f"{problem}.")
    if expires is not None and expires <= now:
        raise InvalidRequest("The token would be expired from the start; give it a later time, or none.")
    form = _FORM.fullmatch(text)
    if form is None:
        raise InvalidRequest(f"This is no token; {_MAKE_ONE}.")
    return Token(token_id=form[1], digest=_digest(text), name=name, role=role, created=now, expires=expires)


def verify(text: str, known: Mapping[str, Token], *, now: float) -> Token:
    """Find the token that somebody presents. Takes as long whatever the secret is.

    Args:
        text: What was presented; anything at all.
        known: Every stored token by its id.
        now: Unix seconds.

    Raises:
        Unauthorized: It is malformed, unknown, put into the database by somebody else, revoked or expired. Only its
            bearer is told of the last three.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise Unauthorized(f"This is no token, or not all of it: it begins with {PREFIX} and has 61 characters.")
    found = known.get(form[1])
    right = hmac.compare_digest(_digest(text), _NO_DIGEST if found is None else found.digest)
    if found is None or not right:
        raise Unauthorized(f"The token is not known; {_MAKE_ONE}.")
    if not found.confirmed:
        raise Unauthorized(f"The token {found.token_id} is not as it was written; revoke it and {_MAKE_ONE}.")
    if found.revoked is not None:
        raise Unauthorized(f"The token {found.token_id} was revoked; {_MAKE_ONE}.")
    if found.expires is not None and found.expires <= now:
        raise Unauthorized(f"The token {found.token_id} is expired; {_MAKE_ONE}.")
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
