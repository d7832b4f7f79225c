"""A connection to no broker, for tests of what publishes on one."""

from collections.abc import Callable, Collection, Sequence

from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.connection import Connection, Denied
from aliciacfg.mqtt.messages import Reply


class FakeConnection(Connection):
    """Records what is published, and shows it to the test as a broker would deliver it.

    Attributes:
        published: Topic, payload and retain flag of what was published and acknowledged, in order.
        sent: Topic and payload of what was published without waiting.
        answers: What was answered.
        subscribed: Every topic filter.
        denied: Topics that an access list forbids.
        gone: Whether the connection is gone.
        deliver: Called with the topic of everything that was published.
    """

    def __init__(self, *, denied: Collection[str] = ()) -> None:
        self.published: list[tuple[str, bytes, bool]] = []
        self.sent: list[tuple[str, bytes]] = []
        self.answers: list[Reply] = []
        self.subscribed: list[str] = []
        self.denied = denied
        self.gone = False
        self.deliver: Callable[[str], None] = lambda _topic: None

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if self.gone:
            raise BrokerUnavailable("the broker is gone")
        if topic in self.denied:
            raise Denied(f"the broker refused a publication on {topic}")
        self.published.append((topic, payload, retain))
        self.deliver(topic)

    async def subscribe(self, filters: Sequence[str]) -> None:
        if self.gone:
            raise BrokerUnavailable("the broker is gone")
        self.subscribed += filters

    def send(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        assert qos == 1
        self.sent.append((topic, payload))

    def answer(self, reply: Reply) -> None:
        self.answers.append(reply)
