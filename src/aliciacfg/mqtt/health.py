"""The daemon's health on the bus: retained on its own topic, and as an answer to a health check."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from time import perf_counter

import msgspec

from aliciacfg import documents
from aliciacfg.api.answers.health import HealthAnswer
from aliciacfg.counted import counted_are
from aliciacfg.errors import OperationError
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.mqtt import envelope, topics
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.messages import Inbound, Reply, Will
from aliciacfg.mqtt.outgoing import Outgoing
from aliciacfg.mqtt.repairs import Repairs
from aliciacfg.operations.health import Health

_INTERVAL_SECONDS = 30.0
_LOOK_SECONDS = 1.0
# However often others ask for health or overwrite it.
_MIN_PAUSE_SECONDS = 0.1
_MAX_EXPECTED = 16
# The will is part of CONNECT, before which the broker's limit is not known.
_WILL_BYTES = 4096


class HealthPublisher:
    """Publishes health at the start of a connection, on every change that matters, and at intervals."""

    def __init__(
        self,
        health: Health,
        *,
        alerts: Alerts,
        outgoing: Outgoing,
        may_answer_on: Callable[[str], bool],
        serves: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Publish the health of a daemon.

        Args:
            health: How the daemon is.
            alerts: Each one changes the health.
            outgoing: Publishes.
            may_answer_on: Whether the answer to a health check may go to a topic.
            serves: Whether the home is served over this connection; None if the health says so.
            clock: Seconds, monotonic.
        """
        self._health = health
        self._outgoing = outgoing
        self._may_answer_on = may_answer_on
        self._serves = serves
        self._clock = clock
        self._changed = asyncio.Event()
        self._published: tuple[object, ...] = ()
        # What was published and has not come back yet, in order.
        self._expected: deque[bytes] = deque(maxlen=_MAX_EXPECTED)
        self._publishing = False
        self._repairs = Repairs()
        self._stopped = False
        alerts.listen(lambda _alert: self.publish_soon())

    @property
    def will(self) -> Will:
        """The message that the broker publishes when the daemon dies."""
        return Will(topics.HEALTH, self._payload(_WILL_BYTES, status="offline"))

    def payload(self) -> bytes:
        """Return the present health as it is published, short enough for any broker."""
        return self._payload(_WILL_BYTES)

    def publish_soon(self) -> None:
        """Publish health now, whether it changed or not."""
        self._changed.set()

    async def publish_forever(self, connection: Connection) -> None:
        """Publish health on one connection, until it is gone or the daemon stops.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        self._expected.clear()
        self._publishing = True
        try:
            await self._publish_until_stopped(connection)
        finally:
            self._publishing = False

    async def _publish_until_stopped(self, connection: Connection) -> None:
        while not self._stopped:
            self._changed.clear()
            self._published = _essence(self._health.now())
            payload = self._payload(connection.room(topics.HEALTH))
            self._expected.append(payload)
            await self._outgoing.publish_optional(connection, topics.HEALTH, payload, retain=True)
            await asyncio.sleep(_MIN_PAUSE_SECONDS)
            await self._wait_for_change()

    def receive(self, inbound: Inbound) -> None:
        """Have a message on the topic of health overwritten, if it is not the one that this daemon published last.

        It may come from anyone; or be the last will of this daemon's connection before; or be of another daemon, which
        does the same: so the second of many follows at once, and later ones more and more slowly.
        """
        if inbound.payload in self._expected:
            while self._expected.popleft() != inbound.payload:
                pass
        elif self._publishing and not self._repairs.waiting:
            self._repairs.waiting = True
            asyncio.get_running_loop().call_later(self._repairs.delay(self._clock()), self._repair)

    def _repair(self) -> None:
        self._repairs.waiting = False
        self.publish_soon()

    async def stop(self, connection: Connection | None) -> None:
        """Publish that the daemon stops, and nothing after it: a clean disconnect does not send the last will.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        self._stopped = True
        if connection is not None:
            payload = self._payload(connection.room(topics.HEALTH), status="offline")
            await connection.publish(topics.HEALTH, payload, retain=True)

    def answer_check(self, inbound: Inbound) -> None:
        """Publish health, and answer where the health check asks for it, if that is allowed.

        That is the Response Topic (MQTT 5), else ``reply_to`` in the payload.
        """
        started = perf_counter()
        self.publish_soon()
        named = inbound.response_topic if inbound.response_topic is not None else _reply_to(inbound.payload)
        if named is not None and not inbound.retained and self._may_answer_on(named):
            body = documents.encode(self._health.now())
            self._outgoing.answer(Reply(named, body, True, inbound.qos, inbound.correlation_data))
        self._health.metrics.meter("health", "mqtt").answered(perf_counter() - started)

    async def _wait_for_change(self) -> None:
        """Wait until health changed, was asked for, or the interval is over."""
        for _ in range(int(_INTERVAL_SECONDS / _LOOK_SECONDS)):
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                if _essence(self._health.now()) == self._published:
                    continue
            return

    def _payload(self, room: int, *, status: str | None = None) -> bytes:
        """Return health in the envelope; the texts of alerts that do not fit are left out.

        Args:
            room: The largest payload.
            status: Instead of the present status.
        """
        health = self._health.now()
        if self._serves is not None:
            health = msgspec.structs.replace(health, mqtt_connected=self._serves())
        if status is not None:
            health = msgspec.structs.replace(health, status=status, mqtt_connected=False)
        payload = envelope.wrap(documents.encode(health))
        if len(payload) <= room:
            return payload
        left_out = f"{counted_are(len(health.alerts), 'alert')} active; /health has their texts."
        return envelope.wrap(
            documents.encode(
                msgspec.structs.replace(health, alerts={"left_out": left_out}, refused_edits=[], replicas=[])
            )
        )


def _reply_to(payload: bytes) -> str | None:
    """Return the answer topic that a health check names in its payload; other programs send theirs in any form."""
    if not payload:
        return None
    try:
        named = envelope.open_payload(payload).content.get("reply_to")
    except OperationError:
        return None
    return named if isinstance(named, str) else None


def _essence(health: HealthAnswer) -> tuple[object, ...]:
    """Return the part of health whose change is worth a message; counters and clocks are not."""
    return (
        health.status,
        health.environment,
        health.configs_managed,
        health.outbox_pending > 0,
        health.drift,
        health.device_registry,
        tuple(health.alerts),
        tuple(health.refused_edits),
        tuple(health.replicas),
    )
