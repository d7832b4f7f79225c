"""Retained messages: publish the outbox, confirm what the broker delivers back, repair what others overwrite.

A broker acknowledges a publication that an ACL denies as if it had been delivered (always on MQTT 3.1.1). So an
announcement counts as held only when its own bytes have come back on the daemon's subscription.

Any other message there is the daemon's own, by its id, or foreign. An older one of its own is what a broker brings
back, or what comes late: it is overwritten. A newer one shows that the database went back: see ``core.order``. A
foreign one raises an alert and is overwritten, so that readers who applied it apply the right one again.
"""

import asyncio
import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence

import structlog

from aliciacfg.core import outbox
from aliciacfg.core.order import HIGHEST, Order, claimed_position
from aliciacfg.core.outbox import Outbox
from aliciacfg.errors import BrokerUnavailable, OperationError
from aliciacfg.model.records import Announcement, Position
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.connection import Connection, Denied, DoesNotFit
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.pace import Pace
from aliciacfg.mqtt.prompt import PromptPublication
from aliciacfg.mqtt.repairs import Repairs

_log = structlog.get_logger(__name__)

_WINDOW = 64
_READ_BACK_BATCH = 500
_ECHO_SECONDS = 5.0
_MAX_RETRY_SECONDS = 60.0
_REMEMBERED = 16
_MAX_REPAIRS = 4096
_MAX_SUBJECT = 200
_ORDER_RETRY_SECONDS = 1.0


class _Attempt:
    """How often an announcement was published.

    Attributes:
        sequence: The announcement's.
        count: How often.
        at: When last, on the clock of ``Retained``.
        missed: Whether it has not come back though everything has that was published after it.
    """

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.count = 0
        self.at = 0.0
        self.missed = False

    def due(self, now: float) -> bool:
        """Return whether it has to be published: for the first time, or again because it has not come back."""
        wait = min(_ECHO_SECONDS * 2 ** max(0, self.count - 1), _MAX_RETRY_SECONDS)
        return self.count == 0 or (self.missed and now - self.at >= wait)


class Retained:
    """Keeps the broker's retained messages equal to the outbox, over all connections."""

    def __init__(
        self,
        outbox: Outbox,
        alerts: Alerts,
        drift: Drift,
        *,
        order: Order,
        markers: Markers,
        on_confirmed: Callable[[], None],
        pace: Pace,
        inherits: bool = False,
        standing: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Publish an outbox.

        Args:
            outbox: The messages that the broker has to hold.
            alerts: Raised for what cannot be delivered and for what others write.
            drift: Findings of what others wrote, until it is repaired.
            order: Distinguishes own messages from foreign ones, and keeps the right ones the newest.
            markers: Close each batch of the read-back.
            on_confirmed: Called when the broker was seen to hold the whole outbox.
            pace: Bounds how fast messages are published.
            inherits: Whether a connection may begin with what another daemon of the home published.
            standing: Topics to which the connection is subscribed by themselves, not as part of a tree.
            clock: Seconds, monotonic.
        """
        self._outbox = outbox
        self._alerts = alerts
        self._drift = drift
        self._order = order
        self._markers = markers
        self._on_confirmed = on_confirmed
        self._pace = pace
        self._inherits = inherits
        self._standing = standing
        self._clock = clock
        # By subject.
        self._attempts: dict[str, _Attempt] = {}
        # By subject: digests of the payloads that were published last.
        self._sent: dict[str, deque[bytes]] = {}
        # By topic.
        self._repairs: dict[str, Repairs] = {}
        # Subjects whose message is larger than the broker takes.
        self._aside: set[str] = set()
        # Set when something was published.
        self._published = asyncio.Event()
        # Topics of retained configurations whose service has none here.
        self._unknown: set[str] = set()
        # Subjects whose message came on this connection.
        self._seen: set[str] = set()
        self._inheriting = False
        # By subject: the highest position that foreign messages claimed which wait for their repair.
        self._claimed: dict[str, Position | None] = {}
        # Whether everything was published that the start found to publish, taken by the broker or not. Until then the
        # pace does not count: READY waits for the last message, and 10,000 took two seconds at the pace.
        self._started = False
        # Subjects whose right message has to be published again, once it is the newest.
        self._to_restore: set[str] = set()

    @property
    def repairing(self) -> bool:
        """Whether a message of another program, or an old one, waits to be overwritten."""
        return bool(self._to_restore or self._unknown) or any(repairs.waiting for repairs in self._repairs.values())

    def begin(self) -> None:
        """Begin a connection, before it delivers anything."""
        self._seen.clear()
        # Whether what comes may be from before this connection.
        self._inheriting = self._inherits

    async def publish_forever(self, connection: Connection) -> None:
        """Publish the pending messages on one connection, until it is gone.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        self._attempts.clear()
        prompt = PromptPublication(
            connection,
            self._outbox,
            self._pace,
            on_published=self._note_published,
            on_refused=self._note_refused,
            in_order=lambda: not (self._wrong or self._order.behind),
        )
        self._outbox.on_added = prompt.take
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look_for_missed_forever(connection), name="mqtt-missed")
                self._settle()
                while True:
                    self._outbox.changed.clear()
                    if await self._put_in_order(connection):
                        await self._publish_due(connection)
                    await self._clear_unknown(connection)
                    prompt.ready = True
                    await self._wait()
                    prompt.ready = False
        finally:
            prompt.close()

    async def _publish_due(self, connection: Connection) -> None:
        """Publish what has to be, at the pace; what was added meanwhile goes in front of what waits.

        It ends early if something has to be put right: that comes first, and the next call goes on.
        """
        waiting = deque(self._in_order(connection, self._outbox.due()))
        aside: set[str] = set()
        wrong = self._wrong
        while waiting and self._wrong <= wrong:
            window = 1 if connection.limit.careful else min(_WINDOW, self._pace.step)
            # One that was replaced or confirmed meanwhile is not published any more.
            listed = [waiting.popleft() for _ in range(min(window, len(waiting)))]
            pending = [item for item in listed if self._outbox.is_pending(item)]
            aside |= self._set_aside(connection, pending)
            now = self._clock()
            due = [item for item in pending if item.subject not in aside and self._attempt(item).due(now)]
            if due:
                if self._started:
                    await self._pace.take(len(due))
                await asyncio.gather(*(self._publish(connection, item) for item in due))
            else:
                # Of 10,000 messages that the broker does not take, a look at each is worth a pause, too.
                await asyncio.sleep(0)
            waiting.extendleft(reversed(self._in_order(connection, self._outbox.added())))
        if waiting:
            return
        self._started = True
        for subject in self._aside - aside:
            self._alerts.clear("undelivered", of=outbox.subject_service(subject) or subject)
        if aside != self._aside:
            self._aside = aside
            self._settle()

    @property
    def _wrong(self) -> int:
        """How many topics hold something else than they have to."""
        return len(self._to_restore) + len(self._unknown)

    def _in_order(self, connection: Connection, pending: Sequence[Announcement]) -> Sequence[Announcement]:
        """Return messages, small ones first while it is unclear how large one may be."""
        return sorted(pending, key=lambda item: len(item.payload)) if connection.limit.careful else pending

    def _set_aside(self, connection: Connection, pending: Sequence[Announcement]) -> set[str]:
        """Alert what does not fit into a packet that the broker takes; return its subjects."""
        aside: set[str] = set()
        for item in pending:
            topic = topics.subject_topic(item.subject)
            room = connection.room(topic)
            if len(item.payload) <= room:
                continue
            aside.add(item.subject)
            service = outbox.subject_service(item.subject)
            self._alerts.raise_(
                "undelivered",
                f"{topic} is not published: the message has {len(item.payload)} bytes, and at most {room} are allowed. "
                "Subscribers keep what they have; HTTP answers the present configuration. Make the configuration "
                "smaller, or raise the broker's limit (max_packet_size and message_size_limit of Mosquitto), restart "
                "it, and raise ALICIACFG_MAX_PACKET_BYTES.",
                of=service or item.subject,
                service=service,
            )
        return aside

    async def _look_for_missed_forever(self, connection: Connection) -> None:
        """Find out which messages the broker acknowledged and did not deliver back.

        A marker proves it: the broker delivers in order, so a message that has not come before the marker behind it
        does not come at all. Time proves nothing, since a flood of requests may be in front of both.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        while True:
            await self._published.wait()
            await asyncio.sleep(_ECHO_SECONDS)
            self._published.clear()
            expected = [attempt for attempt in self._attempts.values() if attempt.count and not attempt.missed]
            if expected:
                await self._markers.wait(connection)
            for attempt in expected:
                # One that came back is no longer among the attempts.
                attempt.missed = True
            if expected:
                # What was published promptly is published again like everything else.
                self._outbox.changed.set()

    async def read_back(self, connection: Connection) -> None:
        """Ask the broker for every retained message it should hold, and queue what is missing.

        In batches of exact topics, each closed by a marker: Mosquitto silently cuts what it delivers at one
        subscription beyond ``max_queued_messages``, so a wildcard proves nothing absent.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        if self._inheriting:
            # The session delivers first what it held; the marker is behind that.
            await self._markers.wait(connection)
            self._inheriting = False
        expected = sorted(subject for subject, item in self._outbox.current.items() if item.payload)
        for start in range(0, len(expected), _READ_BACK_BATCH):
            batch = expected[start : start + _READ_BACK_BATCH]
            filters = [topics.subject_topic(subject) for subject in batch]
            await connection.subscribe(filters)
            await self._markers.wait(connection)
            # Those that stand by themselves have to stay.
            if ended := [name for name in filters if name not in self._standing]:
                await connection.unsubscribe(ended)
        pending = {item.subject for item in self._outbox.due()}
        missing = [subject for subject in expected if subject not in self._seen and subject not in pending]
        for subject in missing:
            self._outbox.repeat(subject)
        if missing:
            _log.info("retained_missing", count=len(missing))
        await self._put_in_order(connection)

    def receive(self, subject: str | None, inbound: Inbound) -> None:
        """Compare a message on a topic where only this daemon writes with what has to be there.

        Args:
            subject: The subject whose topic it is; None for a name that no service can have.
            inbound: The message.
        """
        current = None if subject is None else self._outbox.current.get(subject)
        if subject is None:
            self._on_unknown(inbound)
            return
        self._seen.add(subject)
        if current is not None and inbound.payload == current.payload:
            self._confirm(current)
        elif current is None and not inbound.payload:
            # Our own, with which a foreign message was cleared.
            self._drift.remove("retained", inbound.topic)
        elif _digest(inbound.payload) in self._sent.get(subject, ()):
            # An echo that was overtaken, or a copy that another program published.
            self._on_own(subject, current)
        elif not inbound.payload and self._inheriting:
            # What the daemon that led before removed has no signature, and may have been made again since. The
            # read-back shows what the broker holds.
            self._outbox.repeat(subject)
        elif not inbound.payload:
            # Readers forgot what they held, and so apply the right one again.
            self._on_foreign(subject, current, None)
        elif inbound.oversized:
            # Its content was not read; it may claim any place.
            self._on_foreign(subject, current, HIGHEST)
        else:
            self._on_other(subject, current, inbound.payload)

    def _on_other(self, subject: str, current: Announcement | None, payload: bytes) -> None:
        """Decide about a message that is neither the right one nor one of those that were published last."""
        match self._order.origin(subject, payload):
            case "own":
                self._on_own(subject, current)
            case "ahead":
                # Everything is announced again before anything is published.
                self._overtake(subject)
            case "foreign":
                self._on_foreign(subject, current, claimed_position(payload))

    def _on_own(self, subject: str, current: Announcement | None) -> None:
        """Overwrite an older message of the daemon's own that another program or the broker brought back."""
        known = self._order.is_gone(subject) if current is None else not self._outbox.is_pending(current)
        if not known:
            return
        topic = topics.subject_topic(subject)
        _log.info("retained_stale", topic=topic)
        self._repair(topic, lambda: self._restore(subject))

    def _restore(self, subject: str) -> None:
        """Publish the right message of a subject again; clear the topic if there is none."""
        if subject in self._outbox.current:
            self._outbox.repeat(subject)
        else:
            self._clear(topics.subject_topic(subject))

    def _attempt(self, item: Announcement) -> _Attempt:
        attempt = self._attempts.get(item.subject)
        if attempt is None or attempt.sequence != item.sequence:
            attempt = self._attempts[item.subject] = _Attempt(item.sequence)
        return attempt

    async def _publish(self, connection: Connection, item: Announcement) -> None:
        self._note_published(item)
        try:
            await connection.publish(topics.subject_topic(item.subject), item.payload, retain=True)
        except (Denied, DoesNotFit) as error:
            self._note_refused(item, error)

    def _note_published(self, item: Announcement) -> None:
        """Note that an announcement is published now, before it can come back."""
        attempt = self._attempt(item)
        attempt.count += 1
        attempt.at = self._clock()
        attempt.missed = False
        if attempt.count > 1:
            self._undelivered(item.subject, "it was acknowledged but did not come back")
        self._remember(item.subject, item.payload)
        self._published.set()

    def _note_refused(self, item: Announcement, error: BrokerUnavailable) -> None:
        if isinstance(error, Denied):
            self._undelivered(item.subject, str(error))
        else:
            # The limit was learned from this refusal, so the message is set aside from now on.
            self._outbox.changed.set()

    def _remember(self, subject: str, payload: bytes) -> None:
        """Remember a message that is published now, to recognise it: an empty one has no id."""
        self._sent.setdefault(subject, deque(maxlen=_REMEMBERED)).append(_digest(payload))

    async def _clear_unknown(self, connection: Connection) -> None:
        """Clear retained configurations of services that have none here."""
        unknown, self._unknown = self._unknown, set()
        for topic in unknown:
            try:
                await connection.publish(topic, b"", retain=True)
            except Denied as error:
                _log.warning("unknown_retained_not_cleared", topic=topic, reason=str(error))

    async def _wait(self) -> None:
        """Wait until the outbox changes, or a message may have to be published again."""
        try:
            async with asyncio.timeout(1.0 if self._outbox.pending else None):
                await self._outbox.changed.wait()
        except TimeoutError:
            return

    def _confirm(self, current: Announcement) -> None:
        self._outbox.confirm(current)
        self._attempts.pop(current.subject, None)
        self._drift.remove("retained", topics.subject_topic(current.subject))
        self._settle()

    def _settle(self) -> None:
        """Call ``on_confirmed`` if the broker holds everything that it can hold."""
        if self._outbox.pending <= len(self._aside) and not self._order.behind:
            self._started = True
            self._alerts.clear("undelivered")
            self._order.settled()
            self._on_confirmed()

    def _on_foreign(self, subject: str, current: Announcement | None, claimed: Position | None) -> None:
        topic = topics.subject_topic(subject)
        before = self._claimed.get(subject)
        self._claimed[subject] = max((item for item in (before, claimed) if item is not None), default=None)
        if current is None or not current.payload:
            message = f"Another program published on {topic}, a service without a configuration here; it is cleared."
        else:
            message = (
                f"Another program published on {topic}; the right message is published again. Only this daemon may "
                "write there: see the broker's access rules."
            )
        self._repair(topic, lambda: self._overtake(subject), message, service=outbox.subject_service(subject))

    def _overtake(self, subject: str) -> None:
        self._to_restore.add(subject)
        self._outbox.changed.set()

    async def _put_in_order(self, connection: Connection) -> bool:
        """Have the right messages be the newest; return whether they may be published.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        try:
            await self._order.catch_up()
        except OperationError as error:
            # What the broker holds shows that the database went back: it must not be overwritten before that is stored.
            self._try_later(error)
            return False
        for subject in list(self._to_restore):
            try:
                overtaken = await self._order.overtake(subject, self._claimed.get(subject))
            except OperationError as error:
                self._try_later(error)
            else:
                self._to_restore.discard(subject)
                self._claimed.pop(subject, None)
                if not overtaken:
                    await self._clear_first(connection, subject)
            self._restore(subject)
        return True

    def _try_later(self, error: OperationError) -> None:
        _log.warning("order_not_stored", reason=error.message, remedy="none needed; it is tried again")
        asyncio.get_running_loop().call_later(_ORDER_RETRY_SECONDS, self._outbox.changed.set)

    async def _clear_first(self, connection: Connection, subject: str) -> None:
        """Make readers forget a message whose position nothing can exceed."""
        self._remember(subject, b"")
        with contextlib.suppress(Denied):
            await connection.publish(topics.subject_topic(subject), b"", retain=True)

    def _on_unknown(self, inbound: Inbound) -> None:
        """Clear a message on a topic that no service can have."""
        topic, shown = inbound.topic, inbound.topic[:_MAX_SUBJECT]
        if not inbound.payload:
            self._drift.remove("retained", shown)
        elif topics.is_publishable(topic):
            message = f"Another program published on {shown!r}, which no service can have; the message is cleared."
            self._repair(topic, lambda: self._clear(topic), message)
        else:
            message = (
                f"Another program published on {shown!r}, which no service can have. A broker may disconnect who "
                "publishes there, so the daemon leaves the message: have its publisher or the broker remove it."
            )
            self._repair(topic, lambda: None, message)

    def _clear(self, topic: str) -> None:
        self._unknown.add(topic)
        self._outbox.changed.set()

    def _repair(
        self, topic: str, repair: Callable[[], None], message: str | None = None, *, service: str | None = None
    ) -> None:
        """Repair a topic once, and raise an alert if a message is given.

        Messages that come while a repair waits are repaired with it.
        """
        if len(self._repairs) > _MAX_REPAIRS:
            self._repairs.clear()
        repairs = self._repairs.setdefault(topic, Repairs())
        if repairs.waiting:
            return
        if message is not None:
            self._alerts.emit("tamper", message, service=service)
            self._drift.report("retained", topic[:_MAX_SUBJECT], message, service=service)
        repairs.waiting = True

        def now() -> None:
            repairs.waiting = False
            repair()

        asyncio.get_running_loop().call_later(repairs.delay(self._clock()), now)

    def _undelivered(self, subject: str, reason: str) -> None:
        self._alerts.raise_(
            "undelivered",
            f"{topics.subject_topic(subject)} is not held by the broker: {reason}. Does its access list let "
            "config_service write and read there?",
        )


def _digest(payload: bytes) -> bytes:
    """Return 16 bytes that distinguish payloads."""
    return hashlib.blake2b(payload, digest_size=16).digest()
