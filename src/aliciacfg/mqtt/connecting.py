"""How a connection to the broker is made: which version of MQTT, and why there is none.

Only a broker's own answer decides the version. A broker that hangs, starts or is overloaded answers nothing, or closes
the connection, with any version; so silence leads to MQTT 3.1.1 only if 3.1.1 is answered and MQTT 5 then still is
not. It is asked for MQTT 5 again at every connect.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.bus.not_connected import (
    NOT_LET_IN,
    UNSUPPORTED_PROTOCOL,
    NotConnected,
    explain,
    tls_problem,
)
from aliciacfg.errors import BrokerUnavailable, SettingsError
from aliciacfg.mqtt.broker_client import KEEPALIVE_SECONDS
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.messages import Protocol, Will
from aliciacfg.mqtt.mqtt5_client import Mqtt5Client
from aliciacfg.mqtt.mqtt5_packets import QOS_NOT_SUPPORTED, RETAIN_NOT_SUPPORTED
from aliciacfg.mqtt.packet_limit import PacketLimit

if TYPE_CHECKING:
    from aliciacfg.mqtt.aiomqtt_client import AiomqttClient
    from aliciacfg.mqtt.broker_client import BrokerClient

CONNECT_SECONDS = 3.0
"""The time that a broker has for accepting a connection, and again for answering CONNECT."""

# How long a broker may take to say what it has against a certificate.
_TLS_REASON_SECONDS = 1.0
# What the broker has to allow, by the reason code that says that it does not (MQTT 5 §2.4).
_TO_ALLOW = {
    RETAIN_NOT_SUPPORTED: "updates are retained: let the broker retain messages (retain_available of Mosquitto)",
    QOS_NOT_SUPPORTED: "updates are published at QoS 1: have the broker allow it (max_qos of Mosquitto)",
}
# The largest packet that a client of the command line sends and receives; the protocol allows 256 MB.
_CLIENT_PACKET_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Session:
    """What makes a connection that of the daemon.

    Attributes:
        client_id: Names the session.
        will: Published, retained, when the connection dies without a disconnect.
        max_packet_bytes: The largest packet that is received; announced to a broker of MQTT 5.
        persistent: Whether the broker holds what arrives meanwhile for the next connection with this client id.
        keepalive_seconds: The Keep Alive of CONNECT (MQTT 5 §3.1.2.10).
        silence_seconds: How long the broker may be silent at least, if the Keep Alive is shorter.
    """

    client_id: str
    will: Will | None
    max_packet_bytes: int
    persistent: bool = True
    keepalive_seconds: int = KEEPALIVE_SECONDS
    silence_seconds: float = 0.0


@asynccontextmanager
async def connect(
    address: BrokerAddress,
    session: Session,
    *,
    limit: PacketLimit,
    speaks_five: bool = False,
    timeout_seconds: float = CONNECT_SECONDS,
) -> AsyncGenerator[Connection, None]:
    """Connect the daemon, and disconnect at the end.

    Args:
        address: The broker.
        session: Makes it the daemon's.
        limit: Learns the largest packet that the broker takes.
        speaks_five: Whether the broker spoke MQTT 5 at the previous connection, so that nothing has to be found out.
        timeout_seconds: How long the broker may take to accept a connection, and to answer.

    Raises:
        BrokerUnavailable: No connection, with a message that says why.
    """
    dialer = Dialer(address, timeout_seconds)
    try:
        if speaks_five:
            connection = await dialer.open("5", limit, session=session)
        else:
            protocol, certain = await dialer.find_protocol()
            connection = await dialer.open(protocol, limit, session=session, certain=certain)
    except NotConnected as error:
        raise _unavailable(error, address) from error
    try:
        yield connection
    finally:
        await connection.aclose()


@asynccontextmanager
async def connect_client(
    address: BrokerAddress, *, timeout_seconds: float = CONNECT_SECONDS
) -> AsyncGenerator[Connection, None]:
    """Connect a client whose session ends with the connection, and disconnect at the end.

    Raises:
        BrokerUnavailable: No connection, with a message that says why.
    """
    connection = await _open_client(address, timeout_seconds)
    try:
        yield connection
    finally:
        await connection.aclose()


async def accepts_without_proof(address: BrokerAddress) -> bool:
    """Return whether the broker may accept the daemon's user name without its password and its certificate.

    It does not if it says so, or if it accepts only who proves it. A broker that accepts no one at the moment, because
    it has too many connections for example, proves nothing.

    Raises:
        BrokerUnavailable: It did not answer.
    """
    problem = await _refusal(replace(address, password=secrets.token_urlsafe(), tls_cert=None, tls_key=None))
    if problem is None:
        return True
    if problem.reason == "timeout":
        raise _unavailable(problem, address) from problem
    return problem.code not in NOT_LET_IN and await _refusal(address) is not None


async def _refusal(address: BrokerAddress) -> NotConnected | None:
    """Return why the broker does not accept a client; None if it does."""
    dialer = Dialer(address, CONNECT_SECONDS)
    try:
        protocol, _ = await dialer.find_protocol()
        connection = await dialer.open(protocol)
    except NotConnected as error:
        return error
    await connection.aclose()
    return None


async def answers_five(address: BrokerAddress) -> bool:
    """Return whether the broker accepts MQTT 5 now."""
    try:
        connection = await Dialer(address, CONNECT_SECONDS).open("5")
    except (NotConnected, BrokerUnavailable):
        return False
    await connection.aclose()
    return True


async def _open_client(address: BrokerAddress, timeout_seconds: float) -> Connection:
    dialer = Dialer(address, timeout_seconds)
    try:
        try:
            return await dialer.open("5")
        except NotConnected as error:
            if not dialer.may_know_the_other(error):
                raise
        return await dialer.open("3.1.1", certain=False)
    except NotConnected as error:
        raise _unavailable(error, address) from error


class Dialer:
    """Makes connections to one broker."""

    def __init__(self, address: BrokerAddress, timeout_seconds: float) -> None:
        self._address = address
        self._timeout_seconds = timeout_seconds
        try:
            self._context = address.tls_context()
        except SettingsError as error:
            raise BrokerUnavailable(str(error)) from error

    async def find_protocol(self) -> tuple[Protocol, bool]:
        """Return the version of MQTT to connect with, and whether the broker is known to speak no newer one.

        Asks with a CONNECT that has nothing but the version: a broker of 3.1.1 refuses that at once, but may wait for
        ever over properties or a will of MQTT 5.

        Raises:
            NotConnected: The broker answers neither version.
        """
        for _ in range(2):
            problem = await self._problem("5")
            if problem is None:
                return "5", True
            if problem.code in UNSUPPORTED_PROTOCOL:
                return "3.1.1", True
            if not self.may_know_the_other(problem):
                raise problem
            # If it answers this, it no longer hangs, and is worth the other question once more.
            problem = await self._problem("3.1.1")
            if problem is not None:
                raise problem
        return "3.1.1", False

    async def open(
        self,
        protocol: Protocol,
        limit: PacketLimit | None = None,
        *,
        session: Session | None = None,
        certain: bool = True,
    ) -> Connection:
        """Connect with one version.

        Raises:
            NotConnected: There is no connection.
        """
        make = Mqtt5Client if protocol == "5" else await asyncio.to_thread(_older_client)
        client: BrokerClient = make(
            self._address,
            context=self._context,
            client_id=None if session is None else session.client_id,
            will=None if session is None else session.will,
            max_packet_bytes=_CLIENT_PACKET_BYTES if session is None else session.max_packet_bytes,
            timeout_seconds=self._timeout_seconds,
            persistent=session is not None and session.persistent,
            keepalive_seconds=KEEPALIVE_SECONDS if session is None else session.keepalive_seconds,
            silence_seconds=0.0 if session is None else session.silence_seconds,
        )
        # Before connecting: what a persistent session held comes right behind the CONNACK.
        connection = Connection(client, certain=certain, limit=limit or PacketLimit(_CLIENT_PACKET_BYTES))
        try:
            await client.connect()
        except NotConnected as error:
            raise await self._with_reason(error) from error
        connection.begin()
        return connection

    async def _with_reason(self, problem: NotConnected) -> NotConnected:
        """Return a problem with the broker's own reason, where that was lost.

        A broker that does not want this client's certificate says so behind the handshake, and closes the connection.
        If CONNECT reaches it before, the connection is reset, and what it said is gone, in one case of twenty. So it is
        asked by a handshake with nothing behind it.
        """
        if self._context is None or problem.reason != "ended" or not isinstance(problem.cause, ConnectionResetError):
            return problem
        address = self._address
        try:
            async with asyncio.timeout(min(_TLS_REASON_SECONDS, self._timeout_seconds)):
                reader, writer = await asyncio.open_connection(
                    address.host, address.port, ssl=self._context, server_hostname=address.host
                )
                try:
                    await reader.read(1)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            pass
        except OSError as reason:
            return NotConnected("ended", str(problem), cause=reason)
        return problem

    def may_know_the_other(self, problem: NotConnected) -> bool:
        """Return whether the other version is worth a try.

        A broker that speaks only one version refuses the other one, does not answer, or ends the connection. Anything
        else it refuses in either version.
        """
        match problem.reason:
            case "refused":
                return problem.code in UNSUPPORTED_PROTOCOL
            case "ended":
                return tls_problem(problem, self._address) is None
            case "timeout":
                return True
            case "failed":
                return False

    async def _problem(self, protocol: Protocol) -> NotConnected | None:
        """Return why the broker accepts no connection of a version; None if it does."""
        try:
            connection = await self.open(protocol)
        except NotConnected as error:
            return error
        await connection.aclose()
        return None


def _older_client() -> "type[AiomqttClient]":
    """Return the client of MQTT 3.1.1.

    Its libraries take 1 MB, which a daemon at a broker of MQTT 5 does not need. The first import takes 50 ms, and would
    block the event loop.
    """
    from aliciacfg.mqtt.aiomqtt_client import AiomqttClient  # noqa: PLC0415

    return AiomqttClient


def _unavailable(problem: NotConnected, address: BrokerAddress) -> BrokerUnavailable:
    """Return the error that says why there is no connection, and what to do."""
    why = f"{problem}; {_TO_ALLOW[problem.code]}" if problem.code in _TO_ALLOW else explain(problem, address)
    return BrokerUnavailable(f"{address.host}:{address.port}: {why}")
