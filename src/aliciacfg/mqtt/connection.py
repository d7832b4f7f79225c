"""A live connection to the broker.

A connection is used once. Reconnecting makes a new one, so that nothing in flight is sent twice: the outbox
publishes anew.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt import packets
from aliciacfg.mqtt.broker_client import PATIENCE_SECONDS, TIMEOUT_SECONDS, BrokerClient, is_failure
from aliciacfg.mqtt.get_lane import GetLane
from aliciacfg.mqtt.messages import Inbound, Protocol, Publication, Reply
from aliciacfg.mqtt.mqtt5_packets import explain
from aliciacfg.mqtt.packet_limit import PacketLimit
from aliciacfg.mqtt.send_queue import Sending, SendQueue
from aliciacfg.mqtt.silence import Silence

if TYPE_CHECKING:
    from aliciacfg.mqtt.requests import Requests

_LOOK_SECONDS = 0.5
# How often it is looked whether everything was acknowledged, before the daemon leaves.
_SENT_SECONDS = 0.01
# How often it is looked whether the broker takes anything while nothing is read.
_FULL_SECONDS = 1.0
# MQTT 5 §2.4.
_PACKET_TOO_LARGE = 0x95
_KEEP_ALIVE_TIMEOUT = 0x8D


class Denied(BrokerUnavailable):
    """The broker refused a publication (MQTT 5 §3.4.2.1), as an ACL does."""


class DoesNotFit(BrokerUnavailable):
    """A publication is larger than the broker takes; it was not sent, or refused.

    Attributes:
        topic: The publication's.
        size: Of its packet, in bytes.
        limit: The largest packet that the broker takes.
    """

    def __init__(self, topic: str, *, size: int, limit: int) -> None:
        super().__init__(
            f"the message on {topic} is a packet of {size} bytes; at most {limit} are allowed. Raise the broker's "
            "limit (max_packet_size and message_size_limit of Mosquitto) and ALICIACFG_MAX_PACKET_BYTES"
        )
        self.topic = topic
        self.size = size
        self.limit = limit


class Connection:
    """A live connection; made by ``aliciacfg.mqtt.connecting.connect``.

    Attributes:
        protocol: The version of MQTT that was agreed with the broker.
        certain: Whether the broker is known to speak no newer version. False where it was silent at MQTT 5, or ended
            the connection, which may have been a fault of the moment.
        limit: The largest packet that may be sent.
        delivered: How many messages were received.
        congested_for: Returns whether a request should not be begun whose answer goes to a topic.
        on_relief: Called when the connection is no longer congested.
        may_publish: Asked before anything but an answer is published.
        leaves_will: Whether the broker publishes the last will, after its delay, also when this side disconnects.
    """

    def __init__(self, client: BrokerClient, *, certain: bool, limit: PacketLimit) -> None:
        self._client = client
        self.protocol: Protocol = client.protocol
        self.certain = certain
        self.limit = limit
        # Results, not exceptions: nothing retrieves one whose publisher was cancelled.
        self._waiting: set[asyncio.Future[int | str]] = set()
        self._gone: BrokerUnavailable | None = None
        self._silence = Silence(client)
        # Messages that came before there was a receiver.
        self._early: list[Inbound] = []
        self._queue = SendQueue(
            client.publish,
            queued_bytes=lambda: client.queued_bytes,
            unwritten_bytes=client.unwritten_bytes,
            on_size=self._on_size,
            on_relief=self._on_relief,
            on_refused=self._on_refused,
            on_full=self._on_full,
        )
        # Asked for every request.
        self.congested_for = self._queue.congested_for
        self._pumps = False
        self._held = 0
        # The next look whether the broker takes anything, while nothing is read.
        self._looks: asyncio.TimerHandle | None = None
        self.delivered = 0
        self.on_relief: Callable[[], None] = lambda: None
        self.may_publish: Callable[[], bool] = lambda: True
        self.leaves_will = False
        self._on_too_large: Callable[[Reply, DoesNotFit], None] = lambda _reply, _error: None
        client.on_message = self._early.append
        client.on_acknowledged = self._queue.acknowledge
        client.on_written = self._on_written

    def begin(self) -> None:
        """Respect what the broker announced in its CONNACK."""
        self.limit.begin(self.protocol, self._client.max_packet_bytes)
        self._queue.receive_maximum = self._client.receive_maximum

    def receive(self, receiver: Callable[[Inbound], bool]) -> None:
        """Call ``receiver`` with every message, beginning with those that came before this call.

        The message counts as received if it returns true; else ``acknowledge`` has to be called, and until then the
        broker holds back as many others.
        """

        def receive(message: Inbound) -> None:
            self.delivered += 1
            if receiver(message):
                self._client.acknowledge(message)
            else:
                self._held += 1

        self._client.on_message = receive
        for message in self._early:
            receive(message)
        self._early.clear()

    def acknowledge(self, message: Inbound) -> None:
        """Let the broker forget a message that was held, and deliver another one in its place."""
        self._held -= 1
        if self._gone is None:
            self._client.acknowledge(message)

    def abort(self) -> None:
        """Close the connection without a DISCONNECT."""
        self._client.abort()

    async def aclose(self) -> None:
        """Disconnect, if the broker has not gone first."""
        await self._client.disconnect(with_will=self.leaves_will)

    async def wait_closed(self) -> None:
        """Wait until the connection is gone.

        Raises:
            BrokerUnavailable: It is gone; this never returns.
        """
        try:
            await self._client.wait_closed()
        except BrokerUnavailable as error:
            self._gone = error
            if self._looks is not None:
                self._looks.cancel()
            self._judge_end(self._client.end_code)
            for acknowledged in self._waiting:
                if not acknowledged.done():
                    acknowledged.set_result(str(error))
            raise

    @property
    def shares(self) -> bool:
        """False if the broker said that it has no shared subscriptions."""
        return self._client.shares

    async def wait_sent(self) -> None:
        """Wait until the broker has acknowledged everything that was published, or the connection is gone."""
        # What is under way changes in ``GetLane``, too, which has no time for an event.
        while self._gone is None and (  # noqa: ASYNC110
            self._queue.waits or self._queue.under_way or self._client.unwritten_bytes()
        ):
            await asyncio.sleep(_SENT_SECONDS)

    @property
    def silent_seconds(self) -> float:
        """For how long the broker has sent nothing though it has to acknowledge a publication; 0 if it has not."""
        return self._silence.seconds

    @property
    def holds_back(self) -> bool:
        """Whether messages wait for their acknowledgement, so that the broker may hold back all others."""
        return self._held > 0

    async def subscribe(self, filters: Sequence[str], *, retain_as_published: bool = False) -> None:
        """Subscribe to topic filters at QoS 1; returns when the broker has acknowledged.

        Args:
            filters: What to subscribe to.
            retain_as_published: On MQTT 5, whether messages keep the retain flag that they were published with.

        Raises:
            BrokerUnavailable: The broker did not acknowledge, or refused a filter.
        """
        await self._client.subscribe(filters, retain_as_published=retain_as_published)

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe from topic filters; returns when the broker has acknowledged.

        Raises:
            BrokerUnavailable: The broker did not acknowledge.
        """
        await self._client.unsubscribe(filters)

    def room(self, topic: str) -> int:
        """Return how many bytes the payload of a publication on a topic may have, without properties."""
        overhead = packets.packet_size(Publication(topic, b""), self.protocol)
        # The remaining length of a large packet takes up to three bytes more.
        return max(0, self.limit.bytes - overhead - 3)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish at QoS 1; returns when the broker has acknowledged.

        The broker has time from when the message left: messages that wait before it do not count.

        Raises:
            Denied: The broker refused it with a reason code (MQTT 5; on 3.1.1 a refusal looks like success).
            DoesNotFit: It is larger than the broker takes.
            BrokerUnavailable: The broker did not acknowledge in time, or is gone.
        """
        self._check_open()
        publication = Publication(topic, payload, retain=retain)
        size = self._checked_size(publication)
        acknowledged: asyncio.Future[int | str] = asyncio.get_running_loop().create_future()
        self._waiting.add(acknowledged)

        def done(code: int) -> None:
            self._silence.end()
            _set(acknowledged, code)

        try:
            self._silence.begin()
            sending = self._queue.put(publication, size, answer=False, done=done)
            await self._wait(acknowledged, sending)
        finally:
            self._waiting.discard(acknowledged)
        outcome = acknowledged.result()
        if isinstance(outcome, str):
            raise BrokerUnavailable(outcome)
        if (refusal := self._refusal(topic, size, outcome)) is not None:
            raise refusal

    def begin_publish(
        self, topic: str, payload: bytes, *, retain: bool, done: Callable[[BrokerUnavailable | None], None]
    ) -> None:
        """Publish at QoS 1 without waiting.

        Args:
            topic: Where to publish.
            payload: What to publish.
            retain: Whether the broker keeps the message.
            done: Called with the acknowledgement: None, or ``Denied`` or ``DoesNotFit`` as ``publish`` raises them. Not
                called if none comes: nothing watches how long that takes.

        Raises:
            DoesNotFit: It is larger than the broker takes.
            BrokerUnavailable: The broker is gone.
        """
        self._check_open()
        publication = Publication(topic, payload, retain=retain)
        size = self._checked_size(publication)

        def note(code: int) -> None:
            self._silence.end()
            done(self._refusal(topic, size, code))

        self._silence.begin()
        self._queue.put(publication, size, answer=False, done=note)

    def flush(self) -> None:
        """Write what was published now, not at the end of this turn of the event loop."""
        self._client.flush()

    def _refusal(self, topic: str, size: int, code: int) -> BrokerUnavailable | None:
        """Return the error that the reason code of an acknowledgement stands for; None for a success."""
        if code == _PACKET_TOO_LARGE:
            return DoesNotFit(topic, size=size, limit=self.limit.bytes)
        if is_failure(code):
            return Denied(f"the broker refused a publication on {topic}: {explain(code)}")
        return None

    def send(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        """Publish without waiting and without retaining: for messages whose arrival nothing depends on.

        Raises:
            DoesNotFit: It is larger than the broker takes.
        """
        if not self.may_publish():
            return
        publication = Publication(topic, payload, qos)
        self._queue.put(publication, self._checked_size(publication), answer=False)

    def answer(self, reply: Reply, on_too_large: Callable[[Reply, DoesNotFit], None]) -> None:
        """Publish an answer without waiting; on MQTT 5 with its content type, ``status`` and Correlation Data.

        Args:
            reply: The answer.
            on_too_large: Called with it, at once or later, if it is larger than the broker takes.
        """
        properties = packets.reply_properties(reply.success, reply.correlation_data)
        publication = Publication(reply.topic, reply.payload, reply.qos, False, properties)
        size = packets.packet_size(publication, self.protocol)
        if size > self.limit.bytes:
            on_too_large(reply, DoesNotFit(reply.topic, size=size, limit=self.limit.bytes))
            return

        def done(code: int) -> None:
            if code == _PACKET_TOO_LARGE:
                on_too_large(reply, DoesNotFit(reply.topic, size=size, limit=self.limit.bytes))

        self._queue.answer(publication, size, done)

    def open_lane(
        self,
        requests: "Requests",
        *,
        is_free: Callable[[], bool],
        on_too_large: Callable[[Reply, DoesNotFit], None],
    ) -> GetLane:
        """Have plain gets answered by a ``GetLane`` from now on; on MQTT 3.1.1 it is never used.

        Args:
            requests: Decides what is answered, and where.
            is_free: Returns whether reads may be answered at once.
            on_too_large: Called with an answer that is larger than the broker takes.
        """
        self._on_too_large = on_too_large
        lane = GetLane(requests, self._queue, self.limit, is_free=is_free, on_delivered=self._count_delivered)
        self._client.use(lane)
        return lane

    def _count_delivered(self, count: int) -> None:
        self.delivered += count

    def _on_refused(self, reply: Reply, size: int, code: int) -> None:
        """Note that the broker refused an answer of the lane."""
        if code == _PACKET_TOO_LARGE:
            self._on_too_large(reply, DoesNotFit(reply.topic, size=size, limit=self.limit.bytes))

    def _check_open(self) -> None:
        if self._gone is not None:
            raise BrokerUnavailable(str(self._gone))
        if not self.may_publish():
            raise BrokerUnavailable("this daemon may not publish any more")

    def _checked_size(self, publication: Publication) -> int:
        size = packets.packet_size(publication, self.protocol)
        if size > self.limit.bytes:
            raise DoesNotFit(publication.topic, size=size, limit=self.limit.bytes)
        return size

    async def _wait(self, acknowledged: "asyncio.Future[int | str]", sending: Sending) -> None:
        """Wait for an acknowledgement, as long as the broker can be expected to send one.

        Raises:
            BrokerUnavailable: It can no longer.
        """
        began = time.monotonic()
        written: float | None = None
        while not acknowledged.done():
            await asyncio.wait({acknowledged}, timeout=_LOOK_SECONDS)
            now = time.monotonic()
            if written is None and sending.mark is not None and self._client.written_bytes >= sending.mark:
                written = now
            # While the message waits for the socket, what the socket takes is a sign of life, too.
            alive = max(began, self._client.last_received, self._client.last_sent if written is None else written)
            silent = max(now - alive, self._silence.seconds)
            if silent > TIMEOUT_SECONDS or (written is not None and now - written > PATIENCE_SECONDS):
                # A connection that a broker closes may look like this, too.
                self.limit.closed([sending.size])
                raise BrokerUnavailable(f"the broker did not acknowledge {sending.publication.topic}")

    def _judge_end(self, code: int) -> None:
        """Find out whether a packet that was too large ended the connection."""
        under_way = self._queue.sizes_under_way
        if code == _PACKET_TOO_LARGE and under_way:
            self.limit.refused(max(under_way), closed=True)
        elif code != _KEEP_ALIVE_TIMEOUT:
            self.limit.closed(under_way)

    def _on_size(self, size: int, code: int) -> None:
        """Learn from the acknowledgement of a packet how large one may be."""
        if code == _PACKET_TOO_LARGE:
            self.limit.refused(size)
        else:
            self.limit.accepted(size)

    def _on_written(self) -> None:
        """Have the queue go on, after the library is done with what it does now."""
        if not self._pumps and self._queue.waits:
            self._pumps = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _on_relief(self) -> None:
        self.on_relief()

    def _on_full(self, full: bool) -> None:
        """Read nothing while too many answers wait for the socket: the broker keeps what it has, and none is lost."""
        self._client.hold(full)
        if self._looks is not None:
            self._looks.cancel()
            self._looks = None
        if full:
            self._look_later()

    def _look_later(self) -> None:
        written = self._client.written_bytes
        self._looks = asyncio.get_running_loop().call_later(_FULL_SECONDS, self._read_if_stuck, written)

    def _read_if_stuck(self, written_before: int) -> None:
        """Read a little if the broker has taken nothing: it may be one that first wants to be read.

        Two sides that both write and do not read would wait for each other for ever.
        """
        if self._gone is not None:
            return
        if self._client.written_bytes == written_before:
            self._client.read_once()
        self._look_later()

    def _pump(self) -> None:
        self._pumps = False
        if self._gone is None:
            self._queue.pump()


def _set(future: "asyncio.Future[int | str]", code: int) -> None:
    if not future.done():
        future.set_result(code)
