"""Messages of the daemon besides the retained ones: answers, alerts, and messages that a broker may deny."""

from collections import deque

import structlog

from aliciacfg import documents
from aliciacfg.monitoring.alerts import Alert, Alerts
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.connection import Connection, Denied
from aliciacfg.mqtt.messages import Reply

_log = structlog.get_logger(__name__)

_MAX_WAITING_ALERTS = 100


class Outgoing:
    """Publishes on the connection of the moment, if there is one.

    Answers go out as soon as a connection is attached. Alerts wait until it is opened: before, another daemon may
    turn out to serve this broker.
    """

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts
        self._connection: Connection | None = None
        self._opened = False
        # Raised at the start, or while the broker was away; beyond the limit the oldest are dropped.
        self._waiting: deque[Alert] = deque(maxlen=_MAX_WAITING_ALERTS)
        alerts.listen(self._on_alert)

    def attach(self, connection: Connection) -> None:
        """Publish answers on a new connection from now on."""
        self._connection = connection

    def open(self) -> None:
        """Publish the alerts that waited and the active ones, and from now on every alert at once."""
        self._opened = True
        active = self._alerts.active_alerts
        waited = [alert for alert in self._waiting if alert not in active]
        self._waiting.clear()
        for alert in (*waited, *active):
            self._on_alert(alert)

    def detach(self) -> None:
        """Publish nothing until the next connection: this one is gone."""
        self._connection = None
        self._opened = False

    async def publish_optional(
        self, connection: Connection, topic: str, payload: bytes, *, retain: bool = False
    ) -> None:
        """Publish a message that the daemon can do without; raise an alert where the broker denies it.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        try:
            await connection.publish(topic, payload, retain=retain)
        except Denied as error:
            self._alerts.raise_("undelivered", f"{error}. Let config_service write there.", of=topic)

    def answer(self, reply: Reply) -> None:
        """Publish an answer; without a connection it is lost, and the requester has to repeat the request."""
        if self._connection is None:
            _log.info("answer_lost", topic=reply.topic, reason="the broker is away; requesters repeat")
            return
        self._connection.answer(reply)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish a message that nothing depends on; without a connection it is lost."""
        if self._connection is not None:
            self._connection.send(topic, payload)

    def _on_alert(self, alert: Alert) -> None:
        if self._connection is not None and self._opened:
            self._connection.send(f"{topics.ALERT}{alert.kind}", documents.encode(alert))
        else:
            self._waiting.append(alert)
