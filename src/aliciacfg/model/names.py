"""Valid names of services, environments and callers, and the names of the operations."""

import re
from typing import Literal, get_args

from aliciacfg.errors import InvalidRequest

PATTERN = "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
_NAME = re.compile(PATTERN, re.ASCII)

SECRETS_SUFFIX = "-secrets"

OperationName = Literal[
    "get", "set", "patch", "unset", "delete", "validate", "schema", "list", "batch", "history", "rollback", "explain",
    "compare", "environments", "activate", "reload", "recipient", "health", "instances", "drift", "audit",
    "replicas",
]  # fmt: skip
"""The name of an operation over MQTT and HTTP; types the rows of the operations table."""
HttpOperationName = Literal["whoami", "alerts", "tokens", "create_token", "revoke_token"]
"""The name of an operation over HTTP alone. No topic contains it, so a service may have it."""
LocalOperationName = Literal[
    "token_create", "token_list", "token_revoke", "keys_show", "keys_rotate", "keys_add", "keys_remove",
    "keys_acknowledge", "broker_passwords", "backup",
]  # fmt: skip
"""The name of an operation of the socket in the data directory. No topic contains it, so a service may have it."""

RESERVED_SERVICES: frozenset[str] = frozenset({*get_args(OperationName), "reply"})
"""Words that stand in topics and paths where the name of a service or a caller may stand."""
RESERVED_ENVIRONMENTS = frozenset({"base", "access"})

_FORM = "a name begins with a letter a to z or A to Z or a digit, followed by at most 63 of these, '_', '.' or '-'"
SERVICE_FORM = f"{_FORM}, and is no operation or part of a path"
"""What a service's name has to be, for messages that do not show the name."""


def service_problem(name: str) -> str | None:
    """Return why a service cannot have this name, or None if it can."""
    if _NAME.fullmatch(name) is None:
        return f"{name[:80]!r} cannot name a service: {_FORM}"
    if name in RESERVED_SERVICES:
        return f"{name!r} cannot name a service: the word is an operation or a part of a path"
    return None


def environment_problem(name: str) -> str | None:
    """Return why an environment cannot have this name, or None if it can."""
    if _NAME.fullmatch(name) is None:
        return f"{name[:80]!r} cannot name an environment: {_FORM}"
    if name in RESERVED_ENVIRONMENTS or name.endswith(SECRETS_SUFFIX):
        return f"{name!r} cannot name an environment: files with that name have another meaning"
    return None


def check_service(name: str) -> None:
    """Raise an error if a service cannot have a name.

    Raises:
        InvalidRequest: The name is malformed or reserved.
    """
    if problem := service_problem(name):
        raise InvalidRequest(f"{problem}.")


def check_environment(name: str) -> None:
    """Raise an error if an environment cannot have a name.

    Raises:
        InvalidRequest: The name is malformed or reserved.
    """
    if problem := environment_problem(name):
        raise InvalidRequest(f"{problem}.")


def caller_problem(name: str) -> str | None:
    """Return why a caller cannot have this name, or None if it can.

    Reserved words are invalid here too: the answer topics of a caller named ``get`` would collide with those of other
    callers.
    """
    if _NAME.fullmatch(name) is None:
        return f"{name[:80]!r} cannot name a caller: {_FORM}"
    if name in RESERVED_SERVICES:
        return f"{name!r} cannot name a caller: the word is an operation or a part of a path"
    return None


def is_caller_name(name: str) -> bool:
    """Return whether a caller can have this name."""
    return caller_problem(name) is None
