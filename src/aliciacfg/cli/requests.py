"""Where requests go, and how they are sent: over MQTT, or HTTP with ``--http``."""

import getpass
import os
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from aliciacfg.cli import notices, options, output_format
from aliciacfg.cli.loop import run
from aliciacfg.documents import JsonObject
from aliciacfg.errors import AliciacfgError, BrokerUnavailable
from aliciacfg.file_errors import unreadable
from aliciacfg.model import names

if TYPE_CHECKING:
    from aliciacfg.bus.address import BrokerAddress
    from aliciacfg.cli.other_homes import LocalHome
    from aliciacfg.mqtt.client import MqttClient
    from aliciacfg.settings import Resolved

T = TypeVar("T")
DEFAULT_TIMEOUT_SECONDS = 10.0
_MAX_PORT: Final = 65535
WRITES: Final = frozenset({"set", "patch", "unset", "delete", "batch", "rollback", "activate", "reload", "recipient"})
"""The operations of the table that write; the table itself loads much of the daemon."""
_NEVER_REPEATED: Final = frozenset({"reload", "recipient"})
"""The others are known by their ``request_id`` where several daemons serve a home."""

_NOTED: Final = "aliciacfg.noted_other_port"
_NOTED_HOME: Final = "aliciacfg.noted_home"
_WARNED: Final = "aliciacfg.warned_of_other_home"
# What is retained comes with the acknowledgement of the subscription, unless there is nothing to come.
_HEALTH_SECONDS: Final = 0.5


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
        changing: Whether what is read is for a change, so that the daemon of another home is none to read from.
    """

    http: str | None
    broker: str | None
    named_caller: str | None
    timeout_seconds: float
    token: str | None = None
    ca: str | None = None
    changing: bool = False

    @property
    def caller(self) -> str:
        """The name of the caller: that of the command line, else MQTT_USERNAME, else the user's on this machine.

        MQTT_USERNAME, of the environment or of ``.env``, is who the broker lets send requests.
        """
        return self.named_caller or _broker_user() or current_user()


def target_of(options: Mapping[str, Any]) -> Target:
    """Return where the options of the root command send requests, and in whose name."""
    return Target(
        options.get("http"),
        options.get("broker"),
        options.get("caller"),
        options.get("timeout") or DEFAULT_TIMEOUT_SECONDS,
        os.environ.get("ALICIACFG_TOKEN") or None,
        options.get("ca"),
    )


def checked_target(options: Mapping[str, Any]) -> Target:
    """Return likewise; end with wrong usage if an option is malformed."""
    http, caller, ca = options.get("http"), options.get("caller"), options.get("ca")
    if http is not None and not http.lower().startswith(("http://", "https://")):
        raise click.UsageError(f"--http {http!r}: expected a URL, such as http://127.0.0.1:8026")
    if caller is not None and not names.is_caller_name(caller):
        raise click.UsageError(f"--as {caller!r}: expected letters a to z, digits, '_', '.' and '-'")
    _check_ca(ca)
    _check_broker(options.get("broker"))
    return target_of(options)


def _check_ca(ca: str | None) -> None:
    try:
        # Scripts give an empty one for none.
        found = not ca or Path(ca).is_file()
    except OSError as error:
        raise click.UsageError(f"--ca: {unreadable(Path(str(ca)), error)}") from error
    if not found:
        raise click.UsageError(f"--ca: {ca} cannot be read: there is no such file")


def _check_broker(broker: str | None) -> None:
    if broker is not None:
        host, port = _host_and_port(broker)
        if not host or (port is not None and not (port.isdecimal() and 0 < int(port) <= _MAX_PORT)):
            raise click.UsageError(f"--broker {broker!r}: expected HOST or HOST:PORT, such as 127.0.0.1:1883")


def _host_and_port(broker: str) -> tuple[str, str | None]:
    host, colon, port = broker.rpartition(":")
    return (host, port) if colon else (broker, None)


def current_user() -> str:
    """Return the user name on this machine, or ``cli`` if that cannot be the name of a caller."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    return name if names.is_caller_name(name) else "cli"


def send(target: Target, operation: str, name: str | None, fields: dict[str, Any]) -> JsonObject:
    """Send a request and return its answer, a refusal too.

    Raises:
        BrokerUnavailable: There was no answer.
        OperationError: The answer is not a JSON object.
        OtherHome: The daemon serves another home than the one here, and the request is to change something.
        SettingsError: The settings name no usable broker, or ``--ca`` cannot be used.
    """
    if target.http is None:
        return run(_ask_mqtt(target, operation, name, fields))
    from aliciacfg.http import client

    return run(
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


def try_ask(target: Target, operation: str, name: str | None, fields: dict[str, Any], kind: type[T]) -> T | None:
    """Send a request and return its answer, or None if it is refused, of another form, or does not come."""
    try:
        answer = send(target, operation, name, fields)
        return None if answer.get("status") == "error" else msgspec.convert(answer, kind)
    except (AliciacfgError, msgspec.ValidationError):
        return None


def without_answer(target: Target) -> str:
    """Return what to do where no daemon answers: start it, in a home in which none runs."""
    from aliciacfg.storage.data_directory import is_in_use

    if target.http is None and target.broker is None:
        settings = options.daemon_settings({}).settings
        if Path(settings.environments_dir).is_dir() and not is_in_use(Path(settings.data_dir)):
            return "no daemon runs in this home; start it with `aliciacfg serve --dev`, or see `aliciacfg doctor`"
    return "`aliciacfg doctor` looks for the reason"


@asynccontextmanager
async def connected(target: Target) -> AsyncGenerator["MqttClient", None]:
    """Connect to the broker.

    Raises:
        BrokerUnavailable: The broker cannot be reached.
        SettingsError: The settings name no usable broker.
    """
    from aliciacfg.mqtt.client import open_client

    if target.broker is None:
        note_other_port(options.daemon_settings({}))
    with_health = _local_home(target) is not None or _asks_any_home(target)
    async with open_client(broker(target), target.caller, with_health=with_health) as client:
        yield client


async def refuse_other_home(target: Target, client: "MqttClient") -> None:
    """Refuse a change by the daemon of another home than the one here.

    Raises:
        BrokerUnavailable: The broker is gone.
        OtherHome: It is one.
    """
    home = _local_home(target)
    if home is not None and (
        mistake := home.mistake(await client.health(wait_seconds=_HEALTH_SECONDS), broker(target))
    ):
        raise mistake


async def warn_of_other_home(target: Target, client: "MqttClient") -> None:
    """Warn once that what was read is of the daemon of another home than the one here.

    Raises:
        BrokerUnavailable: The broker is gone.
    """
    home = _local_home(target)
    if home is not None and (mistake := home.mistake(await client.health(), broker(target))):
        _say_once(_WARNED, lambda: notices.print_warning(f"{mistake}. To have your own: {mistake.hint}"))


async def note_home(target: Target, client: "MqttClient") -> None:
    """Tell a person once which daemon answered, if neither this directory nor an option names a home."""
    if _asks_any_home(target):
        from aliciacfg.cli.other_homes import who_answered

        health = None
        # The answer is there: a broker that is gone since then makes no failure of a write that was carried out.
        with suppress(BrokerUnavailable):
            health = await client.health()
        note = who_answered(health, broker(target))
        _say_once(_NOTED_HOME, lambda: notices.print_note(note))


def warn_if_served_by_another(target: Target) -> None:
    """Warn if no daemon runs in the home here, and that of another home serves the broker that is asked instead.

    For commands whose requests go through the client of programs. No answer is left to them.
    """
    home = _local_home(target)
    if home is not None and not home.served:
        try_ask(target, "health", None, {}, object)


def _local_home(target: Target) -> "LocalHome | None":
    """Return the home here if the user names no other place to send requests to."""
    from aliciacfg.cli.other_homes import local_home

    return local_home() if target.http is None and target.broker is None else None


def _asks_any_home(target: Target) -> bool:
    """Return whether a person asks whichever home this machine's broker has; a script gets no note."""
    if target.http is not None or target.broker is not None or not notices.for_people():
        return False
    from aliciacfg.cli.other_homes import stands_in_none

    return stands_in_none()


def note_other_port(resolved: "Resolved") -> None:
    """Print a note for people, once however often a command asks, if MQTT_PORT is not the port that is asked."""
    problem = other_port(resolved)
    if problem is not None and output_format.chosen() not in {"json", "yaml"}:
        _say_once(_NOTED, lambda: notices.print_note(f"{problem}, which is asked"))


def _say_once(key: str, say: Callable[[], None]) -> None:
    """Say something once in a command; nothing where none runs, as while a shell completes one."""
    context = click.get_current_context(silent=True)
    if context is not None and key not in context.meta:
        context.meta[key] = True
        say()


async def _ask_mqtt(target: Target, operation: str, name: str | None, fields: dict[str, Any]) -> JsonObject:
    changes = target.changing or (operation in WRITES and not fields.get("dry_run"))
    async with connected(target) as client:
        if changes:
            await refuse_other_home(target, client)
        once = operation in WRITES - _NEVER_REPEATED
        own_id = {"request_id": uuid.uuid4().hex} if once else {}
        answer = await client.ask(
            operation,
            name,
            {**fields, **own_id},
            timeout_seconds=target.timeout_seconds,
            repeats="if carried out once" if once else "never" if operation in WRITES else "always",
        )
        for key in own_id:
            answer.pop(key, None)
        if not changes:
            await warn_of_other_home(target, client)
        await note_home(target, client)
        return answer


def _broker_user() -> str | None:
    """Return MQTT_USERNAME if it is set and can be the name of a caller, as not every broker's accounts can."""
    found = options.daemon_settings({})
    name = found.settings.mqtt_username
    return name if found.explicit("mqtt_username") and names.is_caller_name(name) else None


def dev_port(resolved: "Resolved") -> int | None:
    """Return the port of the broker that ``serve --dev`` chose here; None if none runs here, or the broker is set."""
    from aliciacfg.mqtt.broker.dev_port import read_port

    return None if resolved.explicit("mqtt_broker") else read_port(Path(resolved.settings.data_dir))


def other_port(resolved: "Resolved") -> str | None:
    """Return what to say if MQTT_PORT is not the port of the broker that ``serve --dev`` uses here."""
    found = resolved.settings
    noted = dev_port(resolved)
    if noted is None or not resolved.explicit("mqtt_port") or found.mqtt_port == noted:
        return None
    return (
        f"MQTT_PORT ({resolved.origins['mqtt_port']}) is {found.mqtt_port}; the daemon of this home uses the broker "
        f"on port {noted}"
    )


def broker(target: Target) -> "BrokerAddress":
    """Return the broker of a target: that of the command line, of the settings, or this machine's."""
    from aliciacfg.mqtt.address import broker_address
    from aliciacfg.mqtt.broker.dev_port import read_port

    flags: dict[str, str | None] = {"mqtt_tls_ca": target.ca}
    if target.broker is not None:
        host, port = _host_and_port(target.broker)
        flags |= {"mqtt_broker": host, "mqtt_port": port}
    resolved = options.daemon_settings(flags)
    if not resolved.explicit("mqtt_broker"):
        # The default names the broker inside the home's network; commands are run beside the daemon.
        flags["mqtt_broker"] = "127.0.0.1"
        # Also if MQTT_PORT is set: `serve --dev` does not use the broker there if that refuses it.
        if (port := read_port(Path(resolved.settings.data_dir))) is not None:
            flags["mqtt_port"] = str(port)
        resolved = options.daemon_settings(flags)
    return broker_address(resolved.settings)
