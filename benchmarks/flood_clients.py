"""Floods: what a client must not be able to do to the daemon. Each runs as a process of its own.

    flood_clients.py FLOOD --http-port PORT --mqtt-port PORT [--tls yes] [--seconds S]

The last line on standard output is JSON: what the clients saw. A client that is refused, cut off or not answered is
a result, not an error: how the daemon holds its own is measured from outside, by ``floods.py``.
"""

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import random
import resource
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import uvloop

import wire
from clients import MqttClient

MEBIBYTE = 1024 * 1024
# What a slow reader's kernel takes before the server has to wait.
SMALL_BUFFER = 4096
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
_Result = TypeVar("_Result")
_CUT_OFF = (OSError, asyncio.IncompleteReadError, TimeoutError, ssl.SSLError)


@dataclass(frozen=True)
class Target:
    """The daemon and its broker, both on loopback; ``seconds`` is how long a flood lasts that could last for ever."""

    http_port: int
    mqtt_port: int
    tls: bool
    seconds: float

    @asynccontextmanager
    async def http(
        self, *, receive_buffer: int = 0
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection to the HTTP port, with TLS where the daemon has it."""
        context = None
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        raw = socket.socket()
        raw.setblocking(False)
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        writer = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.http_port))
                # Reads ahead no more than it is asked to, or a slow reader would not be slow.
                reader, writer = await asyncio.open_connection(sock=raw, ssl=context, limit=SMALL_BUFFER)
            yield reader, writer
        finally:
            if writer is None:
                raw.close()
            else:
                writer.transport.abort()

    @asynccontextmanager
    async def mqtt(self, name: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection to the broker, accepted."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.mqtt_port)
        try:
            writer.write(wire.connect(name))
            await _packet(reader)
            yield reader, writer
        finally:
            writer.transport.abort()

    def request(
        self, method: str, path: str, body: bytes = b"", *, size: int | None = None, headers: str = ""
    ) -> bytes:
        """An HTTP request without a token; ``size`` is announced for a body that is sent later."""
        length = len(body) if size is None else size
        if length:
            headers += f"Content-Type: application/json\r\nContent-Length: {length}\r\n"
        return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.http_port}\r\n{headers}\r\n".encode() + body


def configuration(settings: object) -> bytes:
    """A whole valid configuration of a service that no file names."""
    return json.dumps(
        {
            "mqtt_config": {"host": "broker", "port": 1883, "username": "flood", "password": "not a real one"},
            "api_config": {"host": "127.0.0.1", "port": 8000},
            "features": {},
            "limits": {},
            "settings": settings,
        },
        separators=(",", ":"),
    ).encode()


# --- over MQTT ---


async def giant_message(target: Target) -> str:
    """One message of 250 MiB, about as large as MQTT allows, on a topic that the daemon listens to."""
    size = 250 * MEBIBYTE
    async with target.mqtt("flood-giant") as (reader, writer):
        writer.write(wire.publish_head("alicia/config/global/x", 1, size))
        for _ in range(size // MEBIBYTE):
            writer.write(bytes(MEBIBYTE))
            await writer.drain()
        await _packet(reader)
    await asyncio.sleep(target.seconds / 3)
    return "250 MiB taken by the broker"


async def big_packets(target: Target) -> str:
    """400 requests of 1.9 MB at once, just below the Maximum Packet Size that the daemon announces."""
    body = b'{"config":{"settings":{"blob":"' + b"x" * 1_900_000 + b'"}}}'

    async def publish(number: int) -> int:
        async with target.mqtt(f"flood-big-{number}") as (reader, writer):
            for packet_id in range(1, 41):
                writer.write(wire.publish_head(f"alicia/config/set/big_{number}", packet_id, len(body)) + body)
                await writer.drain()
            return sum([await _packet(reader) == wire.PUBACK for _ in range(40)])

    taken = await _all(publish(number) for number in range(10))
    await asyncio.sleep(target.seconds / 3)
    return f"{sum(taken)} of 400 taken by the broker"


async def big_lists(target: Target) -> str:
    """100 times ``list`` with every configuration, 20 MB each, from ten clients."""
    statuses = await _ask(
        target,
        clients=10,
        topic="alicia/config/list",
        payload=b'{"include":"config","limit":1000}',
        per_second=10,
        seconds=10,
    )
    return _counted(statuses, "answered")


async def get_storm(target: Target) -> str:
    """5,000 gets a second, whether or not they are answered, from ten clients."""
    return await _gets(target, per_second=5000)


async def get_overload(target: Target) -> str:
    """The same, 20,000 a second, which is more than a daemon can answer."""
    return await _gets(target, per_second=20_000)


async def _gets(target: Target, *, per_second: int) -> str:
    topic = "alicia/config/get/voice_router"
    statuses = await _ask(target, clients=10, topic=topic, payload=b"{}", per_second=per_second, seconds=target.seconds)
    return _counted(statuses, "answered")


async def names_over_mqtt(target: Target) -> str:
    """Reads of 20,000 services and requesters that do not exist."""
    statuses = await _ask(
        target,
        clients=10,
        topic="alicia/config/get/never_{number}/nobody_{number}",
        payload=b"{}",
        per_second=2000,
        seconds=10,
    )
    return _counted(statuses, "answered")


async def _ask(
    target: Target, *, clients: int, topic: str, payload: bytes, per_second: int, seconds: float
) -> "Counter[str]":
    """Publish requests at a rate, not waiting for answers; count the answers by status, "none" where none came."""
    statuses: Counter[str] = Counter()
    wanted, complete = int(per_second * seconds), asyncio.Event()
    loop = asyncio.get_running_loop()
    opened: list[MqttClient] = []

    def answered(_correlation: bytes, body: bytes) -> None:
        statuses[_status(body)] += 1
        if statuses.total() == wanted:
            complete.set()

    for number in range(clients):
        reply, ready = f"alicia/reply/flood/{os.getpid()}/{number}", loop.create_future()
        client = MqttClient(
            reply,
            on_ready=lambda _client, ready=ready: ready.set_result(None),
            on_message=answered,
            on_lost=lambda _reason: None,
            client_id=f"flood-ask-{number}",
        )
        await loop.create_connection(lambda client=client: client, "127.0.0.1", target.mqtt_port)
        await ready
        opened.append(client)
    properties = [
        b"\x08" + wire.string(f"alicia/reply/flood/{os.getpid()}/{place}".encode()) for place in range(clients)
    ]
    sent, begun = 0, loop.time()
    while sent < wanted:
        due = min(wanted, int((loop.time() - begun) * per_second) + 1)
        for number in range(sent, due):
            place = number % clients
            packet_id = number // clients % 65535 + 1
            opened[place].output.append(
                wire.publish(topic.format(number=number), packet_id, payload, properties=properties[place])
            )
        sent = due
        for client in opened:
            client.flush()
        await asyncio.sleep(0.01)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(complete.wait(), ANSWER_SECONDS)
    for client in opened:
        client.transport.abort()
    statuses["none"] = wanted - statuses.total()
    return statuses


def _status(body: bytes) -> str:
    """``success``, or the code of an error; the answers' members are sorted by no rule, so all are read."""
    with contextlib.suppress(ValueError):
        answer = json.loads(body)
        return answer["status"] if answer.get("status") == "success" else answer.get("code", "other")
    return "other"


# --- over HTTP ---


async def gzip_bombs(target: Target) -> str:
    """Bodies of zeros that gzip makes a thousand times smaller, without a token, at 400 KiB/s."""
    bomb = gzip.compress(bytes(64 * MEBIBYTE), 9)
    request = target.request("PUT", "/config/voice_router", bomb, headers="Content-Encoding: gzip\r\n")

    async def post() -> str:
        async with target.http() as (reader, writer):
            writer.write(request)
            await writer.drain()
            return await _answer(reader)

    return await _repeated(post, every_seconds=len(bomb) / (400 * 1024), seconds=target.seconds)


async def slow_readers(target: Target) -> str:
    """500 clients ask for the largest static file and do not read it."""
    return await _never_read(target, target.request("GET", "/docs/swagger-ui-bundle.js"), clients=500)


async def pipelined_slow_readers(target: Target) -> str:
    """The same, each asking 40 times ahead."""
    return await _never_read(target, target.request("GET", "/docs/swagger-ui-bundle.js") * 40, clients=500)


async def unread_lists(target: Target) -> str:
    """Ten clients ask for all configurations, 20 MB, and do not read them."""
    return await _never_read(target, target.request("GET", "/configs?include=config&limit=1000"), clients=10)


async def pipelined_unread_lists(target: Target) -> str:
    """The same, each asking ten times ahead."""
    return await _never_read(target, target.request("GET", "/configs?include=config&limit=1000") * 10, clients=10)


async def silent_connections(target: Target) -> str:
    """1,400 connections that say nothing, not even the beginning of a handshake."""
    async with AsyncExitStack() as stack:
        seen: Counter[str] = Counter()
        plain = Target(target.http_port, target.mqtt_port, tls=False, seconds=target.seconds)
        for _ in range(1400):
            try:
                await stack.enter_async_context(plain.http())
                seen["connected"] += 1
            except _CUT_OFF:
                seen["refused"] += 1
        await asyncio.sleep(target.seconds)
    return _counted(seen, "connections")


async def large_bodies(target: Target) -> str:
    """220 clients without a token send a batch of 4 MiB, all but its last byte, whatever is answered."""
    return await _unfinished_bodies(target)


async def large_bodies_allowed(target: Target) -> str:
    """The same in an open home, where everybody may send a batch."""
    return await _unfinished_bodies(target)


async def _unfinished_bodies(target: Target) -> str:
    size, piece = 4 * MEBIBYTE, 65536
    head = target.request("POST", "/configs/batch", size=size)
    end = time.monotonic() + target.seconds

    async def send() -> str:
        async with target.http() as (reader, writer):
            writer.write(head)
            answer = "none"
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + end - time.monotonic()):
                    for number in range(size // piece):
                        writer.write(b" " * (piece - (number == size // piece - 1)))
                        await writer.drain()
                    answer = await _answer(reader)
            except _CUT_OFF:
                answer = await _answer(reader, seconds=0.1)
            await asyncio.sleep(max(0.0, end - time.monotonic()))
            return answer

    return _counted(Counter(await _all(_tolerant(send()) for _ in range(220))), "answers")


async def revisions(target: Target) -> str:
    """1,200 revisions of 200 kB, each read at once and asked for with ETags of old ones."""
    wanted = 1200 if target.seconds >= 30 else 300
    etags: list[str] = []
    seen: Counter[str] = Counter()
    async with target.http() as (reader, writer):
        for number in range(wanted):
            body = configuration({"blob": f"{number:06}" + "x" * 200_000})
            writer.write(target.request("PUT", "/config/flood", body))
            seen[(await _whole_answer(reader))[0]] += 1
            writer.write(target.request("GET", "/config/flood"))
            status, etag = await _whole_answer(reader)
            seen[status] += 1
            etags.append(etag)
            for old in random.sample(etags, min(3, len(etags))):
                writer.write(target.request("GET", "/config/flood", headers=f"If-None-Match: {old}\r\n"))
                seen[(await _whole_answer(reader))[0]] += 1
    return _counted(seen, "answers")


async def names_over_http(target: Target) -> str:
    """30,000 requests about as many services that do not exist, by every operation that does not write."""

    def request(kind: int, name: str) -> bytes:
        paths = ("{}", "{}/history", "{}/explain", "{}/instances", "schema/{}", "compare/{}?env1=dev&env2=staging")
        if kind < len(paths):
            return target.request("GET", f"/config/{paths[kind].format(name)}")
        body = configuration({})
        if kind == len(paths):
            return target.request("PUT", f"/config/{name}?dry_run=true", body)
        return target.request(
            "POST", "/config/validate", b'{"service":"' + name.encode() + b'","config":' + body + b"}"
        )

    async def ask(first: int) -> "Counter[str]":
        seen: Counter[str] = Counter()
        async with target.http() as (reader, writer):
            for number in range(first, 30_000, 20):
                writer.write(request(number // 20 % 8, f"never_{number}"))
                seen[(await _whole_answer(reader))[0]] += 1
        return seen

    return _counted(sum(await _all(ask(number) for number in range(20)), Counter[str]()), "answers")


async def secrets_document(target: Target) -> str:
    """A document of 64,000 one-letter secrets, set and compared, over and over."""
    body = configuration({"keys": ["x"] * 64_000})
    requests = (
        target.request("PUT", "/config/flood", body),
        target.request("POST", "/config/validate", b'{"service":"flood","config":' + body + b"}"),
        target.request("GET", "/config/compare/flood?rev1=1&rev2=1"),
    )

    async def ask() -> str:
        async with target.http() as (reader, writer):
            for request in requests:
                writer.write(request)
                status, _ = await _whole_answer(reader)
            return status

    return await _repeated(ask, every_seconds=1.0, seconds=target.seconds)


async def _never_read(target: Target, request: bytes, *, clients: int) -> str:
    seen: Counter[str] = Counter()
    async with AsyncExitStack() as stack:

        async def ask() -> None:
            try:
                _, writer = await stack.enter_async_context(target.http(receive_buffer=SMALL_BUFFER))
                # Not before the answer comes does the reader stop by itself.
                writer.transport.pause_reading()
                writer.write(request)
                seen["asked"] += 1
            except _CUT_OFF:
                seen["refused"] += 1

        for _ in range(clients):
            await ask()
        await asyncio.sleep(target.seconds)
    return _counted(seen, "clients")


# --- what all of them use ---


async def _repeated(once: Callable[[], Coroutine[None, None, str]], *, every_seconds: float, seconds: float) -> str:
    """Begin ``once`` at a rate, not waiting for the one before; count what they give."""
    end = time.monotonic() + seconds
    tasks: list[asyncio.Task[str]] = []
    while time.monotonic() < end:
        tasks.append(asyncio.create_task(_tolerant(once())))
        await asyncio.sleep(every_seconds)
    return _counted(Counter(await asyncio.gather(*tasks)), "answers")


async def _tolerant(attempt: Awaitable[str]) -> str:
    try:
        return await attempt
    except _CUT_OFF:
        return "cut off"


async def _all(attempts: Iterable[Awaitable[_Result]]) -> list[_Result]:
    return list(await asyncio.gather(*attempts))


async def _answer(reader: asyncio.StreamReader, *, seconds: float = ANSWER_SECONDS) -> str:
    """The status of an answer; "none" where there is none in time."""
    try:
        async with asyncio.timeout(seconds):
            line = await reader.readline()
    except TimeoutError:
        return "none"
    return line[9:12].decode() or "cut off"


async def _whole_answer(reader: asyncio.StreamReader) -> tuple[str, str]:
    """The status and ETag of an answer whose body is read and dropped."""
    async with asyncio.timeout(ANSWER_SECONDS):
        status, length, etag = (await reader.readline())[9:12].decode(), 0, ""
        while (line := (await reader.readline()).strip()) != b"":
            name, _, value = line.decode().partition(": ")
            length = int(value) if name.lower() == "content-length" else length
            etag = value if name.lower() == "etag" else etag
        await reader.readexactly(0 if status == "304" else length)
    return status, etag


async def _packet(reader: asyncio.StreamReader) -> int:
    """Read one packet from the broker; gives its kind."""
    first, size, shift = (await reader.readexactly(1))[0], 0, 0
    while True:
        byte = (await reader.readexactly(1))[0]
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    await reader.readexactly(size)
    return first & 0xF0


def _counted(seen: "Counter[str]", what: str) -> str:
    parts = [f"{count:,} {name}" for name, count in seen.most_common() if count]
    return f"{what}: {', '.join(parts) or 'none'}"


FLOODS: dict[str, Callable[[Target], Coroutine[None, None, str]]] = {
    function.__name__: function
    for function in (
        giant_message,
        big_packets,
        big_lists,
        gzip_bombs,
        slow_readers,
        pipelined_slow_readers,
        silent_connections,
        large_bodies,
        large_bodies_allowed,
        secrets_document,
        get_storm,
        get_overload,
        revisions,
        names_over_http,
        names_over_mqtt,
        unread_lists,
        pipelined_unread_lists,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flood", choices=list(FLOODS))
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--mqtt-port", type=int, required=True)
    parser.add_argument("--tls", choices=["yes", "no"], default="no")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    target = Target(options.http_port, options.mqtt_port, options.tls == "yes", options.seconds)
    print(json.dumps({"seen": uvloop.run(FLOODS[options.flood](target))}))


if __name__ == "__main__":
    main()
