"""Messages of the daemon besides the retained ones: answers, alerts, and messages that a broker may deny."""

from collections import deque

import msgspec
import structlog

from aliciacfg import documents
from aliciacfg.monitoring.alerts import Alert, Alerts
from aliciacfg.mqtt import replies, topics
from aliciacfg.mqtt.connection import Connection, Denied, DoesNotFit
from aliciacfg.mqtt.messages import Reply

_log = structlog.get_logger(__name__)

_MAX_WAITING_ALERTS = 100


class Outgoing:
    """Publishes on the connection of the moment, if there is one.

    Answers go out as soon as a connection is attached. Alerts wait until it is opened: before, another daemon may
    turn out to serve this broker.
    """

    def __init__(self, alerts: Alerts, *, publishes_alerts: bool = True) -> None:
        """Publish nothing yet.

        Args:
            alerts: Raised about what the broker does not take.
            publishes_alerts: Whether to publish them as well.
        """
        self._alerts = alerts
        self._connection: Connection | None = None
        self._opened = False
        # Raised at the start, or while the broker was away; beyond the limit the oldest are dropped.
        self._waiting: deque[Alert] = deque(maxlen=_MAX_WAITING_ALERTS)
        self._publishes_alerts = publishes_alerts
        if publishes_alerts:
            alerts.listen(self._on_alert)

    def congested_for(self, topic: str) -> bool:
        """Return whether so many answers wait to be sent that no request should be begun that is answered there."""
        connection = self._connection
        return connection is not None and connection.congested_for(topic)

    def attach(self, connection: Connection) -> None:
        """Publish answers on a new connection from now on."""
        self._connection = connection

    def open(self) -> None:
        """Publish the alerts that waited and the active ones, and from now on every alert at once."""
        self._opened = True
        if not self._publishes_alerts:
            return
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
        """Publish a message that the daemon can do without; raise an alert where the broker does not take it.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        try:
            await connection.publish(topic, payload, retain=retain)
        except Denied as error:
            self._alerts.raise_("undelivered", f"{error}. Let config_service write there.", of=topic)
        except DoesNotFit as error:
            self._alerts.raise_("undelivered", f"Not published: {error}.", of=topic)
        else:
            self._alerts.clear("undelivered", of=topic)

    def answer(self, reply: Reply) -> None:
        """Publish an answer; without a connection it is lost, and the requester has to repeat the request.

        In place of an answer that is larger than the broker takes, its size is answered.
        """
        if self._connection is None:
            _log.info("answer_lost", topic=reply.topic, reason="the broker is away; requesters repeat")
        else:
            self._connection.answer(reply, self.on_too_large)

    def on_too_large(self, reply: Reply, error: DoesNotFit) -> None:
        """Publish, in place of an answer that is larger than the broker takes, its size."""
        _log.warning("answer_too_large", topic=reply.topic, bytes=error.size, limit=error.limit)
        if self._connection is not None:
            refusal = replies.too_large(reply, size=error.size, limit=error.limit)
            self._connection.answer(refusal, lambda _reply, problem: _give_up(problem))

    def send(self, topic: str, payload: bytes) -> None:
        """Publish a message that nothing depends on; without a connection it is lost."""
        if self._connection is not None:
            try:
                self._connection.send(topic, payload)
            except DoesNotFit as error:
                _give_up(error)

    def _on_alert(self, alert: Alert) -> None:
        if self._connection is not None and self._opened:
            topic = f"{topics.ALERT}{alert.kind}"
            self.send(topic, _fitting(alert, self._connection.room(topic)))
        else:
            self._waiting.append(alert)


def _give_up(error: DoesNotFit) -> None:
    _log.error("message_not_sent", reason=str(error))


def _fitting(alert: Alert, room: int) -> bytes:
    """Return an alert as JSON, without as many of its problems as do not fit."""
    encoded = documents.encode(alert)
    problems = len(alert.problems)
    while len(encoded) > room and problems:
        problems //= 2
        message = f"{alert.message} ({len(alert.problems) - problems} of {len(alert.problems)} problems are left out.)"
        encoded = documents.encode(msgspec.structs.replace(alert, message=message, problems=alert.problems[:problems]))
    if len(encoded) > room:
        # Each character takes at most six bytes.
        short = alert.message[: max(0, room - len(encoded) + len(documents.encode(alert.message))) // 6] + " …"
        encoded = documents.encode(msgspec.structs.replace(alert, message=short, problems=()))
    return encoded
