"""Prompt publication: what is committed alone goes out at once, everything else is left to the other publisher."""

import asyncio
from collections.abc import Callable

import pytest

from aliciacfg.core.message_ids import MessageIds
from aliciacfg.core.outbox import Outbox
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.model.records import Announcement
from aliciacfg.mqtt import prompt
from aliciacfg.mqtt.connection import Denied
from aliciacfg.mqtt.pace import Pace
from aliciacfg.mqtt.prompt import PromptPublication
from fakebus import FakeConnection
from stored_rows import KEYRING


class Bus(FakeConnection):
    """A connection whose acknowledgements the test gives."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[str, bytes]] = []
        self.done: list[Callable[[BrokerUnavailable | None], None]] = []
        self.flushed = 0

    def begin_publish(
        self, topic: str, payload: bytes, *, retain: bool, done: Callable[[BrokerUnavailable | None], None]
    ) -> None:
        assert retain
        if self.gone:
            raise BrokerUnavailable("the broker is gone")
        self.begun.append((topic.removeprefix("alicia/config/update/"), payload))
        self.done.append(done)

    def flush(self) -> None:
        self.flushed += 1


class Scene:
    """A prompt publication over an outbox, ready."""

    def __init__(self, *, per_second: float = 1000) -> None:
        self.bus = Bus()
        self.outbox = Outbox(message_ids=MessageIds(KEYRING))
        self.published: list[Announcement] = []
        self.refused: list[tuple[Announcement, BrokerUnavailable]] = []
        self.in_order = True
        self.prompt = PromptPublication(
            self.bus,
            self.outbox,
            Pace(per_second, clock=lambda: 0.0),
            on_published=self.published.append,
            on_refused=lambda item, error: self.refused.append((item, error)),
            in_order=lambda: self.in_order,
        )
        self.prompt.ready = True
        self.outbox.on_added = self.prompt.take
        self._sequence = 0

    def add(self, *services: str) -> Announcement:
        """Commit an announcement of each; return the last one."""
        item = None
        for service in services:
            self._sequence += 1
            item = Announcement(f"service/{service}", self._sequence, b"%d" % self._sequence)
            self.outbox.add([item])
        assert item is not None
        return item

    async def turn(self) -> bool:
        """Run a turn of the loop; return whether the other publisher was woken."""
        await asyncio.sleep(0)
        woken = self.outbox.changed.is_set()
        self.outbox.changed.clear()
        return woken


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_change_is_published_in_the_next_turn(scene: Scene):
    """The other publisher sleeps on."""
    item = scene.add("bell")
    assert not await scene.turn()
    assert (scene.bus.begun, scene.published, scene.bus.flushed) == ([("bell", b"1")], [item], 1)


async def test_of_one_commit_only_the_newest_messages_are_published(scene: Scene):
    """However many changes of a configuration it holds."""
    scene.add("bell", "siren", "bell", "bell")
    assert not await scene.turn()
    assert scene.bus.begun == [("bell", b"4"), ("siren", b"2")]


async def test_what_is_replaced_while_a_message_is_under_way_is_never_sent(scene: Scene):
    """After the acknowledgement the newest one goes out, and none behind the last."""
    scene.add("bell")
    assert not await scene.turn()
    for _ in range(3):
        scene.add("bell", "siren")
        assert not await scene.turn()
    assert scene.bus.begun == [("bell", b"1"), ("siren", b"3")]
    scene.bus.done[0](None)
    assert scene.bus.begun[2:] == [("bell", b"6")]
    scene.bus.done[2](None)
    assert len(scene.bus.begun) == 3
    assert not await scene.turn()


async def test_what_waits_for_an_acknowledgement_too_long_is_left_to_the_other_publisher(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    """Which watches that one comes."""
    monkeypatch.setattr(prompt, "_PATIENCE_SECONDS", 0.001)
    scene.add("bell")
    assert not await scene.turn()
    item = scene.add("bell")
    async with asyncio.timeout(40):
        await scene.outbox.changed.wait()
    assert item in scene.outbox.due()
    scene.prompt.close()


async def test_an_acknowledgement_while_the_other_publisher_works_wakes_it(scene: Scene):
    """It may have looked before the newer message was there."""
    scene.add("bell")
    await scene.turn()
    scene.add("bell")
    await scene.turn()
    scene.prompt.ready = False
    scene.bus.done[0](None)
    assert await scene.turn()
    assert len(scene.bus.begun) == 1


def _sleep(scene: Scene) -> None:
    scene.prompt.ready = False


def _disorder(scene: Scene) -> None:
    scene.in_order = False


def _unsure(scene: Scene) -> None:
    scene.bus.limit.begin("3.1.1", None)
    scene.bus.limit.closed([2**19])


def _end(scene: Scene) -> None:
    scene.bus.gone = True


@pytest.mark.parametrize("obstacle", [_sleep, _disorder, _unsure, _end])
async def test_what_cannot_be_published_promptly_wakes_the_other_publisher(
    scene: Scene, obstacle: Callable[[Scene], None]
):
    """Which finds it among what is due."""
    obstacle(scene)
    item = scene.add("bell")
    assert await scene.turn()
    assert (scene.bus.begun, scene.published, scene.outbox.due()) == ([], [], [item])


async def test_the_obstacle_may_come_before_the_turn(scene: Scene):
    """Whoever was woken meanwhile is woken again: it may have looked before."""
    scene.add("bell")
    scene.prompt.ready = False
    assert await scene.turn()
    assert (scene.bus.begun, len(scene.outbox.due())) == ([], 1)


async def test_many_messages_are_published_at_the_pace():
    """More than thirty-two, or more than the pace lets through at once."""
    scene = Scene()
    scene.add(*(f"s{number}" for number in range(33)))
    assert await scene.turn()
    assert scene.bus.begun == []
    slow = Scene(per_second=10)
    slow.add("one", "two", "three")
    assert await slow.turn()
    assert slow.bus.begun == []


async def test_a_refusal_is_told(scene: Scene):
    """And does not stand in the way of the next message."""
    item = scene.add("bell")
    await scene.turn()
    error = Denied("no")
    scene.bus.done[0](error)
    assert scene.refused == [(item, error)]
    scene.add("bell")
    assert not await scene.turn()
    assert len(scene.bus.begun) == 2
