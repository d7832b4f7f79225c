"""Several daemons of one home in the test's process: a core, and the session on the bus, for each."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.mqtt.packet_limit import PacketLimit
from aliciacfg.mqtt.replica_session import ReplicaSession
from aliciacfg.mqtt.requests import Requests
from aliciacfg.mqtt.session import LeaderPart, MqttSession
from aliciacfg.mqtt.shared_requests import SharedRequests
from aliciacfg.replicas.leadership import Leadership
from aliciacfg.replicas.readiness import Readiness
from aliciacfg.storage.backend import database_in
from inprocess import Core, Home, eventually

_LEASE_SECONDS = 3600.0
# How long a daemon goes on believing that it leads after another one has begun to.
_OVERLAP_SECONDS = 0.5
_PACKET_BYTES = 2 * 1024 * 1024


@dataclass
class Replica:
    """One daemon of a home, whether it shares a database with the others or has one of its own."""

    core: Core
    address: BrokerAddress
    proof_seconds: float = 5.0
    leadership: Leadership = field(default_factory=Leadership)
    readiness: Readiness = field(default_factory=Readiness)
    task: "asyncio.Task[None] | None" = None
    confirming: "asyncio.Task[None] | None" = None

    def __post_init__(self) -> None:
        parts, address = self.core.parts, self.address
        requests = Requests(parts.service, reply_prefixes=(), max_config_bytes=256 * 1024)
        limit = PacketLimit(_PACKET_BYTES)
        self.shared = SharedRequests(
            address=address,
            service=parts.service,
            requests=requests,
            alerts=parts.alerts,
            supervisor=parts.supervisor,
            readiness=self.readiness,
            serves_home=lambda: self.home.serving,
            home_key=parts.home_key,
            max_packet_bytes=_PACKET_BYTES,
            limit=limit,
            proof_seconds=self.proof_seconds,
        )
        self.home = MqttSession(
            address=address,
            session_id=parts.session,
            service=parts.service,
            requests=requests,
            outbox=parts.outbox,
            alerts=parts.alerts,
            drift=parts.drift,
            supervisor=parts.supervisor,
            order=parts.order,
            on_drained=parts.announcements.note_drained,
            max_packet_bytes=_PACKET_BYTES,
            limit=limit,
            updates_per_second=1000.0,
            leader_part=LeaderPart(
                leadership=self.leadership,
                takes_requests=lambda: not self.shared.sharing,
                prepare=parts.take_over,
            ),
        )
        self.session = ReplicaSession(
            home=self.home,
            requests=self.shared,
            leadership=self.leadership,
            another_leads=lambda: not self.leadership.leading,
        )

    def start(self) -> None:
        self.task = asyncio.create_task(self.session.run(), name="replica")
        confirm = self.core.parts.announcements.store_confirmations_forever
        self.confirming = asyncio.create_task(self.leadership.while_leading(confirm), name="confirmations")

    def lead(self, seconds: float = _LEASE_SECONDS) -> None:
        """Have it lead for a time."""
        self.leadership.hold(seconds, asked=self.leadership.now())

    async def cancel(self) -> None:
        """End its tasks, as at the end of the process; its connections are closed with a DISCONNECT."""
        for task in (self.task, self.confirming):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})

    @property
    def answered(self) -> int:
        """How many requests it has answered over MQTT."""
        return self.core.parts.service.health.metrics.messages_processed

    async def joined(self) -> None:
        """Wait until it gets its share of the requests."""
        await eventually(lambda: self.shared.joined)


async def take_over(made: list[Replica], number: int) -> None:
    """Have another daemon lead, while those before believe for a moment that they still do; return when it serves.

    They learn of it from the broker, which ends their connection, and by their own clocks. They are not told: but
    without an end of their lease the two would take the connection from each other for as long as the new one needs
    more time to serve than the old one to connect again.
    """
    before = [replica for replica in made if replica is not made[number] and replica.leadership.leading]
    for replica in before:
        replica.lead(_OVERLAP_SECONDS)
    made[number].lead()
    await eventually(lambda: not any(replica.leadership.leading for replica in before))
    await eventually(lambda: made[number].home.serving)


@contextlib.asynccontextmanager
async def sharing_replicas(
    directory: Path, files: Mapping[str, object], broker: BrokerAddress | int, url: str, count: int
) -> AsyncGenerator[list[Replica]]:
    """Daemons of one home on one PostgreSQL database, started; the first one leads. They are ended at the end."""
    address = BrokerAddress("127.0.0.1", broker) if isinstance(broker, int) else broker
    home = Home(directory, files)
    async with contextlib.AsyncExitStack() as stack:
        made: list[Replica] = []
        for number in range(count):
            data = directory / f"data{number}"
            core = await stack.enter_async_context(
                home.sharing_core(database_in(data, url), keys=directory / "data0" / "keys.json", data_dir=str(data))
            )
            made.append(Replica(core, address))
            stack.push_async_callback(made[-1].cancel)
        following = [asyncio.create_task(_follow(replica.core)) for replica in made]
        stack.push_async_callback(asyncio.wait, following)
        for task in following:
            stack.callback(task.cancel)
        made[0].lead()
        for replica in made:
            replica.start()
        for replica in made:
            await replica.joined()
        await eventually(made[0].home.ready.is_set)
        yield made


async def _follow(core: Core) -> None:
    """Have a memory follow what others commit, until cancelled."""
    following, shared = core.parts.following, core.parts.store.shared
    assert following is not None
    assert shared is not None
    while True:
        await following.catch_up()
        shared.hints().clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await shared.hints().wait()


@contextlib.asynccontextmanager
async def replicas(
    directory: Path,
    files: Mapping[str, object],
    broker: BrokerAddress | int,
    count: int,
    *,
    proof_seconds: float = 5.0,
    **settings: str,
) -> AsyncGenerator[list[Replica]]:
    """Daemons of one home that have the same keys and the same contents, none started; they are ended at the end.

    ``broker`` is its address, or its port on this machine.
    """
    address = BrokerAddress("127.0.0.1", broker) if isinstance(broker, int) else broker
    home = Home(directory / "first", files)
    async with home.core(**settings):
        """What the first start stores, all of them have."""
    async with contextlib.AsyncExitStack() as stack:
        made: list[Replica] = []
        for number in range(count):
            copy = directory / f"replica{number}"
            shutil.copytree(home.directory, copy)
            core = await stack.enter_async_context(Home(copy).core(**settings))
            made.append(Replica(core, address, proof_seconds))
            stack.push_async_callback(made[-1].cancel)
        yield made
