"""Load on the daemons of one home: changes over MQTT, and how long another daemon takes to know of a change."""

import argparse
import asyncio
import json
import os
from itertools import count

import wire
from clients import HttpClient, MqttClient, http_request
from meter import Meter, UnexpectedAnswerError, clock, percentiles

_PATIENCE_SECONDS = 10.0
_REPEAT_SECONDS = 1.0


async def write_over_mqtt(options: argparse.Namespace, meter: Meter, reply_topic: str) -> dict[str, float]:
    """Changes over MQTT 5, some of them always under way.

    As requesters are told to, each has a ``request_id``, and is repeated while it is not answered: a daemon that falls
    behind leaves the shared subscription.
    """
    services = options.services.split(",")
    name = f"bench-{os.getpid()}"
    numbers = count(1)
    sent: dict[int, tuple[float, bytes]] = {}

    def send(client: MqttClient, place: int) -> None:
        number = next(numbers) * options.outstanding + place
        service = services[place % len(services)]
        body = {"patch": {"limits": {"requests_per_minute": number}}, "request_id": f"{name}-{number}"}
        topic = f"alicia/config/patch/{service}/{name}"
        request = wire.request(topic, reply_topic, number, json.dumps(body).encode())
        client.output.append(request)
        sent[number] = clock(), request

    def ready(client: MqttClient) -> None:
        meter.start()
        meter.outstanding = options.outstanding
        for place in range(options.outstanding):
            send(client, place)

    def answered(correlation: bytes, payload: bytes) -> None:
        number = int.from_bytes(correlation, "big")
        began = sent.pop(number, None)
        if began is None:
            return
        meter.answered(clock() - began[0])
        if b'"success"' not in payload:
            meter.failed(payload.decode(errors="replace")[:2000])
        if meter.running:
            send(client, number % options.outstanding)
        else:
            meter.outstanding -= 1
            meter.settled()

    client = MqttClient(reply_topic, on_ready=ready, on_message=answered, on_lost=meter.failed)
    await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", options.port)

    async def repeat() -> None:
        while True:
            await asyncio.sleep(_REPEAT_SECONDS / 2)
            client.output += [request for began, request in sent.values() if began < clock() - _REPEAT_SECONDS]
            client.flush()

    repeating = asyncio.create_task(repeat())
    try:
        return await meter.result()
    finally:
        repeating.cancel()


class _Connection:
    """A connection to one daemon, with one request under way."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._answer: asyncio.Future[bytes]
        self._client = HttpClient(lambda _client, body: self._answer.set_result(body), self._failed)

    async def open(self) -> "_Connection":
        await asyncio.get_running_loop().create_connection(lambda: self._client, "127.0.0.1", self.port)
        return self

    def _failed(self, reason: str) -> None:
        if not self._answer.done():
            self._answer.set_exception(UnexpectedAnswerError(reason))

    async def ask(self, request: bytes) -> bytes:
        self._answer = asyncio.get_running_loop().create_future()
        self._client.send(request)
        return await self._answer


async def measure_staleness(options: argparse.Namespace) -> dict[str, float]:
    """From the answer of a change at one daemon until another one answers it from memory, asked without a pause."""
    ports = [int(port) for port in options.ports.split(",")]
    connections = [await _Connection(port).open() for port in ports]
    taken: list[float] = []
    async with asyncio.timeout(_PATIENCE_SECONDS + options.samples * 0.1):
        for number in range(options.samples):
            writer = connections[number % len(ports)]
            reader = connections[(number + 1) % len(ports)]
            path = f"/config/{options.services}"
            change = json.dumps({"limits": {"requests_per_minute": 1_000_000 + number}}).encode()
            revision = json.loads(await writer.ask(http_request("PATCH", path, writer.port, change)))["revision"]
            answered = clock()
            get = http_request("GET", path, reader.port)
            while json.loads(await reader.ask(get))["revision"] < revision:
                pass
            taken.append(clock() - answered)
    return percentiles(taken)
