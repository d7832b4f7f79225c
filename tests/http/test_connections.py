"""Limits for slow and for many clients, over the real server: each connection ends in time, others are served."""

import asyncio
import contextlib
import itertools
import json
import shutil
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from aliciacfg.bootstrap import open_core
from aliciacfg.http.connection_limits import Limits
from aliciacfg.http.connections import Connections
from aliciacfg.http.listener import Listener
from aliciacfg.http.server import HttpServer, HttpSettings
from aliciacfg.settings import resolve
from aliciacfg.storage.data_directory import DataDirectory
from certificates import Authority
from daemons import Daemon
from inprocess import eventually
from machine import SECONDS
from repository import ROOT, SERVICES
from soak import each_in_turn, rarely

SHORT = 0.75
LONG = 10 * SECONDS
# Longer than a test may take, so that only the limit under test has an effect.
PATIENT = Limits(handshake_seconds=LONG, idle_seconds=LONG, closing_seconds=LONG, body_seconds=LONG, linger_seconds=0.1)
PACE_SECONDS = 0.02


@dataclass
class Client:
    """The client side of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, text: str | bytes) -> None:
        self.writer.write(text.encode() if isinstance(text, str) else text)

    def ask(self, path: str, *headers: str, times: int = 1) -> None:
        self.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]) * times)

    async def answer(self) -> tuple[int, Any]:
        """Return the status and the decoded body of the next response."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        length = [line.partition(":")[2] for line in head.split("\r\n") if line.lower().startswith("content-length:")]
        body = await self.reader.readexactly(int(length[0])) if length else b""
        return int(head.split()[1]), json.loads(body) if body else None

    async def ended(self) -> bytes:
        """Wait until the server closes the connection; return what was received until then."""
        found = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while part := await self.reader.read(65536):
                found += part
        return found

    def take_nothing(self) -> None:
        cast("asyncio.Transport", self.writer.transport).pause_reading()

    async def ask_for_ever(self, path: str) -> None:
        while True:
            self.ask(path, times=20)
            await self.writer.drain()

    async def trickle(self, text: bytes) -> bytes:
        """Send a byte at a time until the server closes the connection; return what was received."""
        ended = asyncio.ensure_future(self.ended())
        for number in range(len(text) * 1000):
            with contextlib.suppress(ConnectionError):
                self.writer.write(text[number % len(text) :][:1])
            if (await asyncio.wait({ended}, timeout=PACE_SECONDS))[0]:
                return ended.result()
        raise AssertionError("the server takes everything")


class Port(int):
    """The port of a server, and its connections."""

    connections: Connections


async def connect(port: int, tls: ssl.SSLContext | None) -> Client:
    named = "localhost" if tls is not None else None
    return Client(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=named))


@pytest.fixture
async def clients() -> AsyncGenerator[Callable[..., Any]]:
    """Opens connections, and aborts them at the end of the test."""
    made: list[Client] = []

    async def make(port: int, tls: ssl.SSLContext | None = None) -> Client:
        made.append(await connect(port, tls))
        return made[-1]

    yield make
    for client in made:
        client.writer.transport.abort()


@pytest.fixture
def serving(tmp_path: Path, authority: Authority) -> Callable[..., Any]:
    """Runs the HTTP server over a real store with the limits of the test; yields its port."""

    @asynccontextmanager
    async def serve(
        limits: Limits, *, tls: bool = False, services: Sequence[str] = ("voice_router",)
    ) -> AsyncGenerator[Port]:
        home = Daemon(tmp_path / "home", broker_port=1).keep_services(*services)
        places = {"environments_dir": str(home.environments), "schemas_dir": str(home.directory / "schemas")}
        settings = resolve(places, environ=home.environment(), dotenv_values={}).settings
        data = DataDirectory(home.data)
        async with open_core(settings, data) as core:
            await core.start("dev")
            http = HttpServer(
                core.service,
                HttpSettings("127.0.0.1", 0, tls=server_context(authority) if tls else None, limits=limits),
                published_key=dict,
                pages={},
            )
            url = await http.start()
            try:
                port = Port(url.rpartition(":")[2])
                port.connections = http.connections
                yield port
            finally:
                await http.stop()
        data.release()

    return serve


def server_context(authority: Authority) -> ssl.SSLContext:
    pair = authority.issue("slow", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context


@pytest.fixture(autouse=True)
async def bounded() -> AsyncGenerator[None]:
    """Limit the time of each test."""
    async with asyncio.timeout(2 * SECONDS):
        yield


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("begin", "more"), [("", b"\r\n"), ("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"x")]
)
async def test_headers_that_never_end_close_the_connection(
    serving: Any, clients: Any, authority: Authority, begin: str, more: bytes, tls: bool
):
    """Before the first line and inside the headers: single bytes do not extend the time, and others are answered."""
    async with serving(replace(PATIENT, idle_seconds=SHORT), tls=tls) as port:
        context = authority.context() if tls else None
        slow = await clients(port, context)
        slow.send(begin)
        trickling = asyncio.ensure_future(slow.trickle(more))
        other = await clients(port, context)
        other.ask("/health")
        assert (await other.answer())[0] == 200
        assert await trickling == b""


@pytest.mark.parametrize("tls", [False, True])
async def test_a_connection_without_a_request_is_closed(serving: Any, clients: Any, authority: Authority, tls: bool):
    """A new connection, and one that is kept alive after a request."""
    async with serving(replace(PATIENT, idle_seconds=SHORT), tls=tls) as port:
        context = authority.context() if tls else None
        unused, used = await clients(port, context), await clients(port, context)
        used.ask("/health")
        assert (await used.answer())[0] == 200
        assert await unused.ended() == await used.ended() == b""


@pytest.mark.parametrize("path", ["/health", "/config/voice_router"])
async def test_a_connection_in_use_stays(serving: Any, clients: Any, path: str):
    """Requests keep it open for several times the idle time, also those on the short path."""
    async with serving(replace(PATIENT, idle_seconds=SHORT)) as port:
        while not await asked_again_and_again(await clients(port), path):
            pass


async def asked_again_and_again(client: Client, path: str) -> bool:
    """Ask for several times the idle time; return False if the machine paused for so long that it was idle."""
    now = asyncio.get_running_loop().time
    begun = last = now()
    while last < begun + 4 * SHORT:
        client.ask(path)
        try:
            assert (await client.answer())[0] == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            if now() - last < SHORT / 2:
                raise
            return False
        last = now()
        await asyncio.sleep(SHORT / 50)
    return True


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("length", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
async def test_a_trickled_body_is_refused(serving: Any, clients: Any, authority: Authority, length: str, tls: bool):
    """The answer is 408 with the error object, the connection is closed, and nothing is written."""
    async with serving(replace(PATIENT, body_seconds=SHORT), tls=tls) as port:
        context = authority.context() if tls else None
        slow = await clients(port, context)
        slow.send("PATCH /config/voice_router HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        slow.send(f"{length}\r\n\r\n")
        head, _, body = (await slow.trickle(b"5\r\nhello\r\n" if "chunked" in length else b" ")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in head.lower()
        assert json.loads(body)["code"] == "invalid_request"
        other = await clients(port, context)
        other.ask("/config/voice_router")
        assert (await other.answer())[1]["revision"] == 1


async def test_a_body_that_is_not_read_is_not_waited_for(serving: Any, clients: Any):
    """The response is sent without it, and the connection is closed while it still arrives."""
    async with serving(PATIENT) as port:
        slow = await clients(port)
        slow.send("POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n")
        assert (await slow.trickle(b" ")).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("tls", [False, rarely(True)])
async def test_a_client_that_reads_no_responses_is_disconnected(
    serving: Any, clients: Any, authority: Authority, tls: bool
):
    """It sends requests and reads nothing; others are answered meanwhile."""
    # Enough for the others on a busy machine.
    limits = replace(PATIENT, idle_seconds=2 * SHORT, closing_seconds=SHORT)
    async with serving(limits, tls=tls, services=SERVICES) as port:
        context = authority.context() if tls else None
        greedy = await clients(port, context)
        greedy.take_nothing()
        asking = asyncio.ensure_future(greedy.ask_for_ever("/configs?include=config"))
        while not asking.done():
            other = await clients(port, context)
            other.ask("/health")
            assert (await other.answer())[0] == 200
            other.writer.close()
            await asyncio.wait({asking}, timeout=PACE_SECONDS)
        assert isinstance(asking.exception(), ConnectionError)


async def test_a_long_poll_outlives_every_limit(serving: Any, clients: Any):
    """With wait_seconds beyond all limits the answer is 304 at its end, and the connection stays open."""
    short = Limits(SHORT, SHORT, SHORT, SHORT, SHORT, connections=1)
    async with serving(short) as port:
        client = await clients(port)
        client.ask("/config/voice_router?wait_seconds=1", "If-None-Match: *")
        assert await client.answer() == (304, None)
        client.ask("/health")
        assert (await client.answer())[0] == 200


async def test_requests_that_wait_leave_connections_for_others(serving: Any, clients: Any):
    """Incomplete bodies and long polls are limited in number; one more of each is answered with 503."""
    async with serving(replace(PATIENT, connections=8, waiting=2)) as port:
        held = [await clients(port) for _ in range(6)]
        for client in held[:3]:
            client.send("PATCH /config/voice_router HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            client.send("Content-Length: 50\r\n\r\n{")
        for client in held[3:]:
            client.ask("/config/voice_router?wait_seconds=60", "If-None-Match: *")
        for client in (held[2], held[5]):
            status, answer = await client.answer()
            assert (status, answer["code"]) == (503, "busy")
        for _ in range(20):
            other = await clients(port)
            other.ask("/health")
            assert (await other.answer())[0] == 200
        # A write whose body arrives together with its headers needs no slot.
        other = await clients(port)
        other.send("PATCH /config/voice_router HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        other.send('Content-Length: 19\r\n\r\n{"limits":{"x": 1}}')
        assert (await other.answer())[0] == 200
        held[3].writer.close()


async def test_an_anonymous_client_is_refused_before_its_body(serving: Any, clients: Any, tmp_path: Path):
    """Where rules exist, a request without a token is answered although its body never arrives."""
    (tmp_path / "home" / "environments").mkdir(parents=True)
    shutil.copytree(ROOT / "environments", tmp_path / "home" / "environments", dirs_exist_ok=True)
    (tmp_path / "home" / "environments" / "access.yaml").write_text("admins: [operator]\n")
    async with serving(PATIENT) as port:
        client = await clients(port)
        client.send("PUT /config/voice_router HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        client.send("Content-Length: 5000\r\n\r\n{")
        assert (await client.answer())[0] == 401


async def test_the_longest_idle_connection_is_closed_for_a_new_one(serving: Any, clients: Any):
    """At the limit of connections a new client is served; the others stay connected."""
    async with serving(replace(PATIENT, connections=3)) as port:
        first, second, third = [await clients(port) for _ in range(3)]
        for client in (first, second, third, first):
            client.ask("/health")
            assert (await client.answer())[0] == 200
        fourth = await clients(port)
        fourth.ask("/health")
        assert (await fourth.answer())[0] == 200
        assert await second.ended() == b""
        for client in (first, third, fourth):
            client.ask("/health")
            assert (await client.answer())[0] == 200


async def test_busy_connections_are_not_closed_for_a_new_one(serving: Any, clients: Any):
    """While all wait for a response, a new client is disconnected."""
    async with serving(replace(PATIENT, connections=2)) as port:
        waiting = [await clients(port) for _ in range(2)]
        for client in waiting:
            client.ask("/config/voice_router?wait_seconds=1", "If-None-Match: *")
            client.send("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await eventually(lambda: port.connections.busy == 2)
        turned_away = await clients(port)
        turned_away.ask("/health")
        assert await turned_away.ended() == b""
        for client in waiting:
            assert await client.answer() == (304, None)
            assert (await client.answer())[0] == 200
            assert await client.ended() == b""
        new = await clients(port)
        new.ask("/health")
        assert (await new.answer())[0] == 200


async def test_a_handshake_that_never_ends_closes_the_connection(serving: Any, clients: Any):
    """The client connects to the TLS port and sends nothing."""
    async with serving(replace(PATIENT, handshake_seconds=SHORT), tls=True) as port:
        client = await clients(port)
        assert await client.ended() == b""


class Flood(asyncio.Protocol):
    """Sends more than every buffer holds, then closes."""

    SIZE = 16 * 1024 * 1024

    def __init__(self, begun: asyncio.Future[None], lost: asyncio.Future[None], *, close: bool) -> None:
        self.begun = begun
        self.lost = lost
        self.close = close

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.begun.set_result(None)
        cast("asyncio.Transport", transport).write(bytes(self.SIZE))
        if self.close:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.lost.set_result(None)


@pytest.mark.parametrize(
    ("case", "tls"),
    # Three ways to close come last, so that it goes with and without TLS for each of the others.
    each_in_turn(
        itertools.product(
            [asyncio.new_event_loop, uvloop.new_event_loop], [False, True], ["nobody", "server", "client"]
        ),
        [False, True],
    ),
)
def test_data_that_a_client_does_not_read_is_dropped(authority: Authority, case: tuple[Any, bool, str], tls: bool):
    """On both event loops, with and without TLS, whichever side closes. A client that reads receives everything."""
    loop_factory, reads, closing = case
    seconds = LONG if reads else SHORT

    def client(port: int) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", port), SECONDS)
        if tls:
            try:
                made = authority.context().wrap_socket(made, server_hostname="localhost")
            except (ConnectionResetError, ssl.SSLEOFError):
                # On a busy machine the server has dropped the connection before this thread had its turn.
                assert not reads
                return made
        if closing == "client":
            socket.socket.shutdown(made, socket.SHUT_WR)
        if reads:
            with made.makefile("rb") as file:
                assert len(file.read(Flood.SIZE)) == Flood.SIZE
            made.close()
        return made

    async def connected(listener: Listener, port: int, begun: asyncio.Future[None]) -> socket.socket:
        """Connect, again if the server took the connection for an idle one before the handshake was over."""
        while True:
            made = await asyncio.to_thread(client, port)
            await eventually(lambda: begun.done() or (tls and not listener.connections.count))
            if begun.done():
                return made
            made.close()

    async def run() -> None:
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        listener = Listener(replace(PATIENT, idle_seconds=seconds, closing_seconds=seconds))
        port = await listener.start(
            lambda: Flood(begun, lost, close=closing == "server"),
            "127.0.0.1",
            0,
            server_context(authority) if tls else None,
        )
        try:
            with await connected(listener, port, begun):
                async with asyncio.timeout(SECONDS):
                    await lost
        finally:
            listener.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())
