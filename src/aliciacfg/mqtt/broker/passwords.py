"""A password file for Mosquitto, so that each service proves its name to the broker.

A line is ``user:$7$<iterations>$<salt>$<key>``: PBKDF2-HMAC-SHA512, salt and key in standard base64.
"""

import base64
import hashlib
import secrets
from collections.abc import Mapping

from aliciacfg.errors import InvalidRequest, Problem
from aliciacfg.model import names

# Mosquitto derives the key in its only thread, at every connect: some 5 ms on a desktop, 50 ms on a small board, for
# each of a home's programs after a power cut. Its own tool uses 101 iterations.
ITERATIONS = 10_000

_SALT_BYTES = 12
_MAX_BYTES = 65_535


def password_file(passwords: Mapping[str, str], *, iterations: int = ITERATIONS) -> str:
    """Return the text of a password file; every call uses fresh salts.

    Args:
        passwords: By user name.
        iterations: Rounds of key derivation.

    Raises:
        InvalidRequest: A name cannot be a requester's, or a password cannot be used; names the user, never the
            password.
    """
    problems = [problem for user, password in passwords.items() for problem in _problems(user, password)]
    if problems:
        raise InvalidRequest("There is no password file for these users", problems)
    return "".join(f"{_line(user, passwords[user], iterations)}\n" for user in sorted(passwords))


def _problems(user: str, password: str) -> list[Problem]:
    found: list[Problem] = []
    if problem := names.caller_problem(user):
        found.append(Problem("", problem))
    if not password or "\0" in password or len(password.encode()) > _MAX_BYTES:
        expected = f"a password has 1 to {_MAX_BYTES} bytes, none of them zero"
        found.append(Problem("", f"the password of {user[:80]!r} cannot be used: {expected}"))
    return found


def _line(user: str, password: str, iterations: int) -> str:
    salt = secrets.token_bytes(_SALT_BYTES)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    return f"{user}:$7${iterations}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"
