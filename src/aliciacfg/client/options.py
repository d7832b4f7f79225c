"""Where a client finds the broker, its key and its snapshot: arguments, else environment variables."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aliciacfg.bus.address import BrokerAddress, read_password
from aliciacfg.client.keys import SETTING as KEY_SETTING
from aliciacfg.errors import SettingsError
from aliciacfg.model import names

SNAPSHOT_SETTING = "ALICIACFG_SNAPSHOT_DIR"

_MAX_INSTANCE = 128
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """What a program says about the broker; None takes the variable of the same name with ``MQTT_`` before it.

    Attributes:
        host: ``MQTT_BROKER``, else 127.0.0.1.
        port: ``MQTT_PORT``, else 1883.
        username: ``MQTT_USERNAME``, else the service's name.
        password: ``MQTT_PASSWORD``, else the first line of ``MQTT_PASSWORD_FILE``.
        tls_ca: File of certificate authorities; turns TLS on.
        tls_cert: File of the client's certificate.
        tls_key: File of its key.
    """

    host: str | None = None
    port: int | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The same, resolved.

    Attributes:
        address: The broker.
        requester: Who asks: the broker's user, or the service.
        key_file: File of the service's private key; None if it has none.
        snapshot_dir: Directory of the snapshot; None for no snapshot.
        instance: The name of this copy of the service in its reports.
    """

    address: BrokerAddress
    requester: str
    key_file: Path | None
    snapshot_dir: Path | None
    instance: str


def resolve(
    service: str,
    broker: Broker,
    *,
    key_file: str | Path | None,
    snapshot_dir: str | Path | None,
    instance: str | None,
    environ: Mapping[str, str] | None = None,
) -> Options:
    """Return what arguments and variables say; an empty variable counts as not set.

    Raises:
        SettingsError: One of them is not usable.
    """
    found = os.environ if environ is None else environ
    if problem := names.service_problem(service):
        raise SettingsError([problem])
    address = _address(service, broker, found)
    user = address.username or service
    key = key_file if key_file is not None else found.get(KEY_SETTING)
    return Options(
        address=address,
        requester=user if names.is_caller_name(user) else service,
        key_file=Path(key) if key else None,
        snapshot_dir=_snapshot_dir(snapshot_dir, found),
        instance=(instance or socket.gethostname() or service)[:_MAX_INSTANCE],
    )


def _address(service: str, broker: Broker, environ: Mapping[str, str]) -> BrokerAddress:
    def variable(name: str, given: str | None) -> str | None:
        return given if given is not None else environ.get(name) or None

    password = variable("MQTT_PASSWORD", broker.password)
    file = variable("MQTT_PASSWORD_FILE", broker.password_file)
    if password is None and file is not None:
        password = read_password(file)
    return BrokerAddress(
        host=variable("MQTT_BROKER", broker.host) or "127.0.0.1",
        port=_port(broker.port, environ.get("MQTT_PORT") or "1883"),
        username=variable("MQTT_USERNAME", broker.username) or service,
        password=password,
        tls_ca=variable("MQTT_TLS_CA", broker.tls_ca),
        tls_cert=variable("MQTT_TLS_CERT", broker.tls_cert),
        tls_key=variable("MQTT_TLS_KEY", broker.tls_key),
    )


def _port(given: int | None, text: str) -> int:
    try:
        port = int(text) if given is None else given
    except ValueError:
        port = 0
    if not 1 <= port <= _MAX_PORT:
        raise SettingsError([f"MQTT_PORT: found {text!r:.20}; expected a whole number from 1 to {_MAX_PORT}"])
    return port


def _snapshot_dir(given: str | Path | None, environ: Mapping[str, str]) -> Path | None:
    if given is not None:
        return Path(given)
    if named := environ.get(SNAPSHOT_SETTING):
        return Path(named)
    # systemd separates several by colons, in the order of StateDirectory=.
    if state := environ.get("STATE_DIRECTORY"):
        return Path(state.partition(":")[0])
    if base := environ.get("XDG_STATE_HOME"):
        return Path(base) / "aliciacfg"
    try:
        return Path.home() / ".local" / "state" / "aliciacfg"
    except RuntimeError:
        # No home directory, as for a user without an entry in the password database.
        return None
