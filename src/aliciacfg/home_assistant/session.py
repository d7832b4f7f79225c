"""The connection to the broker on which Home Assistant sees the home and changes it.

It is one of its own, with a last will of its own: a connection has only one, and a flood of commands holds up nothing
else. Its session ends with it, so that no command is carried out long after it was given; while the daemon is away, all
entities are unavailable.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import structlog

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.core.plan import Plan
from aliciacfg.core.state import State
from aliciacfg.errors import BrokerUnavailable, Busy, InvalidRequest, TooLarge
from aliciacfg.home_assistant import topics
from aliciacfg.home_assistant.commands import Commands
from aliciacfg.home_assistant.events import Events
from aliciacfg.home_assistant.home import Device, Home
from aliciacfg.home_assistant.proof import CommandProof
from aliciacfg.home_assistant.publisher import Publisher
from aliciacfg.home_assistant.topics import AVAILABILITY, OFFLINE, ONLINE, SET, Topics
from aliciacfg.model.config_id import ConfigId
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.instances import Instances
from aliciacfg.monitoring.supervisor import Supervisor
from aliciacfg.mqtt.access_probe import AccessProbe
from aliciacfg.mqtt.admission import Admission, Job
from aliciacfg.mqtt.background import BackgroundTasks
from aliciacfg.mqtt.broker.access_list import command_probe_topic
from aliciacfg.mqtt.connecting import Session
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.link import Link
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound, Will
from aliciacfg.mqtt.pace import Pace
from aliciacfg.mqtt.packet_limit import PacketLimit
from aliciacfg.operations.service import ConfigService

_log = structlog.get_logger(__name__)

_DEVICES_PER_SECOND = 50
# How long a command may wait at the broker, where it can let one expire.
_EXPIRY_SECONDS = 30
_LOOK_SECONDS = 1.0
_SOON_SECONDS = 0.05
# After Home Assistant started; it is busy then, and other programs answer its announcement, too.
_BIRTH_DELAY_SECONDS = (1.0, 4.0)
_BIRTH_INTERVAL_SECONDS = 30.0
_STOP_SECONDS = 3.0
_ENDINGS = (BrokerUnavailable,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How the daemon connects for Home Assistant.

    Attributes:
        address: The broker.
        client_id: Names the connection; the same for all daemons of a home, so that only that of the one that leads
            stands. Secret.
        instance: Names the home.
        max_packet_bytes: The largest packet that is received.
        limit: Learns the largest packet that may be sent.
        supervisor: Keeps the tasks of the connection running.
        alerts: Raised about what the broker denies and what others write.
        leads: Returns whether this daemon does what must happen once in the home.
        serves: Returns whether it is known that this broker is the home's, and the daemon serves it.
    """

    address: BrokerAddress
    client_id: str
    instance: str
    max_packet_bytes: int
    limit: PacketLimit
    supervisor: Supervisor
    alerts: Alerts
    leads: Callable[[], bool]
    serves: Callable[[], bool]

    def session(self, will: Will | None) -> Session:
        """Return what makes the next connection."""
        return Session(self.client_id, will, self.max_packet_bytes, persistent=False)

    def markers(self) -> Markers:
        """Return markers whose topics differ from those of the daemon's other connections."""
        return Markers(f"{self.instance}.home_assistant")

    async def begin(self, connection: Connection, markers: Markers) -> None:
        """Wait until something may be published on a new connection.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        connection.may_publish = self.leads
        await connection.subscribe([f"{markers.prefix}#"])
        # What is published before it is known that no other home has this broker would end up in that home.
        while not self.serves():  # noqa: ASYNC110 - the session of the home notifies of no change
            await asyncio.sleep(_SOON_SECONDS)
        await markers.wait(connection)


class HomeAssistantSession:
    """Shows the home to Home Assistant, and carries out its commands."""

    def __init__(
        self,
        wire: Wire,
        *,
        at: Topics,
        home: Home,
        service: ConfigService,
        state: State,
        instances: Instances,
        birth_delay_seconds: tuple[float, float] = _BIRTH_DELAY_SECONDS,
    ) -> None:
        """Make a session that has not begun; register ``on_commit`` with ``Commits``.

        Args:
            wire: How to connect.
            at: The topics.
            home: The devices.
            service: Carries commands out.
            state: The configurations.
            instances: Know which copies of services rejected a revision.
            birth_delay_seconds: Between which times everything is published again after Home Assistant started.
        """
        self._wire = wire
        self._at = at
        self._home = home
        self._state = state
        self._instances = instances
        self._birth_delay = birth_delay_seconds
        self._markers = markers = wire.markers()
        self._publisher = Publisher(at, wire.alerts, markers=markers, pace=Pace(_DEVICES_PER_SECOND))
        self._events = Events()
        self._proof = proof = CommandProof(service.authorizer, wire.alerts)
        self._probe = AccessProbe(
            proof,
            address=wire.address,
            instance=wire.instance,
            markers=markers,
            topic=command_probe_topic(wire.instance),
        )
        self._commands = Commands(
            service,
            home,
            self._events,
            proven=lambda: proof.proven,
            current=self._revision,
            refresh=self._refresh,
            show=self._show,
        )
        self._background = BackgroundTasks(wire.supervisor.report)
        # One at a time: each builds on what the one before has left.
        self._admission = Admission(
            self._background, acknowledge=self._acknowledge, congested=lambda _topic: False, max_writes=1
        )
        self._link = Link(
            wire.address,
            make_session=lambda: wire.session(Will(AVAILABILITY, OFFLINE)),
            serve=self._serve,
            on_lost=self._on_lost,
            supervisor=wire.supervisor,
            limit=wire.limit,
        )
        self._connection: Connection | None = None
        self._serving = False
        # Services whose device has to be made anew; None for all.
        self._dirty: set[str] | None = set()
        self._basis: tuple[object, ...] = ()
        self._environment = ""
        # The rejected revisions that were published, by service and copy.
        self._rejected: set[tuple[str, str, int]] = set()
        self._birth: asyncio.TimerHandle | None = None
        self._born = float("-inf")
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled; it may be run again after that."""
        async with self._background.running():
            await self._link.run()

    async def stop(self) -> None:
        """Finish the commands that were received, and say that nothing is available."""
        connection = self._connection
        if connection is None or not self._serving or not self._wire.leads():
            return
        with contextlib.suppress(TimeoutError, BrokerUnavailable):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._admission.stop()
                self._publisher.put(AVAILABILITY, OFFLINE)
                await connection.publish(AVAILABILITY, OFFLINE, retain=True)

    def on_commit(self, plan: Plan) -> None:
        """Note what a durable plan changes."""
        if not self._serving:
            return
        active = self._state.active
        for record in plan.records:
            if record.environment == active and not record.deleted and self._home.sees(record.service):
                self._events.revision(record, places=self._home.shows_settings)
        if self._dirty is not None:
            self._dirty.update(known.service for known in plan.entries if known.environment == active)
        self._wake.set()

    async def _serve(self, connection: Connection, group: asyncio.TaskGroup) -> None:
        """Begin to serve a connection.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        self._connection = connection
        connection.receive(self._on_message)
        connection.on_relief = self._admission.pump
        await self._wire.begin(connection, self._markers)
        expiry = _EXPIRY_SECONDS if connection.protocol == "5" else None
        self._home.message_options = replace(self._home.message_options, expiry_seconds=expiry)
        # A retained command shows its flag even when it comes live.
        await connection.subscribe([f"{SET}#"], retain_as_published=True)
        await connection.subscribe([self._at.status])
        await self._probe.run(connection)
        self._environment = self._home.environment
        self._rejected = self._rejections()
        self._serving, self._dirty = True, None
        await self._renew()
        self._publisher.put(AVAILABILITY, ONLINE)
        await self._publisher.read_back(connection)
        self._admission.open()
        _log.info("home_assistant_connected", devices=len(self._home.devices), protocol=f"MQTT {connection.protocol}")
        for name, work in {
            "messages for Home Assistant": self._publisher.publish_forever,
            "changes for Home Assistant": self._follow_forever,
            "check of Home Assistant's access": self._probe.run_forever,
        }.items():
            supervised = self._wire.supervisor.keep_running(name, partial(work, connection), fatal=_ENDINGS)
            group.create_task(supervised, name=name)

    def _on_lost(self) -> bool:
        # An error on the way there would come again at once.
        served, self._serving = self._admission.opened, False
        self._connection = None
        self._admission.close()
        self._events.clear()
        self._probe.reset()
        if self._birth is not None:
            self._birth.cancel()
            self._birth = None
        return served

    def _on_message(self, inbound: Inbound) -> bool:
        """Handle a message, without waiting; return whether the broker may forget it."""
        try:
            return self._dispatch(inbound)
        except Exception as error:  # noqa: BLE001 - a boundary: the connection goes on
            self._wire.supervisor.report("handling of a message of Home Assistant", error)
            return True

    def _dispatch(self, inbound: Inbound) -> bool:
        topic = inbound.topic
        if topic == self._probe.topic:
            self._probe.receive()
        elif topic.startswith(self._markers.prefix):
            self._markers.receive(topic)
        elif topic.startswith(SET):
            return self._receive_command(inbound)
        elif topic == self._at.status:
            self._on_status(inbound)
        elif self._at.owns(topic):
            self._publisher.receive(inbound)
        return True

    def _receive_command(self, inbound: Inbound) -> bool:
        """Admit or refuse a command; return whether the broker may forget it."""
        if inbound.retained:
            if self._admission.opened:
                error = InvalidRequest(
                    "The command was published with the retain flag, so it is not carried out: the broker would "
                    "deliver it again at every connect."
                )
                self._commands.refuse(inbound, error)
            return True
        if inbound.oversized:
            limit = self._wire.max_packet_bytes
            self._commands.refuse(
                inbound, TooLarge(f"The command is a packet of {inbound.oversized} bytes; at most {limit} are allowed.")
            )
            return True

        def refuse(error: Busy) -> None:
            self._commands.refuse(inbound, error)

        job = Job(inbound, "", lambda: self._commands.carry_out(inbound), refuse, writes=True, name="command")
        return self._admission.submit(job)

    def _acknowledge(self, inbound: Inbound) -> None:
        if self._connection is not None:
            self._connection.acknowledge(inbound)

    def _on_status(self, inbound: Inbound) -> None:
        """Publish everything again some time after Home Assistant started; not more often than twice a minute."""
        if inbound.retained or inbound.payload.strip().lower() != ONLINE or self._birth is not None:
            return
        loop = asyncio.get_running_loop()
        delay = random.uniform(*self._birth_delay)  # noqa: S311 - jitter, no secret
        at = max(loop.time(), self._born + _BIRTH_INTERVAL_SECONDS) + delay
        self._birth = loop.call_at(at, self._repeat)

    def _repeat(self) -> None:
        self._birth = None
        self._born = asyncio.get_running_loop().time()
        self._publisher.repeat_all()

    async def _follow_forever(self, connection: Connection) -> None:
        """Publish what changes.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        while True:
            self._wake.clear()
            await self._renew()
            self._publish_rejections()
            published_all = self._events.publish(connection)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS if published_all else _SOON_SECONDS):
                    await self._wake.wait()

    async def _renew(self) -> None:
        """Put what has changed before the publisher."""
        dirty, self._dirty = self._dirty, set()
        try:
            await self._renew_devices(dirty)
        except BaseException:
            self._dirty = None
            raise
        if self._environment != self._home.environment:
            self._environment = self._home.environment
            self._home.staged = None
            self._events.activated(self._environment)
        self._put_home()

    async def _renew_devices(self, dirty: set[str] | None) -> None:
        """Put the devices that have changed before the publisher; ``dirty`` names services that may have, None all."""
        basis = self._home.basis
        if dirty is None or basis != self._basis or self._home.has_room:
            self._basis = basis
            for identifier in await self._home.renew():
                self._put(identifier)
            return
        for service in sorted(dirty):
            self._refresh(service)
        for service in self._home.look_for_troubles():
            self._put(topics.identifier_of(service))
        if self._home.has_room:
            self._wake.set()

    def _refresh(self, service: str) -> None:
        """Make the device of a service anew; have the broker retain it if it differs."""
        if self._home.refresh(service):
            self._put(topics.identifier_of(service))

    def _put(self, identifier: str) -> None:
        """Have the broker retain what a device is now."""
        device = self._home.devices.get(identifier) or Device("", {})
        # Home Assistant logs an error for a state that the entities of the message before cannot show.
        self._publisher.put(self._at.device(identifier), device.message)
        self._publisher.put(topics.state(identifier), device.state)

    def _put_home(self) -> None:
        self._publisher.put(self._at.device(topics.HOME), self._home.home_message())
        self._publisher.put(topics.state(topics.HOME), self._home.home_state())

    def _show(self, identifier: str) -> None:
        """Publish the state of a device as it is now, also if it has not changed."""
        device = self._home.devices.get(identifier)
        if device is not None:
            self._home.refresh(device.service)
            self._put(identifier)
        elif identifier == topics.HOME:
            self._put_home()
        self._publisher.look_at(topics.state(identifier), again=True)
        # Events are published there.
        self._wake.set()

    def _revision(self, service: str) -> int | None:
        record = self._state.committed(ConfigId(self._state.active, service)).live
        return None if record is None else record.revision

    def _rejections(self) -> set[tuple[str, str, int]]:
        return {(item.service, item.instance, item.revision) for item in self._instances.unsettled("rejected")}

    def _publish_rejections(self) -> None:
        for item in self._instances.unsettled("rejected"):
            is_known = (item.service, item.instance, item.revision) in self._rejected
            if not is_known and self._home.sees(item.service):
                self._events.rejected(item)
        self._rejected = self._rejections()
