"""Load generators, each run as a process of its own; the last line on standard output is the result as JSON.

    load.py ask     --port BROKER_PORT --topic TOPIC --document FILE
                    one request; its answer goes into FILE
    load.py mqtt    --port BROKER_PORT --topic TOPIC --document FILE --qos 0|1 --outstanding N
                    requests over MQTT 5, N of them always under way; every answer must be what is in FILE
    load.py http    --port HTTP_PORT --path PATH --document FILE --outstanding N
                    GET on N connections kept alive; every answer must be what is in FILE
    load.py write   --port HTTP_PORT --services NAME,… --outstanding N
                    PATCH on N connections, each with one of the services, a new number each time
    load.py latency --port HTTP_PORT --broker-port BROKER_PORT --services NAME --samples N
                    PATCH, one after the other, until a subscriber of the service's updates has each

All are closed loops: a request goes out when the answer to one before it has come in.
"""

import argparse
import asyncio
import json
import math
import os
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import cast

import uvloop

import wire

DRAIN_SECONDS = 5.0
clock = time.perf_counter


class UnexpectedAnswerError(Exception):
    """The other side did not answer as it should."""


class Meter:
    """Latencies of what is answered between the end of the warm-up and the end of the run."""

    def __init__(self, warm_seconds: float, seconds: float) -> None:
        self.latencies: list[float] = []
        self.running = True
        self.outstanding = 0
        self._warm_seconds = warm_seconds
        self._seconds = seconds
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun = 0.0
        self._cpu = 0.0
        self._result: dict[str, float] = {}

    def start(self) -> None:
        """Begin the warm-up."""
        loop = asyncio.get_running_loop()
        loop.call_later(self._warm_seconds, self._begin)
        loop.call_later(self._warm_seconds + self._seconds, self._end)

    def failed(self, reason: str) -> None:
        """End the run with an error."""
        if not self._done.done():
            self._done.set_exception(UnexpectedAnswerError(reason))

    def settled(self) -> None:
        """Say that an answer came after the end, when no more requests are sent."""
        if self.outstanding == 0 and not self._done.done():
            self._done.set_result(None)

    async def result(self) -> dict[str, float]:
        """Wait for the end of the run, and for the answers that were still under way then."""
        async with asyncio.timeout(self._warm_seconds + self._seconds + DRAIN_SECONDS):
            await self._done
        return self._result

    def _begin(self) -> None:
        self.latencies.clear()
        self._begun, self._cpu = clock(), time.process_time()

    def _end(self) -> None:
        elapsed, cpu = clock() - self._begun, time.process_time() - self._cpu
        answered = len(self.latencies)
        self._result = {
            "per_second": answered / elapsed,
            **percentiles(self.latencies),
            "answered": answered,
            "generator_busy": cpu / elapsed,
        }
        self.running = False
        self.settled()


def percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {"p50_ms": math.nan, "p99_ms": math.nan}
    return {f"p{share}_ms": ordered[len(ordered) * share // 100] * 1000 for share in (50, 99)}


class MqttClient(asyncio.Protocol):
    """Subscribes to one topic; calls ``on_ready`` when it has, ``on_message`` with correlation data and payload."""

    def __init__(
        self,
        topic: str,
        *,
        on_ready: Callable[["MqttClient"], None],
        on_message: Callable[[bytes, bytes], None],
        on_lost: Callable[[str], None],
        client_id: str = "",
    ) -> None:
        self.transport: asyncio.Transport
        self.output: list[bytes] = []
        self._client_id = client_id or f"bench-{os.getpid()}"
        self._topic = topic
        self._on_ready = on_ready
        self._on_message = on_message
        self._on_lost = on_lost
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(wire.connect(self._client_id))

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(f"the broker closed the connection: {exc}")

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        used = 0
        for first, start, end in wire.packets(buffer):
            used = end
            kind = first & 0xF0
            if kind == wire.PUBLISH:
                packet_id, correlation, payload = wire.publication(buffer, first, start)
                if packet_id:
                    self.output.append(wire.puback(packet_id))
                self._on_message(correlation, bytes(buffer[payload:end]))
            elif kind == wire.CONNACK:
                self.output.append(wire.subscribe(1, self._topic, 1))
            elif kind == wire.SUBACK:
                self._on_ready(self)
        del buffer[:used]
        self.flush()

    def flush(self) -> None:
        """Send what was put into ``output``, at once for all that one read brought."""
        if self.output:
            self.transport.write(b"".join(self.output))
            self.output.clear()


class HttpClient(asyncio.Protocol):
    """One connection that is kept alive; calls ``on_answer`` with the body of each answer."""

    def __init__(self, on_answer: Callable[["HttpClient", bytes], None], on_lost: Callable[[str], None]) -> None:
        self.transport: asyncio.Transport
        self.sent = 0.0
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(f"the server closed the connection: {exc}")

    def send(self, request: bytes) -> None:
        self.sent = clock()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head >= 0:
            field = buffer.find(b"Content-Length: ", 0, head) + 16
            end = head + 4 + int(buffer[field : buffer.find(b"\r", field)])
            if len(buffer) >= end:
                self._buffer = buffer[end:]
                if buffer[9:12] not in {b"200", b"201"}:
                    self._on_lost(buffer.decode(errors="replace")[:2000])
                    return
                self._on_answer(self, buffer[head + 4 : end])
                return
        self._buffer = buffer


def http_request(method: str, path: str, port: int, body: bytes = b"") -> bytes:
    content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{content}\r\n".encode() + body


def reply_topic() -> str:
    return f"alicia/reply/bench-{os.getpid()}"


async def ask(options: argparse.Namespace) -> dict[str, float]:
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    request = wire.Request(options.topic, reply_topic(), 1)

    def failed(reason: str) -> None:
        if not answer.done():
            answer.set_exception(UnexpectedAnswerError(reason))

    client = MqttClient(
        reply_topic(),
        on_ready=lambda client: client.output.append(request.encode(0)),
        on_message=lambda _correlation, payload: answer.set_result(payload),
        on_lost=failed,
    )
    await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", options.port)
    async with asyncio.timeout(DRAIN_SECONDS):
        options.document.write_bytes(await answer)
    return {}


async def load_mqtt(options: argparse.Namespace) -> dict[str, float]:
    meter = Meter(options.warm, options.seconds)
    expected = options.document.read_bytes()
    request = wire.Request(options.topic, reply_topic(), options.qos)
    numbers = count()
    sent: dict[int, float] = {}

    def send(client: MqttClient) -> None:
        number = next(numbers)
        client.output.append(request.encode(number))
        sent[number] = clock()

    def ready(client: MqttClient) -> None:
        meter.start()
        meter.outstanding = options.outstanding
        for _ in range(options.outstanding):
            send(client)

    def answered(correlation: bytes, payload: bytes) -> None:
        meter.latencies.append(clock() - sent.pop(int.from_bytes(correlation, "big")))
        if payload != expected:
            meter.failed(payload.decode(errors="replace")[:2000])
        if meter.running:
            send(client)
        else:
            meter.outstanding -= 1
            meter.settled()

    client = MqttClient(reply_topic(), on_ready=ready, on_message=answered, on_lost=meter.failed)
    await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", options.port)
    return await meter.result()


async def load_http(options: argparse.Namespace) -> dict[str, float]:
    expected = options.document.read_bytes()
    request = http_request("GET", options.path, options.port)
    return await _over_http(options, lambda _connection: request, expected)


async def write(options: argparse.Namespace) -> dict[str, float]:
    services = options.services.split(",")
    numbers = _fresh_numbers()

    def request(connection: int) -> bytes:
        return _patch(services[connection % len(services)], options.port, next(numbers))

    return await _over_http(options, request, None)


async def _over_http(
    options: argparse.Namespace, request: Callable[[int], bytes], expected: bytes | None
) -> dict[str, float]:
    meter = Meter(options.warm, options.seconds)
    places: dict[HttpClient, int] = {}

    def answered(connection: HttpClient, body: bytes) -> None:
        meter.latencies.append(clock() - connection.sent)
        if expected is not None and body != expected:
            meter.failed(body.decode(errors="replace")[:2000])
        if meter.running:
            connection.send(request(places[connection]))
        else:
            meter.outstanding -= 1
            meter.settled()

    loop = asyncio.get_running_loop()
    for place in range(options.outstanding):
        _, connection = await loop.create_connection(
            lambda: HttpClient(answered, meter.failed), "127.0.0.1", options.port
        )
        places[connection] = place
    meter.outstanding = options.outstanding
    meter.start()
    for connection, place in places.items():
        connection.send(request(place))
    return await meter.result()


async def measure_latency(options: argparse.Namespace) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    numbers = _fresh_numbers()
    ready = loop.create_future()
    waiting: dict[str, asyncio.Future[float]] = {}
    number = 0

    def failed(reason: str) -> None:
        for future in (ready, *waiting.values()):
            if not future.done():
                future.set_exception(UnexpectedAnswerError(reason))

    def updated(_correlation: bytes, payload: bytes) -> None:
        if f'"requests_per_minute":{number}'.encode() in payload and not waiting["update"].done():
            waiting["update"].set_result(clock())

    http = HttpClient(lambda _connection, _body: waiting["answer"].set_result(clock()), failed)
    mqtt = MqttClient(
        f"alicia/config/update/{options.services}",
        on_ready=lambda _client: ready.set_result(None),
        on_message=updated,
        on_lost=failed,
    )
    await loop.create_connection(lambda: mqtt, "127.0.0.1", options.broker_port)
    await loop.create_connection(lambda: http, "127.0.0.1", options.port)
    await ready
    taken: dict[str, list[float]] = {"answer": [], "update": []}
    async with asyncio.timeout(60):
        for _ in range(options.samples):
            number = next(numbers)
            waiting.update({name: loop.create_future() for name in taken})
            http.send(_patch(options.services, options.port, number))
            for name, seconds in taken.items():
                seconds.append(await waiting[name] - http.sent)
    return {
        f"{name}_{percentile}": value
        for name, seconds in taken.items()
        for percentile, value in percentiles(seconds).items()
    }


def _fresh_numbers() -> "count[int]":
    """Numbers that no run before this one has used, as long as a write takes more than a microsecond."""
    return count(time.time_ns() // 1000)


def _patch(service: str, port: int, number: int) -> bytes:
    body = json.dumps({"limits": {"requests_per_minute": number}}, separators=(",", ":")).encode()
    return http_request("PATCH", f"/config/{service}", port, body)


KINDS = {"ask": ask, "mqtt": load_mqtt, "http": load_http, "write": write, "latency": measure_latency}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--broker-port", type=int, default=0)
    parser.add_argument("--topic", default="")
    parser.add_argument("--path", default="")
    parser.add_argument("--document", type=Path)
    parser.add_argument("--services", default="")
    parser.add_argument("--qos", type=int, choices=[0, 1], default=0)
    parser.add_argument("--outstanding", type=int, default=1)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--warm", type=float, default=0.3)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    try:
        print(json.dumps(uvloop.run(KINDS[options.kind](options))))
    except UnexpectedAnswerError as error:
        sys.exit(f"load.py {options.kind}: {error}")


if __name__ == "__main__":
    main()
