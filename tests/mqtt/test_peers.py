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
    """

    def __init__(self, *, answer_seconds: float = ENOUGH_SECONDS) -> None:
        self.connection = FakeConnection()
        self.connection.deliver = self._deliver
        self.markers = Markers(OURS)
        self.retained: list[bytes] = []
        self.answers: list[bytes | None] = []
        self.checks = 0
        self.shown = 0
        self.peers = Peers(
            OURS,
            uptime=lambda: UPTIME,
            markers=self.markers,
            outgoing=Outgoing(Alerts(lambda: 0.0)),
            publish_health=self._show,
            answer_seconds=answer_seconds,
        )

    def receive(self, payload: bytes, *, retained: bool = False) -> None:
        self.peers.receive(Inbound(HEALTH, payload, 1, retained))

    def _deliver(self, topic: str) -> None:
        if topic.startswith(self.markers.prefix):
            for payload in self.retained:
                self.receive(payload, retained=True)
            self.markers.receive(topic)
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
    """It does not even ask."""
    bus = Bus()
    bus.retained = retained
    await bus.check_alone()
    assert bus.checks == 0
    assert HEALTH in bus.connection.subscribed


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
    assert bus.checks == 1


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


@pytest.mark.parametrize(
    "payload",
    [health(uptime=UPTIME - 1), health(uptime=UPTIME, instance="0000")],
    ids=["younger", "of the same age, with a smaller name"],
)
async def test_a_younger_daemon_is_shown_that_there_is_an_older_one(payload: bytes):
    """It is the younger one that gives way; this one publishes its health and goes on."""
    bus = Bus()
    async with bus.watching() as task:
        bus.receive(payload)
        await eventually(lambda: bus.shown == 1)
        assert not task.done()
    assert bus.checks == 0


@pytest.mark.parametrize("payload", [health(), health(uptime=UPTIME)], ids=["older", "of the same age"])
async def test_this_daemon_gives_way_to_an_older_one(payload: bytes):
    """After it has answered twice."""
    bus = Bus()
    bus.answers = [payload, payload]
    async with bus.watching() as task:
        bus.receive(payload)
        with pytest.raises(AnotherDaemon, match=THEIRS):
            await task
    assert bus.checks == 2


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
    assert bus.checks == 0


async def test_what_was_seen_on_one_connection_is_forgotten_on_the_next():
    """An old message is no sign that there is a daemon now."""
    bus = Bus()
    bus.receive(health())
    bus.peers.forget()
    await bus.check_alone()
    assert bus.checks == 0
