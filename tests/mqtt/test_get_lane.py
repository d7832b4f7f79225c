"""The lane of plain gets beside the way that all requests go: whatever comes, both say the same, byte for byte."""

import random
from collections.abc import Iterator
from pathlib import Path

import mqtt5
import pytest

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.mqtt import mqtt5_packets, packets
from aliciacfg.mqtt.admission import Admission
from aliciacfg.mqtt.background import BackgroundTasks
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.get_lane import GetLane
from aliciacfg.mqtt.inbox import Inbox
from aliciacfg.mqtt.messages import Inbound, Publication
from aliciacfg.mqtt.mqtt5_client import Mqtt5Client
from aliciacfg.mqtt.outgoing import Outgoing
from aliciacfg.mqtt.packet_limit import PacketLimit
from aliciacfg.mqtt.requests import Requests
from builders import environment_file
from inprocess import Core, core
from soak import rarely
from wires import Wire

FILES = {"environments/dev.yaml": environment_file({"bell": {}, "door": {}})}
RULES = {"services": {"bell": {"read": {"allowed_services": ["door"]}}}}
MAX_BYTES = 2**20
TOPICS = [None, "alicia/reply/bell/1", "alicia/reply/door/1", "alicia/reply/bell/é", "alicia/devices/lamp", "x" * 130]
DATA = [None, b"", b"1", b"2", b"1234", b"9" * 126]
PAYLOADS = [b"", b"", b"", b"{}", b"{]", b'{"request_id":"1"}']
NAMES = ["bell", "bell", "bell", "door", "nobody", "bell/door"]
MB = 1024 * 1024


class Bus:
    """All of the daemon that answers requests at once, on a transport without a socket.

    Attributes:
        wire: The transport.
        connection: The connection on it.
        in_lane: How many packets the lane has handled.
        plainly: How many messages went the other way.
        lane: The lane, if there is one.
        others: Those of them that are not answered at once, and in order.
    """

    def __init__(self, home: Core, *, with_lane: bool, receive_maximum: int = 100, limit: int = MAX_BYTES) -> None:
        self._home = home
        client = Mqtt5Client(
            BrokerAddress("127.0.0.1", 1),
            context=None,
            client_id="c",
            will=None,
            max_packet_bytes=MAX_BYTES,
            timeout_seconds=10.0,
        )
        self.wire = Wire(client)
        self._client = client
        self.connection = Connection(client, certain=True, limit=PacketLimit(limit))
        client.connection_made(self.wire)
        client.data_received(mqtt5.ConnAckPacket(receive_max=receive_maximum).write())
        self.connection.begin()
        self._background = BackgroundTasks(self._unexpected)
        outgoing = Outgoing(home.parts.alerts)
        outgoing.attach(self.connection)
        requests = Requests(home.parts.service, reply_prefixes=(), max_config_bytes=MAX_BYTES)
        self.admission = Admission(
            self._background, acknowledge=self.connection.acknowledge, congested=outgoing.congested_for
        )
        self.connection.on_relief = self.admission.pump
        self.inbox = Inbox(requests, self.admission, outgoing, max_packet_bytes=MAX_BYTES)
        self.in_lane = self.plainly = 0
        self.others: list[Inbound] = []
        self.connection.receive(self._receive)
        self.lane: GetLane | None = None
        if with_lane:
            self.lane = lane = self.connection.open_lane(
                requests, is_free=self.admission.reads_are_free, on_too_large=outgoing.on_too_large
            )
            self.inbox.learn = lane.learn
            self._count(lane)
        self.admission.open()

    def _unexpected(self, name: str, error: Exception) -> None:
        raise AssertionError(name) from error

    def _count(self, lane: GetLane) -> None:
        outer = self

        class Counting:
            def run(self, *arguments: object) -> tuple[int, int, int]:
                result = lane.run(*arguments)  # type: ignore[arg-type]
                outer.in_lane += result[1]
                return result

        self._client.use(Counting())  # type: ignore[arg-type]

    def _receive(self, inbound: Inbound) -> bool:
        self.plainly += 1
        if not self.inbox.answer_at_once(inbound):
            self.others.append(inbound)
        return True

    def receive(self, *pieces: bytes) -> bytes:
        """Receive pieces of a stream; return what was sent."""
        for piece in pieces:
            self._client.data_received(piece)
        sent = b"".join(self.wire.written)
        self.wire.written.clear()
        return sent

    def take_nothing(self, full: bool) -> None:
        """Have the socket take nothing, or everything."""
        self.wire.unwritten = 5 * MB if full else 0
        if not full:
            self.connection._pump()

    @property
    def used(self) -> set[int]:
        """The packet identifiers under way."""
        return self._client._identifiers.used

    def counts(self) -> tuple[int, ...]:
        """What is counted for people."""
        metrics, cache = self._home.parts.service.health.metrics, self._home.parts.cache
        meter = metrics.meter("get", "mqtt")
        return metrics.messages_processed, metrics.errors, cache.hits + cache.misses, sum(meter.buckets)

    def queue(self) -> tuple[object, ...]:
        """What can be told of the messages under way."""
        queue = self.connection._queue
        return (
            sorted(queue.sizes_under_way),
            queue._under_way_bytes,
            queue._topics,
            queue.waits,
            sorted(self.used),
            self.connection.delivered,
        )


def request(
    name: str = "bell",
    *,
    identifier: int = 0,
    response_topic: str | None = "alicia/reply/bell/1",
    data: bytes | None = b"1",
    payload: bytes = b"",
    flags: int = 0,
    more: bytes = b"",
) -> bytes:
    properties = packets.request_properties(response_topic, data) + more
    topic = f"alicia/config/get/{name}"
    head = packets.publish_head(Publication(topic, payload, int(identifier > 0), False, properties), identifier)
    return bytes([head[0] | flags]) + head[1:] + payload


def any_request(chance: random.Random) -> bytes:
    return request(
        chance.choice(NAMES),
        identifier=chance.choice([0, chance.randint(1, 65_535)]),
        response_topic=chance.choice(TOPICS[: chance.choice([2, 6])]),
        data=chance.choice(DATA),
        payload=chance.choice(PAYLOADS),
        flags=chance.choice([0] * 9 + [1, 8]),
        more=chance.choice([b""] * 9 + [b"\x26\0\x01a\0\x01b"]),
    )


def any_stream(chance: random.Random, sent: list[int]) -> Iterator[bytes]:
    """Requests, most of them like others before, and acknowledgements in some order."""
    known = [request(identifier=5), request(data=b"2"), any_request(chance)]
    sent = [*sent, 1, 2, 3]
    for _ in range(chance.randint(1, 40)):
        match chance.randint(0, 9):
            case 0:
                yield any_request(chance)
            case 1:
                # After 0x95, packet too large, few answers are small enough any more.
                code = b"\x95" if chance.random() < 0.02 else chance.choice([b"", b"", b"\x00", b"\x87"])
                number = chance.choice(sent).to_bytes(2, "big")
                yield b"\x40" + bytes([2 + len(code)]) + number + code
            case 2 | 3 | 4 | 5:
                yield mqtt5_packets.puback(chance.choice(sent))
            case 6 if chance.random() < 0.1:
                yield chance.choice([b"\xd0\0", b"\x62\x02\0\x01"])
            case _:
                yield chance.choice(known)


def pieces_of(stream: bytes, chance: random.Random) -> list[bytes]:
    cuts = sorted(chance.randrange(len(stream) + 1) for _ in range(chance.choice([0, 0, 1, 3])))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


# The first four have every pair of limits.
@pytest.mark.parametrize("seed", [0, 1, 4, 7, *(rarely(seed) for seed in (2, 3, 5, 6, 8, 9, 10, 11))])
async def test_whatever_comes_is_answered_as_on_the_other_way(tmp_path: Path, seed: int):
    """The same bytes, the same counts, the same under way: beside changes, new rules, a full socket."""
    chance = random.Random(seed)
    async with core(tmp_path, FILES) as home:
        options = {"receive_maximum": chance.choice([4, 100]), "limit": chance.choice([800, MAX_BYTES])}
        one = Bus(home, with_lane=True, **options)
        other = Bus(home, with_lane=False, **options)
        for _ in range(60):
            if chance.random() < 0.05:
                await home.ask("patch", "bell", patch={"settings": {"n": chance.random()}})
            if chance.random() < 0.05:
                home.write("environments/access.yaml", RULES if chance.random() < 0.5 else {})
                await home.ask("reload")
            full = chance.random() < 0.2
            one.take_nothing(full)
            other.take_nothing(full)
            pieces = pieces_of(b"".join(any_stream(chance, sorted(one.used))), chance)
            before = one.counts()
            first = one.receive(*pieces)
            between = one.counts()
            second = other.receive(*pieces)
            after = other.counts()
            assert first == second
            assert _difference(before, between) == _difference(between, after)
            assert one.queue() == other.queue()
            assert one.others == other.others
        if options == {"receive_maximum": 100, "limit": MAX_BYTES}:
            assert one.in_lane > 100


def _difference(before: tuple[int, ...], after: tuple[int, ...]) -> list[int]:
    return [new - old for old, new in zip(before, after, strict=True)]


async def test_the_lane_leaves_requests_behind_those_that_wait(tmp_path: Path):
    """Nothing overtakes a read that waits, nor answers to a program that the broker has stopped to listen for."""
    async with core(tmp_path, FILES) as home:
        bus = Bus(home, with_lane=True)
        bus.receive(request(identifier=1), request(identifier=2))
        assert (bus.plainly, bus.in_lane) == (1, 1)
        bus.admission.close()
        bus.receive(request(identifier=3))
        assert (bus.plainly, bus.in_lane, len(bus.others)) == (2, 1, 1)


async def test_an_answer_that_the_broker_refuses_as_too_large_is_told(tmp_path: Path):
    """MQTT 5 §3.4.2.1: of the answers of the lane, too."""
    async with core(tmp_path, FILES) as home:
        bus = Bus(home, with_lane=True)
        bus.receive(request(identifier=1), request(identifier=2))
        assert bus.in_lane == 1
        told = bus.receive(b"\x40\x03\0\x02\x95")
        assert b"too_large" in told


async def test_the_lane_holds_no_answer(tmp_path: Path):
    """What the cache forgets, because it changed or has no room, is not kept by a request that does not come again."""
    async with core(tmp_path, FILES) as home:
        bus = Bus(home, with_lane=True)
        assert bus.lane is not None
        bus.receive(*(request(name, data=b"1") for name in ("bell", "door") * 3))
        assert bus.in_lane == 4
        assert {route.payload for route in bus.lane._routes.values()} == {b""}
        assert not bus.lane._ready


async def test_requests_of_several_clients_may_alternate(tmp_path: Path):
    """Each is answered with its own configuration, to its own topic, and counted for its own service."""
    async with core(tmp_path, FILES) as home:
        one, other = Bus(home, with_lane=True), Bus(home, with_lane=False)
        clients = [("bell", "alicia/reply/bell/1"), ("door", "alicia/reply/door/1"), ("bell", None)]
        stream = b"".join(
            request(name, identifier=number, response_topic=topic)
            for number, (name, topic) in enumerate(clients * 8, 1)
        )
        before = one.counts()
        first = one.receive(stream)
        between = one.counts()
        assert first == other.receive(stream)
        assert _difference(before, between) == _difference(between, other.counts())
        assert one.queue() == other.queue()
        assert one.in_lane == 24 - len(clients)
        accesses = home.parts.service.health.metrics._accesses
        assert (accesses["bell"], accesses["door"]) == (32, 16)
