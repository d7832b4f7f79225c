"""The life of the daemon on the bus: connect, make sure to be alone, serve; and again when the connection is lost."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from aliciacfg.core.outbox import Outbox
from aliciacfg.errors import AnotherDaemon, BrokerUnavailable, OperationError, leaves
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.supervisor import Supervisor
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.access_probe import AccessProbe, FirstProbe
from aliciacfg.mqtt.address import BrokerAddress
from aliciacfg.mqtt.background import BackgroundTasks
from aliciacfg.mqtt.connection import Connection, connect
from aliciacfg.mqtt.devices import DeviceRegistry
from aliciacfg.mqtt.health import HealthPublisher
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound, Protocol
from aliciacfg.mqtt.outgoing import Outgoing
from aliciacfg.mqtt.peers import Peers
from aliciacfg.mqtt.registration import Registration
from aliciacfg.mqtt.requests import BusRequest, Requests
from aliciacfg.mqtt.retained import Retained
from aliciacfg.operations.service import ConfigService

_log = structlog.get_logger(__name__)

_FIRST_RETRY_SECONDS = 0.2
_MAX_RETRY_SECONDS = 30.0
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
        write_confirmations: Callable[[], Awaitable[None]],
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
            write_confirmations: Stores what the broker was seen to hold.
        """
        self._address = address
        self._client_id = f"config_service_{session_id}"
        self._health = health = service.health
        self._requests = requests
        self._outbox = outbox
        self._write_confirmations = write_confirmations
        self._supervisor = supervisor
        self._background = BackgroundTasks(supervisor.report)
        self._outgoing = outgoing = Outgoing(alerts)
        self._markers = markers = Markers(health.instance)
        self._retained = Retained(outbox, alerts, drift, markers=markers, on_confirmed=self._on_confirmed)
        self._probe = AccessProbe(service.authorizer, address=address, instance=health.instance, markers=markers)
        self._health_publisher = HealthPublisher(
            health, alerts=alerts, outgoing=outgoing, may_answer_on=requests.may_answer_on
        )
        self._peers = Peers(
            health.instance,
            uptime=lambda: health.now().uptime,
            markers=markers,
            outgoing=outgoing,
            publish_health=self._health_publisher.publish_soon,
        )
        self._devices = DeviceRegistry(send=outgoing.send, on_count=self._count_devices)
        self._registration = Registration(
            service.registrations, health=health, alerts=alerts, device_registry=self._devices
        )
        self._connection: Connection | None = None
        # The protocol that the broker is known to speak.
        self._protocol: Protocol | None = None
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
                started = asyncio.get_running_loop().time()
                reason = await self._connect_once()
                self._on_lost()
                if asyncio.get_running_loop().time() - started > _MAX_RETRY_SECONDS:
                    retry = _FIRST_RETRY_SECONDS
                pause = retry * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, no secret
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
            await self._background.wait_idle()
        self._background.close()
        try:
            await self._health_publisher.stop(connection)
        except BrokerUnavailable as error:
            _log.warning("offline_not_published", reason=str(error))

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
        async with connect(
            self._address, client_id=self._client_id, will=self._health_publisher.will, prefer=self._protocol
        ) as connection:
            self._protocol = connection.protocol if connection.certain else None
            self._connection = connection
            self._outgoing.attach(connection)
            self._peers.forget()
            self._retained.begin()
            connection.receive(self._on_message)
            async with asyncio.TaskGroup() as group:
                group.create_task(connection.wait_closed(), name="mqtt-closed")
                # Nothing of the bus is touched before it is known that no other daemon serves it.
                await self._peers.check_alone(connection)
                await connection.subscribe(
                    [f"{topics.CONFIG}#", topics.HEALTH_CHECK, topics.REGISTER, topics.UNREGISTER]
                )
                await self._probe.run(connection)
                announcement = self._registration.announcement()
                await self._outgoing.publish_optional(connection, topics.REGISTER, announcement)
                await self._retained.read_back(connection)
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
                await self._wait_until_drained()

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
        self._outgoing.detach()
        self._probe.reset()
        self._health.bus_connected = False
        self._devices.forget()

    def _on_message(self, inbound: Inbound) -> None:
        """Handle a message, without waiting."""
        try:
            self._dispatch(inbound)
        except Exception as error:  # noqa: BLE001 - a boundary: it would come again on the next connection
            self._supervisor.report("handling of a message", error)

    def _dispatch(self, inbound: Inbound) -> None:
        if inbound.topic == self._probe.topic:
            self._probe.receive()
            return
        reply = None if inbound.retained else self._requests.answer_at_once(inbound)
        if reply is not None:
            self._outgoing.answer(reply)
        elif inbound.topic.startswith(topics.CONFIG):
            self._dispatch_config(inbound)
        else:
            self._dispatch_other(inbound)

    def _dispatch_config(self, inbound: Inbound) -> None:
        """Handle what comes under ``alicia/config/``: our retained messages, reports, requests; others' messages."""
        topic = inbound.topic
        if topic.startswith(topics.UPDATE) or topic in {topics.ENVIRONMENT, topics.KEY}:
            self._retained.receive(topics.topic_subject(topic), inbound)
        elif topic.startswith(topics.APPLIED):
            self._background.start(self._registration.on_applied(inbound), name="mqtt-applied")
        else:
            self._on_request(inbound)

    def _dispatch_other(self, inbound: Inbound) -> None:
        topic = inbound.topic
        if topic.startswith(self._markers.prefix):
            self._markers.receive(topic)
        elif topic == topics.HEALTH:
            self._peers.receive(inbound)
        elif topic == topics.HEALTH_CHECK:
            self._health_publisher.answer_check(inbound)
        elif topic in {topics.REGISTER, topics.UNREGISTER}:
            self._background.start(self._registration.on_discovery(inbound), name="mqtt-discovery")
        elif topic in topics.DEVICE_REGISTRY:
            self._devices.receive(inbound)

    def _on_request(self, inbound: Inbound) -> None:
        request = self._requests.parse(inbound)
        if request is None:
            return
        if inbound.retained:
            # Retained by mistake: carrying it out at every connect would repeat it for ever.
            _log.warning("retained_request_ignored", topic=inbound.topic, remedy="publish requests without retain")
            return
        if self._background.full:
            reply = self._requests.refuse_busy(request)
            if reply is not None:
                self._outgoing.answer(reply)
            return
        self._background.start(self._answer(request, self._probe.first), name="mqtt-request")

    async def _answer(self, request: BusRequest, probe: FirstProbe) -> None:
        # What the broker held for us comes at once, before it is known whether the broker proves who asks. What
        # another connection proves later says nothing of this request.
        if not await probe.wait():
            return
        reply = await self._requests.answer(request)
        if reply is not None:
            self._outgoing.answer(reply)

    def _on_confirmed(self) -> None:
        self._drained.set()
        self._background.start(self._store_confirmations(), name="mqtt-confirm")

    async def _store_confirmations(self) -> None:
        try:
            await self._write_confirmations()
        except OperationError as error:
            # What was confirmed is only published once more at the next start.
            _log.warning("confirmations_not_written", reason=error.message)

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
