"""One connection of a service to the broker, over aiomqtt; the only module of the client that knows it."""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from aliciacfg.bus import aiomqtt_connecting
from aliciacfg.bus.address import BrokerAddress
from aliciacfg.bus.not_connected import UNSUPPORTED_PROTOCOL, NotConnected
from aliciacfg.client.messages import MAX_BYTES
from aliciacfg.errors import BrokerUnavailable

Protocol = Literal["5", "3.1.1"]

CONNECT_SECONDS = 3.0
"""The time that a broker has for accepting a connection, and again for answering CONNECT."""

KEEPALIVE_SECONDS = 30
"""How often the broker is asked for a sign of life (MQTT 5 §3.1.2.10)."""

_ACKNOWLEDGED_SECONDS = 10.0
# Without it a request waits for the delayed acknowledgement of the packet before it: 44 ms (Nagle's algorithm).
_NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
# Room for the topic and the properties of a message.
_OVERHEAD_BYTES = 4096
_FAILURE = 0x80


class Connection:
    """A connection that is used once; made by ``connect``.

    Attributes:
        protocol: The version of MQTT that it speaks.
    """

    def __init__(self, client: aiomqtt.Client, protocol: Protocol) -> None:
        self._client = client
        self.protocol: Protocol = protocol

    async def subscribe(self, topic: str) -> None:
        """Subscribe at QoS 1; returns when the broker has acknowledged.

        Raises:
            BrokerUnavailable: The broker is gone, or refuses.
        """
        try:
            (granted,) = await self._client.subscribe(topic, qos=1, timeout=_ACKNOWLEDGED_SECONDS)
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"subscribing failed: {error}") from error
        if aiomqtt_connecting.reason_code(granted) >= _FAILURE:
            raise BrokerUnavailable(f"the broker refused the subscription of {topic}")

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1; returns when the broker has acknowledged.

        Raises:
            BrokerUnavailable: The broker is gone.
        """
        try:
            await self._client.publish(topic, payload, qos=1, timeout=_ACKNOWLEDGED_SECONDS)
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"publishing failed: {error}") from error

    async def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield the topic and payload of each message, for as long as the connection stands.

        Raises:
            BrokerUnavailable: The broker is gone.
        """
        try:
            async for message in self._client.messages:
                yield message.topic.value, message.payload
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"the broker is gone: {error.__cause__ or error}") from error


@asynccontextmanager
async def connect(address: BrokerAddress, protocol: Protocol) -> AsyncGenerator[Connection, None]:
    """Connect, and disconnect at the end.

    Args:
        address: The broker.
        protocol: The version of MQTT to begin with. A broker that refuses MQTT 5 by its reason code is asked for 3.1.1
            at once.

    Raises:
        NotConnected: There is no connection.
        SettingsError: A file of the TLS settings cannot be used.
    """
    try:
        client = await _connected(address, protocol)
    except NotConnected as error:
        if protocol != "5" or error.code not in UNSUPPORTED_PROTOCOL:
            raise
        protocol = "3.1.1"
        client = await _connected(address, protocol)
    try:
        yield Connection(client, protocol)
    finally:
        await aiomqtt_connecting.disconnect(client)


async def _connected(address: BrokerAddress, protocol: Protocol) -> aiomqtt.Client:
    five = protocol == "5"
    properties = None
    if five:
        properties = Properties(PacketTypes.CONNECT)
        # The broker drops what is larger: no other program can fill this one's memory.
        properties.MaximumPacketSize = MAX_BYTES + _OVERHEAD_BYTES
    # Reading the files of the authorities takes some milliseconds.
    context = None if not address.has_tls else await asyncio.to_thread(address.tls_context)
    client = aiomqtt.Client(
        address.host,
        address.port,
        username=address.username,
        password=address.password,
        protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
        properties=properties,
        keepalive=KEEPALIVE_SECONDS,
        timeout=CONNECT_SECONDS,
        tls_context=context,
        socket_options=[_NO_DELAY],
        logger=logging.getLogger("aliciacfg.client.mqtt"),
    )
    aiomqtt_connecting.drop_large_packets(client, MAX_BYTES + _OVERHEAD_BYTES)
    await aiomqtt_connecting.connect(client, timeout_seconds=CONNECT_SECONDS)
    return client
