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
``aiomqtt.Client._connected``, the future that waits for CONNACK, together with paho's ``on_disconnect`` and ``on_log``:
    When a broker ends the connection instead of answering, as one does that wants another client certificate, aiomqtt
    waits for its timeout, and the reason is only logged. Can go when ``aiomqtt.Client.__aenter__`` raises at once.
The text ``Operation timed out`` and the ``__context__`` of ``aiomqtt.MqttError``:
    aiomqtt has no type for a timeout, and keeps of an OSError only its text. Can go when it chains its errors.
``_EncodedProperties`` in place of ``paho.mqtt.properties.Properties``:
    Every answer carries the same few properties; encoding them by hand takes 0.6 µs instead of 35 µs. It relies on
    paho calling nothing but ``pack()``. Can go when ``Properties`` is about as fast.
``paho.mqtt.properties.readUTF``, replaced for the whole process:
    paho ends the connection over a U+FEFF in a property; see ``_read_string``. Can go when paho accepts U+FEFF, which
    its main branch of July 2026 did not.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Literal

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
from aliciacfg.mqtt.messages import Inbound, Protocol, Reply, Will

TIMEOUT_SECONDS = 5.0
"""The time within which a broker has to acknowledge anything."""

_KEEPALIVE_SECONDS = 30
_SESSION_EXPIRY_SECONDS = 24 * 60 * 60
_RECEIVE_MAXIMUM = 1000
_MAX_INFLIGHT = 1000
# Reason codes from here on are failures (MQTT 5 §2.4).
_FAILURE = 0x80
# Without it every answer waits for the delayed acknowledgement of the one before: 44 ms (Nagle's algorithm).
_NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

# MQTT 5 §2.2.2.2, property identifiers.
_CONTENT_TYPE = b"\x03"
_CORRELATION_DATA = b"\x09"
_USER_PROPERTY = b"\x26"
_LENGTH_BYTES = 2


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
        on_message: Called with every message, on the event loop.
        on_acknowledged: Called with the packet identifier of a publication at QoS 1, and with the broker's reason
            where it refused the publication.
    """

    def __init__(
        self,
        address: BrokerAddress,
        protocol: Protocol,
        *,
        context: ssl.SSLContext | None,
        client_id: str | None,
        will: Will | None,
        timeout_seconds: float,
    ) -> None:
        self.protocol: Protocol = protocol
        self.on_message: Callable[[Inbound], None] = lambda _message: None
        self.on_acknowledged: Callable[[int, str | None], None] = lambda _identifier, _refusal: None
        self._client = _aiomqtt_client(
            address, protocol, context, client_id=client_id, will=will, timeout_seconds=timeout_seconds
        )
        self._paho: PahoMqttClient = self._client._client  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        # Before connecting: what a persistent session held comes right behind the CONNACK.
        self._paho.on_message = self._on_message
        self._paho.on_publish = self._on_publish
        self._last_error = ""

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
            raise _not_connected(error) from error
        self._paho.on_disconnect = aiomqtt_on_disconnect
        # paho would format every packet for it.
        self._paho.on_log = None

    async def disconnect(self) -> None:
        """Disconnect, if the broker has not gone first."""
        with contextlib.suppress(aiomqtt.MqttError):
            await self._client.__aexit__(None, None, None)

    async def wait_closed(self) -> None:
        """Wait until the connection is gone.

        Raises:
            BrokerUnavailable: It is gone; this never returns.
        """
        try:
            async for _message in self._client.messages:
                pass
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"the broker is gone: {error}") from error

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe to topic filters at QoS 1; returns when the broker has acknowledged.

        Raises:
            BrokerUnavailable: The broker did not acknowledge, or refused a filter.
        """
        try:
            if self.protocol == "5":
                options = SubscribeOptions(qos=1)
                wanted = [(topic, options) for topic in filters]
                granted = await self._client.subscribe(wanted, timeout=TIMEOUT_SECONDS)
            else:
                granted = await self._client.subscribe([(topic, 1) for topic in filters], timeout=TIMEOUT_SECONDS)
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
            await self._client.unsubscribe(list(filters), timeout=TIMEOUT_SECONDS)
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"unsubscribing failed: {error}") from error

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> int:
        """Publish at QoS 1; return the packet identifier that ``on_acknowledged`` will be called with.

        Raises:
            BrokerUnavailable: The publication cannot be sent.
        """
        info = self._paho.publish(topic, payload, 1, retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise BrokerUnavailable(f"publishing on {topic} failed: {info.rc.name}")
        return info.mid

    def send(self, topic: str, payload: bytes, *, qos: int) -> None:
        """Publish, without learning whether it arrives."""
        self._paho.publish(topic, payload, qos, retain=False)

    def send_request(self, topic: str, payload: bytes, *, response_topic: str, correlation_data: bytes) -> None:
        """Publish at QoS 1 with a Response Topic and Correlation Data; MQTT 3.1.1 has neither."""
        named = None
        if self.protocol == "5":
            named = Properties(PacketTypes.PUBLISH)
            named.ResponseTopic = response_topic
            named.CorrelationData = correlation_data
        self._paho.publish(topic, payload, 1, retain=False, properties=named)

    def send_reply(self, reply: Reply) -> None:
        """Publish an answer; on MQTT 5 with its content type, ``status`` and Correlation Data."""
        if self.protocol != "5":
            self._paho.publish(reply.topic, reply.payload, reply.qos, retain=False)
            return
        encoded = _REPLY_HEADS[reply.success]
        if reply.correlation_data is not None:
            encoded += _CORRELATION_DATA + _string(reply.correlation_data)
        packed: Any = _EncodedProperties(_variable_integer(len(encoded)) + encoded)
        self._paho.publish(reply.topic, reply.payload, reply.qos, retain=False, properties=packed)

    def _on_message(self, _client: object, _userdata: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # A broker has to refuse it (MQTT 5 §1.5.4); nothing of ours has such a topic.
            return
        sent = message.properties
        self.on_message(
            Inbound(
                topic=topic,
                payload=bytes(message.payload),
                qos=message.qos,
                retained=message.retain,
                response_topic=getattr(sent, "ResponseTopic", None),
                correlation_data=getattr(sent, "CorrelationData", None),
            )
        )

    def _on_publish(
        self, _client: object, _userdata: object, identifier: int, reason: ReasonCode, _properties: object
    ) -> None:
        self.on_acknowledged(identifier, str(reason) if _code(reason) >= _FAILURE else None)


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


class _EncodedProperties:
    """Properties of MQTT 5, already encoded."""

    __slots__ = ("_bytes",)

    def __init__(self, encoded: bytes) -> None:
        self._bytes = encoded

    def pack(self) -> bytes:
        return self._bytes


def _string(text: bytes) -> bytes:
    """Encode a string or binary data (MQTT 5 §1.5.4, §1.5.6)."""
    return len(text).to_bytes(_LENGTH_BYTES, "big") + text


def _variable_integer(number: int) -> bytes:
    """Encode a Variable Byte Integer (MQTT 5 §1.5.5)."""
    encoded = bytearray()
    while True:
        number, byte = divmod(number, 128)
        encoded.append(byte | 0x80 if number else byte)
        if not number:
            return bytes(encoded)


def _reply_head(status: bytes) -> bytes:
    """Encode the properties that every answer of one ``status`` has."""
    return _CONTENT_TYPE + _string(b"application/json") + _USER_PROPERTY + _string(b"status") + _string(status)


_REPLY_HEADS = {True: _reply_head(b"success"), False: _reply_head(b"error")}


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


properties.readUTF = _read_string
