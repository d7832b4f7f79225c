"""The services' accounts at the broker: a password of its own for each that has none, in the secrets file."""

import secrets
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from msgspec import UNSET

from aliciacfg.documents import JsonObject, escape, find, yaml_editor
from aliciacfg.errors import InvalidRequest, Problem
from aliciacfg.model import names
from aliciacfg.sources.layers import Environment, is_secrets_file

_PASSWORD = "/mqtt_config/password"  # noqa: S105 - where one stands
_PASSWORD_BYTES = 24
_HEAD = """\
# Passwords at the broker, made by `aliciacfg setup`: give each service the one below its name.
# `aliciacfg seal-file` seals them here once that is done; nobody but the daemon reads them then.

"""


def secrets_file(directory: Path, environment: str) -> Path:
    """Where the secrets of an environment are written down."""
    return directory / f"{environment}{names.SECRETS_SUFFIX}.yaml"


def generate() -> str:
    """A new password: 192 random bits, in letters that no file and no shell needs quotes for."""
    return secrets.token_urlsafe(_PASSWORD_BYTES)


def without_password(environment: Environment, recorded: Mapping[str, str]) -> list[str]:
    """The services that have no password of their own: none at all, one that others have too, or a default for all.

    Not those of which the secrets file says what their password is: that is somebody's decision.

    Args:
        environment: The files.
        recorded: The passwords as they were recorded last, changes made at run time included, by service. What is not
            here counts as the files have it; and where these have none at all, as that: they could not be taken over.
    """
    found: dict[str, str | None] = {service: _password(environment, service) for service in environment.services}
    found.update({service: password for service, password in recorded.items() if _has_any(environment, service)})
    shared = {service for users in shared_passwords(found) for service in users}
    default = with_default_password(environment, recorded)
    decided = {service for service in found if _password(environment, service, only_secrets=True) is not None}
    needy = {service for service, password in found.items() if password is None}.union(shared, default)
    return sorted((needy & environment.services) - decided)


def with_default_password(environment: Environment, passwords: Mapping[str, str]) -> list[str]:
    """The users whose password is a default in a file that holds no secrets: whoever reads it could be any of them."""
    defaults = [find(file.defaults, _PASSWORD) for file in environment.files if not is_secrets_file(file.file)]
    return sorted(user for user, password in passwords.items() if password in defaults)


def only_in_secrets(environment: Environment) -> list[str]:
    """The services that no file names but the one of secrets: most likely they were taken out of the others."""
    named = {service for file in environment.files if not is_secrets_file(file.file) for service in file.services}
    return sorted(environment.services - named)


def add_passwords(text: str, passwords: Mapping[str, str], *, file: str) -> str:
    """The text of a secrets file with passwords put in; comments, order and everything else stay.

    Args:
        text: What is there; empty where there is no file yet.
        passwords: By service.
        file: For messages.

    Raises:
        SourceError: The file has a shape into which they do not go.
    """
    text = text or _HEAD
    for service, password in passwords.items():
        text = yaml_editor.replace(text, f"/services/{escape(service)}{_PASSWORD}", password, file=file)
    return text


def shared_passwords(passwords: Mapping[str, str | None]) -> list[list[str]]:
    """The users who could log in as each other, together with whom."""
    users: defaultdict[str, list[str]] = defaultdict(list)
    for user, password in passwords.items():
        if password is not None:
            users[password].append(user)
    return [sorted(found) for found in users.values() if len(found) > 1]


def _has_any(environment: Environment, service: str) -> bool:
    """Whether the files give a service any password, a default for all included."""
    return any(isinstance(find(layer.patch, _PASSWORD), str) for layer in environment.layers(service))


def _password(environment: Environment, service: str, *, only_secrets: bool = False) -> str | None:
    """What the files say of this service's password, in the open or sealed; None where they say nothing of it.

    A default counts where the secrets file has it.
    """
    for layer in reversed(environment.layers(service)):
        counts = layer.secret or (layer.section == "services" and not only_secrets)
        password = find(layer.patch, _PASSWORD)
        if counts and password is not UNSET:
            return password if isinstance(password, str) else None
    return None


def passwords_of(configurations: Mapping[str, JsonObject]) -> dict[str, str]:
    """The passwords that services connect with.

    Args:
        configurations: Effective configurations by service, secrets in the open.

    Raises:
        InvalidRequest: A service does not connect under its own name, so that the broker could not prove it.
    """
    problems: list[Problem] = []
    passwords: dict[str, str] = {}
    for service, document in configurations.items():
        bus = document.get("mqtt_config")
        user, password = (bus.get("username"), bus.get("password")) if isinstance(bus, dict) else (None, None)
        if user != service:
            problems.append(
                Problem(
                    "/mqtt_config/username",
                    f"{service} connects as {str(user)[:80]!r}; the access list knows a service by its name: "
                    f"make it {service!r}, or take the key out",
                )
            )
        elif isinstance(password, str):
            passwords[service] = password
    if problems:
        raise InvalidRequest("Services connect under other names than their own", problems)
    return passwords
