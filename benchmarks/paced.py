"""Requests at a fixed rate, whatever the answers do; a latency counts from the moment at which a request was due."""

import argparse
import asyncio
from collections import deque
from collections.abc import Callable
from itertools import count

import wire
from clients import HttpClient, MqttClient, http_request
from meter import Meter, clock


class _Due:
    """Requests that are due at a fixed rate, whatever the answers do."""

    def __init__(self, rate: float, meter: Meter, send: Callable[[float], None]) -> None:
        self._pause = 1 / rate
        self._meter = meter
        self._send = send
        self._next = clock()

    def start(self) -> None:
        self._meter.start()
        self._next = clock()
        self._run()

    def _run(self) -> None:
        now = clock()
        while self._next <= now and self._meter.running:
            self._meter.outstanding += 1
            self._send(self._next)
            self._next += self._pause
        if self._meter.running:
            asyncio.get_running_loop().call_later(max(0.0, self._next - clock()), self._run)


async def over_mqtt(options: argparse.Namespace, meter: Meter, reply_topic: str) -> dict[str, float]:
    request = wire.Request(options.topic, reply_topic, 0)
    numbers = count()
    sent: dict[int, float] = {}

    def send(due: float) -> None:
        number = next(numbers)
        sent[number] = due
        client.output.append(request.encode(number))
        client.flush()

    def answered(correlation: bytes, _payload: bytes) -> None:
        meter.answered(clock() - sent.pop(int.from_bytes(correlation, "big")))
        meter.outstanding -= 1
        if not meter.running:
            meter.settled()

    requests = _Due(options.rate, meter, send)
    client = MqttClient(
        reply_topic, on_ready=lambda _client: requests.start(), on_message=answered, on_lost=meter.failed
    )
    await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", options.port)
    return await meter.result()


async def over_http(options: argparse.Namespace, meter: Meter) -> dict[str, float]:
    request = http_request("GET", options.path, options.port)
    free: list[HttpClient] = []
    waiting: deque[float] = deque()

    def send(due: float) -> None:
        if free:
            client = free.pop()
            client.send(request)
            client.sent = due
        else:
            waiting.append(due)

    def answered(client: HttpClient, _body: bytes) -> None:
        meter.answered(clock() - client.sent)
        meter.outstanding -= 1
        free.append(client)
        if waiting:
            send(waiting.popleft())
        if not meter.running:
            meter.settled()

    for _ in range(options.outstanding):
        free.append(HttpClient(answered, meter.failed))
        await asyncio.get_running_loop().create_connection(lambda: free[-1], "127.0.0.1", options.port)
    _Due(options.rate, meter, send).start()
    return await meter.result()
