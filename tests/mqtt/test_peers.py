"""Another daemon on the same broker: found at the start of a connection, and while it stands."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aliciacfg.errors import AnotherDaemon
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.outgoing import Outgoing
from aliciacfg.mqtt.peers import Peers
from fakebus import FakeConnection
from inprocess import eventually

HEALTH = "alicia/system/health/config_service"
HEALTH_CHECK = "alicia/system/health/check"
OURS, THEIRS = "1111", "2222"
UPTIME = 100.0
ENOUGH_SECONDS = 15.0
# Within which nothing comes, in tests where nothing does.
SOON_SECONDS = 0.02


def health(instance: str = THEIRS, *, status: str = "healthy", uptime: float = 200.0) -> bytes:
    """A health message as a daemon publishes it."""
    return json.dumps(
        {"message_id": "m", "payload": {"instance": instance, "status": status, "uptime": uptime}}
    ).encode()


class Bus:
    """The peers of a daemon, and the broker on which they are.

    Attributes:
        retained: Health that the broker delivers at the subscription.
        answers: The next live answers to health checks; None where none comes.
        checks: How many health checks were published.
        shown: How often our own health was published for a younger daemon.
        alerts: What is raised.
        claims: Health of others that the broker delivers before and after this daemon's own claim.
    """

    def __init__(self, *, answer_seconds: float = ENOUGH_SECONDS, proven: bool = False) -> None:
        self.connection = FakeConnection()
        self.connection.deliver = self._deliver
        self.markers = Markers(OURS)
        self.retained: list[bytes] = []
        self.answers: list[bytes | None] = []
        self.checks = 0
        self.shown = 0
        self.claims: tuple[list[bytes], list[bytes]] = ([], [])
        self.alerts = Alerts(lambda: 0.0)
        outgoing = Outgoing(self.alerts)
        outgoing.attach(self.connection)
        self.peers = Peers(
            OURS,
            uptime=lambda: UPTIME,
            proven=lambda: proven,
            markers=self.markers,
            outgoing=outgoing,
            alerts=self.alerts,
            publish_health=self._show,
            answer_seconds=answer_seconds,
            health_payload=lambda: health(OURS),
            pause_seconds=SOON_SECONDS,
        )

    def receive(self, payload: bytes, *, retained: bool = False) -> None:
        self.peers.receive(Inbound(HEALTH, payload, 1, retained))

    def _deliver(self, topic: str) -> None:
        if topic.startswith(self.markers.prefix):
            for payload in self.retained:
                self.receive(payload, retained=True)
            self.markers.receive(topic)
            self.retained = []
        if topic == HEALTH:
            for payload in (*self.claims[0], health(OURS), *self.claims[1]):
                self.receive(payload)
        if topic == HEALTH_CHECK:
            self.checks += 1
            answer = self.answers.pop(0) if self.answers else None
            if answer is not None:
                self.receive(answer)

    def _show(self) -> None:
        self.shown += 1

    async def check_alone(self) -> None:
        await self.peers.check_alone(self.connection)

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator["asyncio.Task[None]", None]:
        task = asyncio.create_task(self.peers.watch(self.connection))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    "retained",
    [
        [],
        [health(OURS)],
        [health(status="offline")],
        [b"not json", b"[]", b"{}", b'{"instance": 7}', b'{"instance": ""}', b'{"instance": "x", "uptime": "long"}'],
    ],
    ids=["nothing", "our own", "offline", "rubbish"],
)
async def test_a_daemon_is_alone_where_no_live_health_is_retained(retained: list[bytes]):
    """It claims the broker, and asks everyone once without waiting."""
    bus = Bus()
    bus.retained = retained
    await bus.check_alone()
    await bus.peers.confirm_alone(bus.connection)
    assert bus.checks == 1
    assert HEALTH in bus.connection.subscribed
    assert (HEALTH, health(OURS), True) in bus.connection.published


@pytest.mark.parametrize("answers", [True, False])
async def test_of_two_daemons_that_start_together_the_second_one_gives_way(answers: bool):
    """In the order in which the broker has their claims; the other one has to answer."""
    starting = json.dumps({"instance": THEIRS, "status": "degraded", "mqtt_connected": False}).encode()
    bus = Bus(answer_seconds=ENOUGH_SECONDS if answers else SOON_SECONDS)
    bus.claims, bus.answers = ([starting], []), [None, starting if answers else None]
    if answers:
        with pytest.raises(AnotherDaemon, match=THEIRS):
            await bus.check_alone()
    else:
        await bus.check_alone()
    first = Bus()
    first.claims = ([], [starting])
    await first.check_alone()
    await first.peers.confirm_alone(first.connection)
    assert first.checks == 1
    first.peers.answer_check()
    assert first.connection.sent == [(HEALTH, health(OURS))]


async def test_a_daemon_that_serves_and_is_not_retained_is_found_too():
    """A broker that lost its retained messages; the other daemon answers while this one gets ready."""
    bus = Bus()
    bus.answers = [health(), health()]
    await bus.check_alone()
    with pytest.raises(AnotherDaemon, match=THEIRS):
        await bus.peers.confirm_alone(bus.connection)


async def test_a_daemon_that_answers_is_another_daemon():
    """Its retained health raises the question, its live answer proves it."""
    bus = Bus()
    bus.retained, bus.answers = [health()], [health()]
    with pytest.raises(AnotherDaemon, match=THEIRS):
        await bus.check_alone()


@pytest.mark.parametrize("answer", [None, health(OURS), health(status="offline"), b"rubbish"])
async def test_retained_health_that_no_daemon_stands_by_is_stale(answer: bytes | None):
    """Its daemon died together with the broker's memory of the last will: no live answer comes in time."""
    bus = Bus(answer_seconds=SOON_SECONDS)
    bus.retained, bus.answers = [health()], [answer]
    await bus.check_alone()
    assert bus.checks == 2


async def test_health_that_is_delivered_as_retained_is_no_answer():
    """A second delivery of the old message proves nothing."""
    bus = Bus(answer_seconds=SOON_SECONDS)
    bus.retained = [health()]

    def again(topic: str) -> None:
        if topic == HEALTH_CHECK:
            bus.receive(health(), retained=True)
        else:
            bus.markers.receive(topic)

    bus.receive(health(), retained=True)
    bus.connection.deliver = again
    await bus.check_alone()


YOUNGER = [health(uptime=UPTIME - 3), health(uptime=UPTIME + 1, instance="0000")]


@pytest.mark.parametrize("proven", [False, True])
@pytest.mark.parametrize("payload", YOUNGER, ids=["younger", "of the same age, with a smaller name"])
async def test_a_younger_daemon_is_shown_that_there_is_an_older_one(payload: bytes, proven: bool):
    """It is the younger one that gives way; this one publishes its health and goes on."""
    bus = Bus(proven=proven)
    bus.answers = [payload, payload]
    async with bus.watching() as task:
        bus.receive(payload)
        await eventually(lambda: "another_daemon" in bus.alerts.active)
        assert not task.done()
    assert bus.shown == 1


async def test_a_daemon_that_serves_is_not_ended_by_whoever_answers():
    """On an open bus any client can; the daemon goes on, says so, and notices when it is over."""
    bus = Bus(answer_seconds=SOON_SECONDS)
    bus.answers = [health(uptime=1e18)] * 20
    async with bus.watching() as task:
        bus.receive(health(uptime=1e18))
        await eventually(lambda: "another_daemon" in bus.alerts.active)
        assert "aliciacfg acl" in bus.alerts.active["another_daemon"]
        assert THEIRS not in bus.alerts.active["another_daemon"]
        await eventually(lambda: "another_daemon" not in bus.alerts.active)
        assert not task.done()


@pytest.mark.parametrize("payload", [health(), health(uptime=UPTIME - 1)], ids=["older", "of the same age"])
async def test_under_an_access_list_the_younger_daemon_gives_way_at_any_time(payload: bytes):
    """Only a daemon can publish health there, so that the answers are proof."""
    bus = Bus(proven=True)
    bus.answers = [payload, payload]
    async with bus.watching() as task:
        bus.receive(payload)
        with pytest.raises(AnotherDaemon, match=THEIRS):
            await task


@pytest.mark.parametrize("proven", [False, True])
async def test_a_daemon_that_has_served_is_not_ended_at_the_next_connection(proven: bool):
    """Retained health and an answer do not keep it from serving; under an access list the older daemon stays."""
    bus = Bus(proven=proven)
    async with bus.watching():
        await asyncio.sleep(0)
    bus.retained, bus.answers = [health()], [health()] * 3
    await bus.check_alone()
    async with bus.watching() as task:
        if proven:
            with pytest.raises(AnotherDaemon):
                await task
        else:
            await eventually(lambda: "another_daemon" in bus.alerts.active)
            assert not task.done()


async def test_a_flood_of_claims_is_neither_kept_nor_answered_one_by_one():
    """Each look asks the whole bus for health."""
    bus = Bus(answer_seconds=SOON_SECONDS)
    async with bus.watching() as task:
        for _ in range(10_000):
            bus.receive(health(uptime=1e18))
        await eventually(lambda: bus.checks >= 2)
        assert bus.checks == 2
        assert not task.done()


@pytest.mark.parametrize(
    "answers",
    [[], [health(), None], [None, health()], [health(), health("3333")], [health("3333"), health("3333")]],
    ids=["none", "once", "late", "two daemons", "another one"],
)
async def test_a_message_is_no_proof_of_life(answers: list[Any]):
    """Anyone can publish one that claims to be old; unless its instance answers twice, the daemon stays."""
    bus = Bus(answer_seconds=SOON_SECONDS)
    bus.answers = answers
    async with bus.watching() as task:
        bus.receive(health(uptime=1e18))
        await eventually(lambda: bus.checks == 2)
        # Still watching: a younger one is noticed.
        await notice(bus, lambda: bus.receive(health("4444", uptime=1.0)))
        assert not task.done()


async def notice(bus: Bus, publish: Callable[[], None]) -> None:
    """Publish until the watch has taken note; while it waits for answers it passes other messages over."""
    before = bus.shown

    def noticed() -> bool:
        publish()
        return bus.shown > before

    await eventually(noticed)


@pytest.mark.parametrize("payload", [health(status="offline"), health(OURS)])
async def test_a_daemon_that_stops_is_no_peer(payload: bytes):
    """Neither is this daemon's own message, which comes back on its subscription."""
    bus = Bus()
    async with bus.watching() as task:
        bus.receive(payload)
        bus.receive(health(), retained=True)
        bus.receive(health(uptime=1.0))
        await eventually(lambda: bus.shown == 1)
        assert not task.done()
    # Only the last of the three was looked into.
    assert bus.checks == 1


async def test_what_was_seen_on_one_connection_is_forgotten_on_the_next():
    """An old message is no sign that there is a daemon now."""
    bus = Bus()
    bus.receive(health())
    bus.peers.forget()
    await bus.check_alone()
    # Only the one that goes with the claim.
    assert bus.checks == 1


async def test_a_copy_of_the_data_directory_that_is_served_keeps_this_daemon_from_starting():
    """It has the same instance; it has to answer twice."""
    bus = Bus()
    bus.retained, bus.answers = [health(OURS)], [health(OURS), health(OURS)]
    with pytest.raises(AnotherDaemon, match=OURS):
        await bus.peers.look_for_copies(bus.connection)
    assert (bus.checks, bus.alerts.active) == (2, {})


@pytest.mark.parametrize(
    ("retained", "answers"),
    [
        ([], []),
        ([health(OURS, status="offline")], []),
        ([health()], [health(), health()]),
        ([health(OURS)], []),
        ([health(OURS)], [health(OURS)]),
        ([health(OURS)], [health(OURS, status="offline"), health(OURS)]),
    ],
    ids=["nothing", "offline", "another home", "no answer", "one answer", "a last will"],
)
async def test_a_daemon_that_ended_or_that_of_another_home_is_no_copy(retained: list[bytes], answers: list[bytes]):
    """The other home is found by what follows, on the connection of this daemon."""
    bus = Bus(answer_seconds=SOON_SECONDS)
    bus.retained, bus.answers = retained, list(answers)
    await bus.peers.look_for_copies(bus.connection)
    assert bus.alerts.active == {}
    await Bus().check_alone()


async def test_a_copy_that_comes_while_this_daemon_serves_is_told_until_it_is_gone():
    """Whatever is retained: the last will of either may be."""
    bus = Bus(answer_seconds=SOON_SECONDS)
    async with bus.watching():
        await asyncio.sleep(0)
    bus.answers = [health(OURS), health(OURS)]
    await bus.peers.look_for_copies(bus.connection)
    assert "copy of this data directory" in bus.alerts.active["another_daemon"]
    async with bus.watching():
        await eventually(lambda: not bus.alerts.active)
