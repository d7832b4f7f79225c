"""Other daemons on the same broker, found by the health that they publish on the topic that all daemons share.

Where the broker has no access list, every client can publish health and answer health checks under any name. So no
message ends a daemon that serves: the one that comes later looks for another one before it serves anything, and gives
way. Two that start at the same moment both publish health first; each sees both messages, in the order of the broker,
and the second one gives way. Under an access list that is known to be in force, only a daemon can publish health, and
the younger of two gives way at any time.

A copy of the data directory, that of a cloned machine for example, has the same instance and the same client id: each
of the two would have the broker end the connection of the other one. So it is looked for on a connection of its own,
while whatever comes of this instance is the copy's.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from aliciacfg.errors import AnotherDaemon, OperationError
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.mqtt import envelope, topics
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.log_limit import LogLimit
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.outgoing import Outgoing

_log = structlog.get_logger(__name__)

_ANSWER_SECONDS = 2.0
_PROOFS_OF_LIFE = 2
# What others send must not make this daemon ask for health all the time.
_PAUSE_SECONDS = 5.0
_SAME_AGE_SECONDS = 2.0
_MAX_SEEN = 64


class _Health(msgspec.Struct):
    """The part of a health message that distinguishes daemons.

    Attributes:
        instance: Names the data directory of the daemon that published it.
        uptime: Seconds since that daemon started.
        mqtt_connected: Whether that daemon serves; false while it starts.
    """

    instance: str = ""
    status: str = ""
    uptime: float = 0.0
    mqtt_connected: bool = True


class _Seen(msgspec.Struct, frozen=True):
    """The health of another daemon, as it came.

    Attributes:
        health: What it says.
        retained: Whether the broker had kept it.
        ahead: Whether it came before this daemon's own claim.
    """

    health: _Health
    retained: bool
    ahead: bool

    @property
    def live(self) -> bool:
        """Whether a daemon has just published it."""
        return not self.retained and self.health.status != "offline"


class Peers:
    """Finds out whether another daemon serves this broker, at the start of a connection and as long as it stands."""

    def __init__(
        self,
        instance: str,
        *,
        uptime: Callable[[], float],
        proven: Callable[[], bool],
        markers: Markers,
        outgoing: Outgoing,
        alerts: Alerts,
        publish_health: Callable[[], None],
        health_payload: Callable[[], bytes],
        answer_seconds: float = _ANSWER_SECONDS,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        """Make what looks for the peers of one daemon.

        Args:
            instance: Names this daemon's data directory.
            uptime: How long this daemon has been running, in seconds.
            proven: Whether the broker lets only daemons publish health.
            markers: Show when every retained message has been received.
            outgoing: Publishes health checks.
            alerts: Raised while another daemon seems to serve this broker, too.
            publish_health: Makes this daemon known to another one.
            health_payload: Makes the message that claims the broker for this daemon.
            answer_seconds: The time within which another daemon has to answer a health check.
            pause_seconds: Between two looks at what others claim.
        """
        self._instance = instance
        self._uptime = uptime
        self._proven = proven
        self._markers = markers
        self._outgoing = outgoing
        self._alerts = alerts
        self._publish_health = publish_health
        self._answer_seconds = answer_seconds
        self._pause_seconds = pause_seconds
        self._health_payload = health_payload
        self._seen: asyncio.Queue[_Seen] = asyncio.Queue(_MAX_SEEN)
        # Whether this daemon has served before.
        self._served = False
        # Whether this daemon's own claim has come back.
        self._claimed = False
        # Whether this daemon publishes nothing, so that what its own instance publishes is a copy's.
        self._looks_for_copies = False
        # The instance that the alert is about.
        self._alerted: str | None = None
        self._log_limit = LogLimit()

    def receive(self, inbound: Inbound) -> None:
        """Note a health message of another daemon, or that this daemon's own has come back."""
        health = parse_health(inbound.payload)
        if health is None or not health.instance:
            return
        if health.instance == self._instance and not self._looks_for_copies:
            self._claimed = True
        elif not self._seen.full():
            self._seen.put_nowait(_Seen(health, inbound.retained, not self._claimed))

    @property
    def served(self) -> bool:
        """Whether this daemon has served before."""
        return self._served

    async def look_for_copies(self, connection: Connection) -> None:
        """Make sure that no daemon serves a copy of this data directory, while this daemon has no other connection.

        Args:
            connection: One with another client id, which calls ``receive`` with health and knows the markers.

        Raises:
            AnotherDaemon: One does, and this daemon has not served yet.
            BrokerUnavailable: The connection is gone.
        """
        self.forget()
        self._looks_for_copies = True
        try:
            await connection.subscribe([topics.HEALTH, f"{self._markers.prefix}#"])
            await self._markers.wait(connection)
            is_retained = any(map(self._is_copy, [seen.health for seen in self._take_seen()]))
            # This daemon's last will may have replaced the health of the copy.
            if not (is_retained or self._served):
                return
            for _ in range(_PROOFS_OF_LIFE):
                answer = await self._first_answer(connection)
                if answer is None or not self._is_copy(answer):
                    return
        finally:
            self._looks_for_copies = False
            self.forget()
        if not self._served:
            raise AnotherDaemon(self._instance)
        self._alerted = self._instance
        self._alerts.raise_(
            "another_daemon",
            "Another daemon serves a copy of this data directory, and each has the broker end the connection of the "
            "other one. Stop one of the two, and do not start it again: what was changed there is not here.",
        )

    def _is_copy(self, health: _Health) -> bool:
        return health.instance == self._instance and health.status != "offline"

    def answer_check(self) -> None:
        """Answer a health check of another daemon while this one starts."""
        self._outgoing.send(topics.HEALTH, self._health_payload())

    def forget(self) -> None:
        """Forget what was seen: a new connection begins."""
        self._take_seen()

    async def check_alone(self, connection: Connection) -> None:
        """Make sure that no other daemon serves this broker, before anything there is touched.

        A retained health message may be of a daemon that died together with the broker's memory of its last
        will, so it is asked whether it is alive.

        Raises:
            AnotherDaemon: It is, and this daemon has not served yet.
            BrokerUnavailable: The connection is gone.
        """
        await connection.subscribe([topics.HEALTH, topics.HEALTH_CHECK, f"{self._markers.prefix}#"])
        await self._markers.wait(connection)
        if any(seen.health.status != "offline" for seen in self._take_seen()):
            await self._give_way_to_answer(connection)
        if not self._served:
            await self._claim(connection)

    async def confirm_alone(self, connection: Connection) -> None:
        """Make sure of it once more, before this daemon serves: others had time to answer its health check.

        Raises:
            AnotherDaemon: Another daemon serves, and this daemon has not served yet.
            BrokerUnavailable: The connection is gone.
        """
        if not self._served and any(seen.live and seen.health.mqtt_connected for seen in self._take_seen()):
            await self._give_way_to_answer(connection)

    async def _claim(self, connection: Connection) -> None:
        """Publish health, and see whether another daemon that starts was faster.

        Raises:
            AnotherDaemon: It was.
            BrokerUnavailable: The connection is gone.
        """
        self._claimed = False
        await self._outgoing.publish_optional(connection, topics.HEALTH, self._health_payload(), retain=True)
        await self._outgoing.publish_optional(connection, topics.HEALTH_CHECK, b"{}")
        await self._markers.wait(connection)
        seen = self._take_seen()
        if any(item.live and item.ahead for item in seen):
            await self._give_way_to_answer(connection)
        for item in seen[: _MAX_SEEN - self._seen.qsize()]:
            self._seen.put_nowait(item)

    async def _give_way_to_answer(self, connection: Connection) -> None:
        """Give way if another daemon answers.

        Raises:
            AnotherDaemon: It does, and this daemon has not served yet.
            BrokerUnavailable: The connection is gone.
        """
        alive = await self._first_answer(connection)
        if alive is None:
            _log.warning("foreign_health_is_stale", remedy="none needed; the retained health message is replaced")
        elif not self._served:
            raise AnotherDaemon(alive.instance)
        elif not self._seen.full():
            # Has it come while this daemon was disconnected, or does it only say so? The watch decides.
            self._seen.put_nowait(_Seen(alive, retained=False, ahead=False))

    async def watch(self, connection: Connection) -> None:
        """Watch for other daemons for as long as the connection stands.

        One message is no proof of life: the other daemon has to answer twice.

        Raises:
            AnotherDaemon: An older one is alive, and this one may give way.
            BrokerUnavailable: The connection is gone.
        """
        self._served = True
        while True:
            claim = await self._next_claim()
            if claim is not None:
                self._publish_health()
            instance = self._alerted if claim is None else claim.instance
            answers = [await self._first_answer(connection) for _ in range(_PROOFS_OF_LIFE)]
            rivals = [answer for answer in answers if answer is not None and answer.instance == instance]
            if len(rivals) == _PROOFS_OF_LIFE:
                self._on_rival(rivals[-1])
            else:
                self._on_none()
            await asyncio.sleep(self._pause_seconds)

    def _on_rival(self, rival: _Health) -> None:
        """Give way, or go on with an alert.

        Raises:
            AnotherDaemon: This daemon gives way.
        """
        if self._proven() and self._is_older(rival):
            raise AnotherDaemon(rival.instance)
        self._alerted = rival.instance
        self._alerts.raise_(
            "another_daemon",
            "A client answers health checks as another config service of this home. If that is a second daemon, stop "
            "one of the two: each overwrites what the other one publishes. If not, find the client, and let only "
            f"config_service write to {topics.HEALTH}: `aliciacfg acl` prints the access list.",
        )

    def _on_none(self) -> None:
        if self._alerted is not None:
            self._alerted = None
            self._alerts.clear("another_daemon")
            self._publish_health()
        elif self._log_limit.allows():
            _log.warning("foreign_health_unproven", remedy="none needed; its sender does not answer")

    def _is_older(self, rival: _Health) -> bool:
        uptime = self._uptime()
        if abs(rival.uptime - uptime) < _SAME_AGE_SECONDS:
            return rival.instance > self._instance
        return rival.uptime > uptime

    async def _next_claim(self) -> _Health | None:
        """Wait for the health of another daemon; None when it is time to look again at the one of the alert."""
        try:
            async with asyncio.timeout(None if self._alerted is None else self._pause_seconds):
                return await self._next_live()
        except TimeoutError:
            return None

    async def _first_answer(self, connection: Connection) -> _Health | None:
        """Ask for health; return the first live answer of another daemon, or None if there is none in time."""
        self.forget()
        await self._outgoing.publish_optional(connection, topics.HEALTH_CHECK, b"{}")
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await self._next_live()
        except TimeoutError:
            return None

    async def _next_live(self) -> _Health:
        while True:
            seen = await self._seen.get()
            if seen.live:
                return seen.health

    def _take_seen(self) -> list[_Seen]:
        return [self._seen.get_nowait() for _ in range(self._seen.qsize())]


def parse_health(payload: bytes) -> _Health | None:
    """Return a health message out of its envelopes; None if it is none."""
    try:
        return msgspec.convert(envelope.open_payload(payload).content, _Health, strict=False)
    except (OperationError, msgspec.ValidationError):
        return None
