"""The life of the daemon on the bus: connect, look, settle, serve; and again, for as long as it takes."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from aliciacfg.core.outbox import Outbox
from aliciacfg.errors import AnotherDaemon, BrokerUnavailable, OperationError, leaves
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.access_probe import AccessProbe, FirstProbe
from aliciacfg.mqtt.address import BrokerAddress
from aliciacfg.mqtt.connection import (
    Connection,
    connect,
)
from aliciacfg.mqtt.devices import DeviceRegistry
from aliciacfg.mqtt.health import HealthPublisher
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound, Protocol
from aliciacfg.mqtt.outgoing import Outgoing
from aliciacfg.mqtt.peers import Peers
from aliciacfg.mqtt.registration import Registration
from aliciacfg.mqtt.requests import Requests
from aliciacfg.mqtt.retained import Retained
from aliciacfg.operations.service import ConfigService

_log = structlog.get_logger(__name__)

_FIRST_RETRY_SECONDS = 0.2
_MAX_RETRY_SECONDS = 30.0
_CANCELLATIONS = 20
_CANCELLATION_SECONDS = 0.25
_DRAIN_SECONDS = 10.0
_MAX_TASKS = 2048


class MqttSession:
    """Serves the operations over MQTT.

    Attributes:
        ready: Set once the broker holds everything it has to for the first time.
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
        write_confirmations: Callable[[], Awaitable[None]],
    ) -> None:
        self._address = address
        # Not the instance, which health tells everybody.
        self._client_id = f"config_service_{session_id}"
        self._service = service
        self._requests = requests
        self._outbox = outbox
        self._alerts = alerts
        self._write_confirmations = write_confirmations
        self._connection: Connection | None = None
        self._protocol: Protocol | None = None
        self._outgoing = Outgoing(alerts)
        self._health = HealthPublisher(
            service, alerts=alerts, outgoing=self._outgoing, may_answer_on=requests.may_answer_on
        )
        self._markers = Markers(service.health.instance)
        self._probe = AccessProbe(
            service.authorizer, address=address, instance=service.health.instance, markers=self._markers
        )
        self._devices = DeviceRegistry(send=self._outgoing.send, on_count=self._count_devices)
        self._registration = Registration(service, alerts=alerts, device_registry=self._devices)
        self._peers = Peers(
            service.health.instance,
            uptime=lambda: service.health.now().uptime,
            markers=self._markers,
            outgoing=self._outgoing,
            publish_health=self._health.publish_soon,
        )
        self._retained = Retained(outbox, alerts, drift, markers=self._markers, on_confirmed=self._confirmed)
        self._group: asyncio.TaskGroup | None = None
        self._tasks = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._drained = asyncio.Event()
        self._stopping = False
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            AnotherDaemon: A daemon with another data directory is alive on this broker.
        """
        retry = _FIRST_RETRY_SECONDS
        async with asyncio.TaskGroup() as group:
            self._group = group
            while True:
                started = asyncio.get_running_loop().time()
                reason = await self._connect_once()
                self._lost()
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
            await self._idle.wait()
        self._stopping = True
        try:
            await self._health.stop(connection)
        except BrokerUnavailable as error:
            _log.warning("offline_not_published", reason=str(error))

    async def _connect_once(self) -> str:
        """Serve one connection; returns why it ended.

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
        except BrokerUnavailable as error:
            return str(error)
        except BaseExceptionGroup as errors:
            return _reason(errors)
        return "the connection ended"

    async def _serve_once(self) -> None:
        """One connection, from connecting to its end."""
        async with connect(
            self._address,
            client_id=self._client_id,
            will=self._health.will,
            prefer=self._protocol,
        ) as connection:
            self._protocol = connection.protocol if connection.certain else None
            self._connection = connection
            self._outgoing.attach(connection)
            self._peers.forget()
            self._retained.connecting()
            connection.receive(self._on_message)
            async with asyncio.TaskGroup() as group:
                group.create_task(connection.wait_closed(), name="mqtt-closed")
                # Nothing of the bus is touched before it is known that no other daemon serves it.
                await self._peers.check_alone(connection)
                await connection.subscribe(
                    [f"{topics.CONFIG}#", topics.HEALTH_CHECK, topics.REGISTER, topics.UNREGISTER]
                )
                await self._probe.run(connection)
                await self._outgoing.publish_optional(connection, topics.REGISTER, self._registration.announcement())
                await self._retained.read_back(connection)
                self._connected(connection)
                group.create_task(self._retained.publish_forever(connection), name="mqtt-publish")
                group.create_task(self._health.publish_forever(connection), name="mqtt-health")
                group.create_task(self._peers.watch(connection), name="mqtt-peers")
                group.create_task(self._probe.run_forever(connection), name="mqtt-probe")
                group.create_task(self._devices.follow(connection), name="mqtt-devices")
                await self._wait_until_drained()

    async def _wait_until_drained(self) -> None:
        """Wait until the broker holds everything, or long enough."""
        if not self._outbox.pending:
            self._drained.set()
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._drained.wait()
        except TimeoutError:
            _log.warning("outbox_not_drained", pending=self._outbox.pending)
        self.ready.set()

    def _connected(self, connection: Connection) -> None:
        self._service.health.bus_connected = True
        self._drained.clear()
        self._health.publish_soon()
        _log.info(
            "broker_connected",
            broker=f"{self._address.host}:{self._address.port}",
            protocol=f"MQTT {connection.protocol}",
        )
        self._outgoing.open()

    def _lost(self) -> None:
        self._connection = None
        self._outgoing.detach()
        self._probe.reset()
        self._service.health.bus_connected = False
        self._devices.forget()

    # Receiving

    def _on_message(self, inbound: Inbound) -> None:
        """Called for every message; does not wait."""
        try:
            self._receive(inbound)
        except Exception:  # noqa: BLE001 - a boundary: a message that ends the connection would come again on the next
            _log.exception("message_failed", topic=inbound.topic)

    def _receive(self, inbound: Inbound) -> None:
        if inbound.topic == self._probe.topic:
            self._probe.receive()
            return
        reply = None if inbound.retained else self._requests.answer_at_once(inbound)
        if reply is not None:
            self._outgoing.answer(reply)
        elif inbound.topic.startswith(topics.CONFIG):
            self._on_config(inbound)
        else:
            self._on_bus(inbound)

    def _on_config(self, inbound: Inbound) -> None:
        """What is said under ``alicia/config/``: our own retained messages, reports, requests, and other programs'."""
        topic = inbound.topic
        if topic.startswith(topics.UPDATE) or topic in {topics.ENVIRONMENT, topics.KEY}:
            self._retained.receive(topics.topic_subject(topic), inbound)
        elif topic.startswith(topics.APPLIED):
            self._start(self._registration.on_applied(inbound), name="mqtt-applied")
        else:
            self._on_request(inbound)

    def _on_bus(self, inbound: Inbound) -> None:
        topic = inbound.topic
        if topic.startswith(self._markers.prefix):
            self._markers.receive(topic)
        elif topic == topics.HEALTH:
            self._peers.receive(inbound)
        elif topic == topics.HEALTH_CHECK:
            self._health.answer_check(inbound)
        elif topic in {topics.REGISTER, topics.UNREGISTER}:
            self._start(self._registration.on_discovery(inbound), name="mqtt-discovery")
        elif topic in topics.DEVICE_REGISTRY:
            self._devices.receive(inbound)

    def _on_request(self, inbound: Inbound) -> None:
        if not self._requests.is_request(inbound):
            return
        if inbound.retained:
            # Somebody kept a request by mistake: carrying it out at every connect would repeat it for ever.
            _log.warning("retained_request_ignored", topic=inbound.topic, remedy="publish requests without retain")
            return
        if self._tasks >= _MAX_TASKS:
            reply = self._requests.refuse_busy(inbound)
            if reply is not None:
                self._outgoing.answer(reply)
            return
        self._start(self._answer(inbound, self._probe.first), name="mqtt-request")

    async def _answer(self, inbound: Inbound, probe: FirstProbe) -> None:
        # What the broker held for us comes at once, before it is known whether the broker proves who asks. What
        # another connection proves later says nothing of this request.
        if not await probe.wait():
            return
        reply = await self._requests.answer(inbound)
        if reply is not None:
            self._outgoing.answer(reply)

    def _start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run something that outlives this connection: a write goes on when the broker goes away."""
        if self._group is None or self._stopping:
            work.close()
            return

        async def counted() -> None:
            try:
                await work
            finally:
                self._tasks -= 1
                if not self._tasks:
                    self._idle.set()

        self._tasks += 1
        self._idle.clear()
        self._group.create_task(counted(), name=name)

    def _confirmed(self) -> None:
        self._drained.set()
        self._start(self._persist_confirmations(), name="mqtt-confirm")

    async def _persist_confirmations(self) -> None:
        try:
            await self._write_confirmations()
        except OperationError as error:
            # What was confirmed is only published once more at the next start.
            _log.warning("confirmations_not_written", reason=error.message)

    def _count_devices(self, count: int | None) -> None:
        self._service.health.devices = count


def _reason(errors: BaseExceptionGroup[BaseException]) -> str:
    """Why the broker is gone, if that is all that happened; raises what else happened.

    Raises:
        AnotherDaemon: It is among the errors.
    """
    foreign = next((error for error in leaves(errors) if isinstance(error, AnotherDaemon)), None)
    if foreign is not None:
        raise AnotherDaemon(foreign.instance) from errors
    _, rest = errors.split(BrokerUnavailable)
    if rest is not None:
        raise rest
    return "; ".join(dict.fromkeys(str(error) for error in leaves(errors)))
