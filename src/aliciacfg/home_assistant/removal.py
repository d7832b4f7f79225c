"""Removes what was published for Home Assistant, when it is turned off or moved to another prefix."""

import asyncio

import structlog

from aliciacfg.cancellation import end_task
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.home_assistant.publisher import Publisher
from aliciacfg.home_assistant.session import Wire
from aliciacfg.home_assistant.topics import Topics
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.link import Link
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.pace import Pace

_log = structlog.get_logger(__name__)

_PER_SECOND = 500
_LOOK_SECONDS = 0.05


class Removal:
    """Clears the retained messages of ours that a broker holds: device messages by their origin, and all states."""

    def __init__(self, wire: Wire, at: Topics) -> None:
        """Remove nothing yet.

        Args:
            wire: How to connect.
            at: The topics on which something may be retained.
        """
        self._wire = wire
        self._at = at
        self._markers = wire.markers()
        self._publisher = Publisher(at, wire.alerts, markers=self._markers, pace=Pace(_PER_SECOND))
        self._done = asyncio.Event()
        self._link = Link(
            wire.address,
            make_session=lambda: wire.session(None),
            serve=self._serve,
            on_lost=lambda: False,
            supervisor=wire.supervisor,
            limit=wire.limit,
        )

    async def run(self) -> None:
        """Return when the broker holds nothing any more."""
        task = asyncio.create_task(self._link.run(), name="removal for Home Assistant")
        done = asyncio.create_task(self._done.wait(), name="end of the removal")
        try:
            await asyncio.wait({task, done}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            done.cancel()
            await end_task(task)
        if not self._done.is_set():
            task.result()
        _log.info("home_assistant_removed", prefix=self._at.prefix)

    async def _serve(self, connection: Connection, group: asyncio.TaskGroup) -> None:
        connection.receive(self._on_message)
        await self._wire.begin(connection, self._markers)
        await self._publisher.read_back(connection)
        group.create_task(self._publisher.publish_forever(connection), name="removal of messages")
        group.create_task(self._wait(connection), name="end of the removal of messages")

    async def _wait(self, connection: Connection) -> None:
        """Note that nothing is left.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        while not self._publisher.settled:  # noqa: ASYNC110 - what is under way changes with every message
            await asyncio.sleep(_LOOK_SECONDS)
        await self._publisher.read_back(connection)
        if not self._publisher.settled:
            raise BrokerUnavailable("messages for Home Assistant are left at the broker; connecting anew")
        self._done.set()

    def _on_message(self, inbound: Inbound) -> bool:
        if inbound.topic.startswith(self._markers.prefix):
            self._markers.receive(inbound.topic)
        elif self._at.owns(inbound.topic):
            self._publisher.receive(inbound)
        return True
