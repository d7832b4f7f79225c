"""Whether the broker enforces the access list, so that the requester named in a topic is who asks."""

import asyncio
import contextlib
from typing import Protocol

import structlog

from aliciacfg.access.rules import Access
from aliciacfg.bus.address import BrokerAddress
from aliciacfg.mqtt.broker.access_list import probe_topic
from aliciacfg.mqtt.connecting import accepts_without_proof
from aliciacfg.mqtt.connection import Connection, Denied
from aliciacfg.mqtt.markers import Markers

_log = structlog.get_logger(__name__)

_INTERVAL_SECONDS = 30.0


class Proof(Protocol):
    """What learns what the broker proves, as ``Authorizer`` does.

    Attributes:
        bus_proves: Whether the broker enforces the access list; None before the first probe.
    """

    bus_proves: bool | None

    @property
    def access(self) -> Access:
        """The rules in force; without any, nothing has to be proven."""
        ...

    def set_bus_proves(self, *, proves: bool) -> None:
        """Note the result of a probe."""
        ...

    def reset_bus_proves(self) -> None:
        """Forget it."""
        ...


class AccessProbe:
    """Tries, once at the start of each connection and then at intervals, whether the broker enforces the access list.

    Attributes:
        topic: The topic that the access list forbids; the daemon must not answer a message there.
    """

    def __init__(
        self,
        authorizer: Proof,
        *,
        address: BrokerAddress,
        instance: str,
        markers: Markers,
        topic: str | None = None,
    ) -> None:
        """Make the probe of one daemon.

        Args:
            authorizer: Learns what the broker proves.
            address: The broker, and how the daemon connects to it.
            instance: Names this daemon's data directory.
            markers: Show when a message on ``topic`` would have been received.
            topic: Where to try; None for a request in the name of another requester.
        """
        self._authorizer = authorizer
        self._address = address
        self._markers = markers
        self._delivered = False
        self.topic = topic or probe_topic(instance)

    def receive(self) -> None:
        """Note that a message on ``topic`` was delivered."""
        self._delivered = True

    async def run(self, connection: Connection) -> None:
        """Try whether the broker makes requesters prove who they are.

        Under the access list no program, this daemon included, can ask in the name of another one; and a program that
        connects under a name has to prove it.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        if self._authorizer.access.enforced:
            self._delivered = False
            with contextlib.suppress(Denied):
                await connection.publish(self.topic, b"")
            await self._markers.wait(connection)
            proves = not self._delivered and not await accepts_without_proof(self._address)
        else:
            proves = False
        if proves and not self._authorizer.bus_proves:
            _log.info("access_list_in_force")
        self._authorizer.set_bus_proves(proves=proves)

    async def run_forever(self, connection: Connection) -> None:
        """Repeat the probe: an access list may be loaded, or removed, while the connection stands.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            await self.run(connection)

    def reset(self) -> None:
        """Forget what the broker proves: the connection is gone, and the next broker may be another one."""
        self._authorizer.reset_bus_proves()
