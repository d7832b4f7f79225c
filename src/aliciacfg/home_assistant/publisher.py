"""Keeps the broker's retained messages for Home Assistant as they have to be.

What the broker holds is known from what it delivers: a publication that an access list denies is acknowledged all the
same on MQTT 3.1.1. So each message has to come back, and a marker behind it shows that it does not.
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable

import structlog

from aliciacfg import documents
from aliciacfg.home_assistant import discovery
from aliciacfg.home_assistant.topics import AVAILABILITY, OFFLINE, STATE, Topics
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.mqtt.connection import Connection, Denied, DoesNotFit
from aliciacfg.mqtt.log_limit import LogLimit
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.pace import Pace
from aliciacfg.mqtt.repairs import Repairs

_log = structlog.get_logger(__name__)

_BATCH = 200
_READ_BACK_BATCH = 500
_REMEMBERED = 8
_MAX_REPAIRS = 4096
_FIRST_RETRY_SECONDS = 5.0
_MAX_RETRY_SECONDS = 60.0
_MAX_SHOWN = 200
# The alert about what the broker does not hold: its kind, and what it is about.
_UNDELIVERED = ("undelivered", "home_assistant")


class Publisher:
    """Publishes what Home Assistant reads, over all connections.

    Attributes:
        changed: Set when something may have to be published.
    """

    def __init__(
        self,
        topics: Topics,
        alerts: Alerts,
        *,
        markers: Markers,
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Publish nothing yet.

        Args:
            topics: The topics of the home.
            alerts: Raised about what others write on our topics, and what the broker denies.
            markers: Show what the broker has delivered.
            pace: Bounds how fast device messages are published: Home Assistant works long on each.
            clock: Seconds, monotonic.
        """
        self._topics = topics
        self._alerts = alerts
        self._markers = markers
        self._pace = pace
        self._clock = clock
        # What has to be retained, by topic.
        self._wanted: dict[str, bytes] = {}
        # What the broker retains on this connection, by topic: digests.
        self._held: dict[str, bytes] = {}
        # The platform by component of each device message that the broker retains.
        self._components: dict[str, dict[str, str]] = {}
        # Topics to look at, in order; whether to publish even what the broker holds.
        self._due: dict[str, bool] = {}
        # Digests of what was published last, by topic.
        self._sent: dict[str, deque[bytes]] = {}
        # Topics on which a message waits for its echo.
        self._under_way: set[str] = set()
        self._repairs: dict[str, Repairs] = {}
        self._foreign = LogLimit()
        # What the broker refused, or acknowledged and did not deliver; and when it is tried again.
        self._refused: set[str] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._reading_back = False
        # Messages that came on our topics.
        self._count = 0
        self.changed = asyncio.Event()

    @property
    def settled(self) -> bool:
        """Whether the broker was seen to hold everything, and nothing else of ours."""
        return (
            not self._due
            and not self._under_way
            and all(self._holds(topic, payload) for topic, payload in self._wanted.items())
            and all(topic in self._wanted for topic in self._held)
        )

    def put(self, topic: str, payload: bytes) -> None:
        """Have a message retained; an empty one removes it."""
        if payload:
            self._wanted[topic] = payload
        else:
            self._wanted.pop(topic, None)
        self.look_at(topic)

    def look_at(self, topic: str, *, again: bool = False) -> None:
        """Compare what the broker holds on a topic with what it has to; with ``again``, publish it in any case."""
        self._due[topic] = again or self._due.get(topic, False)
        self.changed.set()

    def repeat_all(self) -> None:
        """Publish everything again."""
        for topic in self._wanted:
            self.look_at(topic, again=True)

    async def read_back(self, connection: Connection) -> None:
        """Learn what the broker holds, and stay subscribed.

        Mosquitto cuts what it delivers at one subscription. What of ours is missing after that is asked for by its
        exact topic; what is stale is cleared and asked for again until none comes.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        self._held.clear()
        self._components.clear()
        self._under_way.clear()
        self._reading_back = True
        filters = [self._topics.all_devices, f"{STATE}+", AVAILABILITY]
        try:
            while True:
                self._count = 0
                await connection.subscribe(filters)
                await self._markers.wait(connection)
                if self._count < _READ_BACK_BATCH:
                    break
                missing = [topic for topic in self._wanted if topic not in self._held]
                for start in range(0, len(missing), _READ_BACK_BATCH):
                    batch = missing[start : start + _READ_BACK_BATCH]
                    await connection.subscribe(batch)
                    await self._markers.wait(connection)
                    await connection.unsubscribe(batch)
                stale = [topic for topic in self._held if topic not in self._wanted]
                if not stale:
                    break
                for topic in stale:
                    await self._publish(connection, topic, b"")
                await self._markers.wait(connection)
        finally:
            self._reading_back = False
        for topic in (*self._held, *self._wanted):
            self.look_at(topic)

    async def publish_forever(self, connection: Connection) -> None:
        """Publish what is due on one connection, until it is gone.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._try_again()
        while True:
            self.changed.clear()
            await self.publish_due(connection)
            await self.changed.wait()

    async def publish_due(self, connection: Connection) -> None:
        """Publish what is due now.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        while self._due:
            for topic in list(self._due)[:_BATCH]:
                again = self._due.pop(topic, None)
                if again is None:
                    continue
                payload = self._wanted.get(topic, b"")
                if again or not (self._holds(topic, payload) or self._is_under_way(topic, payload)):
                    await self._replace(connection, topic, payload)
            if self._under_way:
                await self._markers.wait(connection)
                self._note_missing()

    def receive(self, inbound: Inbound) -> None:
        """Compare a message on one of our topics with what has to be there."""
        topic, payload = inbound.topic, inbound.payload
        self._count += 1
        ours = topic not in self._wanted and self._topics.is_device(topic)
        components = discovery.read_back(payload) if payload and self._topics.is_device(topic) else None
        if payload and ours and components is None:
            # A device of another program, under our name; Home Assistant shows it, and we leave it alone.
            if self._foreign.allows():
                _log.warning("foreign_device", topic=topic[:_MAX_SHOWN], remedy="have its publisher use another topic")
            return
        if payload:
            self._held[topic] = _digest(payload)
        else:
            self._held.pop(topic, None)
        if components is not None:
            self._components[topic] = components
        elif not payload:
            self._components.pop(topic, None)
        self._judge(topic, payload)

    def _judge(self, topic: str, payload: bytes) -> None:
        if payload == self._wanted.get(topic, b""):
            self._under_way.discard(topic)
            self._refused.discard(topic)
            if not self._refused:
                self._alerts.clear(_UNDELIVERED[0], of=_UNDELIVERED[1])
            if not payload:
                # Others may write on any number of topics.
                self._sent.pop(topic, None)
        elif self._reading_back or _digest(payload) in self._sent.get(topic, ()):
            # What is left of an earlier run, or an echo that was overtaken; it is looked at in its turn.
            self.look_at(topic)
        else:
            # A broker that stops sends the last will even to the connection that it is of.
            is_will = (topic, payload) == (AVAILABILITY, OFFLINE)
            self._repair(topic, foreign=bool(payload) and not is_will)

    def _holds(self, topic: str, payload: bytes) -> bool:
        """Return whether the broker was seen to retain this; empty for nothing."""
        return self._held.get(topic, b"") == (_digest(payload) if payload else b"")

    def _is_under_way(self, topic: str, payload: bytes) -> bool:
        """Return whether this was published last, and its echo has not come."""
        return topic in self._under_way and self._sent[topic][-1] == _digest(payload)

    def _repair(self, topic: str, *, foreign: bool) -> None:
        """Restore a topic that another program wrote on; Home Assistant itself clears that of a device it deletes."""
        if len(self._repairs) > _MAX_REPAIRS:
            self._repairs.clear()
        repairs = self._repairs.setdefault(topic, Repairs())
        if repairs.waiting:
            return
        if foreign:
            self._alerts.emit(
                "tamper",
                f"Another program published on {topic[:_MAX_SHOWN]!r}, where only the daemon publishes for Home "
                "Assistant; the message is replaced.",
            )
        repairs.waiting = True

        def restore() -> None:
            repairs.waiting = False
            self.look_at(topic)

        asyncio.get_running_loop().call_later(repairs.delay(self._clock()), restore)

    async def _replace(self, connection: Connection, topic: str, payload: bytes) -> None:
        """Publish a message, after one that has components disappear that it does not have."""
        if self._topics.is_device(topic):
            await self._pace.take(1)
            before = self._components.get(topic)
            if payload and before:
                message = documents.decode(payload)
                first = discovery.removals(before, message) if isinstance(message, dict) else None
                if first is not None:
                    await self._publish(connection, topic, documents.encode(first))
        await self._publish(connection, topic, payload)

    async def _publish(self, connection: Connection, topic: str, payload: bytes) -> None:
        """Publish and retain a message; one that the broker refuses is tried again later."""
        self._sent.setdefault(topic, deque(maxlen=_REMEMBERED)).append(_digest(payload))
        self._under_way.add(topic)
        try:
            await connection.publish(topic, payload, retain=True)
        except (Denied, DoesNotFit) as error:
            self._under_way.discard(topic)
            self._refuse(topic, str(error))

    def _note_missing(self) -> None:
        """Note what the broker acknowledged and did not deliver back, though it delivered what came after it."""
        missing, self._under_way = self._under_way, set()
        for topic in missing:
            if topic not in self._due and not self._holds(topic, self._wanted.get(topic, b"")):
                self._refuse(topic, f"the message on {topic} does not come back")

    def _refuse(self, topic: str, reason: str) -> None:
        """Note that the broker does not hold what it has to; it is tried again later."""
        self._refused.add(topic)
        kind, of = _UNDELIVERED
        self._alerts.raise_(
            kind,
            f"Home Assistant does not get what it has to: {reason}. Let config_service write and read there; the "
            "access list that `aliciacfg acl` prints does.",
            of=of,
        )
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(self._retry_seconds, self._try_again)
            self._retry_seconds = min(self._retry_seconds * 2, _MAX_RETRY_SECONDS)

    def _try_again(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for topic in self._refused:
            self.look_at(topic)


def _digest(payload: bytes) -> bytes:
    """Return 16 bytes that distinguish payloads."""
    return hashlib.blake2b(payload, digest_size=16).digest()
