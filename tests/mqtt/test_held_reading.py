"""A broker that does not take the answers: nothing further is read from it, and no request goes unanswered."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import mqtt5
import pytest

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.mqtt import connection as connection_module
from aliciacfg.mqtt.aiomqtt_client import AiomqttClient
from aliciacfg.mqtt.broker_client import BrokerClient
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.messages import Inbound, Publication, Reply
from aliciacfg.mqtt.mqtt5_client import Mqtt5Client
from aliciacfg.mqtt.packet_limit import PacketLimit
from aliciacfg.mqtt.packet_reader import PacketReader
from aliciacfg.mqtt.packets import packet_size
from inprocess import eventually
from soak import rarely
from wires import Wire

SECONDS = 30.0
REQUESTS = 6_000
CONNACKS = {"5": mqtt5.ConnAckPacket().write(), "3.1.1": b"\x20\x02\0\0"}
CLIENTS = {"5": Mqtt5Client, "3.1.1": AiomqttClient}
PUBLISH = 0x30
PAYLOAD = bytes(8000)
MB = 1024 * 1024

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def made(protocol: str, port: int = 1) -> BrokerClient:
    return CLIENTS[protocol](
        BrokerAddress("127.0.0.1", port),
        context=None,
        client_id="config_service_1",
        will=None,
        max_packet_bytes=MB,
        timeout_seconds=SECONDS,
    )


def answering(client: BrokerClient) -> Connection:
    """A connection that answers every message with its topic."""
    connection = Connection(client, certain=True, limit=PacketLimit(MB))

    def receive(inbound: Inbound) -> bool:
        connection.answer(Reply(inbound.topic, PAYLOAD, True, 0, None), lambda _reply, _error: None)
        return True

    connection.receive(receive)
    return connection


def request(number: int, protocol: str) -> bytes:
    body = b"\0\x05%05d" % number + (b"\0" if protocol == "5" else b"")
    return bytes([PUBLISH, len(body)]) + body


class Home:
    """A connection at a broker that a test plays.

    Attributes:
        connection: The connection.
        client: What it stands on.
        topics: Of the answers that the broker has read.
    """

    def __init__(self, connection: Connection, client: BrokerClient, streams: Streams) -> None:
        self.connection = connection
        self.client = client
        self._reader, self._writer = streams
        self._packets = PacketReader(MB)
        self.topics: list[bytes] = []

    async def read(self, size: int) -> None:
        """Read some bytes, and note the topics that were answered."""
        self._packets.feed(await self._reader.read(size))
        while (taken := self._packets.take()) is not None:
            data, start, _ = taken
            if data[0] == PUBLISH:
                self.topics.append(data[start + 2 : start + 7])

    async def flood(self, protocol: str) -> None:
        """Send all requests, as fast as they are taken."""
        for first in range(0, REQUESTS, 500):
            self._writer.write(b"".join(request(number, protocol) for number in range(first, first + 500)))
            await self._writer.drain()


@asynccontextmanager
async def home(protocol: str) -> AsyncGenerator[Home, None]:
    accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(CONNACKS[protocol])
        accepted.set_result((reader, writer))

    # A small buffer: what is read ahead would count as taken.
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    client = made(protocol, server.sockets[0].getsockname()[1])
    connection = answering(client)
    async with asyncio.timeout(SECONDS):
        await client.connect()
        connection.begin()
        streams = await accepted
        yield Home(connection, client, streams)
        connection.abort()
        streams[1].transport.abort()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)


Reading = Callable[[Home], Awaitable[None]]


async def read_slowly(bus: Home) -> None:
    """Read in small pieces, each when others have had their turn."""
    while len(bus.topics) < REQUESTS:
        await bus.read(16 * 1024)
        await asyncio.sleep(0)


async def read_late(bus: Home) -> None:
    """Read nothing until the connection reads nothing, and then everything."""
    await eventually(lambda: bus.connection._looks)
    assert bus.client.unwritten_bytes() < 5 * MB
    while len(bus.topics) < REQUESTS:
        await bus.read(MB)


@pytest.mark.parametrize(
    ("protocol", "reading"),
    [("5", read_slowly), ("5", read_late), ("3.1.1", read_late), rarely("3.1.1", read_slowly)],
)
async def test_every_request_is_answered_however_slowly_the_broker_reads(protocol: str, reading: Reading):
    """In order; meanwhile only so much waits as was read before, not all that the broker would send."""
    async with home(protocol) as bus:
        sending = asyncio.create_task(bus.flood(protocol))
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(bus.connection._queue._unacknowledged))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        await reading(bus)
        watching.cancel()
        await sending
        assert bus.topics == [b"%05d" % number for number in range(REQUESTS)]
        assert most < 2048 + 512


async def test_acknowledgements_behind_a_flood_are_read_when_the_broker_takes_answers():
    """A publication of the daemon does not wait for an acknowledgement that nobody reads."""
    async with home("5") as bus:
        sending = asyncio.create_task(bus.flood("5"))
        await eventually(lambda: bus.connection._looks)
        publishing = asyncio.create_task(bus.connection.publish("update", b""))
        while len(bus.topics) < REQUESTS:
            await bus.read(MB)
        await sending
        bus._writer.write(b"\x40\x02\0\x01")
        await publishing


class Link:
    """A connection of MQTT 5 without a socket, on which so much waits that nothing is read."""

    def __init__(self) -> None:
        client = made("5")
        assert isinstance(client, Mqtt5Client)
        self.client = client
        self.wire = Wire(client)
        self.connection = answering(client)
        client.connection_made(self.wire)
        client.data_received(CONNACKS["5"])
        self.wire.unwritten = 5 * MB
        client.data_received(b"".join(request(number, "5") for number in range(100)))
        while not self.wire.paused:
            client._input._go_on()
            client.data_received(b"".join(request(number, "5") for number in range(100)))


async def test_a_broker_that_wants_to_be_read_first_is_read(monkeypatch: pytest.MonkeyPatch):
    """Both sides would wait for each other for ever; so a little is read where the socket takes nothing."""
    monkeypatch.setattr(connection_module, "_FULL_SECONDS", 0.01)
    link = Link()
    before = link.connection.delivered
    await eventually(lambda: link.connection.delivered > before)
    await eventually(lambda: not link.wire.paused)
    link.client.data_received(request(1, "5"))
    assert link.wire.paused
    link.client.abort()


async def test_what_the_socket_takes_is_a_sign_of_life_while_nothing_is_read():
    """The broker's own, an acknowledgement or a PINGRESP, waits unread."""
    link = Link()
    before = link.client.last_received
    link.client.publish(Publication("update", b""))
    await asyncio.sleep(0)
    link.wire.unwritten = 0
    assert link.client.last_received > before
    link.client.abort()


async def test_a_goodbye_is_said_while_nothing_is_read():
    """And the end of the connection is noticed."""
    link = Link()
    leaving = asyncio.create_task(link.client.disconnect())
    await eventually(lambda: not link.wire.paused)
    link.client.data_received(b"")
    link.client.connection_lost(None)
    await leaving
    assert link.wire.written[-1].endswith(mqtt5.DisconnectPacket().write())


async def test_an_answer_has_the_size_that_the_bounds_above_assume():
    """The flood is larger than all buffers of a socket."""
    assert packet_size(Publication("00001", PAYLOAD, 0), "5") * REQUESTS > 40 * MB
