"""The connection of MQTT 3.1.1 against brokers that end it at an awkward moment."""

import asyncio
import gc

import pytest

from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.address import BrokerAddress
from aliciacfg.mqtt.aiomqtt_client import AiomqttClient
from aliciacfg.mqtt.broker_client import NotConnected

SECONDS = 10.0
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
