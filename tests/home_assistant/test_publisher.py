"""What is published for Home Assistant: only what differs, held only if it comes back."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from aliciacfg.home_assistant.publisher import Publisher
from aliciacfg.home_assistant.topics import AVAILABILITY, Topics, state
from aliciacfg.monitoring.alerts import Alert, Alerts
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.pace import Pace
from fakebus import FakeConnection
from inprocess import eventually

AT = Topics("homeassistant", "homeassistant/status")
DEVICE = AT.device("bell")
STATE = state("bell")


def message(**components: str) -> bytes:
    """A device message with the platforms of its components."""
    made = {name: {"platform": platform, "unique_id": name} for name, platform in components.items()}
    return json.dumps({"origin": {"name": "aliciacfg"}, "components": made}).encode()


class Bus(FakeConnection):
    """A broker that keeps what is retained, and delivers it back.

    Attributes:
        kept: The retained messages by topic.
        silent: Topics that an access list denies without saying so, as on MQTT 3.1.1.
        most: How many retained messages come at one subscription, as Mosquitto cuts them.
    """

    def __init__(self, **kept: bytes) -> None:
        super().__init__()
        self.kept: dict[str, bytes] = dict(kept)
        self.silent: set[str] = set()
        self.most = 10_000
        self.alerts: list[Alert] = []
        alerts = Alerts(lambda: 0.0)
        alerts.listen(self.alerts.append)
        self.markers = Markers("i")
        self.publisher = Publisher(AT, alerts, markers=self.markers, pace=Pace(1_000_000))
        self.active = alerts

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        await super().publish(topic, payload, retain=retain)
        if topic.startswith(self.markers.prefix):
            self.markers.receive(topic)
        elif topic not in self.silent:
            self.kept[topic] = payload
            if not payload:
                del self.kept[topic]
            self.bring(topic, payload)

    def bring(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        self.publisher.receive(Inbound(topic, payload, 1, retained))

    async def subscribe(self, filters: Any, *, retain_as_published: bool = False) -> None:
        await super().subscribe(filters, retain_as_published=retain_as_published)
        wild = [name for name in filters if "+" in name]
        found = [topic for topic in self.kept if topic in filters or (wild and AT.owns(topic))]
        for topic in found[: self.most if wild else None]:
            self.bring(topic, self.kept[topic], retained=True)

    async def unsubscribe(self, filters: Any) -> None:
        """Nothing is delivered twice here."""

    @property
    def said(self) -> list[tuple[str, bytes]]:
        """What was published but for markers."""
        return [(topic, payload) for topic, payload, _ in self.published if not topic.startswith(self.markers.prefix)]


@contextlib.asynccontextmanager
async def connected(bus: Bus) -> AsyncGenerator[Publisher, None]:
    await bus.publisher.read_back(bus)
    task = asyncio.create_task(bus.publisher.publish_forever(bus))
    try:
        yield bus.publisher
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_what_is_retained_already_is_not_published_again():
    """Of two messages only the one that differs is."""
    bus = Bus(**{DEVICE: message(a="switch"), STATE: b"old"})
    bus.publisher.put(DEVICE, message(a="switch"))
    bus.publisher.put(STATE, b"new")
    async with connected(bus) as publisher:
        await eventually(lambda: publisher.settled)
        assert bus.said == [(STATE, b"new")]
        publisher.repeat_all()
        await eventually(lambda: publisher.settled)
        assert sorted(bus.said[1:]) == sorted([(DEVICE, message(a="switch")), (STATE, b"new")])


async def test_what_is_stale_is_cleared_and_what_is_foreign_stays():
    """Ours by the origin; under the tree of states everything."""
    other = b'{"origin":{"name":"other"},"components":{}}'
    kept = {DEVICE: message(a="switch"), AT.device("other"): other, state("x"): b"{}", AVAILABILITY: b"online"}
    bus = Bus(**kept)
    async with connected(bus) as publisher:
        await eventually(lambda: publisher.settled)
    assert bus.kept == {AT.device("other"): other}
    assert not bus.alerts


async def test_a_read_back_that_is_cut_finds_everything_in_the_end():
    """Stale messages beyond what the broker delivers at once are found after the others were cleared."""
    bus = Bus(**{AT.device(f"old{number}"): message(a="switch") for number in range(3000)})
    bus.most = 1000
    bus.publisher.put(DEVICE, message(a="switch"))
    async with connected(bus) as publisher:
        await eventually(lambda: publisher.settled)
    assert bus.kept == {DEVICE: message(a="switch")}


async def test_what_is_there_beyond_the_cut_is_not_published_again():
    """It is asked for by its exact topic."""
    wanted = {AT.device(f"bell{number}"): message(a="switch") for number in range(1500)}
    bus = Bus(**wanted)
    bus.most = 1000
    for topic, payload in wanted.items():
        bus.publisher.put(topic, payload)
    async with connected(bus) as publisher:
        await eventually(lambda: publisher.settled)
    assert bus.said == []


async def test_a_component_is_removed_before_the_message_without_it():
    """Home Assistant keeps one that is merely left out."""
    bus = Bus(**{DEVICE: message(a="switch", b="number")})
    bus.publisher.put(DEVICE, message(a="sensor"))
    async with connected(bus) as publisher:
        await eventually(lambda: publisher.settled)
        (first, last) = [json.loads(payload)["components"] for _, payload in bus.said]
    assert first == {"a": {"platform": "switch"}, "b": {"platform": "number"}}
    assert last == {"a": {"platform": "sensor", "unique_id": "a"}}


async def test_a_foreign_message_on_our_topic_is_replaced():
    """With an alert; a cleared one without: Home Assistant does that to a device that somebody deletes there."""
    bus = Bus()
    bus.publisher.put(STATE, b"right")
    async with connected(bus) as publisher:
        await eventually(lambda: publisher.settled)
        for payload in (b"", b"wrong"):
            await bus.publish(STATE, payload, retain=True)
            await eventually(lambda: bus.kept.get(STATE) == b"right")
    assert [alert.kind for alert in bus.alerts] == ["tamper"]


async def test_the_last_will_of_our_own_connection_is_replaced_without_an_alert():
    """A broker that stops sends it to the connection that it is about to close."""
    bus = Bus()
    bus.publisher.put(AVAILABILITY, b"online")
    async with connected(bus) as publisher:
        await eventually(lambda: publisher.settled)
        await bus.publish(AVAILABILITY, b"offline", retain=True)
        await eventually(lambda: bus.kept.get(AVAILABILITY) == b"online")
        assert not bus.alerts
        await bus.publish(AVAILABILITY, b"away", retain=True)
        await eventually(lambda: bus.kept.get(AVAILABILITY) == b"online")
    assert [alert.kind for alert in bus.alerts] == ["tamper"]


async def test_who_overwrites_without_end_is_not_fought_at_full_speed():
    """The first repairs are at once, later ones wait."""
    bus = Bus()
    bus.publisher.put(STATE, b"right")
    async with connected(bus):
        for number in range(200):
            await bus.publish(STATE, f"wrong {number}".encode(), retain=True)
            await asyncio.sleep(0.001)
    assert len([payload for _, payload in bus.said if payload == b"right"]) < 20


async def test_what_the_broker_denies_is_told_and_tried_again():
    """Whether it says so or not; the alert ends when the message came back."""
    for quiet in (False, True):
        bus = Bus()
        bus.publisher._retry_seconds = 0.01  # pyright: ignore[reportPrivateUsage]
        bus.silent, bus.denied = ({STATE}, set[str]()) if quiet else (set[str](), {STATE})
        bus.publisher.put(STATE, b"right")
        async with connected(bus) as publisher:
            await eventually(lambda bus=bus: "undelivered:home_assistant" in bus.active.active)
            assert not publisher.settled
            bus.silent, bus.denied = set(), set()
            publisher.look_at(STATE)
            await eventually(lambda publisher=publisher: publisher.settled)
            assert not bus.active.active


async def test_any_number_of_foreign_topics_leaves_nothing_behind():
    """Each is cleared and forgotten."""
    bus = Bus()
    async with connected(bus) as publisher:
        for number in range(5000):
            await bus.publish(state(f"x{number}"), b"x", retain=True)
        await eventually(lambda: publisher.settled and not bus.kept)
        assert not publisher._sent  # pyright: ignore[reportPrivateUsage]
        assert not publisher._held  # pyright: ignore[reportPrivateUsage]
