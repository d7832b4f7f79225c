"""The names that services, environments and requesters may have."""

import re
from typing import Literal, get_args

from aliciacfg.errors import InvalidRequest

PATTERN = "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
_NAME = re.compile(PATTERN, re.ASCII)

SECRETS_SUFFIX = "-secrets"

OperationName = Literal[
    "get", "set", "patch", "unset", "delete", "validate", "schema", "list", "batch", "history", "rollback", "explain",
    "compare", "environments", "activate", "reload", "recipient", "health", "instances", "drift", "audit",
]  # fmt: skip
"""An operation of the bus and of HTTP; each row of the operations table bears one of these names."""
LocalOperationName = Literal[
    "token_create", "token_list", "token_revoke", "keys_show", "keys_rotate", "keys_add", "keys_remove",
    "broker_passwords",
]  # fmt: skip
"""An operation of the socket in the data directory. Its name stands in no topic, so a service may have it."""

RESERVED_SERVICES: frozenset[str] = frozenset({*get_args(OperationName), "reply"})
"""Words that stand in the same place of a topic or a path as the name of a service."""
RESERVED_ENVIRONMENTS = frozenset({"base", "access"})

_FORM = "a name begins with a letter or digit and goes on with at most 63 letters, digits, '_', '.' or '-'"


def service_problem(name: str) -> str | None:
    """Why a service cannot have this name, or None if it can."""
    if _NAME.fullmatch(name) is None:
        return f"{name[:80]!r} cannot name a service: {_FORM}"
    if name in RESERVED_SERVICES:
        return f"{name!r} cannot name a service: the word is an operation or part of a path"
    return None


def environment_problem(name: str) -> str | None:
    """Why an environment cannot have this name, or None if it can."""
    if _NAME.fullmatch(name) is None:
        return f"{name[:80]!r} cannot name an environment: {_FORM}"
    if name in RESERVED_ENVIRONMENTS or name.endswith(SECRETS_SUFFIX):
        return f"{name!r} cannot name an environment: files of that name have another meaning"
    return None


def check_service(name: str) -> None:
    """Refuse what cannot name a service.

    Raises:
        InvalidRequest: The name is malformed or reserved.
    """
    if problem := service_problem(name):
        raise InvalidRequest(f"{problem}.")


def check_environment(name: str) -> None:
    """Refuse what cannot name an environment.

    Raises:
        InvalidRequest: The name is malformed or reserved.
    """
    if problem := environment_problem(name):
        raise InvalidRequest(f"{problem}.")


def requester_problem(name: str) -> str | None:
    """Why nobody can ask under this name, or None if somebody can.

    Reserved words name no requester either: answers to a requester called ``get`` would lie among everybody's.
    """
    if _NAME.fullmatch(name) is None:
        return f"{name[:80]!r} cannot name a requester: {_FORM}"
    if name in RESERVED_SERVICES:
        return f"{name!r} cannot name a requester: the word is an operation or part of a path"
    return None


def is_requester(name: str) -> bool:
    """Whether somebody can ask under this name."""
    return requester_problem(name) is None
