"""What the daemon is measured beside: the least that a Python program needs to do the same.

Each prints READY, with its port where it chose one, and runs until it is ended.

    responders.py mqtt   --port BROKER_PORT --topic TOPIC --document FILE
                         an asyncio.Protocol without a library, which gives the very same answer: the limit
    responders.py http   --document FILE
                         a bare aiohttp handler with the very same body
    responders.py writer --port BROKER_PORT --topic PREFIX --directory DIRECTORY
                         PUT /config/NAME: validate, commit in SQLite together with what else waits, publish retained
"""

import argparse
import asyncio
import queue
import sqlite3
import threading
import time
from pathlib import Path
from typing import cast

import msgspec
import uvloop
from aiohttp import web

import wire
from clients import MqttClient
from limits import INSERT, TABLES, UPSERT

_GROUP = 256


class BareResponder(asyncio.Protocol):
    """Answers every request with the document at the request's QoS, in one write for all that one read brought."""

    def __init__(self, topic: str, document: bytes) -> None:
        self._topic = topic
        self._document = document
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._packet_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(wire.connect("bare-responder"))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        used = 0
        output: list[bytes] = []
        for first, start, end in wire.packets(buffer):
            used = end
            kind = first & 0xF0
            if kind == wire.PUBLISH:
                packet_id, topic, correlation, _ = wire.publication(buffer, first, start)
                if packet_id:
                    output.append(wire.puback(packet_id))
                    self._packet_id = self._packet_id % 65535 + 1
                output += wire.answer(topic, correlation, self._packet_id if packet_id else 0, self._document)
            elif kind == wire.CONNACK:
                output.append(wire.subscribe(1, self._topic, 1))
            elif kind == wire.SUBACK:
                print("READY", flush=True)
        del buffer[:used]
        if output:
            self._transport.write(b"".join(output))


async def answer_mqtt(options: argparse.Namespace) -> None:
    document = options.document.read_bytes()
    await asyncio.get_running_loop().create_connection(
        lambda: BareResponder(options.topic, document), "127.0.0.1", options.port
    )
    await asyncio.Event().wait()


async def answer_http(options: argparse.Namespace) -> None:
    """Answer ``GET /config/{service}`` with the document, encoded beforehand."""
    document = options.document.read_bytes()

    async def get(_request: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    app = web.Application()
    app.router.add_get("/config/{service}", get)
    await _serve(app)


class Configuration(msgspec.Struct):
    """The base contract, as far as types show it."""

    service_name: str
    version: str
    environment: str
    mqtt_config: dict[str, str | int | float | bool | None]
    api_config: dict[str, object]
    features: dict[str, bool]
    limits: dict[str, int]


class Committer(threading.Thread):
    """Commits the history and the current row of a change, together with all that wait: the shape of a fast writer."""

    def __init__(self, file: Path) -> None:
        super().__init__(daemon=True)
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[tuple[tuple[object, ...], asyncio.Future[None]]] = queue.SimpleQueue()

    def commit(self, row: tuple[object, ...]) -> asyncio.Future[None]:
        """Return a future that is done when the row is durable."""
        future = self._loop.create_future()
        self._waiting.put((row, future))
        return future

    def run(self) -> None:
        database = sqlite3.connect(self._file, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(TABLES)
        while True:
            group = [self._waiting.get()]
            while len(group) < _GROUP and not self._waiting.empty():
                group.append(self._waiting.get())
            database.execute("BEGIN IMMEDIATE")
            for row, _ in group:
                database.execute(INSERT, row)
                database.execute(UPSERT, row)
            database.execute("COMMIT")
            self._loop.call_soon_threadsafe(self._done, [future for _, future in group])

    @staticmethod
    def _done(futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            future.set_result(None)


async def answer_writes(options: argparse.Namespace) -> None:
    options.directory.mkdir(parents=True)
    committer = Committer(options.directory / "writer.db")
    committer.start()
    ready = asyncio.get_running_loop().create_future()
    bus = MqttClient(
        f"{options.topic}/unused",
        on_ready=lambda _client: ready.set_result(None),
        on_message=lambda _correlation, _payload: None,
        on_lost=lambda _reason: None,
        client_id="bare-writer",
        version=4,
    )
    await asyncio.get_running_loop().create_connection(lambda: bus, "127.0.0.1", options.port)
    await ready
    decoder = msgspec.json.Decoder(Configuration)
    revisions: dict[str, int] = {}

    async def put(request: web.Request) -> web.Response:
        name, body = request.match_info["name"], await request.read()
        decoder.decode(body)
        revision = revisions[name] = revisions.get(name, 0) + 1
        await committer.commit((name, revision, time.time(), body))
        bus.transport.write(wire.plain_publish(f"{options.topic}/{name}", 0, body, 0, retain=True))
        return web.Response(body=b'{"status":"success"}', content_type="application/json")

    app = web.Application()
    app.router.add_put("/config/{name}", put)
    await _serve(app)


async def _serve(app: web.Application) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("READY", runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


KINDS = {"mqtt": answer_mqtt, "http": answer_http, "writer": answer_writes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--topic", default="")
    parser.add_argument("--document", type=Path)
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    uvloop.run(KINDS[options.kind](options))


if __name__ == "__main__":
    main()
