"""A live connection to the broker, and how it is made: which protocol, and why connecting failed.

A connection is used once. Reconnecting makes a new one, so that nothing in flight is sent twice: the outbox
publishes anew.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from aliciacfg import tls
from aliciacfg.errors import BrokerUnavailable, SettingsError
from aliciacfg.mqtt.address import BrokerAddress
from aliciacfg.mqtt.messages import Inbound, Protocol, Reply, Will
from aliciacfg.mqtt.paho_client import TIMEOUT_SECONDS, NotConnected, PahoClient

# Reason codes of a CONNACK where the protocol is not supported: MQTT 5 §3.2.2.2, MQTT 3.1.1 §3.2.2.3.
_UNSUPPORTED_PROTOCOL = frozenset({132, 1})
# Bad user name or password, not authorized: in the same sections.
_NOT_LET_IN = frozenset({134, 135, 4, 5})


class Denied(BrokerUnavailable):
    """The broker refused a publication (MQTT 5 §3.4.2.1), as an ACL does."""


class Connection:
    """A live connection; made by ``connect``.

    Attributes:
        protocol: The version of MQTT that was agreed with the broker.
        certain: Whether the broker accepted this version first or refused the other one. False after a mere timeout.
    """

    def __init__(self, client: PahoClient, *, certain: bool) -> None:
        self._client = client
        self.protocol: Protocol = client.protocol
        self.certain = certain
        # By packet identifier. Results, not exceptions: nothing retrieves one whose publisher was cancelled.
        self._unacknowledged: dict[int, asyncio.Future[BrokerUnavailable | None]] = {}
        self._gone: BrokerUnavailable | None = None
        # Messages that came before there was a receiver.
        self._early: list[Inbound] = []
        client.on_message = self._early.append
        client.on_acknowledged = self._on_acknowledged

    def receive(self, receiver: Callable[[Inbound], None]) -> None:
        """Call ``receiver`` with every message, beginning with those that came before this call."""
        self._client.on_message = receiver
        for message in self._early:
            receiver(message)
        self._early.clear()

    async def close(self) -> None:
        """Disconnect, if the broker has not gone first."""
        await self._client.disconnect()

    async def wait_closed(self) -> None:
        """Wait until the connection is gone.

        Raises:
            BrokerUnavailable: It is gone; this never returns.
        """
        try:
            await self._client.wait_closed()
        except BrokerUnavailable as error:
            self._gone = error
            for acknowledged in self._unacknowledged.values():
                if not acknowledged.done():
                    acknowledged.set_result(error)
            raise

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe to topic filters at QoS 1; returns when the broker has acknowledged.

        Raises:
            BrokerUnavailable: The broker did not acknowledge, or refused a filter.
        """
        await self._client.subscribe(filters)

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe from topic filters; returns when the broker has acknowledged.

        Raises:
            BrokerUnavailable: The broker did not acknowledge.
        """
        await self._client.unsubscribe(filters)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish at QoS 1; returns when the broker has acknowledged.

        Raises:
            Denied: The broker refused it with a reason code (MQTT 5; on 3.1.1 a refusal looks like success).
            BrokerUnavailable: The broker did not acknowledge in time, or is gone.
        """
        if self._gone is not None:
            raise BrokerUnavailable(str(self._gone))
        identifier = self._client.publish(topic, payload, retain=retain)
        acknowledged = self._unacknowledged[identifier] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                failure = await acknowledged
        except TimeoutError as error:
            raise BrokerUnavailable(f"the broker did not acknowledge {topic}") from error
        finally:
            self._unacknowledged.pop(identifier, None)
        if isinstance(failure, Denied):
            raise Denied(f"the broker refused a publication on {topic}: {failure}")
        if failure is not None:
            raise BrokerUnavailable(str(failure))

    def send(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        """Publish without waiting and without retaining: for messages whose arrival nothing depends on."""
        self._client.send(topic, payload, qos=qos)

    def request(self, topic: str, payload: bytes, *, response_topic: str, correlation_data: bytes) -> None:
        """Publish a request at QoS 1 that names where to answer (MQTT 5), without waiting."""
        self._client.send_request(topic, payload, response_topic=response_topic, correlation_data=correlation_data)

    def answer(self, reply: Reply) -> None:
        """Publish an answer without waiting."""
        self._client.send_reply(reply)

    def _on_acknowledged(self, identifier: int, refusal: str | None) -> None:
        acknowledged = self._unacknowledged.get(identifier)
        if acknowledged is not None and not acknowledged.done():
            acknowledged.set_result(None if refusal is None else Denied(refusal))


@asynccontextmanager
async def connect(
    address: BrokerAddress,
    *,
    client_id: str | None,
    will: Will | None = None,
    prefer: Protocol | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> AsyncGenerator[Connection, None]:
    """Connect, and disconnect at the end.

    Args:
        address: The broker.
        client_id: A fixed id makes a persistent session, in which the broker holds what arrives meanwhile;
            None makes a session that ends with the connection.
        will: Published, retained, when the connection dies without a disconnect.
        prefer: Tried first, as it worked before; None finds out. The other one is tried when the broker refuses it.
        timeout_seconds: How long the broker may take to answer.

    Raises:
        BrokerUnavailable: No connection, with a message that says why.
    """
    if prefer is None and will is not None:
        prefer = await _find_protocol(address, timeout_seconds=timeout_seconds)
    connection = await _open(address, prefer or "5", client_id=client_id, will=will, timeout_seconds=timeout_seconds)
    try:
        yield connection
    finally:
        await connection.close()


async def accepts_without_proof(address: BrokerAddress) -> bool:
    """Return whether the broker accepts the daemon's user name without its password and its certificate."""
    unproven = replace(address, password=secrets.token_urlsafe(), tls_cert=None, tls_key=None)
    try:
        connection = await _open(unproven, "5", client_id=None, will=None, timeout_seconds=TIMEOUT_SECONDS)
    except BrokerUnavailable:
        return False
    await connection.close()
    return True


async def _find_protocol(address: BrokerAddress, *, timeout_seconds: float) -> Protocol:
    """Connect once with nothing but the version; return the version.

    A broker of 3.1.1 refuses that at once, but may wait for ever over properties or a will of MQTT 5.
    """
    connection = await _open(address, "5", client_id=None, will=None, timeout_seconds=timeout_seconds)
    await connection.close()
    return connection.protocol


async def _open(
    address: BrokerAddress, prefer: Protocol, *, client_id: str | None, will: Will | None, timeout_seconds: float
) -> Connection:
    """Connect with the preferred protocol, or else with the other one.

    Raises:
        BrokerUnavailable: No connection, with a message that says why.
    """
    try:
        context = address.tls_context()
    except SettingsError as error:
        raise BrokerUnavailable(str(error)) from error

    async def attempt(protocol: Protocol, *, certain: bool) -> Connection:
        client = PahoClient(
            address, protocol, context=context, client_id=client_id, will=will, timeout_seconds=timeout_seconds
        )
        # Before connecting: what a persistent session held comes right behind the CONNACK.
        connection = Connection(client, certain=certain)
        await client.connect()
        return connection

    try:
        return await attempt(prefer, certain=True)
    except NotConnected as error:
        if not _may_know_the_other(error, address):
            raise _unavailable(error, address) from error
        certain = error.reason == "refused"
    try:
        return await attempt("5" if prefer == "3.1.1" else "3.1.1", certain=certain)
    except NotConnected as error:
        raise _unavailable(error, address) from error


def _may_know_the_other(problem: NotConnected, address: BrokerAddress) -> bool:
    """Return whether the other protocol is worth a try.

    A broker that speaks only one protocol refuses the other one, does not answer, or ends the connection. Anything
    else it refuses in either protocol.
    """
    match problem.reason:
        case "refused":
            return problem.code in _UNSUPPORTED_PROTOCOL
        case "ended":
            return _tls_problem(problem, address) is None
        case "timeout":
            return True
        case "failed":
            return False


def _unavailable(problem: NotConnected, address: BrokerAddress) -> BrokerUnavailable:
    """Return the error that says why there is no connection, and what to do."""
    if explained := _tls_problem(problem, address):
        why = explained
    elif problem.reason == "ended":
        hint = "" if address.has_tls else "; if it speaks TLS on this port, set MQTT_TLS_CA"
        why = f"the broker ended the connection without an answer{hint}"
    elif problem.code in _NOT_LET_IN:
        why = f"{problem}; check MQTT_USERNAME and MQTT_PASSWORD"
    else:
        why = str(problem)
    return BrokerUnavailable(f"{address.host}:{address.port}: {why}")


def _tls_problem(problem: NotConnected, address: BrokerAddress) -> str | None:
    """Return what TLS has to do with the problem, and what to do; None if nothing."""
    if not address.has_tls:
        return None
    return tls.explain(problem.cause, ca_setting="MQTT_TLS_CA", cert_setting="MQTT_TLS_CERT")
