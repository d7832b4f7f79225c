"""One connection of MQTT 3.1.1 over aiomqtt, for brokers that speak nothing newer.

The only module that knows the paho client inside aiomqtt. aiomqtt connects, keeps the connection alive,
subscribes, and feeds the socket to the event loop. The rest goes past it, and uses what the libraries do not document.
The list below says for each such use why it is needed and when it can go; all were last tried with aiomqtt 2.5.1 and
paho-mqtt 2.2.0 on Python 3.11. aiomqtt 3 no longer contains paho, but speaks MQTT 5 only: the module goes as it is when
MQTT 3.1.1 is given up.

``aiomqtt.Client._client``, the paho client, whose callbacks are replaced:
    ``on_message``, because aiomqtt acknowledges a message when it comes, and passes each through a queue and a task of
    its own. ``on_publish`` is none, because aiomqtt's book-keeping is quadratic in concurrent publications, and because
    paho makes a reason code and properties of MQTT 5 for it, for each answer at QoS 0: 26 µs of 80. Can go when
    messages can be received by callback and acknowledged by hand.
    ``on_socket_register_write``, because aiomqtt wakes the event loop and asks the socket before each write. Can go
    when aiomqtt writes at once.
``paho.mqtt.client.Client._handle_pubackcomp``, replaced:
    It reports an acknowledgement, and nothing else; paho makes a reason code and properties of MQTT 5 here, too:
    10 µs of 70. Uses ``_out_messages`` and ``_do_on_publish``. Can go with the costs of ``on_publish``.
``paho.mqtt.client.Client._easy_log``:
    By it ``bus.aiomqtt_connecting``, which lists what connecting needs, learns why a connection ended. Can go with what
    it is needed for there.
``paho.mqtt.client.Client._sock_recv`` and ``_sock_send``, wrapped, ``_packet_write``, ``loop_read`` and ``want_write``:
    They show whether the broker still takes and sends anything, which is what timeouts are measured from. What is
    received of a packet that is too large is dropped as it comes: with MQTT 3.1.1 nothing keeps a client from getting
    256 MB at once, which paho would collect in memory. ``_in_packet`` says how large the present packet is. And paho
    asks the socket three times for each packet, and sends each by itself: a third of the time of a get. Here many are
    read and sent at once. Can go when the client reads packets by callback, and refuses large ones by itself.
``paho.mqtt.client.Client._packet_queue``, wrapped:
    It counts the bytes that were handed to paho. Can go when paho shows how much it has not written yet.
"""

import asyncio
import logging
import math
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

import aiomqtt
from paho.mqtt.client import Client as PahoMqttClient
from paho.mqtt.client import MQTTMessage
from paho.mqtt.enums import LogLevel, MQTTErrorCode

from aliciacfg.bus import aiomqtt_connecting
from aliciacfg.bus.address import BrokerAddress
from aliciacfg.bus.aiomqtt_connecting import reason_code
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.broker_client import (
    DEFAULT_RECEIVE_MAXIMUM,
    KEEPALIVE_SECONDS,
    KEPT_BYTES,
    KEPT_PAYLOAD_BYTES,
    PATIENCE_SECONDS,
    Lane,
    SubscriptionRefused,
    is_failure,
    while_alive,
)
from aliciacfg.mqtt.messages import Inbound, Protocol, Publication, Will

# paho would search all of them at each acknowledgement; ``SendQueue`` limits how many are under way.
_UNLIMITED = 0
# Without it every answer waits for the delayed acknowledgement of the one before: 44 ms (Nagle's algorithm).
_NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

_CHUNK_BYTES = 64 * 1024
# With more than this unwritten nothing is read: each message would be acknowledged into memory.
_MAX_UNWRITTEN_BYTES = 16 * 1024 * 1024
# What is read ahead: some two hundred requests, which take less than 20 ms.
_READ_BYTES = 8 * 1024
# The first byte of a packet after which paho closes the socket at once (MQTT 3.1.1 §3.14).
_DISCONNECT = 0xE0
# What a PUBACK holds (MQTT 3.1.1 §3.4.2).
_IDENTIFIER_BYTES = 2


class AiomqttClient:
    """A ``BrokerClient`` of MQTT 3.1.1.

    Attributes:
        last_sent: When the socket took anything.
        queued_bytes: How many bytes were handed to the library.
        written_bytes: How many of them the socket has taken.
    """

    def __init__(
        self,
        address: BrokerAddress,
        *,
        context: ssl.SSLContext | None,
        client_id: str | None,
        will: Will | None,
        max_packet_bytes: int,
        timeout_seconds: float,
        persistent: bool = True,
        keepalive_seconds: int = KEEPALIVE_SECONDS,
        silence_seconds: float = 0.0,
    ) -> None:
        self.protocol: Protocol = "3.1.1"
        self.max_packet_bytes: int | None = None
        self.receive_maximum = DEFAULT_RECEIVE_MAXIMUM
        self.last_received = self.last_sent = time.monotonic()
        self.queued_bytes = self.written_bytes = 0
        # What was read and not handled, and what paho takes for sent.
        self._unread = bytearray()
        self._unsent = bytearray()
        self.shares = True
        self.end_code = 0
        self.on_message: Callable[[Inbound], None] = lambda _message: None
        self.on_acknowledged: Callable[[int, int], None] = lambda _identifier, _code: None
        self.on_written: Callable[[], None] = lambda: None
        self._max_received_bytes = max_packet_bytes
        self._client = _aiomqtt_client(
            address,
            context,
            client_id=client_id,
            will=will,
            timeout_seconds=timeout_seconds,
            persistent=persistent and client_id is not None,
            # The library has one number for both.
            keepalive_seconds=max(keepalive_seconds, math.ceil(silence_seconds)),
        )
        self._paho: PahoMqttClient = self._client._client  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        self._connect_seconds = timeout_seconds
        # Before connecting: what a persistent session held comes right behind the CONNACK.
        self._paho.on_message = self._on_message
        self._paho.on_publish = None
        self._paho.manual_ack_set(True)
        # Whether the socket is read; it is not while ``hold`` says so, or while too much waits for it.
        self._reads = True
        self._held = self._stalled = False
        self._watch_socket()

    def _watch_socket(self) -> None:
        """Have every use of the socket noted, and what is too large dropped."""
        paho: Any = self._paho
        receive, queue = paho._sock_recv, paho._packet_queue  # noqa: SLF001

        def received(size: int) -> bytes:
            packet = paho._in_packet  # noqa: SLF001
            if packet["remaining_length"] > self._max_received_bytes and packet["have_remaining"]:
                del packet["packet"][KEPT_BYTES:]
                size = min(size, _CHUNK_BYTES)
            if not self._unread:
                self._unread += receive(max(size, _READ_BYTES))
                self.last_received = time.monotonic()
            data = bytes(self._unread[:size])
            del self._unread[:size]
            return data

        def queued(command: int, packet: bytes, *arguments: Any) -> MQTTErrorCode:
            self.queued_bytes += len(packet)
            if self.unwritten_bytes() > _MAX_UNWRITTEN_BYTES:
                self._stalled = True
                self._read_or_not()
            return queue(command, packet, *arguments)

        handle = paho._handle_pubackcomp  # noqa: SLF001

        def acknowledged(kind: str) -> MQTTErrorCode:
            packet = paho._in_packet["packet"]  # noqa: SLF001
            identifier = int.from_bytes(packet, "big")
            if len(packet) != _IDENTIFIER_BYTES or identifier not in paho._out_messages:  # noqa: SLF001
                return handle(kind)
            result = paho._do_on_publish(identifier, None, None)  # noqa: SLF001
            self.on_acknowledged(identifier, 0)
            return result

        paho._handle_pubackcomp = acknowledged  # noqa: SLF001
        paho._sock_recv, paho._packet_queue = received, queued  # noqa: SLF001
        self._read_ahead()
        self._send_together()

    def _read_ahead(self) -> None:
        """Have every packet handled that was read, not only the first: the socket does not report the others."""
        paho: Any = self._paho
        read = paho.loop_read

        def read_all() -> MQTTErrorCode:
            code = read()
            while self._unread and not code and self._reads and paho.socket() is not None:
                code = read()
            return code

        paho.loop_read = read_all

    def _send_together(self) -> None:
        """Have packets that wait sent at once."""
        paho: Any = self._paho
        send, write, wants_write = paho._sock_send, paho._packet_write, paho.want_write  # noqa: SLF001

        def flush() -> MQTTErrorCode:
            while self._unsent:
                try:
                    size = send(self._unsent)
                except BlockingIOError:
                    return MQTTErrorCode.MQTT_ERR_AGAIN
                except OSError as error:
                    paho._easy_log(LogLevel.MQTT_LOG_ERR, "failed to send on socket: %s", error)  # noqa: SLF001
                    return MQTTErrorCode.MQTT_ERR_CONN_LOST
                del self._unsent[:size]
                self.written_bytes += size
                self._on_sent()
                self.on_written()
            return MQTTErrorCode.MQTT_ERR_SUCCESS

        def collected(data: bytes) -> int:
            self._unsent += data
            if data[0] == _DISCONNECT and flush():
                # It waits with paho, which closes the socket as soon as this one is sent.
                del self._unsent[-len(data) :]
                raise BlockingIOError
            return len(data)

        def write_packets() -> MQTTErrorCode:
            # What the socket did not take goes before everything else.
            return flush() or write() or flush()

        paho._sock_send, paho._packet_write = collected, write_packets  # noqa: SLF001
        paho.want_write = lambda: wants_write() or bool(self._unsent)

    def unwritten_bytes(self) -> int:
        """Return how many bytes the socket has not taken."""
        return self.queued_bytes - self.written_bytes

    async def connect(self) -> None:
        """Connect.

        Raises:
            NotConnected: There is no connection.
        """
        await aiomqtt_connecting.connect(self._client, timeout_seconds=self._connect_seconds)
        self._write_in_the_next_turn(asyncio.get_running_loop())

    def _write_in_the_next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have what is to be sent written without asking before: the socket nearly always takes it."""
        paho: Any = self._paho
        wait_until_writable = paho.on_socket_register_write

        def write(*arguments: Any) -> None:
            paho.loop_write()
            if paho.want_write():
                wait_until_writable(*arguments)

        def register(*arguments: Any) -> None:
            loop.call_soon(write, *arguments)

        paho.on_socket_register_write = register

    def abort(self) -> None:
        """Close the connection without a DISCONNECT."""
        aiomqtt_connecting.close(self._client)

    async def disconnect(self, *, with_will: bool = False) -> None:
        """Disconnect, if the broker has not gone first; MQTT 3.1.1 drops the last will in any case."""
        del with_will
        await aiomqtt_connecting.disconnect(self._client)

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
            self.end_code = reason_code(cause.rc) if isinstance(cause, aiomqtt.MqttCodeError) else 0
            raise BrokerUnavailable(f"the broker is gone: {cause or error}") from error

    async def subscribe(self, filters: Sequence[str], *, retain_as_published: bool = False) -> None:
        """Subscribe to topic filters at QoS 1; returns when the broker has acknowledged.

        Args:
            filters: What to subscribe to.
            retain_as_published: Without effect on MQTT 3.1.1.

        Raises:
            BrokerUnavailable: The broker did not acknowledge, or refused a filter.
        """
        del retain_as_published
        subscribed = self._client.subscribe([(topic, 1) for topic in filters], timeout=PATIENCE_SECONDS)
        try:
            granted = await while_alive(subscribed, lambda: self.last_received)
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"subscribing failed: {error}") from error
        refused = [name for name, code in zip(filters, granted, strict=False) if is_failure(reason_code(code))]
        if refused:
            raise SubscriptionRefused(refused)

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe from topic filters; returns when the broker has acknowledged.

        Raises:
            BrokerUnavailable: The broker did not acknowledge.
        """
        try:
            unsubscribed = self._client.unsubscribe(list(filters), timeout=PATIENCE_SECONDS)
            await while_alive(unsubscribed, lambda: self.last_received)
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"unsubscribing failed: {error}") from error

    def publish(self, publication: Publication) -> int:
        """Publish; return the packet identifier, with which ``on_acknowledged`` will be called at QoS 1."""
        return self._paho.publish(
            publication.topic, publication.payload, publication.qos, retain=publication.retain
        ).mid

    def flush(self) -> None:
        """Do nothing: the library writes at once."""

    def acknowledge(self, message: Inbound) -> None:
        """Let the broker forget a message, and deliver another one in its place."""
        if message.identifier:
            self._paho.ack(message.identifier, message.qos)

    def hold(self, held: bool) -> None:
        """Read nothing, or go on; while nothing is read, what the socket takes counts as received."""
        self._held = held
        self._read_or_not()

    def read_once(self) -> None:
        """Read a little though nothing is to be read."""
        self._paho.loop_read()

    def _on_sent(self) -> None:
        """Note that the socket took something."""
        self.last_sent = time.monotonic()
        if self._held:
            # The broker's own signs of life wait unread.
            paho: Any = self._paho
            self.last_received = paho._last_msg_in = self.last_sent  # noqa: SLF001
            paho._ping_t = 0  # noqa: SLF001
        if self._stalled and self.unwritten_bytes() <= _MAX_UNWRITTEN_BYTES // 4:
            self._stalled = False
            self._read_or_not()

    def _read_or_not(self) -> None:
        """Have the event loop read the socket, or not."""
        reads = not (self._held or self._stalled)
        opened: Any = self._paho.socket()
        if opened is None or reads == self._reads:
            return
        self._reads = reads
        loop = asyncio.get_running_loop()
        if reads:
            loop.add_reader(opened.fileno(), self._paho.loop_read)
            # TLS may have decrypted more than was read.
            loop.call_soon(self._paho.loop_read)
        else:
            loop.remove_reader(opened.fileno())

    def use(self, lane: Lane) -> None:
        """Have no lane: paho does not show the bytes that it receives."""

    def _on_message(self, _client: object, _userdata: object, message: MQTTMessage) -> None:
        size = int(self._paho._in_packet["remaining_length"])  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        oversized = size if size > self._max_received_bytes else 0
        identifier = message.mid if message.qos else 0
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # A broker has to refuse it (MQTT 3.1.1 §1.5.3); nothing of ours has such a topic.
            self._paho.ack(identifier, message.qos)
            return
        self.on_message(
            Inbound(
                topic=topic,
                payload=bytes(message.payload[:KEPT_PAYLOAD_BYTES] if oversized else message.payload),
                qos=message.qos,
                retained=message.retain,
                identifier=identifier,
                oversized=oversized,
            )
        )


def _aiomqtt_client(
    address: BrokerAddress,
    context: ssl.SSLContext | None,
    *,
    client_id: str | None,
    will: Will | None,
    timeout_seconds: float,
    persistent: bool,
    keepalive_seconds: int,
) -> aiomqtt.Client:
    return aiomqtt.Client(
        address.host,
        address.port,
        username=address.username,
        password=address.password,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V311,
        clean_session=not persistent,
        will=None if will is None else aiomqtt.Will(will.topic, will.payload, qos=1, retain=True),
        timeout=timeout_seconds,
        keepalive=keepalive_seconds,
        max_inflight_messages=_UNLIMITED,
        tls_context=context,
        socket_options=[_NO_DELAY],
        logger=logging.getLogger("aliciacfg.mqtt.paho"),
    )
