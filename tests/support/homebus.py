"""A bus in the test's own process: the memory of a broker, the daemon's retained messages, and their readers."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Any

from aliciacfg.mqtt import topics
from aliciacfg.mqtt.markers import Markers
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.pace import Pace
from aliciacfg.mqtt.retained import Retained
from fakebus import FakeConnection
from inprocess import Core, eventually

_MAX_NUMBER = 2**53 - 1


class Reader:
    """A client that follows one topic by the rule of docs/reference/mqtt.md.

    Attributes:
        held: The message that it applied last; None if there is none.
        applied: How many it applied.
    """

    def __init__(self) -> None:
        self.held: dict[str, Any] | None = None
        self.applied = 0

    @property
    def position(self) -> tuple[int, int]:
        return (0, 0) if self.held is None else (self.held["epoch"], self.held["sequence"])

    def receive(self, payload: bytes) -> None:
        if not payload:
            self.held = None
            return
        try:
            message = json.loads(payload)
        except (ValueError, RecursionError):
            return
        numbers = [message.get(name) for name in ("epoch", "sequence")] if isinstance(message, dict) else []
        if not numbers or not all(type(number) is int and 0 <= number <= _MAX_NUMBER for number in numbers):
            return
        if tuple(numbers) > self.position:
            self.held = message
            self.applied += 1


class HomeBus:
    """What a broker keeps over all connections.

    Attributes:
        kept: The retained messages by topic.
        readers: Those who follow a topic, by topic.
        pace: Of the daemon's publications.
        order: The topics on which the daemon published, in order.
        denied: The topics on which it may not.
    """

    def __init__(self, pace: Pace | None = None, *, denied: Collection[str] = ()) -> None:
        self.pace = pace or Pace(5000)
        self.denied = denied
        self.order: list[str] = []
        self.kept: dict[str, bytes] = {}
        self.readers: dict[str, Reader] = {}
        self._daemon: _Connection | None = None

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish a retained message, as any account may that the broker lets."""
        self.kept[topic] = payload
        if not payload:
            del self.kept[topic]
        if topic not in self.readers:
            self.readers[topic] = Reader()
        self.readers[topic].receive(payload)
        if self._daemon is not None:
            self._daemon.bring(topic, payload, retained=False)

    def join(self, topic: str) -> None:
        """A new reader follows a topic, and gets what is retained."""
        self.readers[topic] = Reader()
        self.readers[topic].receive(self.kept.get(topic, b""))

    def reader(self, service: str) -> Reader:
        return self.readers.get(topics.UPDATE + service) or Reader()

    def message(self, service: str) -> dict[str, Any]:
        """The retained message of a service."""
        return json.loads(self.kept[topics.UPDATE + service])

    @contextlib.asynccontextmanager
    async def connected(self, core: Core) -> AsyncGenerator[None, None]:
        """The daemon on this bus: begins with the read-back, ends when everything was published."""
        connection = self._daemon = _Connection(self, core)
        for topic, payload in list(self.kept.items()):
            connection.bring(topic, payload, retained=True)
        await connection.retained.read_back(connection)
        publishing = asyncio.create_task(connection.retained.publish_forever(connection))
        try:
            yield
            if not self.denied:
                await self.settled(core)
        finally:
            self._daemon = None
            publishing.cancel()
            await asyncio.wait({publishing})

    async def settled(self, core: Core) -> None:
        """Wait until the daemon has repaired and published everything."""
        retained = self._daemon.retained if self._daemon is not None else None
        assert retained is not None
        await eventually(
            lambda: not core.parts.outbox.pending and not core.parts.order.behind and not retained.repairing
        )


class _Connection(FakeConnection):
    def __init__(self, bus: HomeBus, core: Core) -> None:
        super().__init__(denied=bus.denied)
        self._bus = bus
        self._markers = Markers("0" * 16)
        parts = core.parts
        self.retained = Retained(
            parts.outbox,
            parts.alerts,
            parts.drift,
            order=parts.order,
            markers=self._markers,
            on_confirmed=lambda: None,
            pace=bus.pace,
        )
        self.retained.begin()

    def bring(self, topic: str, payload: bytes, *, retained: bool) -> None:
        self.retained.receive(topics.topic_subject(topic), Inbound(topic, payload, 1, retained))

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        await super().publish(topic, payload, retain=retain)
        if topic.startswith(self._markers.prefix):
            self._markers.receive(topic)
        else:
            self._bus.order.append(topic)
            self._bus.publish(topic, payload)

    async def subscribe(self, filters: Sequence[str], *, retain_as_published: bool = False) -> None:
        await super().subscribe(filters, retain_as_published=retain_as_published)
        for topic in filters:
            if topic in self._bus.kept:
                self.bring(topic, self._bus.kept[topic], retained=True)

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        pass
