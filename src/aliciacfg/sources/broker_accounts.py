"""The services' accounts at the broker: each service gets a password of its own, in the secrets file."""

import secrets
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from msgspec import UNSET

from aliciacfg.documents import JsonObject, escape, find, yaml_editor
from aliciacfg.errors import InvalidRequest, Problem
from aliciacfg.model import names
from aliciacfg.sources.layers import BROKER, Environment, is_secrets_file

_PASSWORD = "/mqtt_config/password"  # noqa: S105 - where one stands
_PASSWORD_BYTES = 24
_HEAD = """\
# Passwords at the broker, made by `aliciacfg setup`: give each service the password below its name.
# Then seal them here with `aliciacfg seal-file`; after that only the daemon can read them.

"""


def secrets_file(directory: Path, environment: str) -> Path:
    """Return the path of the secrets file of an environment."""
    return directory / f"{environment}{names.SECRETS_SUFFIX}.yaml"


def generate() -> str:
    """Generate a password of 192 random bits: 32 characters that need no quotes in files and shells."""
    return secrets.token_urlsafe(_PASSWORD_BYTES)


def without_password(environment: Environment, recorded: Mapping[str, str]) -> list[str]:
    """Return the services without a password of their own: they have none, a shared one, or a default for all.

    A service whose password is in the secrets file is not one of them, since an operator decided on it.

    Args:
        environment: The environment with its files.
        recorded: The passwords of the last revisions by service, run-time changes included. A service without an
            entry has the password of the files. If the files have none, the entry does not count, because such files
            could not have been loaded.
    """
    found: dict[str, str | None] = {service: _password(environment, service) for service in environment.services}
    found.update({service: password for service, password in recorded.items() if _has_any(environment, service)})
    shared = {service for users in shared_passwords(found) for service in users}
    default = with_default_password(environment, recorded)
    decided = {service for service in found if _password(environment, service, only_secrets=True) is not None}
    needy = {service for service, password in found.items() if password is None}.union(shared, default)
    return sorted((needy & environment.services) - decided - set(without_connection(environment)))


def without_connection(environment: Environment) -> list[str]:
    """Return the services whose files have no ``mqtt_config``: the broker has no account for them."""
    return sorted(service for service in environment.services if not _connects(environment, service))


def with_default_password(environment: Environment, passwords: Mapping[str, str]) -> list[str]:
    """Return the users whose password is a default in a file that is not a secrets file, so that others can read it."""
    defaults = [find(file.defaults, _PASSWORD) for file in environment.files if not is_secrets_file(file.file)]
    return sorted(user for user, password in passwords.items() if password in defaults)


def only_in_secrets(environment: Environment) -> list[str]:
    """Return the services that only the secrets file names, probably since they were removed from the other files."""
    named = {service for file in environment.files if not is_secrets_file(file.file) for service in file.services}
    return sorted(environment.services - named)


def add_passwords(text: str, passwords: Mapping[str, str], *, file: str) -> str:
    """Return the text of a secrets file with passwords added; everything else stays, such as comments and order.

    Args:
        text: The text of the file; empty if there is no file yet.
        passwords: The passwords by service.
        file: The file's name in problems.

    Raises:
        SourceError: The file is not valid, or passwords cannot be added to it.
    """
    text = text or _HEAD
    for service, password in passwords.items():
        text = yaml_editor.replace(text, f"/services/{escape(service)}{_PASSWORD}", password, file=file)
    return text


def shared_passwords(passwords: Mapping[str, str | None]) -> list[list[str]]:
    """Return the groups of users that have the same password and could log in as each other."""
    users: defaultdict[str, list[str]] = defaultdict(list)
    for user, password in passwords.items():
        if password is not None:
            users[password].append(user)
    return [sorted(found) for found in users.values() if len(found) > 1]


def _connects(environment: Environment, service: str) -> bool:
    said = [layer.patch[BROKER] for layer in environment.layers(service) if BROKER in layer.patch]
    return bool(said) and said[-1] is not None


def _has_any(environment: Environment, service: str) -> bool:
    """Return whether the files set a password of a service, be it a default for all."""
    return any(isinstance(find(layer.patch, _PASSWORD), str) for layer in environment.layers(service))


def _password(environment: Environment, service: str, *, only_secrets: bool = False) -> str | None:
    """Return the password of a service in the files, in plain text or sealed; None if they set none.

    A default counts only in the secrets file.
    """
    for layer in reversed(environment.layers(service)):
        counts = layer.secret or (layer.section == "services" and not only_secrets)
        password = find(layer.patch, _PASSWORD)
        if counts and password is not UNSET:
            return password if isinstance(password, str) else None
    return None


def passwords_of(configurations: Mapping[str, JsonObject]) -> dict[str, str]:
    """Return the passwords with which services connect to the broker.

    Args:
        configurations: Effective configurations by service, secrets in plain text.

    Raises:
        InvalidRequest: A service connects under a name other than its own, so the broker cannot prove its name.
    """
    problems: list[Problem] = []
    passwords: dict[str, str] = {}
    for service, document in configurations.items():
        bus = document.get(BROKER)
        if not isinstance(bus, dict):
            # It does not say how it connects to the broker, so the broker has no account for it.
            continue
        user, password = bus.get("username"), bus.get("password")
        if user != service:
            problems.append(
                Problem(
                    "/mqtt_config/username",
                    f"{service} connects as {str(user)[:80]!r}; the access list knows a service by its name: "
                    f"set it to {service!r}, or remove the key",
                )
            )
        elif isinstance(password, str):
            passwords[service] = password
    if problems:
        raise InvalidRequest("Services connect under names other than their own", problems)
    return passwords
