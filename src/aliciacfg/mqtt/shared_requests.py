"""The share that one of several daemons of a home takes of the requests: a shared subscription on a clean session.

The session ends with its connection, and each connection has a client id of its own. A persistent session of a daemon
that is gone would stay a member of the group, and the broker would go on to keep its part of the requests for it.

A broker may refuse a shared subscription, close the connection over it, or take ``$share/…`` for the name of a topic.
So a marker below one is published and has to come back, at each connection; where it does not, no request is taken
here.

A daemon that was stopped, with SIGSTOP for example, finds old requests in its socket when it goes on. Their senders
have repeated them to others by then, and may have sent newer ones, so it drops them with the connection.

A daemon joins the group while it is ready and the broker is known to be its home's: the health there names it, or a
daemon of the home that takes requests answers. One that is not ready, because it cannot reach the database, takes part
while no other daemon of the home is ready (``mqtt/ready_members``): it answers from memory what it may. It leaves in
order: UNSUBSCRIBE, a marker behind everything that the broker has queued for it, the answers to all of that and their
acknowledgements. So nothing is lost.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import structlog

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.supervisor import Supervisor
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.access_probe import AccessProbe
from aliciacfg.mqtt.broker_client import SubscriptionRefused
from aliciacfg.mqtt.connecting import Session
from aliciacfg.mqtt.connection import Connection, Denied
from aliciacfg.mqtt.intake import Intake
from aliciacfg.mqtt.link import Link
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.packet_limit import PacketLimit
from aliciacfg.mqtt.peers import parse_health
from aliciacfg.mqtt.ready_members import ReadyMembers
from aliciacfg.mqtt.reports import Reports
from aliciacfg.mqtt.requests import Requests
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.table import OPERATIONS
from aliciacfg.replicas.pauses import Pauses
from aliciacfg.replicas.readiness import Readiness
from aliciacfg.replicas.turns import Turns

_log = structlog.get_logger(__name__)

_GROUP = "$share/aliciacfg/"
# Each by itself, not the whole tree: what the leader publishes there would be given to the members in turn, too, and of
# two of them one would get every request and the other one every update.
_REQUESTS = [
    *(f"{_GROUP}{topics.CONFIG}{operation.name}/#" for operation in OPERATIONS if operation.name != "health"),
    f"{_GROUP}{topics.APPLIED}+",
]
_ALERT = "requests_not_shared"
# The broker goes on to send requests to a daemon that hangs until it misses its Keep Alive by half. A broker may take
# longer than that to answer.
_KEEPALIVE_SECONDS = 2
_SILENCE_SECONDS = 6.0
# A daemon that stood still for longer carries out nothing that the broker sent it: that is repeated to another one.
_STILL_SECONDS = 3.0
_TICK_SECONDS = 0.5
_PROOF_SECONDS = 5.0
_LEAVE_SECONDS = 5.0
# Between two questions of a daemon that is not ready, whether another one is; or that does not know the broker.
_ASK_SECONDS = 1.0
# Until it is tried again whether the broker shares subscriptions.
_AGAIN_SECONDS = 60.0
# So many connections that ended during the proof are as good as a refusal.
_MAX_CUT_PROOFS = 2
_STOOD_STILL = "the daemon stood still, so that what the broker had sent it is too old"
# What ends a connection; any other error in one of its tasks is a fault of that task alone.
_ENDINGS = (BrokerUnavailable,)


class SharedRequests:
    """Takes a share of the home's requests.

    Attributes:
        sharing: Whether the broker shares subscriptions; None until the first connection has shown it.
        joined: Whether this daemon gets its share now.
        ready: Set when the daemon has joined for the first time, or it is known that it cannot.
    """

    def __init__(
        self,
        *,
        address: BrokerAddress,
        service: ConfigService,
        requests: Requests,
        alerts: Alerts,
        supervisor: Supervisor,
        readiness: Readiness,
        serves_home: Callable[[], bool],
        home_key: bytes,
        max_packet_bytes: int,
        limit: PacketLimit,
        proof_seconds: float = _PROOF_SECONDS,
    ) -> None:
        """Take nothing yet.

        Args:
            address: The broker.
            service: What is served; its health names the home.
            requests: Answers requests.
            alerts: Published; raised while the broker does not share subscriptions.
            supervisor: Reports unexpected errors, and keeps the tasks of a connection running.
            readiness: Whether this daemon can confirm its answers.
            serves_home: Returns whether this daemon leads and serves the broker, which it found to be its home's.
            home_key: Distinguishes messages of the home's daemons from those of others; secret.
            max_packet_bytes: The largest MQTT packet that is received.
            limit: Learns the largest packet that may be sent, together with the connection of the home: on MQTT 3.1.1
                it costs connections to find out.
            proof_seconds: How long the broker may take to deliver the marker that proves a shared subscription.
        """
        self._address = address
        self._health = health = service.health
        self._alerts = alerts
        self._supervisor = supervisor
        self._readiness = readiness
        self._serves_home = serves_home
        self._max_packet_bytes = max_packet_bytes
        self._proof_seconds = proof_seconds
        self._pauses = Pauses(_STILL_SECONDS)
        self._intake = Intake(
            requests,
            alerts=alerts,
            supervisor=supervisor,
            max_packet_bytes=max_packet_bytes,
            may_read=lambda: not self._pauses.stood_still,
        )
        self._inbox = self._intake.inbox
        self._reports = Reports(service.registrations)
        self._markers = markers = Markers(health.instance)
        self._probe = AccessProbe(service.authorizer, address=address, instance=health.instance, markers=markers)
        following = service.following
        self._others = ReadyMembers(
            markers.prefix,
            home_key,
            is_ready=lambda: self.joined and readiness.ready and not self._stopping,
            read=_read_nothing if following is None else following.catch_up,
            background=self._intake.background,
            turns=readiness.turns,
        )
        self._link = Link(
            address,
            make_session=self._session,
            serve=self._serve,
            on_lost=self._on_lost,
            supervisor=supervisor,
            limit=limit,
        )
        self._turns = Turns()
        # Whether the last health that came named this home, on this connection and on an earlier one.
        self._is_ours = self._was_ours = False
        # Whether any health came on this connection.
        self._heard_health = False
        self._stopping = False
        # The topic and payload of the marker that proves a shared subscription, and what waits for it.
        self._proof: tuple[str, bytes, asyncio.Future[None]] | None = None
        self._cut_proofs = 0
        self.sharing: bool | None = None
        self.joined = False
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self._intake.background.running():
            await self._link.run()

    async def stop(self) -> None:
        """Leave in order: answer every request that the broker sent to this daemon."""
        self._stopping = True
        self._readiness.turns.notify()
        self._turns.notify()
        await self._turns.until(lambda: not self.joined)
        self._intake.background.close()

    def abort(self) -> None:
        """Close the connection without a DISCONNECT."""
        self._link.abort()

    async def known(self) -> bool:
        """Wait until it is known whether the broker shares subscriptions, and return that."""
        await self._turns.until(lambda: self.sharing is not None)
        return bool(self.sharing)

    async def changed(self, sharing: bool) -> None:
        """Wait until it is known that ``self.sharing`` differs from what is given."""
        await self._turns.until(lambda: self.sharing is not None and self.sharing is not sharing)

    def _session(self) -> Session:
        # Another id each time, so that no connection ends another one; and one that cannot be guessed.
        name = f"config_service_{secrets.token_hex(12)}"
        return Session(
            name,
            None,
            self._max_packet_bytes,
            persistent=False,
            keepalive_seconds=_KEEPALIVE_SECONDS,
            silence_seconds=_SILENCE_SECONDS,
        )

    async def _serve(self, connection: Connection, group: asyncio.TaskGroup) -> None:
        """Begin to serve a connection.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        self._pauses.tick()
        group.create_task(self._watch_pauses(), name="mqtt-pauses")
        self._intake.attach(connection)
        self._others.attach(connection)
        connection.receive(self._on_message)
        await connection.subscribe([topics.HEALTH, f"{self._markers.prefix}#"])
        await self._markers.wait(connection)
        if self._was_ours and not self._heard_health:
            # The broker has lost its retained messages, and no daemon may lead at present to publish health anew.
            self._note_ours()
        sharing = await self._prove(connection)
        # The answer of the broker for an exact topic: the group's own subscription may bring it as well.
        await connection.subscribe([self._probe.topic])
        await self._probe.run(connection)
        self._health.bus_connected = True
        self._intake.outgoing.open()
        _log.info("requests_connected", protocol=f"MQTT {connection.protocol}", shared=sharing)
        self._note_sharing(sharing)
        take_part: Callable[[Connection], Awaitable[None]] = self._take_part if sharing else self._try_again
        for name, work in {
            "share of the requests": take_part,
            "check of the broker's access list": self._probe.run_forever,
        }.items():
            supervised = self._supervisor.keep_running(name, partial(work, connection), fatal=_ENDINGS)
            group.create_task(supervised, name=name)

    async def _watch_pauses(self) -> None:
        """Watch whether this process stands still.

        Raises:
            BrokerUnavailable: It did, so that what the broker had sent is too old.
        """
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if self._pauses.stood_still:
                raise BrokerUnavailable(_STOOD_STILL)
            self._pauses.tick()

    async def _prove(self, connection: Connection) -> bool:
        """Return whether the broker shares subscriptions.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        if not connection.shares or self._cut_proofs >= _MAX_CUT_PROOFS:
            # Tried anew by ``_try_again``.
            self._cut_proofs = 0
            return False
        # Beside the markers, whose subscription would bring it as well.
        topic = f"{self._markers.prefix.removesuffix('/')}.shared/{secrets.token_hex(16)}"
        payload = secrets.token_bytes(16)
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._proof = (topic, payload, came)
        self._cut_proofs += 1
        try:
            with contextlib.suppress(SubscriptionRefused, Denied):
                await connection.subscribe([_GROUP + topic])
                await connection.publish(topic, payload)
                await asyncio.wait({came}, timeout=self._proof_seconds)
                await connection.unsubscribe([_GROUP + topic])
        finally:
            self._proof = None
        self._cut_proofs = 0
        return came.done()

    def _note_sharing(self, sharing: bool) -> None:
        self.sharing = sharing
        if sharing:
            self._alerts.clear(_ALERT)
        else:
            self._alerts.raise_(
                _ALERT,
                "The broker does not share requests among the daemons of this home: a subscription of $share/… was "
                "refused, or brought nothing. The daemon that leads answers all of them over MQTT; the others serve "
                "HTTP only. Let config_service subscribe to $share/aliciacfg/#, or use a broker that has shared "
                "subscriptions.",
            )
            self.ready.set()
        self._turns.notify()

    async def _try_again(self, connection: Connection) -> None:
        """Check from time to time whether the broker shares subscriptions by now.

        Raises:
            BrokerUnavailable: It does; or the connection is gone.
        """
        while True:
            await asyncio.sleep(_AGAIN_SECONDS)
            if await self._prove(connection):
                raise BrokerUnavailable("the broker shares subscriptions now; connecting anew")

    async def _take_part(self, connection: Connection) -> None:
        """Join the group while this daemon is ready, or no other one is; leave it otherwise.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        try:
            while True:
                await self._until_ours(connection)
                await self._until_needed(connection)
                self._intake.admission.open()
                self.joined = True
                # A retained request shows its flag even when it comes live.
                await connection.subscribe(_REQUESTS, retain_as_published=True)
                _log.info("requests_joined", ready=self._readiness.ready)
                self.ready.set()
                await self._until_dispensable(connection)
                await self._leave(connection)
        finally:
            self._note_left()

    async def _until_ours(self, connection: Connection) -> None:
        """Wait until the broker is known to be the home's.

        Its health says so, if the access list lets this daemon publish and read it. If not, the daemon that leads has
        found out, and the others hear from one that takes requests.
        """
        while not self._is_ours:
            try:
                async with asyncio.timeout(_ASK_SECONDS):
                    await self._turns.until(lambda: self._is_ours)
            except TimeoutError:
                if self._serves_home() or await self._others.any_other(connection, goes_on=lambda: not self._is_ours):
                    self._note_ours()

    async def _until_needed(self, connection: Connection) -> None:
        """Wait until this daemon is ready, or no other one of the home is."""
        turns = self._readiness.turns
        while True:
            await turns.until(lambda: not self._stopping)
            if self._readiness.ready:
                return
            if await self._others.any_other(connection, goes_on=self._is_cut_off):
                await self._while_cut_off()
            elif not self._stopping:
                return

    async def _until_dispensable(self, connection: Connection) -> None:
        """Wait until this daemon stops, or is not ready while another one of the home is."""
        turns = self._readiness.turns
        while not self._stopping:
            await turns.until(lambda: not self._readiness.ready or self._stopping)
            found = await self._others.any_other(connection, goes_on=self._is_cut_off)
            if found and self._is_cut_off():
                return
            await self._while_cut_off()

    def _is_cut_off(self) -> bool:
        return not self._readiness.ready and not self._stopping

    async def _while_cut_off(self) -> None:
        """Wait until this daemon is ready or stops, or it is time to ask again whether another one is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ASK_SECONDS):
                await self._readiness.turns.until(lambda: not self._is_cut_off())

    async def _leave(self, connection: Connection) -> None:
        """Leave the group, and answer everything that the broker sent before.

        Raises:
            BrokerUnavailable: The connection is gone.
        """
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await connection.unsubscribe(_REQUESTS)
                # Mosquitto keeps what it has queued, and delivers it in front of this.
                await self._markers.wait(connection)
                await self._intake.admission.wait_idle()
                await self._intake.background.wait_idle()
                await connection.wait_sent()
        except TimeoutError:
            _log.warning("requests_left_unanswered", after_seconds=_LEAVE_SECONDS, remedy="none; requesters repeat")
        else:
            _log.info("requests_left")
        self._intake.admission.close()
        self._note_left()

    def _note_left(self) -> None:
        self.joined = False
        self._turns.notify()

    def _on_lost(self) -> bool:
        served = self._health.bus_connected
        self._intake.detach()
        self._others.detach()
        self._probe.reset()
        self._health.bus_connected = False
        self._is_ours = self._heard_health = False
        self._note_left()
        return served

    def _on_message(self, inbound: Inbound) -> bool:
        """Handle a message, without waiting; return whether the broker may forget it."""
        try:
            if self._pauses.stood_still:
                # The connection ends when this is noticed; the broker may have ended it long ago.
                self._link.abort()
                return False
            if inbound.topic == self._probe.topic:
                self._probe.receive()
                return True
            return self._inbox.answer_at_once(inbound) or self._dispatch(inbound)
        except Exception as error:  # noqa: BLE001 - a boundary: the connection goes on
            self._supervisor.report("handling of a message", error)
            return True

    def _dispatch(self, inbound: Inbound) -> bool:
        topic = inbound.topic
        if topic.startswith(topics.APPLIED):
            connection = self._link.connection
            if inbound.retained and connection is not None and connection.protocol == "5":
                # It comes live: nothing that the broker has kept comes over a shared subscription (MQTT 5 §4.8.2), and
                # with Retain As Published the flag only says that the broker keeps it.
                inbound = msgspec.structs.replace(inbound, retained=False)
            return self._inbox.submit(inbound, self._reports.receive, name="report of a service")
        if topic.startswith(topics.CONFIG):
            return self._inbox.receive_request(inbound)
        if topic.startswith(self._markers.prefix):
            if not self._others.receive(inbound):
                self._markers.receive(topic)
        elif self._proof is not None and topic == self._proof[0]:
            _, payload, came = self._proof
            if inbound.payload == payload and not came.done():
                came.set_result(None)
        elif topic == topics.HEALTH and not inbound.oversized:
            self._on_health(inbound)
        return True

    def _on_health(self, inbound: Inbound) -> None:
        """Find out whose broker it is: the health of the home is retained there, or comes when a daemon leads.

        Once it is known, what others publish there is a matter of the daemon that leads. One that only claims the
        broker may still find that another home has it.
        """
        self._heard_health = True
        health = None if self._is_ours else parse_health(inbound.payload)
        if health is None or health.instance != self._health.instance:
            return
        if health.mqtt_connected or health.status == "offline":
            self._note_ours()

    def _note_ours(self) -> None:
        self._is_ours = self._was_ours = True
        self._turns.notify()


async def _read_nothing() -> None:
    """Read the database of a daemon that has it for itself, which needs none of it for an answer."""
