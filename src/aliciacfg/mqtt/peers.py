"""Other daemons on the same broker, found by the health that they publish on the topic that all daemons share."""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from aliciacfg.errors import AnotherDaemon, OperationError
from aliciacfg.mqtt import envelope, topics
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.outgoing import Outgoing

_log = structlog.get_logger(__name__)

_ANSWER_SECONDS = 2.0
_PROOFS_OF_LIFE = 2


class _Health(msgspec.Struct):
    """The part of a health message that tells daemons apart.

    Attributes:
        instance: Names the data directory of the daemon that published it.
        uptime: Seconds since that daemon started.
    """

    instance: str = ""
    status: str = ""
    uptime: float = 0.0


class Peers:
    """Finds out whether another daemon serves this broker, at the start of a connection and as long as it stands."""

    def __init__(
        self,
        instance: str,
        *,
        uptime: Callable[[], float],
        markers: Markers,
        outgoing: Outgoing,
        publish_health: Callable[[], None],
        answer_seconds: float = _ANSWER_SECONDS,
    ) -> None:
        """Make what looks for the peers of one daemon.

        Args:
            instance: Names this daemon's data directory.
            uptime: How long this daemon has been running, in seconds.
            markers: Show when every retained message has been received.
            outgoing: Publishes health checks.
            publish_health: Makes this daemon known to a younger one.
            answer_seconds: The time within which another daemon has to answer a health check.
        """
        self._instance = instance
        self._uptime = uptime
        self._markers = markers
        self._outgoing = outgoing
        self._publish_health = publish_health
        self._answer_seconds = answer_seconds
        # Health of other daemons, and whether the broker had retained it.
        self._seen: asyncio.Queue[tuple[_Health, bool]] = asyncio.Queue()

    def receive(self, inbound: Inbound) -> None:
        """Note a health message if it is another daemon's."""
        health = _parse_health(inbound.payload)
        if health is not None and health.instance and health.instance != self._instance:
            self._seen.put_nowait((health, inbound.retained))

    def forget(self) -> None:
        """Forget what was seen: a new connection begins."""
        self._take_seen()

    async def check_alone(self, connection: Connection) -> None:
        """Make sure that no other daemon serves this broker, before anything there is touched.

        A retained health message may be of a daemon that died together with the broker's memory of its last
        will, so it is asked whether it is alive.

        Raises:
            AnotherDaemon: It is.
            BrokerUnavailable: The connection is gone.
        """
        await connection.subscribe([topics.HEALTH, f"{self._markers.prefix}#"])
        await self._markers.wait(connection)
        if all(health.status == "offline" for health, _ in self._take_seen()):
            return
        alive = await self._first_answer(connection)
        if alive is not None:
            raise AnotherDaemon(alive.instance)
        _log.warning("foreign_health_is_stale", remedy="none needed; the retained health message is replaced")

    async def watch(self, connection: Connection) -> None:
        """Watch for other daemons for as long as the connection stands.

        Of two daemons that started at the same moment the younger one gives way. One message is no proof of life,
        since anyone may have sent it: the other daemon has to answer twice.

        Raises:
            AnotherDaemon: An older one is alive.
            BrokerUnavailable: The connection is gone.
        """
        while True:
            health, retained = await self._seen.get()
            if retained or health.status == "offline":
                continue
            if (health.uptime, health.instance) <= (self._uptime(), self._instance):
                self._publish_health()
                continue
            answers = [await self._first_answer(connection) for _ in range(_PROOFS_OF_LIFE)]
            if all(answer is not None and answer.instance == health.instance for answer in answers):
                raise AnotherDaemon(health.instance)
            _log.warning("foreign_health_unproven", instance=health.instance[:64])

    async def _first_answer(self, connection: Connection) -> _Health | None:
        """Ask for health; return the first live answer of another daemon, or None if there is none in time."""
        self.forget()
        await self._outgoing.publish_optional(connection, topics.HEALTH_CHECK, b"{}")
        try:
            async with asyncio.timeout(self._answer_seconds):
                while True:
                    health, retained = await self._seen.get()
                    if not retained and health.status != "offline":
                        return health
        except TimeoutError:
            return None

    def _take_seen(self) -> list[tuple[_Health, bool]]:
        return [self._seen.get_nowait() for _ in range(self._seen.qsize())]


def _parse_health(payload: bytes) -> _Health | None:
    """Return a health message out of its envelopes; None if it is none."""
    try:
        return msgspec.convert(envelope.open_payload(payload).content, _Health, strict=False)
    except (OperationError, msgspec.ValidationError):
        return None
