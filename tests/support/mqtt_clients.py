"""A plain MQTT client, independent of the project's own."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from machine import SECONDS

NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@dataclass(frozen=True)
class Message:
    topic: str
    payload: bytes
    retained: bool
    qos: int = 0
    properties: dict[str, Any] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


def _raise_dropped_cancellation() -> None:
    """Raise the cancellation that asyncio.wait_for of Python 3.11, by which aiomqtt waits, may have dropped.

    It does so where the acknowledgement comes at the same moment; a task that asks for ever then never ends.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Client:
    """A plain MQTT client, independent of the project's own."""

    def __init__(self, client: aiomqtt.Client, protocol: int) -> None:
        self.client = client
        self.protocol = protocol
        self._iterator = aiter(client.messages)

    async def subscribe(self, *filters: str) -> None:
        for name in filters:
            await self.client.subscribe(name, qos=1)
            _raise_dropped_cancellation()

    async def publish(
        self, topic: str, payload: bytes | str | dict[str, Any] = b"", *, qos: int = 1, retain: bool = False, **v5: Any
    ) -> None:
        properties = None
        if v5:
            properties = Properties(PacketTypes.PUBLISH)
            for name, value in v5.items():
                setattr(properties, name, value)
        data = json.dumps(payload) if isinstance(payload, dict) else payload
        await self.client.publish(topic, data, qos=qos, retain=retain, properties=properties)
        _raise_dropped_cancellation()

    async def next(self, seconds: float = SECONDS) -> Message:
        async with asyncio.timeout(seconds):
            message = await anext(self._iterator)
        properties = vars(message.properties) if message.properties is not None else {}
        assert isinstance(message.payload, bytes)
        return Message(str(message.topic), message.payload, message.retain, message.qos, dict(properties))

    async def until(self, topic: str, *, seconds: float = SECONDS) -> Message:
        """Return the next message on a topic; skip other ones."""
        async with asyncio.timeout(seconds):
            while True:
                message = await self.next(seconds)
                if message.topic == topic:
                    return message

    async def silence(self, seconds: float) -> list[Message]:
        """What comes within a time in which nothing should."""
        found: list[Message] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    found.append(await self.next(seconds + 1))
        return found

    async def ask(self, topic: str, payload: bytes | str | dict[str, Any] = b"", *, qos: int = 1) -> Message:
        """A request over MQTT 5 and its answer."""
        answer = f"alicia/reply/test/{os.urandom(6).hex()}"
        await self.subscribe(answer)
        await self.publish(topic, payload, qos=qos, ResponseTopic=answer, CorrelationData=b"\x00\x01")
        return await self.until(answer)

    async def retained(self, pattern: str) -> dict[str, Message]:
        """Every retained message under a filter, by topic; closed by a marker where no access list forbids one."""
        marker = f"alicia/events/marker/{os.urandom(6).hex()}"
        await self.subscribe(marker, pattern)
        await self.publish(marker, b"end")
        found: dict[str, Message] = {}
        while True:
            message = await self.next()
            if message.topic == marker:
                break
            if message.retained:
                found[message.topic] = message
        await self.client.unsubscribe(pattern)
        return found


@contextlib.asynccontextmanager
async def client(port: int, *, protocol: int = 5, **options: Any) -> AsyncGenerator[Client, None]:
    version = aiomqtt.ProtocolVersion.V5 if protocol == 5 else aiomqtt.ProtocolVersion.V311
    async with aiomqtt.Client("127.0.0.1", port, protocol=version, socket_options=[NO_DELAY], **options) as made:
        made.pending_calls_threshold = 10_000
        yield Client(made, protocol)
