"""The connection of MQTT 5 against the clauses of the standard, and against a broker that sends anything at all."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import mqtt5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.bus.not_connected import NotConnected
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt import packets
from aliciacfg.mqtt.broker_client import KEPT_PAYLOAD_BYTES
from aliciacfg.mqtt.messages import Inbound, Publication, Will
from aliciacfg.mqtt.mqtt5_client import Mqtt5Client
from aliciacfg.mqtt.packets import variable_integer
from inprocess import eventually
from soak import examples
from wires import Wire

SECONDS = 10.0
MAX_BYTES = 2000
CONNACK = mqtt5.ConnAckPacket().write()


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + variable_integer(len(body)) + body


def publish(topic: str, payload: bytes = b"", *, identifier: int = 0, **options: Any) -> bytes:
    qos = mqtt5.QoS.AT_LEAST_ONCE if identifier else mqtt5.QoS.AT_MOST_ONCE
    return mqtt5.PublishPacket(topic, payload, **{"qos": qos, "packet_id": identifier or None, **options}).write()


class Link:
    """A client on a ``Wire``, connected unless told otherwise.

    Attributes:
        messages: What was received.
        acknowledged: Packet identifier and reason code of what was acknowledged.
    """

    def __init__(self, *, first: bytes = CONNACK) -> None:
        self.client = made_client(BrokerAddress("127.0.0.1", 1))
        self.wire = Wire(self.client)
        self.messages: list[Inbound] = []
        self.acknowledged: list[tuple[int, int]] = []
        self.client.on_message = self.messages.append
        self.client.on_acknowledged = lambda identifier, code: self.acknowledged.append((identifier, code))
        self.client.connection_made(self.wire)
        if first:
            self.client.data_received(first)

    def receive(self, *data: bytes) -> list[Any]:
        """Receive pieces of a stream; return what was sent meanwhile."""
        for piece in data:
            self.client.data_received(piece)
        return self.wire.sent()

    async def end(self) -> str:
        """Return why the connection has ended."""
        with pytest.raises(BrokerUnavailable) as caught:
            async with asyncio.timeout(SECONDS):
                await self.client.wait_closed()
        return str(caught.value)


def made_client(address: BrokerAddress, *, client_id: str | None = "config_service_1") -> Mqtt5Client:
    return Mqtt5Client(
        address,
        context=None,
        client_id=client_id,
        will=Will("gone", b"offline"),
        max_packet_bytes=MAX_BYTES,
        timeout_seconds=SECONDS,
    )


class Broker:
    """A socket on which a test is the broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def next(self) -> Any:
        """Return the next packet from the client; None at the end of the connection."""
        try:
            head = await self._reader.readexactly(2)
            while head[-1] & 0x80:
                head += await self._reader.readexactly(1)
            size = sum((byte & 0x7F) << 7 * index for index, byte in enumerate(head[1:]))
            return mqtt5.read(memoryview(head + await self._reader.readexactly(size)))[0]
        except asyncio.IncompleteReadError:
            return None


Play = Callable[[Broker], Awaitable[None]]


async def until_the_end(broker: Broker) -> None:
    """Take everything and say nothing."""
    while await broker.next() is not None:
        pass


@contextlib.asynccontextmanager
async def broker_that(play: Play, *, says: bytes = CONNACK) -> AsyncGenerator[Mqtt5Client, None]:
    """Give a client that is not connected, whose broker answers CONNECT and goes on with ``play``."""
    played = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            broker = Broker(reader, writer)
            assert isinstance(await broker.next(), mqtt5.ConnectPacket)
            writer.write(says)
            await play(broker)
            writer.close()
            await writer.wait_closed()
            played.set_result(None)
        except BaseException as error:
            played.set_exception(error)
            raise

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = made_client(BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1]))
    async with asyncio.timeout(SECONDS):
        yield client
        await played
    client.abort()
    server.close()
    await server.wait_closed()
    # The transport closes the socket in the next turn.
    await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def connected(play: Play, *, says: bytes = CONNACK) -> AsyncGenerator[Mqtt5Client, None]:
    """Give the same, connected."""
    async with broker_that(play, says=says) as client:
        await client.connect()
        yield client


async def test_messages_are_acknowledged_when_the_receiver_says_so():
    """MQTT 5 §4.3.2: at QoS 1, in any order of our choice; at QoS 0 never."""
    link = Link()
    assert link.receive(publish("a"), publish("b", identifier=7), publish("c", identifier=9)) == []
    assert [(found.topic, found.qos, found.identifier) for found in link.messages] == [
        ("a", 0, 0),
        ("b", 1, 7),
        ("c", 1, 9),
    ]
    for message in (link.messages[2], link.messages[0], link.messages[1]):
        link.client.acknowledge(message)
    await asyncio.sleep(0)
    assert [found.packet_id for found in link.wire.sent()] == [9, 7]


async def test_all_that_one_read_brings_is_answered_by_one_write():
    """A write for each answer would take most of the time; the answers of a later turn go together, too."""
    link = Link()

    def answer(message: Inbound) -> None:
        link.client.publish(Publication(f"answer/{message.topic}", message.payload, message.qos))
        link.client.acknowledge(message)

    link.client.on_message = answer
    link.client.data_received(b"".join(publish("t", b"%d" % number, identifier=number) for number in range(1, 20)))
    assert len(link.wire.written) == 1
    sent = link.wire.sent()
    assert [found.payload for found in sent if isinstance(found, mqtt5.PublishPacket)] == [
        b"%d" % number for number in range(1, 20)
    ]
    assert [found.packet_id for found in sent if isinstance(found, mqtt5.PubAckPacket)] == list(range(1, 20))
    for _ in range(3):
        link.client.publish(Publication("later", b"", 0))
    assert link.wire.written == []
    await asyncio.sleep(0)
    assert len(link.wire.written) == 1


async def test_others_have_their_turn_while_a_flood_is_handled():
    """After a number of packets the socket is not read, until the event loop has come round."""
    link = Link()
    link.client.data_received(b"".join(publish("t", b"%d" % number) for number in range(1000)))
    assert link.wire.paused
    before = len(link.messages)
    assert 0 < before < 1000
    # Read before it was paused.
    link.client.data_received(publish("t", b"last"))
    assert len(link.messages) == before
    await eventually(lambda: not link.wire.paused)
    assert [found.payload for found in link.messages] == [*(b"%d" % number for number in range(1000)), b"last"]


async def test_nothing_is_read_while_the_broker_takes_nothing():
    """Its packets would be answered into memory, however many it sends; they are handled when it has taken enough."""
    link = Link()
    flood = packet(0x62, b"\x00\x07") * 10
    link.receive(flood)
    link.wire.unwritten = 2**24 + 1
    link.receive(flood)
    assert link.wire.paused
    # Read before it was paused.
    assert link.receive(flood, publish("t")) == []
    await asyncio.sleep(0)
    assert link.wire.paused
    link.wire.unwritten = 0
    link.client.resume_writing()
    assert not link.wire.paused
    assert len(link.wire.sent()) == 10
    assert [found.topic for found in link.messages] == ["t"]


async def test_properties_and_flags_reach_the_receiver():
    """MQTT 5 §3.3.1.3, §3.3.2.3.5, §3.3.2.3.6."""
    link = Link()
    link.receive(
        publish("t/é", b"\xff", retain=True, response_topic="r/\ufeff", correlation_data=b"\x00\xff"), publish("t")
    )
    assert link.messages == [Inbound("t/é", b"\xff", 0, True, "r/\ufeff", b"\x00\xff"), Inbound("t", b"", 0, False)]


async def test_what_the_broker_announces_is_told():
    """MQTT 5 §3.2.2.3.3 and §3.2.2.3.6; without it there is no limit of packets, and 65,535 at a time."""
    link = Link(first=mqtt5.ConnAckPacket(receive_max=20, max_packet_size=5000).write())
    assert (link.client.receive_maximum, link.client.max_packet_bytes) == (20, 5000)
    plain = Link()
    assert (plain.client.receive_maximum, plain.client.max_packet_bytes) == (65_535, None)


async def test_the_reason_code_of_an_acknowledgement_is_told():
    """MQTT 5 §3.4.2.1; also 0x95, by which Mosquitto refuses what is too large."""
    link = Link()
    identifiers = [link.client.publish(Publication("t", b"")) for _ in range(3)]
    answers = zip(identifiers, (b"", b"\x87", b"\x95"), strict=True)
    link.receive(*(packet(0x40, identifier.to_bytes(2, "big") + code) for identifier, code in answers))
    assert link.acknowledged == list(zip(identifiers, (0, 0x87, 0x95), strict=True))


async def test_a_packet_identifier_in_use_is_not_used_again():
    """MQTT 5 §2.2.1: until it was acknowledged."""
    link = Link()
    first = link.client.publish(Publication("t", b""))
    others = {link.client.publish(Publication("t", b"")) for _ in range(65_534)}
    assert len(others | {first}) == 65_535
    link.receive(packet(0x40, (77).to_bytes(2, "big")))
    assert link.client.publish(Publication("t", b"")) == 77
    assert link.client.publish(Publication("t", b"", 0)) == 0


async def test_messages_at_qos_2_are_acknowledged_as_the_standard_says():
    """MQTT 5 §4.3.3: PUBREC, and PUBCOMP after PUBREL. Only a subscription of others can bring them."""
    link = Link()
    link.receive(publish("t", qos=mqtt5.QoS.EXACTLY_ONCE, packet_id=3))
    (message,) = link.messages
    assert message.qos == 1
    link.client.acknowledge(message)
    await asyncio.sleep(0)
    assert [type(found) for found in link.wire.sent()] == [mqtt5.PubRecPacket]
    (completed,) = link.receive(mqtt5.PubRelPacket(3).write())
    assert isinstance(completed, mqtt5.PubCompPacket)


NO_UTF8 = b"\x32\x09\x00\x01\xff\x00\x05\x00abc"
UNREADABLE = [
    NO_UTF8,
    b"\x32\x0a\x00\x01t\x00\x05\x04\x08\x00\x01\xff",
    packet(0x32, b"\x00\x01t\x00\x05\x08\x08\x00\x01a\x08\x00\x01b"),  # Response Topic twice.
    packet(0x32, b"\x00\x01t\x00\x05\x02\x7f\x00"),  # An unknown property.
    packet(0x32, b"\x00\x01t\x00\x05\x09\x01\x00"),  # Properties that are longer than the packet.
    packet(0x32, b"\x00\x00\x00\x05\x00"),  # No topic (§3.3.2.1).
    packet(0x32, b"\x00\x01t\x00\x05\x00" + bytes(MAX_BYTES))[:-MAX_BYTES].replace(b"t", b"\xff") + bytes(MAX_BYTES),
]


@pytest.mark.parametrize("data", UNREADABLE)
async def test_a_message_that_cannot_be_read_is_acknowledged_and_skipped(
    data: bytes, capfd: pytest.CaptureFixture[str]
):
    """A persistent session would deliver it at every connect; the messages around it are received."""
    link = Link()
    sent = link.receive(publish("before"), data, publish("after"))
    assert [(type(found), found.packet_id) for found in sent] == [(mqtt5.PubAckPacket, 5)]
    assert [found.topic for found in link.messages] == ["before", "after"]
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize("size", [MAX_BYTES, 300_000, 3_000_000])
async def test_of_a_message_that_is_too_large_the_beginning_is_received(size: int):
    """With its properties, so that it can be answered; the rest is dropped as it comes."""
    link = Link()
    data = publish("t", bytes(size), identifier=5, response_topic="r", correlation_data=b"c")
    pieces = [data[start : start + 65_536] for start in range(0, len(data), 65_536)]
    link.receive(*pieces, publish("after"))
    assert link.messages == [
        Inbound("t", bytes(KEPT_PAYLOAD_BYTES), 1, False, "r", b"c", 5, len(data)),
        Inbound("after", b"", 0, False),
    ]


MALFORMED = [
    b"\x30\xff\xff\xff\xff\x01",  # A length of five bytes (§1.5.5).
    b"\x36\x05\x00\x01t\x00\x05",  # QoS 3 (§3.3.1.2).
    b"\x32\x06\x00\x01t\x00\x00\x00",  # Packet identifier 0 (§2.2.1).
    b"\x32\x03\x00\x09t",
    b"\x40\x01\x00",
    b"\x90\x02\x00\x01",
    b"\x00\x00",
    CONNACK,  # A second one (§3.1.0).
    mqtt5.ConnectPacket("x").write(),
    mqtt5.PingReqPacket().write(),
    mqtt5.AuthPacket().write(),
    packet(0x40, bytes(MAX_BYTES)),
]


@pytest.mark.parametrize("data", MALFORMED)
async def test_any_other_malformed_packet_ends_the_connection(data: bytes):
    """MQTT 5 §4.13.1: with a DISCONNECT that says why; what comes behind it counts no more."""
    link = Link()
    (said,) = link.receive(publish("before"), data, publish("after"), data)
    assert isinstance(said, mqtt5.DisconnectPacket)
    assert int(said.reason_code) == 0x81
    assert link.wire.closed
    assert "malformed packet" in await link.end()
    assert [found.topic for found in link.messages] == ["before"]


@pytest.mark.parametrize("topic", [b"", b"t"])
async def test_a_topic_alias_ends_the_connection(topic: bytes):
    """MQTT 5 §3.1.2.11.5: none was allowed to the broker. Acknowledged, the message would be lost without its topic."""
    link = Link()
    body = len(topic).to_bytes(2, "big") + topic + b"\x00\x05\x03\x23\x00\x01"
    (said,) = link.receive(publish("before"), packet(0x32, body), publish("after"))
    assert isinstance(said, mqtt5.DisconnectPacket)
    assert int(said.reason_code) == 0x94
    assert "topic alias" in await link.end()
    assert [found.topic for found in link.messages] == ["before"]


@pytest.mark.parametrize("first", [publish("t"), mqtt5.PingRespPacket().write(), b"\x20\x02\x00\x00", b"\x20\x00"])
async def test_the_first_packet_is_a_connack(first: bytes):
    """MQTT 5 §3.2.0: nothing else may come before it."""
    async with broker_that(until_the_end, says=first) as client:
        with pytest.raises(NotConnected, match="malformed packet") as caught:
            await client.connect()
    assert caught.value.reason == "ended"


@pytest.mark.parametrize(("code", "text"), [(0x87, "Not authorized"), (0x84, "Unsupported protocol version"), (1, "1")])
async def test_a_refusal_is_told_with_its_reason_code(code: int, text: str):
    """MQTT 5 §3.2.2.2; with 1 a broker of 3.1.1 refuses the version."""
    async with broker_that(until_the_end, says=bytes([0x20, 3, 0, code, 0])) as client:
        with pytest.raises(NotConnected, match=text) as caught:
            await client.connect()
    assert (caught.value.reason, caught.value.code) == ("refused", code)


@pytest.mark.parametrize(
    ("says", "code"),
    [
        (mqtt5.ConnAckPacket(max_qos=mqtt5.QoS.AT_MOST_ONCE), 0x9B),
        (mqtt5.ConnAckPacket(retain_available=False), 0x9A),
        (mqtt5.ConnAckPacket(max_qos=mqtt5.QoS.AT_LEAST_ONCE), None),
    ],
)
async def test_a_broker_that_does_not_offer_enough_is_refused(says: mqtt5.ConnAckPacket, code: int | None):
    """MQTT 5 §3.2.2.3.4, §3.2.2.3.5: it would end the connection at the first update, again and again."""
    async with broker_that(until_the_end, says=says.write()) as client:
        if code is None:
            await client.connect()
            client.abort()
            return
        with pytest.raises(NotConnected) as caught:
            await client.connect()
    assert (caught.value.reason, caught.value.code) == ("refused", code)


async def test_a_disconnect_of_the_broker_ends_the_connection_with_its_reason():
    """MQTT 5 §3.14.2.1."""

    async def play(broker: Broker) -> None:
        broker.writer.write(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER).write())
        assert await broker.next() is None

    async with connected(play) as client:
        with pytest.raises(BrokerUnavailable, match="Session taken over"):
            await client.wait_closed()
        assert client.end_code == 0x8E


async def test_a_disconnect_of_ours_is_said_last():
    """MQTT 5 §3.14.4: behind everything that was published, and the broker closes the connection."""
    said: list[Any] = []

    async def play(broker: Broker) -> None:
        while (received := await broker.next()) is not None:
            said.append(received)
            if isinstance(received, mqtt5.DisconnectPacket):
                return

    async with connected(play) as client:
        client.publish(Publication("t", bytes(100_000), 0))
        await client.disconnect()
        await client.disconnect()
    assert [type(found) for found in said] == [mqtt5.PublishPacket, mqtt5.DisconnectPacket]
    assert int(said[-1].reason_code) == 0


async def test_a_connection_is_kept_alive():
    """MQTT 5 §3.1.2.10, §3.2.2.3.14: a PINGREQ within the Keep Alive that the broker wants."""

    async def play(broker: Broker) -> None:
        for _ in range(2):
            assert isinstance(await broker.next(), mqtt5.PingReqPacket)
            broker.writer.write(mqtt5.PingRespPacket().write())

    async with connected(play, says=mqtt5.ConnAckPacket(server_keep_alive=1).write()):
        pass


async def test_a_broker_that_does_not_answer_a_pingreq_is_gone():
    """MQTT 5 §3.1.2.10: the client should close the connection."""
    async with connected(until_the_end, says=mqtt5.ConnAckPacket(server_keep_alive=1).write()) as client:
        with pytest.raises(BrokerUnavailable, match="PINGREQ"):
            await client.wait_closed()


async def test_a_refused_subscription_is_told():
    """MQTT 5 §3.9.3: a reason code for each filter."""

    async def play(broker: Broker) -> None:
        asked = await broker.next()
        assert isinstance(asked, mqtt5.SubscribePacket)
        broker.writer.write(packet(0x90, asked.packet_id.to_bytes(2, "big") + b"\x00\x01\x87"))
        asked = await broker.next()
        assert isinstance(asked, mqtt5.UnsubscribePacket)
        broker.writer.write(packet(0xB0, asked.packet_id.to_bytes(2, "big") + b"\x00\x00"))

    async with connected(play) as client:
        with pytest.raises(BrokerUnavailable, match=r"refused the subscription of b$"):
            await client.subscribe(["a", "b"])
        await client.unsubscribe(["a"])


async def test_a_subscription_has_a_reason_code_for_each_filter():
    """MQTT 5 §3.9.3: with fewer it is unknown which one was accepted, so none counts."""

    async def play(broker: Broker) -> None:
        asked = await broker.next()
        broker.writer.write(packet(0x90, asked.packet_id.to_bytes(2, "big") + b"\x00\x01"))

    async with connected(play) as client:
        with pytest.raises(BrokerUnavailable, match="refused the subscription of a, b"):
            await client.subscribe(["a", "b"])


async def test_a_subscription_ends_with_the_connection():
    """Nothing waits for the acknowledgement of a broker that is gone."""

    async def play(broker: Broker) -> None:
        assert isinstance(await broker.next(), mqtt5.SubscribePacket)

    async with connected(play) as client:
        with pytest.raises(BrokerUnavailable, match="the broker is gone"):
            await client.subscribe(["a"])
        with pytest.raises(BrokerUnavailable, match="the broker is gone"):
            await client.unsubscribe(["a"])


async def test_what_the_socket_has_not_taken_is_counted():
    """So that the send queue waits; the transport tells when it has been taken."""
    link = Link()
    told: list[int] = []
    link.client.on_written = lambda: told.append(link.client.written_bytes)
    before = link.client.queued_bytes
    link.client.publish(Publication("t", bytes(5000), 0))
    size = packets.packet_size(Publication("t", bytes(5000), 0), "5")
    assert (link.client.queued_bytes, link.client.written_bytes) == (before + size, before)
    link.wire.unwritten = 3000
    await asyncio.sleep(0)
    assert link.client.queued_bytes - link.client.written_bytes == 3000
    sent_at = link.client.last_sent
    assert link.client.last_sent == sent_at
    link.wire.unwritten = 0
    link.client.resume_writing()
    assert told == [link.client.queued_bytes]
    assert link.client.last_sent > sent_at


# The codec writes no wildcards where none belong.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="+#"), max_size=5)
FROM_A_BROKER = st.one_of(
    st.builds(
        publish,
        st.sampled_from(["t", "alicia/config/get/é", "a/b/c"]),
        st.binary(max_size=40),
        identifier=st.sampled_from([0, 0, 1, 300, 65_535]),
        response_topic=st.one_of(st.none(), TEXT),
        correlation_data=st.one_of(st.none(), st.binary(max_size=20)),
        retain=st.booleans(),
        subscription_ids=st.lists(st.integers(1, 300), max_size=2),
        user_properties=st.lists(st.tuples(TEXT, TEXT), max_size=2),
    ),
    st.builds(lambda identifier: packet(0x40, identifier.to_bytes(2, "big")), st.integers(1, 65_535)),
    st.sampled_from([mqtt5.PingRespPacket().write(), b"\x90\x04\x00\x63\x00\x01", b"\x62\x02\x00\x03"]),
    st.sampled_from([UNREADABLE[1], UNREADABLE[2], UNREADABLE[3], packet(0x30, b"\x00\x01t\x00" + bytes(MAX_BYTES))]),
)


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    ends = [*sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


def check_any_split(sent: list[bytes], cuts: list[int]) -> None:
    """Check that packets of a broker are understood the same however the stream is split."""

    async def run(pieces: list[bytes]) -> tuple[list[Inbound], list[Any], bool]:
        link = Link()
        link.client.on_message = lambda message: (link.messages.append(message), link.client.acknowledge(message))[0]
        for piece in pieces:
            link.client.data_received(piece)
            await asyncio.sleep(0)
        return link.messages, link.wire.sent(), link.wire.closed

    stream = b"".join(sent)
    whole = asyncio.run(run([stream]))
    assert asyncio.run(run(split(stream, cuts))) == whole
    messages, answers, closed = whole
    assert not closed
    identifiers = [found.identifier for found in messages if found.identifier]
    skipped = sum(data in UNREADABLE for data in sent)
    acknowledged = [found.packet_id for found in answers if isinstance(found, mqtt5.PubAckPacket)]
    assert len(acknowledged) == len(identifiers) + skipped


def check_any_damage(sent: list[bytes], damage: list[tuple[int, int]], cuts: list[int]) -> None:
    """Check that damaged packets end the connection in order, or are understood; nothing is raised, nothing hangs."""

    async def run() -> None:
        stream = bytearray(b"".join(sent))
        for place, value in damage:
            if stream:
                stream[place % len(stream)] = value
        link = Link()
        for piece in split(bytes(stream), cuts):
            if not link.wire.closed:
                link.client.data_received(piece)
            await asyncio.sleep(0)
        if link.wire.closed:
            assert await link.end()
        for answer in link.wire.sent():
            assert isinstance(
                answer, mqtt5.PubAckPacket | mqtt5.PubRecPacket | mqtt5.PubCompPacket | mqtt5.DisconnectPacket
            )

    asyncio.run(run())


STREAMS = st.lists(FROM_A_BROKER, max_size=12)
CUTS = st.lists(st.integers(0, 2**16), max_size=10)
DAMAGE = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6)


@examples(40)
@given(sent=STREAMS, cuts=CUTS)
def test_a_stream_is_understood_however_it_is_split(sent: list[bytes], cuts: list[int]):
    """Every message arrives once, in order, and is acknowledged; what cannot be read is skipped."""
    check_any_split(sent, cuts)


@examples(40)
@given(sent=STREAMS, damage=DAMAGE, cuts=CUTS)
def test_a_damaged_stream_ends_in_order_or_is_understood(
    sent: list[bytes], damage: list[tuple[int, int]], cuts: list[int]
):
    """MQTT 5 §4.13: whatever the bytes are."""
    check_any_damage(sent, damage, cuts)


@pytest.mark.soak
@pytest.mark.timeout(900)
@settings(max_examples=20_000, deadline=None)
@given(sent=STREAMS, damage=DAMAGE, cuts=CUTS)
def test_many_streams_are_understood_or_end_in_order(sent: list[bytes], damage: list[tuple[int, int]], cuts: list[int]):
    """The same for twenty thousand streams."""
    check_any_split(sent, cuts)
    check_any_damage(sent, damage, cuts)
