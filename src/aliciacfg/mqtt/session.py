"""The life of the daemon on the bus: connect, make sure to be alone, serve; and again when the connection is lost."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import msgspec
import structlog

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.core.order import Order
from aliciacfg.core.outbox import Outbox
from aliciacfg.errors import (
    AnotherDaemon,
    BrokerUnavailable,
    Busy,
    Unavailable,
)
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.supervisor import Supervisor
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.access_probe import AccessProbe
from aliciacfg.mqtt.connecting import Session, connect_client
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.devices import DeviceRegistry
from aliciacfg.mqtt.health import HealthPublisher
from aliciacfg.mqtt.intake import Intake
from aliciacfg.mqtt.link import Link
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.pace import Pace
from aliciacfg.mqtt.packet_limit import PacketLimit
from aliciacfg.mqtt.peers import Peers
from aliciacfg.mqtt.registration import Registration
from aliciacfg.mqtt.reports import Reports
from aliciacfg.mqtt.requests import Requests
from aliciacfg.mqtt.retained import Retained
from aliciacfg.operations.service import ConfigService
from aliciacfg.replicas.leadership import Leadership

_log = structlog.get_logger(__name__)

_DRAIN_SECONDS = 10.0
# How long the broker waits with the last will of a leader: a takeover within that time stays unnoticed.
_WILL_DELAY_SECONDS = 10
# A broker acknowledges within milliseconds; after this time an answer to a write says that the change waits for it.
_SILENT_SECONDS = 2.0
# So many connections in a row that served for so short a time are ended by another client with the daemon's client id.
_CUTS = 3
_SHORT_SECONDS = 5.0
# What ends a connection; any other error in one of its tasks is a fault of that task alone.
_ENDINGS = (AnotherDaemon, BrokerUnavailable)
_REQUESTS = f"{topics.CONFIG}#"
# What the daemon hears under ``alicia/config/`` where requests come to it on another connection. A stranger may have
# retained something at any depth.
_RETAINED = (f"{topics.UPDATE}#", topics.ENVIRONMENT, topics.KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderPart:
    """What differs where several daemons serve a home, and the one that leads has this connection beside its others.

    Its client id is fixed for the home. So a leader that takes over has the broker end the connection of the one
    before, and gets its session: what programs sent in between, such as registrations, is not lost.

    Attributes:
        leadership: Nothing is published once it has ended.
        takes_requests: Whether requests come on this connection, because the broker cannot share them among several.
        prepare: Awaited on each connection, once the broker has ended the one before and before anything that was
            received is compared: has memory catch up with everything that an earlier leader may have published.
    """

    leadership: Leadership
    takes_requests: Callable[[], bool]
    prepare: Callable[[], Awaitable[None]]


class MqttSession:
    """Serves the operations over MQTT.

    Attributes:
        ready: Set when the broker holds every retained message for the first time, or has not after 10 s.
    """

    def __init__(
        self,
        *,
        address: BrokerAddress,
        session_id: str,
        service: ConfigService,
        requests: Requests,
        outbox: Outbox,
        alerts: Alerts,
        drift: Drift,
        supervisor: Supervisor,
        order: Order,
        on_drained: Callable[[], None],
        max_packet_bytes: int,
        limit: PacketLimit,
        updates_per_second: float,
        leader_part: LeaderPart | None = None,
    ) -> None:
        """Make a session that has not begun.

        Args:
            address: The broker.
            session_id: Names the persistent session at the broker. Secret, unlike the instance that health shows.
            service: What is served.
            requests: Answers requests.
            outbox: The messages that the broker has to hold.
            alerts: Published; raised about what the broker denies and what others write.
            drift: Learns what others write on our topics.
            supervisor: Reports unexpected errors, and keeps the tasks of a connection running.
            order: Distinguishes our messages from those of others.
            on_drained: Called whenever the broker was seen to hold the whole outbox.
            max_packet_bytes: The largest MQTT packet that is received.
            limit: Learns the largest packet that may be sent.
            updates_per_second: How many retained messages are published a second, of many that are due at once.
            leader_part: For a daemon that is one of several of its home; then the session runs only while it leads.
        """
        self._client_id = f"config_service_{session_id}"
        self._leader_part = leader_part
        self._health = health = service.health
        self._outbox = outbox
        self._on_drained = on_drained
        self._supervisor = supervisor
        self._intake = intake = Intake(
            requests,
            alerts=alerts,
            supervisor=supervisor,
            max_packet_bytes=max_packet_bytes,
            # A daemon that is one of several publishes its alerts over its own connection, whether it leads or not.
            publishes_alerts=leader_part is None,
        )
        self._inbox = intake.inbox
        self._admission = intake.admission
        self._outgoing = outgoing = intake.outgoing
        self._markers = markers = Markers(health.instance)
        self._retained = Retained(
            outbox,
            alerts,
            drift,
            order=order,
            markers=markers,
            on_confirmed=self._on_confirmed,
            pace=Pace(updates_per_second),
            inherits=leader_part is not None,
            standing=() if leader_part is None else _RETAINED,
        )
        self._probe = AccessProbe(service.authorizer, address=address, instance=health.instance, markers=markers)
        self._health_publisher = HealthPublisher(
            health,
            alerts=alerts,
            outgoing=outgoing,
            may_answer_on=requests.may_answer_on,
            serves=None if leader_part is None else lambda: self._serving,
        )
        self._peers = Peers(
            health.instance,
            uptime=lambda: health.now().uptime,
            proven=lambda: service.authorizer.bus_proves is True,
            markers=markers,
            outgoing=outgoing,
            alerts=alerts,
            publish_health=self._health_publisher.publish_soon,
            health_payload=self._health_publisher.payload,
        )
        self._devices = DeviceRegistry(send=outgoing.send, on_count=self._count_devices)
        self._registration = Registration(
            service.registrations, health=health, alerts=alerts, device_registry=self._devices
        )
        self._reports = Reports(service.registrations)
        self._max_packet_bytes = max_packet_bytes
        self._address = address
        self._link = Link(
            address,
            make_session=self._session,
            serve=self._serve,
            on_lost=self._on_lost,
            supervisor=supervisor,
            limit=limit,
            before=self._look_for_copies if leader_part is None else None,
        )
        # When the present connection began to serve, and how many before it were ended soon after that in a row.
        self._began = float("-inf")
        self._cut_short = 0
        # Whether the present connection serves, and whether requests come on it.
        self._serving = False
        self._takes_requests = leader_part is None
        # Set while the broker holds every retained message of the present connection.
        self._drained = asyncio.Event()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled; it may be run again after that.

        Raises:
            AnotherDaemon: A daemon of another home is alive on this broker.
        """
        async with self._intake.background.running():
            await self._link.run()

    async def stop(self) -> None:
        """Answer the requests that were received, and publish that the daemon stops."""
        connection = self._link.connection
        if connection is not None:
            await self._admission.stop()
            await self._intake.background.wait_idle()
        self._intake.background.close()
        if connection is not None and connection.leaves_will:
            # The broker publishes it if no other daemon of the home takes over.
            connection = None
        try:
            await self._health_publisher.stop(connection)
        except BrokerUnavailable as error:
            _log.warning("offline_not_published", reason=str(error))

    @property
    def serving(self) -> bool:
        """Whether there is a connection on which the home is served."""
        return self._serving

    def abort(self) -> None:
        """Close the connection without a DISCONNECT, so that the broker publishes the last will (MQTT 5 §3.1.2.5)."""
        self._link.abort()

    def _session(self) -> Session:
        """Return what makes the next connection.

        Raises:
            BrokerUnavailable: This daemon does not lead any more, and would end the connection of the one that does.
        """
        if self._leader_part is None:
            return Session(self._client_id, self._health_publisher.will, self._max_packet_bytes)
        self._check_leading(self._leader_part)
        will = msgspec.structs.replace(self._health_publisher.will, delay_seconds=_WILL_DELAY_SECONDS)
        return Session(self._client_id, will, self._max_packet_bytes)

    async def _look_for_copies(self) -> None:
        """Look whether a copy of this home is served, before this daemon takes its place at the broker.

        Raises:
            AnotherDaemon: One is, and this daemon has not served yet.
            BrokerUnavailable: There is no connection.
        """
        if self._peers.served and self._cut_short < _CUTS:
            return
        self._cut_short = 0
        async with connect_client(self._address) as connection:
            connection.receive(self._on_look)
            await self._peers.look_for_copies(connection)

    def _on_look(self, inbound: Inbound) -> bool:
        if inbound.topic.startswith(self._markers.prefix):
            self._markers.receive(inbound.topic)
        elif inbound.topic == topics.HEALTH and not inbound.oversized:
            self._peers.receive(inbound)
        return True

    async def _serve(self, connection: Connection, group: asyncio.TaskGroup) -> None:
        """Begin to serve a connection.

        Raises:
            AnotherDaemon: A daemon of another home is alive on this broker.
            BrokerUnavailable: The connection is gone.
        """
        if self._leader_part is not None:
            await self._prepare(connection, self._leader_part)
        self._intake.attach(connection)
        self._peers.forget()
        self._retained.begin()
        connection.receive(self._on_message)
        # Nothing of the bus is touched before it is known that no other daemon serves it.
        await self._peers.check_alone(connection)
        self._takes_requests = await self._subscribe(connection)
        if self._takes_requests:
            await self._probe.run(connection)
        await self._retained.read_back(connection)
        await self._peers.confirm_alone(connection)
        self._admission.open()
        announcement = self._registration.announcement()
        await self._outgoing.publish_optional(connection, topics.REGISTER, announcement)
        self._on_connected(connection)
        for name, work in {
            "publication of updates": self._retained.publish_forever,
            "publication of health": self._health_publisher.publish_forever,
            "watch for other daemons": self._peers.watch,
            **({"check of the broker's access list": self._probe.run_forever} if self._takes_requests else {}),
            "device registry": self._devices.follow,
        }.items():
            supervised = self._supervisor.keep_running(name, partial(work, connection), fatal=_ENDINGS)
            group.create_task(supervised, name=name)
        group.create_task(self._wait_until_drained(), name="mqtt-drained")

    async def _prepare(self, connection: Connection, part: LeaderPart) -> None:
        """Take over from a leader before.

        Raises:
            BrokerUnavailable: This daemon does not lead any more, or cannot catch up.
        """
        connection.may_publish = lambda: part.leadership.leading
        try:
            await part.prepare()
        except (Busy, Unavailable) as error:
            raise BrokerUnavailable(f"the home cannot be taken over yet: {error.message}") from error
        self._check_leading(part)

    def _check_leading(self, part: LeaderPart) -> None:
        if not part.leadership.leading:
            raise BrokerUnavailable("another daemon may lead the home by now")

    async def _subscribe(self, connection: Connection) -> bool:
        """Subscribe to what programs send; return whether requests are among it.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        takes_requests = self._leader_part is None or self._leader_part.takes_requests()
        if takes_requests:
            # A retained request shows its flag even when it comes live.
            await connection.subscribe([_REQUESTS], retain_as_published=True)
        else:
            await connection.subscribe(_RETAINED, retain_as_published=True)
            # The session may be from a time when requests could not be shared.
            await connection.unsubscribe([_REQUESTS])
        await connection.subscribe([topics.REGISTER, topics.UNREGISTER])
        return takes_requests

    async def _wait_until_drained(self) -> None:
        """Wait until the broker holds every retained message, for a limited time."""
        if not self._outbox.pending:
            self._drained.set()
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._drained.wait()
        except TimeoutError:
            _log.warning("outbox_not_drained", pending=self._outbox.pending)
        self.ready.set()

    def _on_connected(self, connection: Connection) -> None:
        self._note_serving(True)
        self._began = time.monotonic()
        self._health.broker_hangs = lambda: connection.silent_seconds >= _SILENT_SECONDS
        connection.leaves_will = self._leader_part is not None and connection.protocol == "5"
        self._drained.clear()
        self._health_publisher.publish_soon()
        _log.info(
            "broker_connected",
            broker=f"{self._address.host}:{self._address.port}",
            protocol=f"MQTT {connection.protocol}",
        )
        self._outgoing.open()

    def _on_lost(self) -> bool:
        served = self._serving
        if served:
            self._cut_short = self._cut_short + 1 if time.monotonic() - self._began < _SHORT_SECONDS else 0
        self._intake.detach()
        if self._takes_requests:
            self._probe.reset()
        self._note_serving(False)
        self._health.broker_hangs = bool
        self._devices.forget()
        return served

    def _note_serving(self, serving: bool) -> None:
        self._serving = serving
        if self._leader_part is None:
            self._health.bus_connected = serving

    def _on_message(self, inbound: Inbound) -> bool:
        """Handle a message, without waiting; return whether the broker may forget it."""
        try:
            if inbound.topic == self._probe.topic:
                self._probe.receive()
                return True
            return self._inbox.answer_at_once(inbound) or self._dispatch(inbound)
        except Exception as error:  # noqa: BLE001 - a boundary: it would come again on the next connection
            self._supervisor.report("handling of a message", error)
            return True

    def _dispatch(self, inbound: Inbound) -> bool:
        if inbound.topic.startswith(topics.CONFIG):
            return self._dispatch_config(inbound)
        return self._dispatch_other(inbound)

    def _dispatch_config(self, inbound: Inbound) -> bool:
        """Handle what comes under ``alicia/config/``: our retained messages, reports, requests; others' messages."""
        topic = inbound.topic
        retained = topic.startswith(topics.UPDATE) or topic in {topics.ENVIRONMENT, topics.KEY}
        if not retained and not topic.startswith(topics.APPLIED):
            return self._inbox.receive_request(inbound)
        if inbound.retained and self._admission.opened:
            # It comes live: with Retain As Published the flag does not say that the broker had kept the message.
            inbound = msgspec.structs.replace(inbound, retained=False)
        if not retained:
            return self._inbox.submit(inbound, self._reports.receive, name="report of a service")
        self._retained.receive(topics.topic_subject(topic), inbound)
        return True

    def _dispatch_other(self, inbound: Inbound) -> bool:
        topic = inbound.topic
        if topic.startswith(self._markers.prefix):
            self._markers.receive(topic)
        elif topic == topics.HEALTH:
            self._health_publisher.receive(inbound)
            if not inbound.oversized:
                self._peers.receive(inbound)
        elif inbound.oversized:
            _log.warning("message_too_large", topic=topic, bytes=inbound.oversized)
        elif topic == topics.HEALTH_CHECK:
            self._health_publisher.answer_check(inbound)
            if not self._serving:
                self._peers.answer_check()
        elif topic in {topics.REGISTER, topics.UNREGISTER}:
            if inbound.retained:
                # The broker kept it from before: the service may have come or gone since, and it would count again at
                # every connect.
                return True
            return self._inbox.submit(inbound, self._registration.on_discovery, name="registration of a service")
        elif topic in topics.DEVICE_REGISTRY:
            self._devices.receive(inbound)
        return True

    def _on_confirmed(self) -> None:
        self._drained.set()
        self._on_drained()

    def _count_devices(self, count: int | None) -> None:
        self._health.devices = count
