"""The connection of MQTT 3.1.1 against brokers that end it at an awkward moment."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.bus.not_connected import NotConnected
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.aiomqtt_client import AiomqttClient
from aliciacfg.mqtt.messages import Inbound, Publication

SECONDS = 10.0
DISCONNECT = b"\xe0\x00"
CONNACK = b"\x20\x02\x00\x00"
NO_PACKET = b"\x00\x00"


@pytest.mark.parametrize("behind", [b"", NO_PACKET])
async def test_an_end_right_behind_the_connack_is_noticed(behind: bytes, caplog: pytest.LogCaptureFixture):
    """Before it has returned from connecting, aiomqtt forgets an end, and would wait for another one.

    Nor does asyncio log a traceback of what nobody asked for.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(CONNACK + behind)
        if behind:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1])

    async def use() -> None:
        client = AiomqttClient(
            address,
            context=None,
            client_id="config_service_1",
            will=None,
            max_packet_bytes=1000,
            timeout_seconds=SECONDS,
        )
        try:
            await client.connect()
            await client.wait_closed()
        finally:
            client.abort()

    with pytest.raises((NotConnected, BrokerUnavailable)):
        await asyncio.wait_for(use(), SECONDS)
    gc.collect()
    assert "never retrieved" not in caplog.text
    server.close()
    await server.wait_closed()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def connected(
    serve: Serve, on_message: Callable[[AiomqttClient, Inbound], None] = lambda _client, _message: None
) -> AsyncGenerator[AiomqttClient]:
    """A client at a broker that answers its CONNECT, and then does what ``serve`` does."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(CONNACK)
        await serve(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        done.set()

    done = asyncio.Event()
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    client = AiomqttClient(
        BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1]),
        context=None,
        client_id="config_service_1",
        will=None,
        max_packet_bytes=1_000_000,
        timeout_seconds=SECONDS,
    )
    # Messages may come right behind the CONNACK.
    client.on_message = lambda message: on_message(client, message)
    async with asyncio.timeout(SECONDS):
        await client.connect()
        try:
            yield client
        finally:
            client.abort()
            await done.wait()
            server.close()
            await server.wait_closed()


def publish(number: int, payload: bytes) -> bytes:
    """A PUBLISH at QoS 1 on ``t``."""
    body = b"\x00\x01t" + number.to_bytes(2, "big") + payload
    size, rest = len(body) % 128, len(body) // 128
    length = bytes([size | 0x80, rest % 128 | 0x80, rest // 128]) if rest >= 128 else bytes([size | 0x80, rest])
    return b"\x32" + (length if rest else bytes([size])) + body


async def test_packets_that_come_together_are_all_handled():
    """Also one that is cut in the middle, and a large one behind many small ones."""
    payloads = [b"%d" % number for number in range(1000)] + [b"x" * 300_000, b"last"]
    packets = b"".join(publish(number, payload) for number, payload in enumerate(payloads, 1))
    acknowledged = asyncio.Event()
    pubacks = b"".join(b"\x40\x02" + number.to_bytes(2, "big") for number in range(1, len(payloads) + 1))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(packets[:-3])
        # The client has had all but the last before the rest of it comes.
        assert await reader.readexactly(len(pubacks) - 4) == pubacks[:-4]
        writer.write(packets[-3:])
        assert await reader.readexactly(4) == pubacks[-4:]
        acknowledged.set()
        await reader.read()

    heard: list[bytes] = []

    def on_message(client: AiomqttClient, message: Inbound) -> None:
        heard.append(message.payload)
        client.acknowledge(message)

    async with connected(serve, on_message):
        await acknowledged.wait()
    assert heard == payloads


async def test_a_broker_that_reads_slowly_gets_everything_and_the_goodbye_last():
    """What the socket did not take is sent before everything else, whole and in order."""
    reads, ended = asyncio.Event(), asyncio.Event()
    got = bytearray()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reads.wait()
        while chunk := await reader.read(10_000):
            got.extend(chunk)
        ended.set()

    payloads = [b"%d " % number * 10_000 for number in range(200)]
    async with connected(serve) as client:
        written = 0

        def on_written() -> None:
            nonlocal written
            written += 1
            if client.unwritten_bytes():
                reads.set()

        client.on_written = on_written
        for payload in payloads:
            client.publish(Publication("t", payload, qos=1))
        leaving = asyncio.create_task(client.disconnect())
        await ended.wait()
        await leaving
        assert written < len(payloads)
        assert client.unwritten_bytes() == 0
    assert bytes(got) == b"".join(publish(number, payload) for number, payload in enumerate(payloads, 1)) + DISCONNECT
