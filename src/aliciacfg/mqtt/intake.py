"""What takes the requests of one link to the broker, and publishes their answers."""

from collections.abc import Callable

from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.supervisor import Supervisor
from aliciacfg.mqtt.admission import Admission
from aliciacfg.mqtt.background import BackgroundTasks
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.inbox import Inbox
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.outgoing import Outgoing
from aliciacfg.mqtt.requests import Requests


class Intake:
    """Takes requests, over all connections of a link.

    Attributes:
        admission: Begins what takes longer than an answer from the cache.
        background: The work that outlives a connection.
        inbox: Where requests arrive.
        outgoing: Publishes answers.
    """

    def __init__(
        self,
        requests: Requests,
        *,
        alerts: Alerts,
        supervisor: Supervisor,
        max_packet_bytes: int,
        publishes_alerts: bool = True,
        may_read: Callable[[], bool] | None = None,
    ) -> None:
        """Take nothing yet.

        Args:
            requests: Answers requests.
            alerts: Raised about what the broker does not take.
            supervisor: Reports unexpected errors.
            max_packet_bytes: The largest MQTT packet that is read.
            publishes_alerts: Whether alerts are published over this link.
            may_read: Asked before reads are answered many at a time; None if they always may.
        """
        self._requests = requests
        self._may_read = may_read
        self._connection: Connection | None = None
        self.background = BackgroundTasks(supervisor.report)
        self.outgoing = Outgoing(alerts, publishes_alerts=publishes_alerts)
        self.admission = Admission(
            self.background, acknowledge=self._acknowledge, congested=self.outgoing.congested_for
        )
        self.inbox = Inbox(requests, self.admission, self.outgoing, max_packet_bytes=max_packet_bytes)

    def attach(self, connection: Connection) -> None:
        """Publish answers on a new connection from now on."""
        self._connection = connection
        connection.on_relief = self.admission.pump
        self.outgoing.attach(connection)
        lane = connection.open_lane(
            self._requests,
            is_free=self.admission.reads_are_free if self._may_read is None else self._reads_are_free,
            on_too_large=self.outgoing.on_too_large,
        )
        self.inbox.learn = lane.learn

    def detach(self) -> None:
        """Publish nothing until the next connection: this one is gone."""
        self._connection = None
        self.admission.close()
        self.outgoing.detach()

    def _reads_are_free(self) -> bool:
        return self.admission.reads_are_free() and (self._may_read is None or self._may_read())

    def _acknowledge(self, inbound: Inbound) -> None:
        if self._connection is not None:
            self._connection.acknowledge(inbound)
