"""The MQTT client of the command line: sends requests to a daemon, and listens to updates."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from aliciacfg import documents
from aliciacfg.documents import JsonObject
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.address import BrokerAddress
from aliciacfg.mqtt.connecting import connect_client
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.messages import Inbound


class MqttClient:
    """Sends requests and waits for their answers; made by ``open_client``."""

    def __init__(self, connection: Connection, requester: str) -> None:
        self._connection = connection
        self._requester = requester
        self._prefix = f"{topics.REPLY}{requester}/{uuid.uuid4().hex[:12]}/"
        # By topic: the answers, and the retained messages, that are waited for.
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._updates: asyncio.Queue[Inbound] = asyncio.Queue()

    async def start(self) -> None:
        """Subscribe to answers.

        Raises:
            BrokerUnavailable: The broker refuses.
        """
        self._connection.receive(self._on_message)
        await self._connection.subscribe([f"{self._prefix}#"])

    async def ask(
        self, operation: str, target: str | None, fields: JsonObject, *, timeout_seconds: float
    ) -> JsonObject:
        """Send one request and return its answer, a success or a refusal.

        Args:
            operation: A name of the operations table.
            target: The service or environment it is about; None for an operation about everything.
            fields: The request's fields; None is left out.
            timeout_seconds: How long to wait for the answer.

        Raises:
            BrokerUnavailable: No answer came.
            OperationError: The answer is not JSON.
        """
        levels = [operation, *([target] if target is not None else []), self._requester]
        answer_topic = self._prefix + uuid.uuid4().hex
        future = self._waiting[answer_topic] = asyncio.get_running_loop().create_future()
        # On MQTT 3.1.1 there is no Response Topic; the payload names it instead.
        content = {key: value for key, value in fields.items() if value is not None}
        if self._connection.protocol != "5":
            content["reply_to"] = answer_topic
        payload = documents.encode(content) if content else b""
        try:
            self._connection.request(
                topics.CONFIG + "/".join(levels), payload, response_topic=answer_topic, correlation_data=b"1"
            )
            async with asyncio.timeout(timeout_seconds):
                answer = documents.decode_object(await future)
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"no answer within {timeout_seconds:g} s: is the daemon running on this broker, "
                f"and does the broker let {self._requester} ask this? --http asks without it."
            ) from error
        finally:
            self._waiting.pop(answer_topic, None)
        return answer

    async def published_key(self, *, timeout_seconds: float) -> JsonObject:
        """Return the message that is retained with the daemon's sealing key.

        Raises:
            BrokerUnavailable: No such message is retained.
            OperationError: The message is not JSON.
        """
        future = self._waiting[topics.KEY] = asyncio.get_running_loop().create_future()
        try:
            await self._connection.subscribe([topics.KEY])
            async with asyncio.timeout(timeout_seconds):
                content = documents.decode_object(await future)
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
            BrokerUnavailable: The broker is gone.
        """
        await self._connection.subscribe([topics.UPDATE + (service or "+")])
        closed = asyncio.create_task(self._connection.wait_closed())
        try:
            while True:
                update = asyncio.create_task(self._updates.get())
                await asyncio.wait({update, closed}, return_when=asyncio.FIRST_COMPLETED)
                if not update.done():
                    update.cancel()
                    await closed
                yield _update(await update)
        finally:
            closed.cancel()

    def _on_message(self, inbound: Inbound) -> bool:
        if inbound.topic.startswith(topics.UPDATE):
            self._updates.put_nowait(inbound)
            return True
        future = self._waiting.get(inbound.topic)
        if future is not None and not future.done():
            future.set_result(inbound.payload)
        return True


def _update(message: Inbound) -> JsonObject:
    content = documents.decode(message.payload) if message.payload else None
    if isinstance(content, dict):
        return content
    return {"service": message.topic.removeprefix(topics.UPDATE), "deleted": True}


@asynccontextmanager
async def open_client(address: BrokerAddress, requester: str) -> AsyncGenerator[MqttClient, None]:
    """Connect a client.

    Args:
        address: The broker.
        requester: Who asks: the last level of request topics.

    Raises:
        BrokerUnavailable: The broker cannot be reached.
    """
    async with connect_client(address) as connection:
        client = MqttClient(connection, requester)
        await client.start()
        yield client
