"""Markers: messages that the daemon publishes to itself to learn what the broker has delivered before them."""

import asyncio
import uuid

from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.connection import Connection, Denied

_TIMEOUT_SECONDS = 10.0
# So many messages within the time are a flood, and the marker is behind them.
_FLOOD_MESSAGES = 200


class Markers:
    """The markers that are under way.

    Attributes:
        prefix: Every marker's topic begins with it; ``wait`` needs a subscription of ``<prefix>#``.
    """

    def __init__(self, instance: str) -> None:
        """Make markers whose topics differ from those of other daemons.

        Args:
            instance: Names this daemon's data directory.
        """
        self.prefix = f"{topics.REPLY}config_service/{instance}/"
        self._waiting: dict[str, asyncio.Future[None]] = {}

    async def wait(self, connection: Connection) -> None:
        """Publish a marker and wait until it comes back: what the broker had to send before it has been received.

        Raises:
            BrokerUnavailable: It did not come back, or the broker refused it.
        """
        topic = f"{self.prefix}{uuid.uuid4().hex}"
        marker = self._waiting[topic] = asyncio.get_running_loop().create_future()
        try:
            await connection.publish(topic, b"")
            delivered = -_FLOOD_MESSAGES
            # Behind a flood of requests it comes late; so it does while the daemon itself holds the broker back.
            while connection.holds_back or connection.delivered - delivered >= _FLOOD_MESSAGES:
                delivered = connection.delivered
                if (await asyncio.wait({marker}, timeout=_TIMEOUT_SECONDS))[0]:
                    return
            raise BrokerUnavailable(
                f"the broker does not deliver {self.prefix}#; its access list has to let config_service read it"
            )
        except Denied:
            # Without the topic of this one marker: the same reason is logged once.
            raise BrokerUnavailable(
                f"the broker refuses {self.prefix}#; its access list has to let config_service write it"
            ) from None
        finally:
            self._waiting.pop(topic, None)

    def receive(self, topic: str) -> None:
        """End the wait for the marker with this topic."""
        marker = self._waiting.get(topic)
        if marker is not None and not marker.done():
            marker.set_result(None)
