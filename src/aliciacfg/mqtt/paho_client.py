"""One connection over aiomqtt and the paho client inside it; the only module that knows either library.

aiomqtt connects, keeps the connection alive, subscribes, and feeds the socket to the event loop. The rest goes past
it, and uses what the libraries do not document. The list below says for each such use why it is needed and when it can
go; all were last tried with aiomqtt 2.5.1 and paho-mqtt 2.2.0 on Python 3.11. All of them can go with aiomqtt 3, which
no longer contains paho. But that version speaks MQTT 5 only, so it has to wait until MQTT 3.1.1 is given up.

``aiomqtt.Client._client``, the paho client, whose callbacks are replaced:
    ``on_publish``, because aiomqtt drops the reason code of a PUBACK, so that a publication that an access list denies
    looks successful, and because its book-keeping is quadratic in concurrent publications. ``on_message``, because
    aiomqtt passes each message through a queue and a task of its own. Can go when aiomqtt's ``publish`` raises for a
    negative PUBACK (its version 3 does) and messages can be received by callback.
``paho.mqtt.client.Client._sock_close``:
    When a broker does not answer CONNECT or DISCONNECT, aiomqtt leaves the socket open. And only a connection that ends
    without a DISCONNECT has the broker publish the last will. Can go when aiomqtt closes it, with or without one.
``aiomqtt.Client._connected``, the future that waits for CONNACK, together with paho's ``on_disconnect`` and ``on_log``:
    When a broker ends the connection instead of answering, as one does that wants another client certificate, aiomqtt
    waits for its timeout, and the reason is only logged. Can go when ``aiomqtt.Client.__aenter__`` raises at once.
The text ``Operation timed out`` and the ``__context__`` of ``aiomqtt.MqttError``:
    aiomqtt has no type for a timeout, and keeps of an OSError only its text. Can go when it chains its errors.
``paho.mqtt.client.Client._sock_recv`` and ``_sock_send``, wrapped:
    They show whether the broker still takes and sends anything, which is what timeouts are measured from. And what is
    received of a packet that is too large is dropped as it comes: with MQTT 3.1.1 nothing keeps a client from getting
    256 MB at once, which paho would collect in memory. ``_in_packet`` says how large the present packet is. Can go
    when the client reads packets by callback, and refuses large ones by itself.
``paho.mqtt.client.Client._packet_queue``, wrapped:
    It counts the bytes that were handed to paho. Can go when paho shows how much it has not written yet.
``_EncodedProperties`` in place of ``paho.mqtt.properties.Properties``:
    Every answer carries the same few properties; encoding them by hand takes 0.6 µs instead of 35 µs. It relies on
    paho calling nothing but ``pack()``. Can go when ``Properties`` is about as fast.
``paho.mqtt.properties.Properties``, whose ``__init__`` and ``unpack`` are replaced for the whole process:
    Each packet makes one and builds its tables anew, and each property is looked up in them by loops: 60 µs of the
    100 µs that reading a request takes, which decides how long others wait behind a flood; with one table 10 µs. Can go
    when ``Properties`` is about as fast.
``paho.mqtt.properties.readUTF``, replaced for the whole process:
    paho ends the connection over a U+FEFF in a property; see ``_read_string``. Can go when paho accepts U+FEFF, which
    its main branch of July 2026 did not.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, TypeVar

import aiomqtt
from paho.mqtt import properties
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, MQTTMessage
from paho.mqtt.client import Client as PahoMqttClient
from paho.mqtt.enums import LogLevel, MQTTErrorCode
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.address import BrokerAddress
from aliciacfg.mqtt.messages import Inbound, Protocol, Publication, Will
from aliciacfg.mqtt.packets import variable_integer

TIMEOUT_SECONDS = 5.0
"""The time in which a broker that has to acknowledge something may be silent."""

PATIENCE_SECONDS = 60.0
"""The time after which a broker that does everything else but acknowledge counts as broken."""

_Answer = TypeVar("_Answer")

_KEEPALIVE_SECONDS = 30
_SESSION_EXPIRY_SECONDS = 24 * 60 * 60
# How many messages the broker may deliver before the daemon acknowledges one.
_RECEIVE_MAXIMUM = 1000
# MQTT 5 §3.2.2.3.3: what a broker takes that announces nothing.
_DEFAULT_RECEIVE_MAXIMUM = 65_535
# paho would search all of them at each acknowledgement; ``SendQueue`` limits how many are under way.
_UNLIMITED = 0
# Reason codes from here on are failures (MQTT 5 §2.4).
_FAILURE = 0x80
# Without it every answer waits for the delayed acknowledgement of the one before: 44 ms (Nagle's algorithm).
_NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

_LENGTH_BYTES = 2
# What is kept of a packet that is too large: enough for its topic and the properties that say where to answer.
_KEPT_BYTES = 256 * 1024
_KEPT_PAYLOAD_BYTES = 1024
_CHUNK_BYTES = 64 * 1024


Reason = Literal["refused", "ended", "timeout", "failed"]


class NotConnected(Exception):
    """There is no connection; the text is the library's.

    Attributes:
        reason: ``refused`` by a CONNACK, ``ended`` by the broker before it answered CONNECT, ``timeout``, or
            ``failed`` below MQTT.
        code: The reason code of the CONNACK; None where there was none.
        cause: The OSError below, or the text of what happened.
    """

    def __init__(
        self,
        reason: Reason,
        text: str,
        *,
        code: int | None = None,
        cause: OSError | str = "",
    ) -> None:
        super().__init__(text)
        self.reason: Reason = reason
        self.code = code
        self.cause = cause


class PahoClient:
    """A connection that is used once.

    Attributes:
        protocol: The version of MQTT that it speaks.
        max_packet_bytes: The Maximum Packet Size that the broker announced (MQTT 5 §3.2.2.3.6), or None.
        receive_maximum: How many publications at QoS 1 the broker takes at a time.
        last_received: When anything was received, on the monotonic clock.
        last_sent: When the socket took anything.
        queued_bytes: How many bytes were handed to the library.
        written_bytes: How many of them the socket has taken.
        end_code: After the end, the reason code (MQTT 5 §2.4) if there is one; else 0.
        on_message: Called with every message, on the event loop. At QoS 1 the broker regards it as under way until
            ``acknowledge`` is called.
        on_acknowledged: Called with the packet identifier of a publication at QoS 1, and the broker's reason code.
        on_written: Called when the socket has taken something.
    """

    def __init__(
        self,
        address: BrokerAddress,
        protocol: Protocol,
        *,
        context: ssl.SSLContext | None,
        client_id: str | None,
        will: Will | None,
        max_packet_bytes: int,
        timeout_seconds: float,
    ) -> None:
        self.protocol: Protocol = protocol
        self.max_packet_bytes: int | None = None
        self.receive_maximum = _DEFAULT_RECEIVE_MAXIMUM
        self.last_received = self.last_sent = time.monotonic()
        self.queued_bytes = self.written_bytes = 0
        self.end_code = 0
        self.on_message: Callable[[Inbound], None] = lambda _message: None
        self.on_acknowledged: Callable[[int, int], None] = lambda _identifier, _code: None
        self.on_written: Callable[[], None] = lambda: None
        self._max_received_bytes = max_packet_bytes
        self._client = _aiomqtt_client(
            address,
            protocol,
            context,
            client_id=client_id,
            will=will,
            max_packet_bytes=max_packet_bytes,
            timeout_seconds=timeout_seconds,
        )
        self._paho: PahoMqttClient = self._client._client  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        self._paho.connect_timeout = timeout_seconds
        # Before connecting: what a persistent session held comes right behind the CONNACK.
        self._paho.on_message = self._on_message
        self._paho.on_publish = self._on_publish
        self._paho.manual_ack_set(True)
        self._watch_socket()
        self._aiomqtt_on_connect = self._paho.on_connect
        self._paho.on_connect = self._on_connect
        self._last_error = ""

    def _watch_socket(self) -> None:
        """Have every use of the socket noted, and what is too large dropped."""
        paho: Any = self._paho
        receive, send, queue = paho._sock_recv, paho._sock_send, paho._packet_queue  # noqa: SLF001

        def received(size: int) -> bytes:
            packet = paho._in_packet  # noqa: SLF001
            if packet["remaining_length"] > self._max_received_bytes and packet["have_remaining"]:
                del packet["packet"][_KEPT_BYTES:]
                size = min(size, _CHUNK_BYTES)
            data: bytes = receive(size)
            self.last_received = time.monotonic()
            return data

        def sent(data: bytes) -> int:
            size: int = send(data)
            self.written_bytes += size
            self.last_sent = time.monotonic()
            self.on_written()
            return size

        def queued(command: int, packet: bytes, *arguments: Any) -> MQTTErrorCode:
            self.queued_bytes += len(packet)
            return queue(command, packet, *arguments)

        paho._sock_recv, paho._sock_send, paho._packet_queue = received, sent, queued  # noqa: SLF001

    async def connect(self) -> None:
        """Connect.

        Raises:
            NotConnected: There is no connection.
        """
        loop = asyncio.get_running_loop()
        connected: asyncio.Future[None] = self._client._connected  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        aiomqtt_on_disconnect = self._paho.on_disconnect

        def give_up() -> None:
            if not connected.done():
                connected.set_exception(_EndedEarly(self._last_error))

        def on_disconnect(*arguments: Any) -> None:
            # Called from another thread when CONNECT cannot be sent.
            loop.call_soon_threadsafe(give_up)
            if aiomqtt_on_disconnect is not None:
                aiomqtt_on_disconnect(*arguments)

        def on_log(_client: object, _userdata: object, level: int, text: str) -> None:
            if level == LogLevel.MQTT_LOG_ERR:
                self._last_error = text

        self._paho.on_disconnect = on_disconnect
        self._paho.on_log = on_log
        try:
            await self._client.__aenter__()
        except aiomqtt.MqttError as error:
            self._close_socket()
            raise _not_connected(error) from error
        except asyncio.CancelledError:
            self._close_socket()
            raise
        self._paho.on_disconnect = aiomqtt_on_disconnect
        # paho would format every packet for it.
        self._paho.on_log = None

    def abort(self) -> None:
        """Close the connection without a DISCONNECT."""
        self._close_socket()

    async def disconnect(self) -> None:
        """Disconnect, if the broker has not gone first."""
        with contextlib.suppress(aiomqtt.MqttError):
            await self._client.__aexit__(None, None, None)
        self._close_socket()

    def _close_socket(self) -> None:
        """Close what aiomqtt leaves open when the broker does not answer: it would be read for another half minute."""
        self._paho._sock_close()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    async def wait_closed(self) -> None:
        """Wait until the connection is gone.

        Raises:
            BrokerUnavailable: It is gone; this never returns.
        """
        try:
            async for _message in self._client.messages:
                pass
        except aiomqtt.MqttError as error:
            cause = error.__cause__
            self.end_code = _code(cause.rc) if isinstance(cause, aiomqtt.MqttCodeError) else 0
            raise BrokerUnavailable(f"the broker is gone: {cause or error}") from error

    async def subscribe(self, filters: Sequence[str], *, retain_as_published: bool = False) -> None:
        """Subscribe to topic filters at QoS 1; returns when the broker has acknowledged.

        Args:
            filters: What to subscribe to.
            retain_as_published: On MQTT 5, whether messages keep the retain flag that they were published with.

        Raises:
            BrokerUnavailable: The broker did not acknowledge, or refused a filter.
        """
        options = SubscribeOptions(qos=1, retainAsPublished=retain_as_published)
        wanted: Any = [(topic, options if self.protocol == "5" else 1) for topic in filters]
        try:
            granted = await self._while_alive(self._client.subscribe(wanted, timeout=PATIENCE_SECONDS))
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"subscribing failed: {error}") from error
        refused = [name for name, code in zip(filters, granted, strict=False) if _code(code) >= _FAILURE]
        if refused:
            raise BrokerUnavailable(f"the broker refused the subscription of {', '.join(refused)}")

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe from topic filters; returns when the broker has acknowledged.

        Raises:
            BrokerUnavailable: The broker did not acknowledge.
        """
        try:
            await self._while_alive(self._client.unsubscribe(list(filters), timeout=PATIENCE_SECONDS))
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"unsubscribing failed: {error}") from error

    def publish(self, publication: Publication) -> int:
        """Publish; return the packet identifier, with which ``on_acknowledged`` will be called at QoS 1."""
        properties: Any = None
        if self.protocol == "5" and publication.properties:
            properties = _EncodedProperties(publication.properties)
        topic, payload, qos = publication.topic, publication.payload, publication.qos
        return self._paho.publish(topic, payload, qos, publication.retain, properties).mid

    def acknowledge(self, message: Inbound) -> None:
        """Let the broker forget a message, and deliver another one in its place."""
        if message.identifier:
            self._paho.ack(message.identifier, message.qos)

    async def _while_alive(self, work: Coroutine[Any, Any, _Answer]) -> _Answer:
        """Wait for an acknowledgement as long as the broker is not silent.

        Raises:
            BrokerUnavailable: Neither was anything received for ``TIMEOUT_SECONDS``, nor did the socket take anything.
        """
        task = asyncio.ensure_future(work)
        began = time.monotonic()
        try:
            while not task.done():
                silent = time.monotonic() - max(began, self.last_received)
                if silent >= TIMEOUT_SECONDS:
                    raise BrokerUnavailable("the broker does not answer")
                await asyncio.wait({task}, timeout=TIMEOUT_SECONDS - silent)
            return task.result()
        finally:
            task.cancel()

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Properties | None = None
    ) -> None:
        self.max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        self.receive_maximum = getattr(properties, "ReceiveMaximum", _DEFAULT_RECEIVE_MAXIMUM)
        on_connect: Any = self._aiomqtt_on_connect
        on_connect(client, userdata, flags, reason, properties)

    def _on_message(self, _client: object, _userdata: object, message: MQTTMessage) -> None:
        size = int(self._paho._in_packet["remaining_length"])  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        oversized = size if size > self._max_received_bytes else 0
        identifier = message.mid if message.qos else 0
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # A broker has to refuse it (MQTT 5 §1.5.4); nothing of ours has such a topic.
            self._paho.ack(identifier, message.qos)
            return
        sent = message.properties
        self.on_message(
            Inbound(
                topic=topic,
                payload=bytes(message.payload[:_KEPT_PAYLOAD_BYTES] if oversized else message.payload),
                qos=message.qos,
                retained=message.retain,
                response_topic=getattr(sent, "ResponseTopic", None),
                correlation_data=getattr(sent, "CorrelationData", None),
                identifier=identifier,
                oversized=oversized,
            )
        )

    def _on_publish(
        self, _client: object, _userdata: object, identifier: int, reason: ReasonCode, _properties: object
    ) -> None:
        self.on_acknowledged(identifier, _code(reason))


class _EndedEarly(aiomqtt.MqttError):
    """The broker ended the connection before it answered CONNECT; the text is what paho logged."""


def _not_connected(error: aiomqtt.MqttError) -> NotConnected:
    """Return what ``aiomqtt.Client.__aenter__`` raised, as our own."""
    cause = error.__context__ if isinstance(error.__context__, OSError) else str(error)
    if isinstance(error, aiomqtt.MqttCodeError):
        return NotConnected("refused", str(error), code=_code(error.rc), cause=cause)
    if isinstance(error, _EndedEarly):
        return NotConnected("ended", str(error), cause=cause)
    timed_out = str(error).startswith("Operation timed out")
    return NotConnected("timeout" if timed_out else "failed", str(error), cause=cause)


def _aiomqtt_client(
    address: BrokerAddress,
    protocol: Protocol,
    context: ssl.SSLContext | None,
    *,
    client_id: str | None,
    will: Will | None,
    max_packet_bytes: int,
    timeout_seconds: float,
) -> aiomqtt.Client:
    persistent = client_id is not None
    session = None
    if protocol == "5" and persistent:
        session = Properties(PacketTypes.CONNECT)
        session.ReceiveMaximum = _RECEIVE_MAXIMUM
        session.SessionExpiryInterval = _SESSION_EXPIRY_SECONDS
        session.MaximumPacketSize = max_packet_bytes
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
        max_inflight_messages=_UNLIMITED,
        tls_context=context,
        socket_options=[_NO_DELAY],
        logger=logging.getLogger("aliciacfg.mqtt.paho"),
    )


def is_failure(code: int) -> bool:
    """Return whether a reason code says that something was refused."""
    return code >= _FAILURE


def explain(code: int) -> str:
    """Return the name of the reason code of a PUBACK."""
    try:
        return str(ReasonCode(PacketTypes.PUBACK, identifier=code))
    except KeyError:
        return f"reason {code}"


def _code(code: object) -> int:
    if isinstance(code, ReasonCode):
        return code.value
    return code if isinstance(code, int) else 0


class _EncodedProperties:
    """Properties of MQTT 5, already encoded."""

    __slots__ = ("_bytes",)

    def __init__(self, encoded: bytes) -> None:
        self._bytes = variable_integer(len(encoded)) + encoded

    def pack(self) -> bytes:
        return self._bytes


def _read_string(buffer: bytes, limit: int) -> tuple[str, int]:
    """Decode a UTF-8 string of a property (MQTT 5 §1.5.4), and return it with the number of bytes it took.

    paho's own function disconnects at U+FEFF. The standard allows it and brokers pass it on, so such a message would
    come back from the persistent session at every connect, and end each connection.

    Raises:
        MalformedPacket: The string is longer than what is left of the packet.
    """
    size = int.from_bytes(buffer[:_LENGTH_BYTES], "big")
    if limit < _LENGTH_BYTES or size > limit - _LENGTH_BYTES:
        raise MalformedPacket("a string is longer than its packet")
    return bytes(buffer[_LENGTH_BYTES : _LENGTH_BYTES + size]).decode("utf-8", "replace"), size + _LENGTH_BYTES


_TABLES = {name: table for name, table in vars(Properties(PacketTypes.PUBLISH)).items() if name != "packetType"}
# By identifier, what a PUBLISH may have: the attribute, the type, and whether it may stand more than once.
_OF_PUBLISH = {
    identifier: (name.replace(" ", ""), _TABLES["properties"][identifier][0], identifier in {11, 38})
    for name, identifier in _TABLES["names"].items()
    if PacketTypes.PUBLISH in _TABLES["properties"][identifier][1]
}
# Without types for most of it.
_untyped: Any = properties
_paho_unpack: Callable[[Properties, bytes], tuple[Properties, int]] = _untyped.Properties.unpack
_read_property: Callable[[Properties, bytes, int, int], tuple[object, int]] = _untyped.Properties.readProperty
_variable_integer: Callable[[bytes], tuple[int, int]] = _untyped.VariableByteIntegers.decode


def _make_properties(self: Properties, packetType: int) -> None:  # noqa: N803 - as paho has it
    """Make properties of a packet without any."""
    vars(self).update(_TABLES, packetType=packetType)


def _unpack_properties(self: Properties, buffer: bytes) -> tuple[Properties, int]:
    """Decode the properties at the beginning of ``buffer`` (MQTT 5 §2.2.2); return how many bytes they took, too.

    Raises:
        MalformedPacket: They are longer than what is left of the packet, or one stands twice that may stand once.
        KeyError: One does not belong into a PUBLISH. At both paho ends the connection.
    """
    if self.packetType != PacketTypes.PUBLISH:
        return _paho_unpack(self, buffer)
    size, place = _variable_integer(buffer)
    end = place + size
    if end > len(buffer):
        raise MalformedPacket("the properties are longer than their packet")
    # Without the payload, which each step would copy.
    encoded, found = buffer[:end], vars(self)
    while place < end:
        name, kind, multiple = _OF_PUBLISH[encoded[place]]
        value, length = _read_property(self, encoded[place + 1 :], kind, end - place - 1)
        if multiple:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise MalformedPacket(f"the property {name} stands twice")
        else:
            found[name] = value
        place += 1 + length
    return self, end


properties.readUTF = _read_string
Properties.__init__ = _make_properties
Properties.unpack = _unpack_properties
