"""Retained messages: publish what the outbox has, believe only what comes back, repair the rest.

A broker acknowledges a publication that an ACL denies as if it had been delivered (always on MQTT 3.1.1). So an
announcement counts as held only when its own bytes have come back on the daemon's subscription.
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable

import msgspec
import structlog

from aliciacfg.api.bus_messages import UpdateMessage
from aliciacfg.core import outbox
from aliciacfg.core.outbox import Outbox
from aliciacfg.model.records import Announcement
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.connection import Connection, Denied
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound

_log = structlog.get_logger(__name__)

_WINDOW = 64
_READ_BACK_BATCH = 500
_ECHO_SECONDS = 5.0
_MAX_RETRY_SECONDS = 60.0
_REMEMBERED = 16
_REPAIRED_AT_ONCE = 8
_MAX_REPAIRS = 4096
_MAX_SUBJECT = 200
_QUIET_SECONDS = 120.0


class _Attempt:
    """How often an announcement was published, and when last."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.count = 0
        self.at = 0.0

    def due(self, now: float) -> bool:
        wait = min(_ECHO_SECONDS * 2 ** max(0, self.count - 1), _MAX_RETRY_SECONDS)
        return self.count == 0 or now - self.at >= wait


class _Repairs:
    """Back-off of one topic that somebody keeps overwriting."""

    def __init__(self) -> None:
        self.count = 0
        self.at = 0.0
        self.waiting = False

    def delay(self, now: float) -> float:
        """Seconds to wait before the next repair: none at first, then twice as long each time.

        Whoever publishes by hand is put right at once; a program that does it all the time is not fought at its speed.
        """
        if now - self.at > _QUIET_SECONDS:
            self.count = 0
        self.count += 1
        self.at = now
        if self.count <= _REPAIRED_AT_ONCE:
            return 0.0
        return min(2.0 ** (self.count - _REPAIRED_AT_ONCE - 1), _MAX_RETRY_SECONDS)


class Retained:
    """Keeps the broker's retained messages equal to the outbox, over all connections."""

    def __init__(
        self,
        outbox: Outbox,
        alerts: Alerts,
        drift: Drift,
        *,
        markers: Markers,
        on_confirmed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what it needs.

        Args:
            outbox: What the broker has to hold.
            alerts: Told of what cannot be delivered and of what others write.
            drift: Told of what others wrote, until it is put right.
            markers: Close each batch of the read-back.
            on_confirmed: Called when the outbox was seen to be held as a whole.
            clock: Seconds, monotonic.
        """
        self._outbox = outbox
        self._alerts = alerts
        self._drift = drift
        self._markers = markers
        self._on_confirmed = on_confirmed
        self._clock = clock
        self._attempts: dict[str, _Attempt] = {}
        self._sent: dict[str, deque[bytes]] = {}
        self._repairs: dict[str, _Repairs] = {}
        self._strangers: set[str] = set()
        self._seen: set[str] = set()
        self._catching_up = True

    def connecting(self) -> None:
        """A connection begins: until the read-back, what comes may be what a session held, or what was retained."""
        self._catching_up = True
        self._seen.clear()

    async def publish_forever(self, connection: Connection) -> None:
        """Publish what is pending on one connection until it is gone.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        self._attempts.clear()
        while True:
            self._outbox.changed.clear()
            now = self._clock()
            due = [item for item in self._outbox.due() if self._attempt(item).due(now)]
            for start in range(0, len(due), _WINDOW):
                await asyncio.gather(*(self._publish(connection, item) for item in due[start : start + _WINDOW]))
            await self._clear_strangers(connection)
            await self._wait()

    async def read_back(self, connection: Connection) -> None:
        """Ask the broker for every retained message it should hold, and queue what is missing.

        In batches of exact topics, each closed by a marker: Mosquitto silently cuts what it delivers at one
        subscription beyond ``max_queued_messages``, so a wildcard proves nothing absent.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        expected = sorted(subject for subject, item in self._outbox.current.items() if item.payload)
        for start in range(0, len(expected), _READ_BACK_BATCH):
            batch = expected[start : start + _READ_BACK_BATCH]
            filters = [topics.subject_topic(subject) for subject in batch]
            await connection.subscribe(filters)
            await self._markers.wait(connection)
            await connection.unsubscribe(filters)
        self._catching_up = False
        pending = {item.subject for item in self._outbox.due()}
        missing = [subject for subject in expected if subject not in self._seen and subject not in pending]
        for subject in missing:
            self._outbox.repeat(subject)
        if missing:
            _log.info("retained_missing", count=len(missing))

    def receive(self, subject: str | None, inbound: Inbound) -> None:
        """Look at a message on a topic where only this daemon writes.

        Args:
            subject: What the topic is about; None for a name that no service can have.
            inbound: The message.
        """
        current = None if subject is None else self._outbox.current.get(subject)
        if subject is None or current is None:
            self._stranger(inbound)
            return
        self._seen.add(subject)
        if inbound.payload == current.payload:
            self._confirm(current)
        elif _digest(inbound.payload) in self._sent.get(subject, ()):
            # Our own, but not the newest: an echo that was overtaken, or else what somebody brought back.
            if not self._outbox.is_pending(current):
                self._outbox.repeat(subject)
        elif (inbound.retained or self._catching_up) and self._is_stale(subject, current, inbound.payload):
            _log.info("retained_stale", subject=subject)
            self._outbox.repeat(subject)
        else:
            self._tampered(subject)

    def _attempt(self, item: Announcement) -> _Attempt:
        attempt = self._attempts.get(item.subject)
        if attempt is None or attempt.sequence != item.sequence:
            attempt = self._attempts[item.subject] = _Attempt(item.sequence)
        return attempt

    async def _publish(self, connection: Connection, item: Announcement) -> None:
        attempt = self._attempt(item)
        attempt.count += 1
        attempt.at = self._clock()
        if attempt.count > 1:
            self._undelivered(item.subject, "it was acknowledged but did not come back")
        self._sent.setdefault(item.subject, deque(maxlen=_REMEMBERED)).append(_digest(item.payload))
        try:
            await connection.publish(topics.subject_topic(item.subject), item.payload, retain=True)
        except Denied as error:
            self._undelivered(item.subject, str(error))

    async def _clear_strangers(self, connection: Connection) -> None:
        """Take away retained configurations of services that have none here."""
        strangers, self._strangers = self._strangers, set()
        for topic in strangers:
            try:
                await connection.publish(topic, b"", retain=True)
            except Denied as error:
                _log.warning("stranger_not_cleared", topic=topic, reason=str(error))

    async def _wait(self) -> None:
        """Until the outbox changes, or something published has to be tried again."""
        try:
            async with asyncio.timeout(1.0 if self._outbox.pending else None):
                await self._outbox.changed.wait()
        except TimeoutError:
            return

    def _confirm(self, current: Announcement) -> None:
        self._outbox.confirm(current)
        self._attempts.pop(current.subject, None)
        self._drift.mend("retained", topics.subject_topic(current.subject))
        if not self._outbox.pending:
            self._alerts.clear("undelivered")
            self._on_confirmed()

    def _is_stale(self, subject: str, current: Announcement, payload: bytes) -> bool:
        """Whether the broker merely kept something older, from before a crash of either."""
        if self._outbox.is_pending(current):
            return True
        if outbox.subject_service(subject) is None:
            return False
        try:
            kept = msgspec.json.decode(payload, type=UpdateMessage)
            newest = msgspec.json.decode(current.payload, type=UpdateMessage)
        except msgspec.MsgspecError:
            return False
        return (kept.epoch, kept.environment) != (newest.epoch, newest.environment) or kept.revision < newest.revision

    def _tampered(self, subject: str) -> None:
        topic = topics.subject_topic(subject)
        self._repair(
            topic,
            lambda: self._outbox.repeat(subject),
            f"Somebody else published on {topic}; the right message is put back. Only this daemon may write there: "
            "see the broker's access rules.",
            service=outbox.subject_service(subject),
        )

    def _stranger(self, inbound: Inbound) -> None:
        if not inbound.payload:
            self._drift.mend("retained", inbound.topic[:_MAX_SUBJECT])
            return
        self._repair(
            inbound.topic,
            lambda: self._clear(inbound.topic),
            f"Somebody else published on {inbound.topic[:_MAX_SUBJECT]!r}, a service without a configuration here; "
            "it is taken away.",
        )

    def _clear(self, topic: str) -> None:
        self._strangers.add(topic)
        self._outbox.changed.set()

    def _repair(self, topic: str, repair: Callable[[], None], message: str, *, service: str | None = None) -> None:
        """Alert and repair once; what comes while a repair waits is repaired with it."""
        if len(self._repairs) > _MAX_REPAIRS:
            self._repairs.clear()
        repairs = self._repairs.setdefault(topic, _Repairs())
        if repairs.waiting:
            return
        self._alerts.emit("tamper", message, service=service)
        self._drift.report("retained", topic[:_MAX_SUBJECT], message, service=service)
        repairs.waiting = True

        def now() -> None:
            repairs.waiting = False
            repair()

        asyncio.get_running_loop().call_later(repairs.delay(self._clock()), now)

    def _undelivered(self, subject: str, reason: str) -> None:
        self._alerts.stand(
            "undelivered",
            f"{topics.subject_topic(subject)} is not held by the broker: {reason}. Does its access list let "
            "config_service write and read there?",
        )


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=16).digest()
