"""Load generators, each run as a process of its own; the last line on standard output is the result as JSON.

    load.py ask      --port BROKER_PORT --topic TOPIC --document FILE
                     one request; its answer goes into FILE
    load.py mqtt     --port BROKER_PORT --topic TOPIC --document FILE --qos 0|1 --outstanding N
                     requests over MQTT 5, N of them always under way; every answer must be what is in FILE
    load.py original --port BROKER_PORT --topic PREFIX --qos 0|1 --outstanding N
                     the same over MQTT 3.1.1 in the original service's envelope, on PREFIX/request
    load.py plain    --port BROKER_PORT --topic TOPIC --qos 0|1 --outstanding N
                     the same over MQTT 3.1.1, as the daemon takes it there
    load.py http     --port HTTP_PORT --path PATH --outstanding N [--document FILE] [--method POST --body FILE]
                     [--headers TEXT] [--statuses 200,201] [--different]
                     a request on N connections kept alive, each with another header if they are to be different;
                     every answer must be what is in FILE
    load.py write    --port HTTP_PORT --services NAME,… --outstanding N [--document FILE] [--statuses 200,201]
                     PATCH on N connections, each with one of the services, a new number each time; with FILE a PUT of
                     it, with status 422 a PATCH with a text where a number belongs
    load.py mqtt-write --port BROKER_PORT --services NAME,… --outstanding N
                     PATCH over MQTT 5 at QoS 1, N of them always under way, each with a request_id
    load.py staleness --ports HTTP_PORT,… --services NAME --samples N
                     PATCH at one daemon of a home, until another one answers it, without a pause between gets
    load.py redis    --port PORT --outstanding N --document FILE [--method SET]
    load.py nats     --port PORT --outstanding N --document FILE
                     GET (or SET) of the document in Redis, get of JetStream's key-value store
    load.py paced    --port PORT --rate R [--topic TOPIC | --path PATH]
                     R requests a second over MQTT at QoS 0, or over HTTP, whatever the answers do; a latency counts
                     from the moment at which the request was due
    load.py overload --port BROKER_PORT --http-port HTTP_PORT --topic TOPIC --rate R
                     R gets a second over MQTT at QoS 0, and ten times a second whether the daemon is ready
    load.py latency  --port HTTP_PORT --broker-port BROKER_PORT --services NAME --topic TOPIC --samples N
                     PATCH (with --document PUT), one after the other, until a subscriber of TOPIC has each

With --ports the connections of ``http`` and ``write`` are spread over the daemons of a home. All but ``paced`` and
``overload`` are closed loops: a request goes out when the answer to one before it has
come in. With --announce a generator prints READY when its requests begin.
"""

import argparse
import asyncio
import json
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path

import uvloop

import overload
import paced
import replica_loads
import wire
from clients import HttpClient, MqttClient, NatsClient, RedisClient, http_request, redis_command
from meter import DRAIN_SECONDS, Meter, UnexpectedAnswerError, clock, percentiles

_NUMBER = re.compile(rb'"requests_per_minute":\d+')


def reply_topic() -> str:
    return f"alicia/reply/bench-{os.getpid()}"


def new_meter(options: argparse.Namespace) -> Meter:
    if options.announce:
        print("READY", flush=True)
    return Meter(options.warm, options.seconds)


async def connect(protocol: asyncio.Protocol, port: int) -> None:
    await asyncio.get_running_loop().create_connection(lambda: protocol, "127.0.0.1", port)


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
    await connect(client, options.port)
    async with asyncio.timeout(DRAIN_SECONDS):
        options.document.write_bytes(await answer)
    return {}


async def load_mqtt(options: argparse.Namespace) -> dict[str, float]:
    meter = new_meter(options)
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
        meter.answered(clock() - sent.pop(int.from_bytes(correlation, "big")))
        if payload != expected:
            meter.failed(payload.decode(errors="replace")[:2000])
        if meter.running:
            send(client)
        else:
            meter.outstanding -= 1
            meter.settled()

    client = MqttClient(reply_topic(), on_ready=ready, on_message=answered, on_lost=meter.failed)
    await connect(client, options.port)
    return await meter.result()


async def load_original(options: argparse.Namespace) -> dict[str, float]:
    name = f"bench-{os.getpid()}"
    envelope = {"message_type": "configuration_request", "payload": {"service": "voice_router", "requester": name}}
    payload = json.dumps(envelope).encode()
    return await _over_older_mqtt(
        options, f"{options.topic}/request", payload, answer_topic=f"{options.topic}/{name}/response"
    )


async def load_plain(options: argparse.Namespace) -> dict[str, float]:
    answers = options.topic.replace("alicia/config/", "alicia/reply/")
    return await _over_older_mqtt(options, options.topic, b"", answer_topic=answers)


async def _over_older_mqtt(
    options: argparse.Namespace, topic: str, payload: bytes, *, answer_topic: str
) -> dict[str, float]:
    """Over MQTT 3.1.1, without correlation data: each answer counts for the oldest request."""
    meter = new_meter(options)
    sent: deque[float] = deque()
    numbers = count()

    def send(client: MqttClient) -> None:
        packet_id = next(numbers) % 65535 + 1
        client.output.append(wire.plain_publish(topic, packet_id, payload, options.qos))
        sent.append(clock())

    def ready(client: MqttClient) -> None:
        meter.start()
        meter.outstanding = options.outstanding
        for _ in range(options.outstanding):
            send(client)

    def answered(_correlation: bytes, answer: bytes) -> None:
        meter.answered(clock() - sent.popleft())
        if b'"config"' not in answer:
            meter.failed(answer.decode(errors="replace")[:2000])
        if meter.running:
            send(client)
        else:
            meter.outstanding -= 1
            meter.settled()

    client = MqttClient(answer_topic, on_ready=ready, on_message=answered, on_lost=meter.failed, version=4)
    await connect(client, options.port)
    return await meter.result()


async def load_http(options: argparse.Namespace) -> dict[str, float]:
    expected = options.document.read_bytes() if options.document else None
    body = options.body.read_bytes() if options.body else b""
    headers = "".join(f"{line}\r\n" for line in options.headers.splitlines())
    request = http_request(options.method, options.path, options.port, body, headers=headers)
    if options.different:
        numbers, start = count(), request.removesuffix(b"\r\n")
        return await _over_http(
            options, lambda _connection: b"%bX-Number: %d\r\n\r\n" % (start, next(numbers)), expected
        )
    return await _over_http(options, lambda _connection: request, expected)


async def write(options: argparse.Namespace) -> dict[str, float]:
    services = options.services.split(",")
    change = _changes(options)
    return await _over_http(options, lambda connection: change(services[connection % len(services)]), None)


async def _over_http(
    options: argparse.Namespace, request: Callable[[int], bytes], expected: bytes | None
) -> dict[str, float]:
    def connection(answered: Callable[[HttpClient, bytes], None], failed: Callable[[str], None]) -> HttpClient:
        return HttpClient(answered, failed, frozenset(options.statuses.encode().split(b",")))

    return await _one_at_a_time(options, connection, request, expected)


async def load_redis(options: argparse.Namespace) -> dict[str, float]:
    document = options.document.read_bytes()
    key = f"config-{os.getpid()}".encode()
    filled: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def failed(reason: str) -> None:
        if not filled.done():
            filled.set_exception(UnexpectedAnswerError(reason))

    first = RedisClient(lambda _client, answer: filled.set_result(answer), failed)
    await connect(first, options.port)
    first.send(redis_command(b"SET", key, document))
    await filled
    if options.method == "SET":
        return await _one_at_a_time(
            options, RedisClient, lambda place: redis_command(b"SET", b"%s-%d" % (key, place), document), b"OK"
        )
    return await _one_at_a_time(options, RedisClient, lambda _place: redis_command(b"GET", key), document)


async def _one_at_a_time(
    options: argparse.Namespace,
    new_client: Callable[..., HttpClient | RedisClient],
    request: Callable[[int], bytes],
    expected: bytes | None,
) -> dict[str, float]:
    """Many connections, each with one request under way; ``request`` gets the number of the connection."""
    meter = new_meter(options)
    places: dict[object, int] = {}

    def answered(client: HttpClient | RedisClient, body: bytes) -> None:
        meter.answered(clock() - client.sent)
        if expected is not None and body != expected:
            meter.failed(body.decode(errors="replace")[:2000])
        if meter.running:
            client.send(request(places[client]))
        else:
            meter.outstanding -= 1
            meter.settled()

    clients = [new_client(answered, meter.failed) for _ in range(options.outstanding)]
    ports = [int(port) for port in options.ports.split(",")] if options.ports else [options.port]
    for place, client in enumerate(clients):
        places[client] = place
        await connect(client, ports[place % len(ports)])
    meter.outstanding = options.outstanding
    meter.start()
    for place, client in enumerate(clients):
        client.send(request(place))
    return await meter.result()


async def load_nats(options: argparse.Namespace) -> dict[str, float]:
    """Get from a bucket as NATS' own clients do: the stream behind it answers directly."""
    meter = new_meter(options)
    document = options.document.read_bytes()
    bucket = f"bench{os.getpid()}"
    stream = {
        "name": f"KV_{bucket}", "subjects": [f"$KV.{bucket}.>"], "max_msgs_per_subject": 10, "allow_direct": True,
        "allow_rollup_hdrs": True, "discard": "new", "storage": "file", "num_replicas": 1,
    }  # fmt: skip
    subject = f"$KV.{bucket}.voice_router"
    numbers = count()
    sent: dict[bytes, float] = {}

    def send() -> None:
        number = str(next(numbers))
        client.request(f"$JS.API.DIRECT.GET.KV_{bucket}.{subject}", number)
        sent[number.encode()] = clock()

    def ready(client: NatsClient) -> None:
        client.request(f"$JS.API.STREAM.CREATE.KV_{bucket}", "made", json.dumps(stream).encode())

    def answered(token: bytes, payload: bytes) -> None:
        if token == b"made":
            client.request(subject, "put", document)
        elif token == b"put":
            meter.start()
            meter.outstanding = options.outstanding
            for _ in range(options.outstanding):
                send()
        elif token in sent:
            meter.answered(clock() - sent.pop(token))
            if payload != document:
                meter.failed(payload.decode(errors="replace")[:2000])
            if meter.running:
                send()
            else:
                meter.outstanding -= 1
                meter.settled()

    client = NatsClient(f"_INBOX.{bucket}", on_ready=ready, on_answer=answered, on_lost=meter.failed)
    await connect(client, options.port)
    return await meter.result()


async def load_paced(options: argparse.Namespace) -> dict[str, float]:
    meter = new_meter(options)
    if options.topic:
        return await paced.over_mqtt(options, meter, reply_topic())
    return await paced.over_http(options, meter)


async def measure_latency(options: argparse.Namespace) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    change = _changes(options)
    ready = loop.create_future()
    waiting: dict[str, asyncio.Future[float]] = {}
    number = b""

    def failed(reason: str) -> None:
        for future in (ready, *waiting.values()):
            if not future.done():
                future.set_exception(UnexpectedAnswerError(reason))

    def updated(_correlation: bytes, payload: bytes) -> None:
        if number in payload and "update" in waiting and not waiting["update"].done():
            waiting["update"].set_result(clock())

    http = HttpClient(lambda _connection, _body: waiting["answer"].set_result(clock()), failed)
    mqtt = MqttClient(
        options.topic, on_ready=lambda _client: ready.set_result(None), on_message=updated, on_lost=failed
    )
    await connect(mqtt, options.broker_port)
    await connect(http, options.port)
    await ready
    taken: dict[str, list[float]] = {"answer": [], "update": []}
    async with asyncio.timeout(60):
        for _ in range(options.samples):
            waiting.update({name: loop.create_future() for name in taken})
            request = change(options.services)
            number = _NUMBER.findall(request)[-1]
            http.send(request)
            for name, seconds in taken.items():
                seconds.append(await waiting[name] - http.sent)
    return {
        f"{name}_{percentile}": value
        for name, seconds in taken.items()
        for percentile, value in percentiles(seconds).items()
    }


def _changes(options: argparse.Namespace) -> Callable[[str], bytes]:
    """Return what makes a request that changes a service, each time to a number that was never used before.

    It stays so as long as a write takes more than a microsecond.
    """
    numbers = count(time.time_ns() // 1000)
    document = options.document.read_bytes() if options.document else None

    def change(service: str) -> bytes:
        number = next(numbers)
        path = f"/config/{service}"
        if document is not None:
            body = _NUMBER.sub(b'"requests_per_minute":%d' % number, document)
            return http_request("PUT", path, options.port, body)
        value = f"no number {number}" if options.statuses == "422" else number
        body = json.dumps({"limits": {"requests_per_minute": value}}, separators=(",", ":")).encode()
        return http_request("PATCH", path, options.port, body)

    return change


async def write_over_mqtt(options: argparse.Namespace) -> dict[str, float]:
    return await replica_loads.write_over_mqtt(options, new_meter(options), reply_topic())


async def load_overload(options: argparse.Namespace) -> dict[str, float]:
    return await overload.measure(options, reply_topic())


KINDS = {
    "ask": ask,
    "mqtt": load_mqtt,
    "original": load_original,
    "plain": load_plain,
    "http": load_http,
    "write": write,
    "mqtt-write": write_over_mqtt,
    "staleness": replica_loads.measure_staleness,
    "redis": load_redis,
    "nats": load_nats,
    "paced": load_paced,
    "overload": load_overload,
    "latency": measure_latency,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ports", default="")
    parser.add_argument("--broker-port", type=int, default=0)
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--topic", default="")
    parser.add_argument("--path", default="")
    parser.add_argument("--method", default="GET")
    parser.add_argument("--headers", default="")
    parser.add_argument("--statuses", default="200,201")
    parser.add_argument("--document", type=Path)
    parser.add_argument("--body", type=Path)
    parser.add_argument("--services", default="")
    parser.add_argument("--qos", type=int, choices=[0, 1], default=0)
    parser.add_argument("--outstanding", type=int, default=1)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--warm", type=float, default=0.3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--different", action="store_true")
    parser.add_argument("--announce", action="store_true")
    options = parser.parse_args()
    try:
        print(json.dumps(uvloop.run(KINDS[options.kind](options))))
    except UnexpectedAnswerError as error:
        sys.exit(f"load.py {options.kind}: {error}")


if __name__ == "__main__":
    main()
