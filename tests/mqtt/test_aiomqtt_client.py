"""The connection of MQTT 3.1.1 against brokers that end it at an awkward moment."""

import asyncio

import pytest

from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.address import BrokerAddress
from aliciacfg.mqtt.aiomqtt_client import AiomqttClient
from aliciacfg.mqtt.broker_client import NotConnected

SECONDS = 10.0
CONNACK = b"\x20\x02\x00\x00"
NO_PACKET = b"\x00\x00"


@pytest.mark.parametrize("behind", [b"", NO_PACKET])
async def test_an_end_right_behind_the_connack_is_noticed(behind: bytes):
    """Before it has returned from connecting, aiomqtt forgets an end, and would wait for another one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(CONNACK + behind)
        if behind:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = AiomqttClient(
        BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1]),
        context=None,
        client_id="config_service_1",
        will=None,
        max_packet_bytes=1000,
        timeout_seconds=SECONDS,
    )

    async def use() -> None:
        await client.connect()
        await client.wait_closed()

    with pytest.raises((NotConnected, BrokerUnavailable)):
        await asyncio.wait_for(use(), SECONDS)
    client.abort()
    server.close()
    await server.wait_closed()
