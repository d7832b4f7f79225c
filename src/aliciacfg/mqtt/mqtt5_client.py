"""One connection of MQTT 5 over an ``asyncio.Protocol``, for everything that the daemon says and hears.

It has the shape of aiomqtt 3, which stands on the same codec: connect, subscribe and publish with the broker's reason
codes, one connection for one object. aiomqtt 3 was an alpha when this was written, and passes every message through a
queue; when it is stable and can call back, it can take the place of this module behind
``aliciacfg.mqtt.broker_client.BrokerClient``.

When it is read stands in ``mqtt5_input``, and when it is written in ``mqtt5_output``.

A PUBLISH that cannot be read is acknowledged and skipped, since a persistent session would deliver it again at every
connect. Any other malformed packet ends the connection (MQTT 5 §4.13).
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence

import structlog

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.bus.not_connected import NotConnected
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt import mqtt5_packets, packets
from aliciacfg.mqtt.broker_client import (
    DEFAULT_RECEIVE_MAXIMUM,
    KEEPALIVE_SECONDS,
    KEPT_PAYLOAD_BYTES,
    Lane,
)
from aliciacfg.mqtt.identifiers import Identifiers
from aliciacfg.mqtt.keep_alive import KeepAlive
from aliciacfg.mqtt.log_limit import LogLimit
from aliciacfg.mqtt.messages import Inbound, Protocol, Publication, Will
from aliciacfg.mqtt.mqtt5_input import Input
from aliciacfg.mqtt.mqtt5_output import Output
from aliciacfg.mqtt.mqtt5_packets import PUBACK, PUBLISH, explain, read_puback, read_publish
from aliciacfg.mqtt.mqtt5_socket import open_socket
from aliciacfg.mqtt.mqtt5_subscriptions import Subscriptions
from aliciacfg.mqtt.packet_reader import MalformedPacket, Packet

_log = structlog.get_logger(__name__)

_SESSION_EXPIRY_SECONDS = 24 * 60 * 60
# How many messages the broker may deliver before the daemon acknowledges one.
_RECEIVE_MAXIMUM = 1000
# How long the broker may take to close the connection after DISCONNECT.
_CLOSE_SECONDS = 1.0


class Mqtt5Client(asyncio.Protocol):
    """A ``BrokerClient`` of MQTT 5."""

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
        """Make a client that is not connected.

        Args:
            address: The broker.
            context: TLS, if it is to be used.
            client_id: Names the session; None has the broker make a name for one that ends with the connection.
            will: Published when the connection dies.
            max_packet_bytes: The largest packet that is received; announced with a client id.
            timeout_seconds: How long connecting may take, then the TLS handshake, then the answer to CONNECT.
            persistent: Whether the session outlives the connection.
            keepalive_seconds: The Keep Alive that is asked for.
            silence_seconds: How long the broker may be silent at least, if the Keep Alive is shorter.
        """
        self.protocol: Protocol = "5"
        self.max_packet_bytes: int | None = None
        self.receive_maximum = DEFAULT_RECEIVE_MAXIMUM
        self.shares = True
        self.end_code = 0
        self.on_message: Callable[[Inbound], None] = lambda _message: None
        self.on_acknowledged: Callable[[int, int], None] = lambda _identifier, _code: None
        self.on_written: Callable[[], None] = lambda: None
        self._address = address
        self._context = context
        self._timeout_seconds = timeout_seconds
        self._connect_packet = mqtt5_packets.connect(
            client_id=client_id,
            username=address.username,
            password=address.password,
            keepalive_seconds=keepalive_seconds,
            will=will,
            session_expiry_seconds=_SESSION_EXPIRY_SECONDS if persistent else 0,
            receive_maximum=_RECEIVE_MAXIMUM,
            max_packet_bytes=max_packet_bytes,
        )
        self._loop = asyncio.get_running_loop()
        self._identifiers = Identifiers()
        self._output = Output()
        self._input = Input(
            max_packet_bytes, self._output, self._identifiers, handle=self._on_first, refuse=self._refuse
        )
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._end_reason = ""
        self._subscriptions = Subscriptions(self._output, self._identifiers, last_received=lambda: self.last_received)
        self._keepalive_seconds = keepalive_seconds
        self._silence_seconds = silence_seconds
        self._keepalive: KeepAlive | None = None
        self._log_limit = LogLimit()

    # What the connection calls.

    async def connect(self) -> None:
        """Connect.

        Raises:
            NotConnected: There is no connection.
        """
        try:
            transport = await open_socket(self, self._address, self._context, timeout_seconds=self._timeout_seconds)
            if self._context is not None:
                self._output.begin(transport)
            self._output.send(self._connect_packet)
            async with asyncio.timeout(self._timeout_seconds):
                await self._accepted
        except TimeoutError as error:
            self.abort()
            raise NotConnected("timeout", "the broker does not answer") from error
        except (NotConnected, asyncio.CancelledError):
            self.abort()
            raise
        # It may have ended in the same turn.
        if not self._input.closed:
            self._keepalive = KeepAlive(
                self._keepalive_seconds,
                self._output,
                last_received=lambda: self.last_received,
                on_silence=self._on_silence,
                silence_seconds=self._silence_seconds,
            )

    def abort(self) -> None:
        """Close the connection without a DISCONNECT."""
        if self._output.transport is not None:
            self._output.transport.abort()

    async def disconnect(self, *, with_will: bool = False) -> None:
        """Disconnect, if the broker has not gone first.

        The broker closes the connection: closing it here, with something unread, could take from it what was sent last.
        """
        if self._output.transport is None or self._ended.is_set():
            return
        self._output.send(mqtt5_packets.disconnect(mqtt5_packets.WITH_WILL if with_will else 0))
        self._output.flush()
        self._input.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_CLOSE_SECONDS, self._timeout_seconds)):
                    await self._ended.wait()
        finally:
            self.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection is gone.

        Raises:
            BrokerUnavailable: It is gone; this never returns.
        """
        await self._ended.wait()
        raise BrokerUnavailable(f"the broker is gone: {self._end_reason}")

    async def subscribe(self, filters: Sequence[str], *, retain_as_published: bool = False) -> None:
        """Subscribe to topic filters at QoS 1; returns when the broker has acknowledged.

        Args:
            filters: What to subscribe to.
            retain_as_published: Whether messages keep the retain flag that they were published with.

        Raises:
            BrokerUnavailable: The broker did not acknowledge, or refused a filter.
        """
        await self._subscriptions.subscribe(filters, retain_as_published=retain_as_published)

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe from topic filters; returns when the broker has acknowledged.

        Raises:
            BrokerUnavailable: The broker did not acknowledge.
        """
        await self._subscriptions.unsubscribe(filters)

    def publish(self, publication: Publication) -> int:
        """Publish; return the packet identifier, with which ``on_acknowledged`` will be called at QoS 1."""
        identifier = 0
        if publication.qos:
            identifier = self._identifiers.take()
        # In two pieces, so that the payload is copied once.
        self._output.send(packets.publish_head(publication, identifier))
        self._output.send(publication.payload)
        return identifier

    def flush(self) -> None:
        """Write what was published now."""
        self._output.flush()

    def acknowledge(self, message: Inbound) -> None:
        """Let the broker forget a message, and deliver another one in its place."""
        identifier = message.identifier
        if not identifier:
            return
        if identifier in self._input.exactly_once:
            self._input.exactly_once.discard(identifier)
            self._output.send(mqtt5_packets.pubrec(identifier))
        else:
            self._output.send(mqtt5_packets.puback(identifier))

    def use(self, lane: Lane) -> None:
        """Have a lane look first at what is received."""
        self._input.run_lane = lane.run

    def hold(self, held: bool) -> None:
        """Read nothing, or go on; while nothing is read, what the socket takes counts as received."""
        self._input.hold(held)

    def read_once(self) -> None:
        """Handle the packets of one turn, though nothing is to be read."""
        self._input.read_once()

    @property
    def last_received(self) -> float:
        """When anything was received, on the monotonic clock."""
        return self._input.last_received

    # What is sent.

    @property
    def last_sent(self) -> float:
        """When the socket was last seen to take anything, on the monotonic clock."""
        return self._output.last_sent

    @property
    def queued_bytes(self) -> int:
        """How many bytes were to be sent so far."""
        return self._output.queued_bytes

    def unwritten_bytes(self) -> int:
        """Return how many of them it has not."""
        return self._output.unwritten_bytes()

    @property
    def written_bytes(self) -> int:
        """How many of them the socket has taken."""
        return self._output.written_bytes

    def resume_writing(self) -> None:
        """Note that the socket has taken nearly all of what it had not."""
        self._output.note_written()
        self.on_written()
        self._input.note_written()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a transport."""
        self._output.begin(transport)

    def data_received(self, data: bytes) -> None:
        """Handle what was received."""
        self._input.receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        self._input.closed = True
        self._output.transport = None
        self._end(str(exc) if exc is not None and str(exc) else "it closed the connection")
        if not self._accepted.done():
            cause = exc if isinstance(exc, OSError) else self._end_reason
            self._accepted.set_exception(NotConnected("ended", self._end_reason, cause=cause))
            # Its waiter may have been cancelled.
            self._accepted.exception()
        self._subscriptions.end(self._end_reason)
        if self._keepalive is not None:
            self._keepalive.stop()
        self._ended.set()

    def _end(self, reason: str) -> None:
        """Note why the connection ends; the first reason counts."""
        self._end_reason = self._end_reason or reason

    def _on_silence(self) -> None:
        """End the connection: a PINGREQ was not answered."""
        self._end("the broker did not answer a PINGREQ")
        self.abort()

    def _refuse(self, error: MalformedPacket) -> None:
        """End the connection because of what the broker sent (MQTT 5 §4.13.1)."""
        self._end(f"it sent a malformed packet ({error})")
        self._input.closed = True
        self._output.send(mqtt5_packets.disconnect(error.code))
        self._output.flush()
        if (transport := self._output.transport) is not None:
            transport.close()
            # The broker may read nothing any more.
            self._loop.call_later(_CLOSE_SECONDS, transport.abort)

    # What is received.

    def _on_first(self, packet: Packet) -> None:
        """Handle the first packet, which has to be CONNACK (MQTT 5 §3.1.4).

        Raises:
            MalformedPacket: It is not.
        """
        data, start, oversized = packet
        if data[0] >> 4 != mqtt5_packets.CONNACK or oversized:
            raise MalformedPacket("the first packet is no CONNACK")
        code = mqtt5_packets.connack_code(data, start)
        if code:
            self._refused(code)
            return
        accepted = mqtt5_packets.read_connack(data)
        if code := mqtt5_packets.shortcoming(accepted):
            self._refused(code)
            return
        self.max_packet_bytes = accepted.max_packet_size
        self.shares = accepted.shared_subscription_available
        self.receive_maximum = accepted.receive_max
        if accepted.server_keep_alive is not None:
            # Zero turns it off for the broker; a broker that hangs is to be noticed all the same.
            self._keepalive_seconds = accepted.server_keep_alive or KEEPALIVE_SECONDS
        self._input.handle = self._on_packet
        if not self._accepted.done():
            self._accepted.set_result(None)

    def _refused(self, code: int) -> None:
        self._input.closed = True
        if not self._accepted.done():
            self._accepted.set_exception(NotConnected("refused", explain(code), code=code))

    def _on_packet(self, packet: Packet) -> None:
        """Handle any other packet.

        Raises:
            MalformedPacket: It cannot be understood, or does not belong here.
        """
        data, start, oversized = packet
        kind = data[0] >> 4
        if kind == PUBLISH:
            self._on_publish(data, start, oversized)
        elif oversized:
            raise MalformedPacket(f"a packet of type {kind} has {oversized} bytes")
        elif kind == PUBACK:
            identifier, code = read_puback(data, start)
            self._identifiers.used.discard(identifier)
            self.on_acknowledged(identifier, code)
        elif kind in {mqtt5_packets.SUBACK, mqtt5_packets.UNSUBACK}:
            codes = mqtt5_packets.read_codes(data, start)
            self._subscriptions.acknowledge(mqtt5_packets.read_identifier(data, start), codes)
        elif kind == mqtt5_packets.PUBREL:
            self._output.send(mqtt5_packets.pubcomp(mqtt5_packets.read_identifier(data, start)))
        elif kind == mqtt5_packets.DISCONNECT:
            self._on_disconnect(mqtt5_packets.disconnect_code(data, start))
        elif kind != mqtt5_packets.PINGRESP:
            raise MalformedPacket(f"a packet of type {kind}, which a broker never sends here")

    def _on_publish(self, data: bytes, start: int, oversized: int) -> None:
        """Pass a message on.

        Raises:
            MalformedPacket: Not even its packet identifier can be read, or it has a topic alias.
        """
        first = data[0]
        try:
            read = read_publish(data, start)
        except MalformedPacket as error:
            self._skip(data, start, error)
            return
        if read.topic_alias is not None:
            # None was allowed (MQTT 5 §3.1.2.11.5); without its topic the message would be acknowledged and lost.
            raise MalformedPacket("a topic alias", code=mqtt5_packets.TOPIC_ALIAS_INVALID)
        identifier = read.packet_id or 0
        qos = first >> 1 & 3
        if qos:
            if not identifier:
                raise MalformedPacket("a PUBLISH with packet identifier 0")
            if qos > 1:
                self._input.exactly_once.add(identifier)
        # By position: with names it takes twice as long.
        self.on_message(
            Inbound(
                read.topic,
                read.payload[:KEPT_PAYLOAD_BYTES] if oversized else read.payload,
                1 if qos else 0,
                bool(first & 1),
                read.response_topic,
                read.correlation_data,
                identifier,
                oversized,
            )
        )

    def _skip(self, data: bytes, start: int, error: MalformedPacket) -> None:
        """Acknowledge a message that cannot be read: it would come again at every connect.

        Raises:
            MalformedPacket: It has no packet identifier.
        """
        identifier = mqtt5_packets.publish_identifier(data, start)
        if identifier:
            qos = data[0] >> 1 & 3
            self._output.send(mqtt5_packets.pubrec(identifier) if qos > 1 else mqtt5_packets.puback(identifier))
        if self._log_limit.allows():
            _log.warning("unreadable_message_skipped", reason=str(error), remedy="none needed; check its sender")

    def _on_disconnect(self, code: int) -> None:
        """Note that the broker ends the connection (MQTT 5 §3.14)."""
        self.end_code = code
        self._end(explain(code) if code else "it disconnected")
        self._input.closed = True
        self.abort()
