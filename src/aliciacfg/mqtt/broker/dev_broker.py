"""A broker for ``serve --dev``, found or started on this machine.

In this order: one that was set explicitly, one that answers on loopback, ``mosquitto`` from the PATH, an embedded
amqtt (an optional dependency; MQTT 3.1.1, and retained messages that end with the process). The only module that
imports amqtt.
"""

import asyncio
import contextlib
import getpass
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.file_errors import unwritable
from aliciacfg.mqtt.broker.child_process import beside, end_left
from aliciacfg.mqtt.connecting import connect_client

_LOOPBACK = "127.0.0.1"
_PROBE_SECONDS = 1.0
_START_SECONDS = 10.0
# Debian installs daemons where the PATH of an ordinary user does not lead.
_MORE_PATHS = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
_REPLACED = ("listener", "persistence_location", "allow_anonymous", "password_file", "acl_file", "user")
# Mosquitto says at every start that it had better be left out, and max_packet_size limits the same here.
_LEFT_OUT = ("message_size_limit",)


@dataclass(frozen=True, slots=True)
class DevBroker:
    """The broker of this run.

    Attributes:
        description: One line on which broker it is.
        end_process: Ends the broker that was started for this run, if one was; may be called in another thread.
    """

    address: BrokerAddress
    description: str
    end_process: Callable[[], None] = lambda: None


@asynccontextmanager
async def dev_broker(wanted: BrokerAddress, *, explicit: bool, data_dir: Path) -> AsyncGenerator[DevBroker, None]:
    """Find or start a broker; stop it at the end if it was started here.

    Args:
        wanted: The broker of the settings.
        explicit: Whether ``MQTT_BROKER`` was set.
        data_dir: Where a Mosquitto that is started keeps its retained messages.

    Raises:
        BrokerUnavailable: There is none, and none can be started.
    """
    if explicit:
        yield DevBroker(wanted, f"the broker set by MQTT_BROKER, {wanted.host}:{wanted.port}")
        return
    program = shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), _MORE_PATHS]))
    if program is not None:
        # It holds the port, and this daemon would not stop it.
        await end_left(_command(program, data_dir), _note(data_dir))
    loopback = BrokerAddress(_LOOPBACK, wanted.port, wanted.username, wanted.password)
    refusal = await _refusal(loopback)
    if refusal is None:
        yield DevBroker(loopback, f"the broker that answers on {_LOOPBACK}:{wanted.port}")
        return
    unused = f". The one that answers is not used: {refusal}" if refusal else ""
    own = BrokerAddress(_LOOPBACK, _free_port(wanted.port), wanted.username, wanted.password)
    if program is not None:
        async with _mosquitto(program, own.port, data_dir) as end_process:
            description = f"{program} on {_LOOPBACK}:{own.port}, started for this run{unused}"
            yield DevBroker(own, description, end_process)
        return
    async with _embedded(own.port):
        yield DevBroker(own, f"the embedded amqtt broker on {_LOOPBACK}:{own.port} (MQTT 3.1.1){unused}")


@asynccontextmanager
async def _mosquitto(program: str, port: int, data_dir: Path) -> AsyncGenerator[Callable[[], None], None]:
    config = _config(data_dir)
    directory = config.parent
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        config.write_text(dev_config(port, directory), "utf-8")
    except OSError as error:
        raise BrokerUnavailable(f"{unwritable(config, error)}; or set MQTT_BROKER") from error
    # Ctrl-C is for the daemon, which still has to publish through this broker that it stops.
    async with beside(_command(program, data_dir), _note(data_dir)) as process:
        await _wait_until_it_answers(BrokerAddress(_LOOPBACK, port), process)
        yield lambda: os.kill(process.pid, signal.SIGTERM)


def _config(data_dir: Path) -> Path:
    return data_dir.absolute() / "broker" / "mosquitto.conf"


def _command(program: str, data_dir: Path) -> list[str]:
    return [program, "-c", str(_config(data_dir))]


def _note(data_dir: Path) -> Path:
    return _config(data_dir).with_name("pid")


def dev_config(port: int, directory: Path) -> str:
    """Return the project's ``mosquitto.conf`` with a loopback listener and a persistence location of its own.

    Args:
        port: The listener's.
        directory: Where it persists.
    """
    kept = [
        line
        for line in files("aliciacfg.mqtt.broker").joinpath("mosquitto.conf").read_text("utf-8").splitlines()
        if not line.startswith((*_REPLACED, *_LEFT_OUT))
    ]
    # As root Mosquitto would become the user "mosquitto", which cannot write here.
    own = [
        f"listener {port} {_LOOPBACK}",
        "allow_anonymous true",
        f"user {getpass.getuser()}",
        f"persistence_location {directory}/",
    ]
    return "\n".join([*kept, *own, ""])


def _installation() -> str:
    """Return the beginning of the command that installs something further into the environment of this program."""
    return "pipx install --force" if "pipx" in Path(sys.prefix).parts else "pip install"


@asynccontextmanager
async def _embedded(port: int) -> AsyncGenerator[None, None]:
    try:
        from amqtt.broker import (  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs] - optional, without stubs
            Broker,
        )
    except ImportError as error:
        raise BrokerUnavailable(
            "there is no broker: none is set by MQTT_BROKER, none answers on loopback, mosquitto is not on the PATH "
            f"and amqtt is not installed. Install mosquitto, or: {_installation()} 'aliciacfg[embedded]'"
        ) from error
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"{_LOOPBACK}:{port}", "max_connections": 1000}},
        # Anonymous sessions never queue in amqtt, so a user name is required; any will do.
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": False}},
    }
    broker = Broker(config)
    await broker.start()
    try:
        yield
    finally:
        await broker.shutdown()


async def _wait_until_it_answers(address: BrokerAddress, process: asyncio.subprocess.Process) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + _START_SECONDS
    while await _refusal(address) is not None:
        if process.returncode is not None:
            raise BrokerUnavailable(f"mosquitto ended with code {process.returncode}; see what it printed")
        if loop.time() > end:
            raise BrokerUnavailable(f"mosquitto does not answer on {address.host}:{address.port}")
        await asyncio.sleep(0.02)


async def _refusal(address: BrokerAddress) -> str | None:
    """Return why no broker accepts a connection there, or "" if nothing listens; None if one does."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address.host, address.port), _PROBE_SECONDS)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        async with connect_client(address, timeout_seconds=_PROBE_SECONDS):
            return None
    except (OSError, TimeoutError):
        return ""
    except BrokerUnavailable as error:
        return str(error)


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise BrokerUnavailable("there is no free port on loopback")
