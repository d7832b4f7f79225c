"""The life of the daemon on the bus: connect, make sure to be alone, serve; and again when the connection is lost."""

import asyncio
import random
from collections.abc import Callable
from functools import partial

import msgspec
import structlog

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.core.order import Order
from aliciacfg.core.outbox import Outbox
from aliciacfg.errors import (
    AnotherDaemon,
    BrokerUnavailable,
    leaves,
)
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.supervisor import Supervisor
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.access_probe import AccessProbe
from aliciacfg.mqtt.admission import Admission
from aliciacfg.mqtt.background import BackgroundTasks
from aliciacfg.mqtt.connecting import Session, answers_five, connect
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.devices import DeviceRegistry
from aliciacfg.mqtt.health import HealthPublisher
from aliciacfg.mqtt.inbox import Inbox
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.outgoing import Outgoing
from aliciacfg.mqtt.pace import Pace
from aliciacfg.mqtt.packet_limit import PacketLimit
from aliciacfg.mqtt.peers import Peers
from aliciacfg.mqtt.registration import Registration
from aliciacfg.mqtt.requests import Requests
from aliciacfg.mqtt.retained import Retained
from aliciacfg.operations.service import ConfigService

_log = structlog.get_logger(__name__)

# With the time that a hanging attempt to connect takes, the daemon is back five seconds after the broker at the latest.
_FIRST_RETRY_SECONDS = 0.3
_MAX_RETRY_SECONDS = 1.5
_FIRST_QUESTION_SECONDS = 5.0
_MAX_QUESTION_SECONDS = 60.0
_CANCELLATIONS = 20
_CANCELLATION_SECONDS = 0.25
_DRAIN_SECONDS = 10.0
# What ends a connection; any other error in one of its tasks is a fault of that task alone.
_ENDINGS = (AnotherDaemon, BrokerUnavailable)


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
        updates_per_second: float,
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
            supervisor: Is told of unexpected errors, and keeps the tasks of a connection running.
            order: Tells our messages from those of others.
            on_drained: Called whenever the broker was seen to hold the whole outbox.
            max_packet_bytes: The largest MQTT packet that is sent or received.
            updates_per_second: How many retained messages are published a second, of many that are due at once.
        """
        self._address = address
        self._client_id = f"config_service_{session_id}"
        self._health = health = service.health
        self._outbox = outbox
        self._on_drained = on_drained
        self._supervisor = supervisor
        self._background = BackgroundTasks(supervisor.report)
        self._outgoing = outgoing = Outgoing(alerts)
        self._admission = Admission(self._background, acknowledge=self._acknowledge, congested=outgoing.congested_for)
        self._requests = requests
        self._inbox = Inbox(requests, self._admission, outgoing, max_packet_bytes=max_packet_bytes)
        self._markers = markers = Markers(health.instance)
        self._retained = Retained(
            outbox,
            alerts,
            drift,
            order=order,
            markers=markers,
            on_confirmed=self._on_confirmed,
            pace=Pace(updates_per_second),
        )
        self._probe = AccessProbe(service.authorizer, address=address, instance=health.instance, markers=markers)
        self._health_publisher = HealthPublisher(
            health, alerts=alerts, outgoing=outgoing, may_answer_on=requests.may_answer_on
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
        self._connection: Connection | None = None
        # Whether the broker spoke MQTT 5 at the previous connection.
        self._speaks_five = False
        self._limit = PacketLimit(max_packet_bytes)
        self._max_packet_bytes = max_packet_bytes
        # Set while the broker holds every retained message of the present connection.
        self._drained = asyncio.Event()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            AnotherDaemon: A daemon with another data directory is alive on this broker.
        """
        retry = _FIRST_RETRY_SECONDS
        async with self._background.running():
            while True:
                reason = await self._connect_once()
                if self._connection is None:
                    # Elsewhere it may have come back with other settings.
                    self._limit.forget()
                elif self._health.bus_connected:
                    retry = _FIRST_RETRY_SECONDS
                self._on_lost()
                pause = retry * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
                _log.warning(
                    "broker_lost",
                    broker=f"{self._address.host}:{self._address.port}",
                    reason=reason,
                    retry_seconds=round(pause, 2),
                )
                await asyncio.sleep(pause)
                retry = min(retry * 2, _MAX_RETRY_SECONDS)

    async def stop(self) -> None:
        """Answer the requests that were received, and publish that the daemon stops."""
        connection = self._connection
        if connection is not None:
            await self._admission.stop()
            await self._background.wait_idle()
        self._background.close()
        try:
            await self._health_publisher.stop(connection)
        except BrokerUnavailable as error:
            _log.warning("offline_not_published", reason=str(error))

    def abort(self) -> None:
        """Close the connection without a DISCONNECT, so that the broker publishes the last will (MQTT 5 §3.1.2.5)."""
        if self._connection is not None:
            self._connection.abort()

    async def _connect_once(self) -> str:
        """Serve one connection; return why it ended.

        In a task of its own: before Python 3.13 a TaskGroup that fails drops a cancellation that comes at the same
        moment, and the daemon would go on connecting after SIGTERM. Here the waiting is cancelled.
        """
        task = asyncio.create_task(self._serve_once(), name="mqtt-connection")
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            # Once may not be enough: asyncio.wait_for of Python 3.11, by which aiomqtt waits, drops a cancellation
            # when what it waits for comes at the same moment.
            for _ in range(_CANCELLATIONS):
                task.cancel()
                if (await asyncio.wait({task}, timeout=_CANCELLATION_SECONDS))[0]:
                    # How the connection ended does not matter any more.
                    await asyncio.gather(task, return_exceptions=True)
                    break
            raise
        try:
            task.result()
        except Exception as error:  # noqa: BLE001 - the boundary of a connection: the next one may do better
            return _expected_reason(error) or self._unexpected(error)
        return "the connection ended"

    async def _serve_once(self) -> None:
        """Serve one connection, from connecting to its end."""
        speaks_five, self._speaks_five = self._speaks_five, False
        session = Session(self._client_id, self._health_publisher.will, self._max_packet_bytes)
        async with connect(self._address, session, limit=self._limit, speaks_five=speaks_five) as connection:
            self._speaks_five = connection.protocol == "5"
            self._connection = connection
            connection.on_relief = self._admission.pump
            self._outgoing.attach(connection)
            self._peers.forget()
            self._retained.begin()
            connection.receive(self._on_message)
            lane = connection.open_lane(
                self._requests, is_free=self._admission.reads_are_free, on_too_large=self._outgoing.on_too_large
            )
            self._inbox.learn = lane.learn
            async with asyncio.TaskGroup() as group:
                group.create_task(connection.wait_closed(), name="mqtt-closed")
                # Nothing of the bus is touched before it is known that no other daemon serves it.
                await self._peers.check_alone(connection)
                # A retained request shows its flag even when it comes live.
                await connection.subscribe([f"{topics.CONFIG}#"], retain_as_published=True)
                await connection.subscribe([topics.REGISTER, topics.UNREGISTER])
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
                    "check of the broker's access list": self._probe.run_forever,
                    "device registry": self._devices.follow,
                }.items():
                    supervised = self._supervisor.keep_running(name, partial(work, connection), fatal=_ENDINGS)
                    group.create_task(supervised, name=name)
                if not connection.certain:
                    group.create_task(self._ask_for_five(), name="mqtt-version")
                await self._wait_until_drained()

    async def _ask_for_five(self) -> None:
        """Ask the broker for MQTT 5 from time to time, after it was silent when it was asked at the connect.

        Raises:
            BrokerUnavailable: It answers; the next connection speaks MQTT 5.
        """
        pause = _FIRST_QUESTION_SECONDS
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            if await answers_five(self._address):
                raise BrokerUnavailable("the broker answers MQTT 5 now; connecting with it")
            pause = min(pause * 2, _MAX_QUESTION_SECONDS)

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
        self._health.bus_connected = True
        self._drained.clear()
        self._health_publisher.publish_soon()
        _log.info(
            "broker_connected",
            broker=f"{self._address.host}:{self._address.port}",
            protocol=f"MQTT {connection.protocol}",
        )
        self._outgoing.open()

    def _on_lost(self) -> None:
        self._connection = None
        self._admission.close()
        self._outgoing.detach()
        self._probe.reset()
        self._health.bus_connected = False
        self._devices.forget()

    def _acknowledge(self, inbound: Inbound) -> None:
        if self._connection is not None:
            self._connection.acknowledge(inbound)

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
            return self._inbox.submit(inbound, self._registration.on_applied, name="report of a service")
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
            if not self._health.bus_connected:
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

    def _unexpected(self, error: Exception) -> str:
        self._supervisor.report("MQTT connection", error, consequence="it is made again")
        return "an unexpected error, which was logged"

    def _count_devices(self, count: int | None) -> None:
        self._health.devices = count


def _expected_reason(error: Exception) -> str | None:
    """Return why the broker is gone; None if something else happened.

    Raises:
        AnotherDaemon: It is among the errors.
    """
    found = list(leaves(error))
    for foreign in found:
        if isinstance(foreign, AnotherDaemon):
            raise AnotherDaemon(foreign.instance) from error
    reasons = dict.fromkeys(str(item) for item in found if isinstance(item, BrokerUnavailable))
    return "; ".join(reasons) if all(isinstance(item, BrokerUnavailable) for item in found) else None
