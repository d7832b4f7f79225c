"""One connection to the broker; the only module that knows aiomqtt and the paho client under it.

aiomqtt connects, keeps alive, subscribes and feeds the socket to the event loop. Four things are done on its
paho client instead, each for a measured reason:

- Connecting: aiomqtt waits for its timeout when the broker ends the connection instead of answering, as one does that
  wants another client certificate, and the reason is only logged.
- Publishing: aiomqtt drops the reason code of a PUBACK, so a publication that an ACL denies looks successful;
  and its book-keeping is quadratic in concurrent publications.
- Answering: MQTT 5 properties are encoded by hand, which costs a tenth of paho's ``Properties``.
- Receiving: messages come by callback instead of through a queue with a task per message.

A connection is used once. Reconnecting makes a new one, so that nothing in flight is sent twice: the outbox
publishes anew.
"""

import asyncio
import contextlib
import logging
import secrets
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal

import aiomqtt
from paho.mqtt import properties
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, MQTTMessage
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.enums import LogLevel, MQTTErrorCode
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from aliciacfg import tls
from aliciacfg.errors import BrokerUnavailable, SettingsError
from aliciacfg.mqtt.address import BrokerAddress
from aliciacfg.mqtt.messages import Inbound, Will

Protocol = Literal["5", "3.1.1"]

_TIMEOUT_SECONDS = 5.0
_KEEPALIVE_SECONDS = 30
_SESSION_EXPIRY_SECONDS = 24 * 60 * 60
_RECEIVE_MAXIMUM = 1000
_MAX_INFLIGHT = 1000
_UNSUPPORTED_PROTOCOL_VERSION = 132
# Bad user name or password, not authorized: MQTT 5 §3.2.2.2, MQTT 3.1.1 §3.2.2.3.
_NOT_LET_IN = frozenset({134, 135, 4, 5})
_FAILURE = 0x80
# Without it every answer waits for the delayed acknowledgement of the one before: 44 ms (Nagle's algorithm).
_NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

# MQTT 5 §2.2.2.2, property identifiers.
_CONTENT_TYPE = b"\x03"
_CORRELATION_DATA = b"\x09"
_USER_PROPERTY = b"\x26"


class Denied(BrokerUnavailable):
    """The broker refused a publication (MQTT 5 §3.4.2.1), as an ACL does."""


class _EndedEarly(aiomqtt.MqttError):
    """The broker ended the connection before it answered CONNECT."""


def _read_string(buffer: bytes, limit: int) -> tuple[str, int]:
    """Read a UTF-8 string (MQTT 5 §1.5.4) out of a property, and say how many bytes it took.

    Stands in the place of paho's own, which disconnects at U+FEFF. The standard allows it and brokers pass it on, so
    one message would come back from the persistent session at every connect, and end each.
    """
    size = int.from_bytes(buffer[:2], "big")
    if limit < _LENGTH_BYTES or size > limit - _LENGTH_BYTES:
        raise MalformedPacket("a string is longer than its packet")
    return bytes(buffer[_LENGTH_BYTES : _LENGTH_BYTES + size]).decode("utf-8", "replace"), size + _LENGTH_BYTES


_LENGTH_BYTES = 2
properties.readUTF = _read_string


class _Encoded:
    """Stands where paho expects ``Properties``: already encoded."""

    __slots__ = ("_bytes",)

    def __init__(self, encoded: bytes) -> None:
        self._bytes = encoded

    def pack(self) -> bytes:
        return self._bytes


def _string(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _variable_integer(number: int) -> bytes:
    """MQTT 5 §1.5.5."""
    encoded = bytearray()
    while True:
        number, byte = divmod(number, 128)
        encoded.append(byte | 0x80 if number else byte)
        if not number:
            return bytes(encoded)


def _answer_head(status: bytes) -> bytes:
    return _CONTENT_TYPE + _string(b"application/json") + _USER_PROPERTY + _string(b"status") + _string(status)


_ANSWER_HEADS = {True: _answer_head(b"success"), False: _answer_head(b"error")}


class Connection:
    """A live connection; made by ``connect``.

    Attributes:
        protocol: What was agreed with the broker.
        certain: The broker accepted it first, or refused the other one; not so after a mere timeout.
    """

    def __init__(self, client: aiomqtt.Client, protocol: Protocol, *, certain: bool) -> None:
        self._client = client
        self.certain = certain
        # aiomqtt has no public way to these; see the module's docstring.
        self._paho: PahoClient = client._client  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        # Results, not exceptions: nobody retrieves one whose publisher was cancelled.
        self._waiting: dict[int, asyncio.Future[BrokerUnavailable | None]] = {}
        self._gone: BrokerUnavailable | None = None
        self._receiver: Callable[[Inbound], None] = lambda _message: None
        self._early: list[Inbound] | None = []
        self.protocol: Protocol = protocol
        self._paho.on_message = self._on_message
        self._paho.on_publish = self._on_publish
        self._complaint = ""

    async def open(self) -> None:
        """Connect.

        Raises:
            aiomqtt.MqttError: There is no connection; ``_EndedEarly`` with what paho logged.
        """
        loop = asyncio.get_running_loop()
        connected: asyncio.Future[None] = self._client._connected  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        told = self._paho.on_disconnect

        def give_up() -> None:
            if not connected.done():
                connected.set_exception(_EndedEarly(self._complaint))

        def on_disconnect(*arguments: Any) -> None:
            # From a thread of its own if it is CONNECT that cannot be sent.
            loop.call_soon_threadsafe(give_up)
            if told is not None:
                told(*arguments)

        def on_log(_client: object, _userdata: object, level: int, text: str) -> None:
            if level == LogLevel.MQTT_LOG_ERR:
                self._complaint = text

        self._paho.on_disconnect = on_disconnect
        self._paho.on_log = on_log
        await self._client.__aenter__()
        self._paho.on_disconnect = told
        # Every packet would be put into words for it.
        self._paho.on_log = None

    def receive(self, receiver: Callable[[Inbound], None]) -> None:
        """Call ``receiver`` with every message, beginning with those that came before this call."""
        early, self._early = self._early or [], None
        self._receiver = receiver
        for message in early:
            receiver(message)

    async def close(self) -> None:
        """Disconnect, if the broker has not gone first."""
        with contextlib.suppress(aiomqtt.MqttError):
            await self._client.__aexit__(None, None, None)

    async def wait_closed(self) -> None:
        """Return never; raise BrokerUnavailable when the connection is gone."""
        try:
            async for _message in self._client.messages:
                pass
        except aiomqtt.MqttError as error:
            self._gone = gone = BrokerUnavailable(f"the broker is gone: {error}")
            for done in self._waiting.values():
                if not done.done():
                    done.set_result(gone)
            raise gone from error

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe to topic filters at QoS 1; returns when the broker has acknowledged.

        Raises:
            BrokerUnavailable: It has not, or refused one.
        """
        try:
            if self.protocol == "5":
                options = SubscribeOptions(qos=1)
                wanted = [(topic, options) for topic in filters]
                granted = await self._client.subscribe(wanted, timeout=_TIMEOUT_SECONDS)
            else:
                granted = await self._client.subscribe([(topic, 1) for topic in filters], timeout=_TIMEOUT_SECONDS)
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"subscribing failed: {error}") from error
        refused = [name for name, code in zip(filters, granted, strict=False) if _code(code) >= _FAILURE]
        if refused:
            raise BrokerUnavailable(f"the broker refused the subscription of {', '.join(refused)}")

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe from topic filters.

        Raises:
            BrokerUnavailable: The broker has not acknowledged.
        """
        try:
            await self._client.unsubscribe(list(filters), timeout=_TIMEOUT_SECONDS)
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"unsubscribing failed: {error}") from error

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish at QoS 1; returns when the broker has acknowledged.

        Raises:
            Denied: The broker refused it and said so (MQTT 5 only; on 3.1.1 nobody can tell).
            BrokerUnavailable: It did not acknowledge in time, or is gone.
        """
        if self._gone is not None:
            raise BrokerUnavailable(str(self._gone))
        info = self._paho.publish(topic, payload, 1, retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise BrokerUnavailable(f"publishing on {topic} failed: {info.rc.name}")
        done = self._waiting[info.mid] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                failure = await done
        except TimeoutError as error:
            raise BrokerUnavailable(f"the broker did not acknowledge {topic}") from error
        finally:
            self._waiting.pop(info.mid, None)
        if isinstance(failure, Denied):
            raise Denied(f"the broker refused a publication on {topic}: {failure}")
        if failure is not None:
            raise BrokerUnavailable(str(failure))

    def send(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        """Publish without waiting and without retaining; for what nobody depends on."""
        self._paho.publish(topic, payload, qos, retain=False)

    def request(self, topic: str, payload: bytes, *, response_topic: str, correlation_data: bytes) -> None:
        """Publish a request at QoS 1 that names where to answer (MQTT 5), without waiting."""
        named = None
        if self.protocol == "5":
            named = Properties(PacketTypes.PUBLISH)
            named.ResponseTopic = response_topic
            named.CorrelationData = correlation_data
        self._paho.publish(topic, payload, 1, retain=False, properties=named)

    def answer(self, topic: str, payload: bytes, *, qos: int, success: bool, correlation_data: bytes | None) -> None:
        """Publish an answer without waiting: content type, ``status`` and correlation data on MQTT 5."""
        if self.protocol != "5":
            self._paho.publish(topic, payload, qos, retain=False)
            return
        encoded = _ANSWER_HEADS[success]
        if correlation_data is not None:
            encoded += _CORRELATION_DATA + _string(correlation_data)
        packed = _Encoded(_variable_integer(len(encoded)) + encoded)
        # paho only ever calls pack() on it.
        self._paho.publish(topic, payload, qos, retain=False, properties=packed)  # pyright: ignore[reportArgumentType]

    def _on_message(self, _client: object, _userdata: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # A broker has to refuse it (MQTT 5 §1.5.4); nothing of ours has such a topic.
            return
        sent = message.properties
        inbound = Inbound(
            topic=topic,
            payload=bytes(message.payload),
            qos=message.qos,
            retained=message.retain,
            response_topic=getattr(sent, "ResponseTopic", None),
            correlation_data=getattr(sent, "CorrelationData", None),
        )
        if self._early is not None:
            self._early.append(inbound)
        else:
            self._receiver(inbound)

    def _on_publish(
        self, _client: object, _userdata: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        done = self._waiting.get(mid)
        if done is None or done.done():
            return
        done.set_result(Denied(str(reason)) if _code(reason) >= _FAILURE else None)


@asynccontextmanager
async def connect(
    address: BrokerAddress,
    *,
    client_id: str | None,
    will: Will | None = None,
    prefer: Protocol | None = None,
    timeout_seconds: float = _TIMEOUT_SECONDS,
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
    order: tuple[Protocol, ...] = ("3.1.1", "5") if prefer == "3.1.1" else ("5", "3.1.1")
    connection = await _open(address, order, client_id=client_id, will=will, timeout_seconds=timeout_seconds)
    try:
        yield connection
    finally:
        await connection.close()


async def accepts_anybody(address: BrokerAddress) -> bool:
    """Whether the broker lets somebody in under the daemon's name who does not know its password."""
    stranger = replace(address, password=secrets.token_urlsafe(), tls_cert=None, tls_key=None)
    try:
        connection = await _open(stranger, ("5", "3.1.1"), client_id=None, will=None, timeout_seconds=_TIMEOUT_SECONDS)
    except BrokerUnavailable:
        return False
    await connection.close()
    return True


async def _find_protocol(address: BrokerAddress, *, timeout_seconds: float) -> Protocol:
    """Connect once with nothing but the version.

    A broker of 3.1.1 refuses that at once, but may wait for ever over properties or a will of MQTT 5.
    """
    connection = await _open(address, ("5", "3.1.1"), client_id=None, will=None, timeout_seconds=timeout_seconds)
    await connection.close()
    return connection.protocol


async def _open(
    address: BrokerAddress,
    order: Sequence[Protocol],
    *,
    client_id: str | None,
    will: Will | None,
    timeout_seconds: float,
) -> Connection:
    try:
        context = address.tls_context()
    except SettingsError as error:
        raise BrokerUnavailable(str(error)) from error
    problem: aiomqtt.MqttError | None = None
    certain = True
    for protocol in order:
        client = _client(address, protocol, context, client_id=client_id, will=will, timeout_seconds=timeout_seconds)
        # Before connecting: what a persistent session held comes right behind the CONNACK.
        connection = Connection(client, protocol, certain=certain)
        try:
            await connection.open()
        except aiomqtt.MqttError as error:
            problem = error
            if not _may_know_the_other(error, address):
                break
            certain = isinstance(error, aiomqtt.MqttCodeError)
        else:
            return connection
    raise BrokerUnavailable(f"{address.host}:{address.port}: {_told(problem, address)}") from problem


def _may_know_the_other(problem: aiomqtt.MqttError, address: BrokerAddress) -> bool:
    """Whether the other protocol is worth a try: a broker of 3.1.1 says that it is, says nothing, or goes.

    What else a broker refuses it refuses either way.
    """
    if isinstance(problem, aiomqtt.MqttCodeError):
        return _code(problem.rc) in {_UNSUPPORTED_PROTOCOL_VERSION, 1}
    if isinstance(problem, _EndedEarly):
        return _tls_problem(problem, address) is None
    return str(problem).startswith("Operation timed out")


def _told(problem: aiomqtt.MqttError | None, address: BrokerAddress) -> str:
    """Why there is no connection, for people."""
    if problem is not None and (told := _tls_problem(problem, address)):
        return told
    if isinstance(problem, _EndedEarly):
        hint = "" if address.has_tls else "; if it speaks TLS on this port, set MQTT_TLS_CA"
        return f"the broker ended the connection without an answer{hint}"
    if isinstance(problem, aiomqtt.MqttCodeError) and _code(problem.rc) in _NOT_LET_IN:
        return f"{problem}; check MQTT_USERNAME and MQTT_PASSWORD"
    return str(problem)


def _tls_problem(problem: aiomqtt.MqttError, address: BrokerAddress) -> str | None:
    """What TLS has to do with it, and what to do; None if nothing."""
    if not address.has_tls:
        return None
    # Of what was raised below it aiomqtt keeps the text, Python the rest.
    cause = problem.__context__ if isinstance(problem.__context__, OSError) else str(problem)
    return tls.explain(cause, ca_setting="MQTT_TLS_CA", cert_setting="MQTT_TLS_CERT")


def _client(
    address: BrokerAddress,
    protocol: Protocol,
    context: ssl.SSLContext | None,
    *,
    client_id: str | None,
    will: Will | None,
    timeout_seconds: float,
) -> aiomqtt.Client:
    persistent = client_id is not None
    session = None
    if protocol == "5" and persistent:
        session = Properties(PacketTypes.CONNECT)
        session.ReceiveMaximum = _RECEIVE_MAXIMUM
        session.SessionExpiryInterval = _SESSION_EXPIRY_SECONDS
    return aiomqtt.Client(
        address.host,
        address.port,
        username=address.username,
        password=address.password,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5 if protocol == "5" else aiomqtt.ProtocolVersion.V311,
        clean_session=None if protocol == "5" else not persistent,
        # paho refuses the option on 3.1.1 unless it has its default.
        clean_start=not persistent if protocol == "5" else MQTT_CLEAN_START_FIRST_ONLY,
        properties=session,
        will=None if will is None else aiomqtt.Will(will.topic, will.payload, qos=1, retain=True),
        timeout=timeout_seconds,
        keepalive=_KEEPALIVE_SECONDS,
        max_inflight_messages=_MAX_INFLIGHT,
        tls_context=context,
        socket_options=[_NO_DELAY],
        logger=logging.getLogger("aliciacfg.mqtt.paho"),
    )


def _code(code: object) -> int:
    if isinstance(code, ReasonCode):
        return code.value
    return code if isinstance(code, int) else 0
