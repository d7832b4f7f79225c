"""The MQTT client of the command line, over aiomqtt: sends requests to a daemon, and listens to updates.

Only the public interface of aiomqtt is used. Which version the broker speaks, how large a packet may be, and why there
is no connection, a connection of ``aliciacfg.mqtt.connecting`` finds out before: aiomqtt reports none of the three.
"""

import asyncio
import contextlib
import math
import socket
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, TypeVar

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from aliciacfg import documents
from aliciacfg.bus.address import BrokerAddress
from aliciacfg.documents import JsonObject
from aliciacfg.errors import BrokerUnavailable, OperationError
from aliciacfg.mqtt import envelope, packets, topics
from aliciacfg.mqtt.connecting import CONNECT_SECONDS, connect_client
from aliciacfg.mqtt.connection import DoesNotFit
from aliciacfg.mqtt.messages import Protocol, Publication

_Result = TypeVar("_Result")

_ANSWER_AFTER_HEALTH_SECONDS = 0.3
# A daemon of several may have died, or hang, with the request. The next one is sent after twice as long.
_REPEAT_SECONDS = 0.7
# What is retained comes with the acknowledgement of the subscription, unless there is nothing to come.
_HEALTH_SECONDS = 0.3
_CORRELATION_DATA = b"1"
# Without it a request waits for the delayed acknowledgement of the packet before it: 44 ms (Nagle's algorithm).
_NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

Repeats = Literal["never", "always", "if carried out once"]
"""Whether a request may be sent again: one that only reads may; so may one that writes if it has a ``request_id`` and
several daemons serve the home, which keep the answers to such requests, so that each is carried out once."""


class MqttClient:
    """Sends requests and waits for their answers; made by ``open_client``."""

    def __init__(self, client: aiomqtt.Client, protocol: Protocol, requester: str, *, max_packet_bytes: int) -> None:
        self._client = client
        self._protocol: Protocol = protocol
        self._requester = requester
        self._max_packet_bytes = max_packet_bytes
        self._prefix = f"{topics.REPLY}{requester}/{uuid.uuid4().hex[:12]}/"
        # By topic: the answers, and the retained messages, that are waited for.
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        # Topic and payload of what came under the update topics.
        self._updates: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._health: asyncio.Future[bytes] | None = None
        # The next health that the daemon publishes.
        self._next_health: asyncio.Future[bytes] | None = None
        self._receiving = asyncio.create_task(self._receive(), name="messages")

    async def listen(self, *, with_health: bool = False) -> None:
        """Subscribe to answers.

        Args:
            with_health: Also to the daemon's health, which ``health`` returns.

        Raises:
            BrokerUnavailable: The broker refuses.
        """
        if with_health:
            self._health = self._waiting[topics.HEALTH] = asyncio.get_running_loop().create_future()
            # Both are on their way at once: what is retained comes before the acknowledgement of the second one.
            await asyncio.gather(self._subscribe(topics.HEALTH), self._subscribe(f"{self._prefix}#"))
        else:
            await self._subscribe(f"{self._prefix}#")

    async def health(self, *, wait_seconds: float = 0.0) -> JsonObject | None:
        """Return the health that the daemon on the broker has published; None if none has come.

        Args:
            wait_seconds: How long to wait for it. After an answer it need not be waited for: it came before.

        Raises:
            BrokerUnavailable: The broker is gone.
        """
        if self._health is None:
            return None
        if not self._health.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._while_connected(asyncio.shield(self._health))
        try:
            return envelope.open_payload(self._health.result()).content if self._health.done() else None
        except OperationError:
            # Of a program that is no daemon.
            return None

    async def stop(self) -> None:
        """Receive nothing any more."""
        self._receiving.cancel()
        await asyncio.gather(self._receiving, return_exceptions=True)

    async def _receive(self) -> None:
        """Hand messages to those who wait for them, for as long as the connection stands.

        Raises:
            BrokerUnavailable: The broker is gone.
        """
        try:
            async for message in self._client.messages:
                topic, payload = str(message.topic), bytes(message.payload or b"")
                if topic.startswith(topics.UPDATE):
                    self._updates.put_nowait((topic, payload))
                    continue
                if topic == topics.HEALTH and not message.retain and self._next_health is not None:
                    if not self._next_health.done():
                        self._next_health.set_result(payload)
                    continue
                if (future := self._waiting.get(topic)) is not None and not future.done():
                    future.set_result(payload)
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"the broker is gone: {error}") from error

    async def ask(
        self,
        operation: str,
        target: str | None,
        fields: JsonObject,
        *,
        timeout_seconds: float,
        repeats: Repeats = "never",
    ) -> JsonObject:
        """Send one request and return its answer, a success or a refusal.

        Args:
            operation: A name of the operations table.
            target: The service or environment it is about; None for an operation about everything.
            fields: The request's fields; None is left out.
            timeout_seconds: How long to wait for the answer.
            repeats: Whether to send the request again, as it was, while no answer comes; see ``Repeats``.

        Raises:
            BrokerUnavailable: No answer came, or the request is larger than the broker takes.
            OperationError: The answer is not JSON.
        """
        levels = [operation, *([target] if target is not None else []), self._requester]
        topic = topics.CONFIG + "/".join(levels)
        answer_topic = self._prefix + uuid.uuid4().hex
        future = self._waiting[answer_topic] = asyncio.get_running_loop().create_future()
        # On MQTT 3.1.1 there is no Response Topic; the payload names it instead.
        content = {key: value for key, value in fields.items() if value is not None}
        if self._protocol != "5":
            content["reply_to"] = answer_topic
        payload = documents.encode(content) if content else b""
        try:
            async with asyncio.timeout(timeout_seconds):
                if operation == "health":
                    answer = await self._check_health(payload, answer_topic, future)
                else:
                    await self._request(topic, payload, answer_topic)
                    if repeats != "never":
                        await self._repeat(topic, payload, answer_topic, future, only_if_shared=repeats != "always")
                    answer = documents.decode_object(await self._while_connected(future))
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"no answer within {timeout_seconds:g} s: is the daemon running on this broker, "
                f"and does the broker let {self._requester} ask this? --http asks without it."
            ) from error
        finally:
            self._waiting.pop(answer_topic, None)
        return answer

    async def _repeat(
        self, topic: str, payload: bytes, answer_topic: str, answer: "asyncio.Future[bytes]", *, only_if_shared: bool
    ) -> None:
        """Send a request again and again until it is answered, or the connection has ended.

        Raises:
            BrokerUnavailable: The broker is gone.
        """
        pause = _REPEAT_SECONDS
        while True:
            await asyncio.wait({answer, self._receiving}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            if answer.done() or self._receiving.done() or (only_if_shared and not await self._is_shared()):
                return
            await self._request(topic, payload, answer_topic)
            pause *= 2

    async def _is_shared(self) -> bool:
        """Return whether several daemons serve the home, as far as health on the broker says so.

        Raises:
            BrokerUnavailable: The broker is gone.
        """
        if self._health is None:
            self._health = self._waiting[topics.HEALTH] = asyncio.get_running_loop().create_future()
            await self._subscribe(topics.HEALTH)
        return "replica" in (await self.health(wait_seconds=_HEALTH_SECONDS) or {})

    async def _check_health(self, payload: bytes, answer_topic: str, answer: "asyncio.Future[bytes]") -> JsonObject:
        """Send a health check; return its answer, or the health that the daemon publishes at once because of it.

        A health check names no requester, so that a daemon with access rules answers none on the topic of a requester.
        """
        published = self._next_health = asyncio.get_running_loop().create_future()
        try:
            await self._subscribe(topics.HEALTH)
            await self._request(topics.HEALTH_CHECK, payload, answer_topic)
            first = asyncio.ensure_future(asyncio.wait({answer, published}, return_when=asyncio.FIRST_COMPLETED))
            await self._while_connected(first)
            # The answer has the texts of all alerts.
            await asyncio.wait({answer}, timeout=_ANSWER_AFTER_HEALTH_SECONDS)
            if answer.done():
                return documents.decode_object(answer.result())
            return envelope.open_payload(published.result()).content
        finally:
            self._next_health = None

    async def published_key(self, *, timeout_seconds: float) -> JsonObject:
        """Return the message that is retained with the daemon's sealing key.

        Raises:
            BrokerUnavailable: No such message is retained.
            OperationError: The message is not JSON.
        """
        future = self._waiting[topics.KEY] = asyncio.get_running_loop().create_future()
        try:
            await self._subscribe(topics.KEY)
            async with asyncio.timeout(timeout_seconds):
                content = documents.decode_object(await self._while_connected(future))
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"no key is retained at {topics.KEY} after {timeout_seconds:g} s: did a daemon ever run on this broker?"
            ) from error
        finally:
            self._waiting.pop(topics.KEY, None)
        return content

    async def updates(self, service: str | None) -> AsyncIterator[JsonObject]:
        """Yield the retained configuration of a service (None: of all) and every change after it.

        A configuration that is gone is yielded as ``{"service": …, "deleted": true}``.

        Raises:
            BrokerUnavailable: The broker refuses, or is gone.
        """
        await self._subscribe(topics.UPDATE + (service or "+"))
        while True:
            yield _update(*await self._while_connected(asyncio.ensure_future(self._updates.get())))

    async def _while_connected(self, wanted: "asyncio.Future[_Result]") -> _Result:
        """Wait for something that is received.

        Raises:
            BrokerUnavailable: The broker is gone.
        """
        try:
            await asyncio.wait({wanted, self._receiving}, return_when=asyncio.FIRST_COMPLETED)
            if not wanted.done():
                await self._receiving
            return await wanted
        finally:
            wanted.cancel()

    async def _request(self, topic: str, payload: bytes, answer_topic: str) -> None:
        """Publish a request at QoS 1 that names where to answer.

        Raises:
            DoesNotFit: It is larger than the broker takes.
            BrokerUnavailable: The broker is gone.
        """
        named = packets.request_properties(response_topic=answer_topic, correlation_data=_CORRELATION_DATA)
        size = packets.packet_size(Publication(topic, payload, properties=named), self._protocol)
        if size > self._max_packet_bytes:
            raise DoesNotFit(topic, size=size, limit=self._max_packet_bytes)
        properties = None
        if self._protocol == "5":
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = answer_topic
            properties.CorrelationData = _CORRELATION_DATA
        # It has as long as the caller waits for the answer.
        published = self._client.publish(topic, payload, qos=1, properties=properties, timeout=math.inf)
        try:
            await self._while_connected(asyncio.ensure_future(published))
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"the broker did not acknowledge the request: {error}") from error

    async def _subscribe(self, topic: str) -> None:
        """Subscribe at QoS 1.

        Raises:
            BrokerUnavailable: The broker did not acknowledge.
        """
        try:
            await self._client.subscribe(topic, qos=1)
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"subscribing failed: {error}") from error


def _update(topic: str, payload: bytes) -> JsonObject:
    content = documents.decode(payload) if payload else None
    if isinstance(content, dict):
        return content
    return {"service": topic.removeprefix(topics.UPDATE), "deleted": True}


@asynccontextmanager
async def open_client(
    address: BrokerAddress, requester: str, *, with_health: bool = False
) -> AsyncGenerator[MqttClient, None]:
    """Connect a client.

    Args:
        address: The broker.
        requester: Who asks: the last level of request topics.
        with_health: Whether the client gets the health of the daemon.

    Raises:
        BrokerUnavailable: The broker cannot be reached.
    """
    async with connect_client(address) as found:
        protocol, max_packet_bytes = found.protocol, found.limit.bytes
    connection = aiomqtt.Client(
        address.host,
        address.port,
        username=address.username,
        password=address.password,
        protocol=aiomqtt.ProtocolVersion.V5 if protocol == "5" else aiomqtt.ProtocolVersion.V311,
        timeout=CONNECT_SECONDS,
        tls_context=address.tls_context(),
        socket_options=[_NO_DELAY],
    )
    try:
        async with connection:
            client = MqttClient(connection, protocol, requester, max_packet_bytes=max_packet_bytes)
            try:
                await client.listen(with_health=with_health)
                yield client
            finally:
                await client.stop()
    except aiomqtt.MqttError as error:
        raise BrokerUnavailable(f"{address.host}:{address.port}: {error}") from error
