"""How a command reaches the daemon over the network: MQTT, or HTTP with ``--http``."""

import getpass
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aliciacfg.cli import options
from aliciacfg.cli.answers import exit_if_refused
from aliciacfg.cli.exits import EXIT_FAILED, exit_on_error, fail
from aliciacfg.cli.loop import run
from aliciacfg.documents import JsonObject
from aliciacfg.errors import OperationError
from aliciacfg.model import names

if TYPE_CHECKING:
    from aliciacfg.bus.address import BrokerAddress
    from aliciacfg.mqtt.client import MqttClient


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and in whose name.

    Attributes:
        http: The daemon's URL; None sends requests over MQTT.
        broker: ``HOST`` or ``HOST:PORT``; None uses the settings.
        named_caller: The name of the caller that the command line has; see ``caller``.
        timeout_seconds: How long to wait for an answer.
        token: Bearer token, which authenticates the caller over HTTP.
        ca: File of trusted certificate authorities; None uses the system's for HTTPS and the setting for MQTT.
    """

    http: str | None
    broker: str | None
    named_caller: str | None
    timeout_seconds: float
    token: str | None = None
    ca: str | None = None

    @property
    def caller(self) -> str:
        """The name of the caller: that of the command line, else MQTT_USERNAME, else the user's on this machine.

        MQTT_USERNAME, of the environment or of ``.env``, is who the broker lets send requests.
        """
        return self.named_caller or _broker_user() or current_user()


def current_user() -> str:
    """Return the user name on this machine, or ``cli`` if that cannot be the name of a caller."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    return name if names.is_caller_name(name) else "cli"


def ask(target: Target, operation: str, name: str | None, fields: dict[str, Any]) -> JsonObject:
    """Send a request and return its answer. A refusal, or no answer, ends the program with its exit code.

    Args:
        target: Where to send it.
        operation: A name of the operations table.
        name: The service or environment that it concerns.
        fields: The request's fields.
    """
    if name is not None and (problem := _name_problem(operation, name)):
        # Refused here, because the name would change the topic or the path.
        return exit_if_refused({"status": "error", "code": "invalid_request", "message": problem, "problems": []})
    with _exit_without_answer():
        if target.http is None:
            answer = run(_ask_mqtt(target, operation, name, fields))
        else:
            from aliciacfg.http import client

            answer = run(
                client.ask(
                    target.http,
                    operation,
                    name,
                    fields,
                    timeout_seconds=target.timeout_seconds,
                    token=target.token,
                    ca=target.ca,
                )
            )
    return exit_if_refused(answer)


def published_key(target: Target) -> tuple[str, JsonObject]:
    """Return the daemon's address, under which its key is pinned, and the sealing key that it publishes.

    A refusal, or no answer, ends the program with its exit code.
    """
    with _exit_without_answer():
        if target.http is None:
            return _broker(target).url, run(_published_key_mqtt(target))
        from aliciacfg.http import client

        answer = run(client.published_key(target.http, timeout_seconds=target.timeout_seconds, ca=target.ca))
        return target.http, exit_if_refused(answer)


@asynccontextmanager
async def connected(target: Target) -> AsyncGenerator["MqttClient", None]:
    """Connect to the broker.

    Raises:
        BrokerUnavailable: The broker cannot be reached.
        SettingsError: The settings name no usable broker.
    """
    from aliciacfg.mqtt.client import open_client

    async with open_client(_broker(target), target.caller) as client:
        yield client


@contextmanager
def _exit_without_answer() -> Generator[None]:
    """End the program if no answer comes, or one that is not JSON."""
    with exit_on_error():
        try:
            yield
        except OperationError as error:
            fail(f"The answer does not come from a daemon: {error}", EXIT_FAILED)


async def _ask_mqtt(target: Target, operation: str, name: str | None, fields: dict[str, Any]) -> JsonObject:
    async with connected(target) as client:
        return await client.ask(operation, name, fields, timeout_seconds=target.timeout_seconds)


async def _published_key_mqtt(target: Target) -> JsonObject:
    async with connected(target) as client:
        return await client.published_key(timeout_seconds=target.timeout_seconds)


def _name_problem(operation: str, name: str) -> str | None:
    return names.environment_problem(name) if operation == "activate" else names.service_problem(name)


def _broker_user() -> str | None:
    """Return MQTT_USERNAME if it is set and can be the name of a caller, as not every broker's accounts can."""
    found = options.daemon_settings({})
    name = found.settings.mqtt_username
    return name if found.explicit("mqtt_username") and names.is_caller_name(name) else None


def _broker(target: Target) -> "BrokerAddress":
    from aliciacfg.mqtt.address import broker_address

    flags: dict[str, str | None] = {"mqtt_tls_ca": target.ca}
    if target.broker is not None:
        host, _, port = target.broker.rpartition(":") if ":" in target.broker else (target.broker, "", "")
        flags |= {"mqtt_broker": host, "mqtt_port": port or None}
    resolved = options.daemon_settings(flags)
    if not resolved.explicit("mqtt_broker"):
        # The default names the broker inside the home's network; commands are run beside the daemon.
        resolved = options.daemon_settings({**flags, "mqtt_broker": "127.0.0.1"})
    return broker_address(resolved.settings)
