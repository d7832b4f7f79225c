"""What happens to a connection before it is one of HTTP: it counts from its first moment, and TLS costs a handshake."""

import asyncio
import contextlib
import json
import resource
import socket
import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import uvloop

from aliciacfg.errors import InvalidRequest
from aliciacfg.http.connection_limits import Limits
from aliciacfg.http.listener import Listener
from aliciacfg.http.refusals import plain_answer
from certificates import Authority
from inprocess import eventually
from machine import SECONDS

LIMITS = Limits(handshake_seconds=10 * SECONDS, idle_seconds=10 * SECONDS, connections=5)


class Echo(asyncio.Protocol):
    """Sends back what it receives; ``made`` are all transports."""

    made: ClassVar[list[Any]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.made.append(transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    pair = authority.issue("listener", "localhost")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pair.cert, pair.key)
    return made


@asynccontextmanager
async def listening(
    limits: Limits, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncGenerator[tuple[Listener, int]]:
    listener = Listener(limits, answer_to_plain=b"HTTP/1.1 400 speak TLS\r\n\r\n")
    port = await listener.start(Echo, host, 0, tls)
    try:
        async with asyncio.timeout(2 * SECONDS):
            yield listener, port
    finally:
        listener.close()


@contextlib.contextmanager
def silent(port: int, number: int) -> Iterator[list[socket.socket]]:
    """Connections that send nothing."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port), SECONDS)) for _ in range(number)]


async def said(port: int, tls: ssl.SSLContext | None, text: bytes) -> bytes:
    """Send a text over a connection of its own, and return the first answer."""
    named = None if tls is None else "localhost"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=named)
    writer.write(text)
    found = await reader.read(len(text) or 1000)
    writer.transport.abort()
    return found


async def ended(client: socket.socket) -> bool:
    """Whether the server has closed a connection that receives nothing."""
    client.setblocking(False)
    try:
        return await asyncio.get_running_loop().sock_recv(client, 1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_silent_connections_do_not_keep_others_out(
    authority: Authority, context: ssl.SSLContext, loop_factory: Any, tls: bool
):
    """On both event loops: they count before the handshake, the oldest ones are closed, others are served."""

    async def run() -> None:
        ours, theirs = (context, authority.context()) if tls else (None, None)
        async with listening(LIMITS, ours) as (_, port):
            with silent(port, 40) as clients:
                assert await said(port, theirs, b"hello") == b"hello"
                for client in clients[:30]:
                    assert await ended(client)
                assert await said(port, theirs, b"again") == b"again"

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


async def test_new_silent_connections_close_one_another_before_those_in_use():
    """A client that has sent requests keeps its connection through a flood of connections that have not."""
    async with listening(LIMITS) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"a")
        assert await reader.read(1) == b"a"
        assert listener.connections.count == 1
        transport = Echo.made[-1]
        listener.connections.mark_busy(transport)
        listener.connections.mark_idle(transport)
        with silent(port, 40) as clients:
            assert await ended(clients[0])
            writer.write(b"b")
            assert await reader.read(1) == b"b"
        writer.close()


async def test_a_client_that_never_begins_its_handshake_is_disconnected(context: ssl.SSLContext):
    """Within the time for the handshake."""
    async with listening(replace(LIMITS, handshake_seconds=0.1), context) as (_, port):
        with silent(port, 1) as (client,):
            assert await ended(client)


@pytest.mark.parametrize("begin", [b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"])
async def test_a_handshake_that_stops_is_ended(context: ssl.SSLContext, begin: bytes):
    """After its first bytes, as well."""
    async with listening(replace(LIMITS, handshake_seconds=0.1), context) as (listener, port):
        with silent(port, 1) as (client,):
            client.sendall(begin)
            assert await ended(client)
        await eventually(lambda: listener.connections.count == 0)


async def test_plain_http_on_a_tls_port_is_told_so(context: ssl.SSLContext):
    """In plain text, since the client would not understand anything else."""
    async with listening(LIMITS, context) as (listener, port):
        assert await said(port, None, b"GET / HTTP/1.1\r\n\r\n") == b"HTTP/1.1 400 speak"
        await eventually(lambda: listener.connections.count == 0)


@pytest.mark.parametrize("tls", [False, True])
async def test_connections_that_end_by_themselves_leave_nothing(
    authority: Authority, context: ssl.SSLContext, tls: bool
):
    """Before the handshake, in it and after it; no descriptor stays open."""
    ours, theirs = (context, authority.context()) if tls else (None, None)
    async with listening(LIMITS, ours) as (listener, port):
        for begin in (b"", b"\x16", b"\x16\x03\x01\x00\x05hello", b"hello"):
            with silent(port, 3) as clients:
                for client in clients:
                    client.sendall(begin)
            assert await said(port, theirs, b"hello") == b"hello"
            await eventually(lambda: listener.connections.count == 0)


async def test_what_has_not_begun_ends_with_the_listener(authority: Authority, context: ssl.SSLContext):
    """A handshake that ends later would open a connection that nothing serves; one that is open stays so."""
    async with listening(LIMITS, context) as (listener, port):
        reader, writer = await asyncio.open_connection(
            "localhost", port, ssl=authority.context(), family=socket.AF_INET
        )
        with silent(port, 2) as clients:
            clients[0].sendall(b"\x16\x03\x01\x02\x00\x01\x00")
            await eventually(lambda: listener.connections.count == 3)
            listener.close()
            for client in clients:
                assert await ended(client)
        assert listener.connections.count == 1
        writer.write(b"on")
        assert await reader.readexactly(2) == b"on"
        writer.transport.abort()


async def test_connections_leave_descriptors_for_the_rest_of_the_daemon(monkeypatch: pytest.MonkeyPatch):
    """The limit of open files is the other limit of connections."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (140, 140))
    async with listening(replace(LIMITS, connections=10_000)) as (listener, port):
        with silent(port, 100) as clients:
            for client in clients[:25]:
                assert await ended(client)
            assert listener.connections.count == 70


async def test_without_a_free_descriptor_new_connections_wait():
    """Neither an error nor a busy loop: they are accepted when there are descriptors again."""
    async with listening(LIMITS) as (listener, port):
        with contextlib.ExitStack() as stack, silent(port, 1):
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            await eventually(lambda: listener.connections.count == 1)
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            used = stack.enter_context(socket.socket()).fileno() + 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (used, limits[1]))
            try:
                await asyncio.get_running_loop().sock_connect(waiting, ("127.0.0.1", port))
                await eventually(lambda: listener.paused)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            await eventually(lambda: listener.connections.count == 2)


async def test_every_address_of_a_name_is_listened_on():
    """On the same port, also if that is chosen by the system."""
    async with listening(LIMITS, host="localhost") as (listener, port):
        assert {made.getsockname()[1] for made in listener.sockets} == {port}
        assert await said(port, None, b"hello") == b"hello"
    with pytest.raises(OSError, match="in use"):
        async with listening(LIMITS) as (_, port):
            await Listener(LIMITS).start(Echo, "127.0.0.1", port, None)


def test_the_answer_to_plain_http_is_the_error_object():
    """A complete response."""
    head, _, body = plain_answer(InvalidRequest("Use https.")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["message"] == "Use https."
