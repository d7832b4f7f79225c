"""A connection to no broker, for tests of what publishes on one."""

import asyncio
from collections.abc import Callable, Collection, Sequence

from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.connection import Connection, Denied, DoesNotFit
from aliciacfg.mqtt.messages import Reply
from aliciacfg.mqtt.packet_limit import PacketLimit


class FakeConnection(Connection):
    """Records what is published, and shows it to the test as a broker would deliver it.

    Attributes:
        published: Topic, payload and retain flag of what was published and acknowledged, in order.
        sent: Topic and payload of what was published without waiting.
        answers: What was answered.
        subscribed: Every topic filter.
        retain_as_published: Those of them that were subscribed with this option.
        denied: Topics that an access list forbids.
        gone: Whether the connection is gone.
        deliver: Called with the topic of everything that was published.
        is_congested: Whether too many answers wait.
    """

    def __init__(self, *, denied: Collection[str] = (), limit: int = 2**20) -> None:
        self.published: list[tuple[str, bytes, bool]] = []
        self.sent: list[tuple[str, bytes]] = []
        self.answers: list[Reply] = []
        self.subscribed: list[str] = []
        self.retain_as_published: list[str] = []
        self.denied = denied
        self.gone = False
        self.deliver: Callable[[str], None] = lambda _topic: None
        self.limit = PacketLimit(limit)
        self.delivered = 0
        self.is_congested = False
        self.publishing: set[asyncio.Task[None]] = set()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if self.gone:
            raise BrokerUnavailable("the broker is gone")
        if len(payload) > self.limit.bytes:
            raise DoesNotFit(topic, size=len(payload), limit=self.limit.bytes)
        if topic in self.denied:
            raise Denied(f"the broker refused a publication on {topic}")
        self.published.append((topic, payload, retain))
        self.deliver(topic)

    def begin_publish(
        self, topic: str, payload: bytes, *, retain: bool, done: Callable[[BrokerUnavailable | None], None]
    ) -> None:
        if self.gone:
            raise BrokerUnavailable("the broker is gone")
        if len(payload) > self.limit.bytes:
            raise DoesNotFit(topic, size=len(payload), limit=self.limit.bytes)

        async def publish() -> None:
            try:
                await self.publish(topic, payload, retain=retain)
            except (Denied, DoesNotFit) as error:
                done(error)
            else:
                done(None)

        task = asyncio.get_running_loop().create_task(publish())
        self.publishing.add(task)
        task.add_done_callback(self.publishing.discard)

    def flush(self) -> None:
        pass

    async def subscribe(self, filters: Sequence[str], *, retain_as_published: bool = False) -> None:
        if self.gone:
            raise BrokerUnavailable("the broker is gone")
        self.subscribed += filters
        if retain_as_published:
            self.retain_as_published += filters

    def send(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        assert qos == 1
        self.sent.append((topic, payload))

    def answer(self, reply: Reply, on_too_large: Callable[[Reply, DoesNotFit], None]) -> None:
        size = len(reply.payload)
        if size > self.limit.bytes:
            on_too_large(reply, DoesNotFit(reply.topic, size=size, limit=self.limit.bytes))
        else:
            self.answers.append(reply)

    def congested_for(self, topic: str) -> bool:  # noqa: ARG002
        return self.is_congested

    @property
    def silent_seconds(self) -> float:
        return 0.0

    @property
    def holds_back(self) -> bool:
        return False

    def room(self, topic: str) -> int:
        return self.limit.bytes - len(topic)
