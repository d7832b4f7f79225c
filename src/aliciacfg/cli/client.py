"""Asking a daemon, over MQTT or HTTP."""

import getpass
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from aliciacfg.cli import options, output
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, EXIT_NO_ANSWER, EXIT_USAGE, fail
from aliciacfg.cli.loop import run
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import BrokerUnavailable, OperationError, SettingsError
from aliciacfg.model import names

if TYPE_CHECKING:
    from aliciacfg.mqtt.client import MqttClient

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go.

    Attributes:
        http: The daemon's URL; None sends over MQTT.
        broker: ``HOST`` or ``HOST:PORT``; None takes the settings.
        requester: Who asks.
        timeout_seconds: How long to wait.
        token: Proves over HTTP who asks.
        ca: A file of certificate authorities to believe; None takes the system's for HTTP, the settings for MQTT.
    """

    http: str | None
    broker: str | None
    requester: str
    timeout_seconds: float
    token: str | None = None
    ca: str | None = None


def user() -> str:
    """Who asks if nobody says so: the user of this machine."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    return name if names.is_requester(name) else "cli"


def ask(target: Target, operation: str, name: str | None, fields: dict[str, Any]) -> JsonObject:
    """Ask, and end the program with the right exit code if the answer is a refusal."""
    try:
        if name is not None and (problem := _name_problem(operation, name)):
            # Asked here: such a name would lead to another topic or path.
            answer: JsonObject = {"status": "error", "code": "invalid_request", "message": problem, "problems": []}
        elif target.http is not None:
            from aliciacfg.http import client  # noqa: PLC0415 - keeps the other commands quick

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
        else:
            answer = run(_ask_mqtt(target, operation, name, fields))
    except BrokerUnavailable as error:
        fail(str(error), EXIT_NO_ANSWER)
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)
    except OperationError as error:
        fail(f"The answer is not what a daemon sends: {error}", EXIT_FAILED)
    return refusal_ends(answer)


def refusal_ends(answer: JsonObject) -> JsonObject:
    """The answer, unless it is a refusal, which ends the program with its exit code."""
    if answer.get("status") != "error":
        return answer
    if not output.for_people():
        output.print_json(answer)
    output.complain(f"{answer.get('code')}: {answer.get('message')}")
    output.problems(answer)
    sys.exit(refusal_code(answer))


def refusal_code(answer: JsonObject) -> int:
    """The exit code of a refusal."""
    return EXIT_CODES.get(str(answer.get("code")), EXIT_FAILED)


def typed(value: Json, kind: type[T]) -> T:
    """An answer, or a part of one, as what it has to be; ends the program if it is not."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        fail(f"The answer is not what a daemon of this version sends: {error}", EXIT_FAILED)


def published_key(target: Target) -> tuple[str, JsonObject]:
    """What a daemon says its sealing key is, and the address under which its key is pinned."""
    try:
        if target.http is not None:
            from aliciacfg.http import client  # noqa: PLC0415 - keeps the other commands quick

            answer = run(client.published_key(target.http, timeout_seconds=target.timeout_seconds, ca=target.ca))
            return target.http, refusal_ends(answer)
        return _broker(target).url, run(_published_key_mqtt(target))
    except BrokerUnavailable as error:
        fail(str(error), EXIT_NO_ANSWER)
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)
    except OperationError as error:
        fail(f"The answer is not what a daemon sends: {error}", EXIT_FAILED)


@asynccontextmanager
async def connected(target: Target) -> AsyncGenerator["MqttClient", None]:
    """Connect to the broker as the one who asks.

    Raises:
        BrokerUnavailable: The broker cannot be reached.
    """
    from aliciacfg.mqtt.client import open_client  # noqa: PLC0415 - keeps the other commands quick

    async with open_client(_broker(target), target.requester) as client:
        yield client


async def _ask_mqtt(target: Target, operation: str, name: str | None, fields: dict[str, Any]) -> JsonObject:
    async with connected(target) as client:
        return await client.ask(operation, name, fields, timeout_seconds=target.timeout_seconds)


async def _published_key_mqtt(target: Target) -> JsonObject:
    async with connected(target) as client:
        return await client.published_key(timeout_seconds=target.timeout_seconds)


def _name_problem(operation: str, name: str) -> str | None:
    return names.environment_problem(name) if operation == "activate" else names.service_problem(name)


def _broker(target: Target) -> Any:
    from aliciacfg.mqtt.address import broker_address  # noqa: PLC0415 - keeps the other commands quick

    flags: dict[str, str | None] = {}
    if target.broker is not None:
        host, _, port = target.broker.rpartition(":") if ":" in target.broker else (target.broker, "", "")
        flags = {"mqtt_broker": host, "mqtt_port": port or None}
    flags["mqtt_tls_ca"] = target.ca
    try:
        resolved = options.settle(flags)
        if not resolved.explicit("mqtt_broker"):
            # The home's broker has its name only inside the home's network; a person sits beside the daemon.
            resolved = options.settle({**flags, "mqtt_broker": "127.0.0.1"})
        return broker_address(resolved.settings)
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)
