"""Requests that are carried out without aiohttp's task: answered as by it, in order, and completed if they have to."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from aliciacfg.http import direct
from aliciacfg.http.direct import DirectRequests, Route
from aliciacfg.http.protocol import RequestProtocol
from aliciacfg.operations.table import BY_NAME
from builders import environment_file
from inprocess import Core, core, eventually, listening

FILES: dict[str, object] = {
    "environments/base.yaml": environment_file({"bell": {"settings": {"volume": 1, "text": "x" * 1000}}, "lamp": {}}),
    "environments/dev.yaml": "",
    "environments/prod.yaml": "",
}


class Connection:
    """A raw connection; gives the bytes of each response, without date, time and length."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)

    async def __aenter__(self) -> Self:
        self._reader, self.writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    def request(self, method: str, path: str, *headers: str, body: str = "") -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._address.netloc}", *headers]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", body]).encode()

    def patch(self, volume: object) -> bytes:
        return self.request("PATCH", "/config/bell", body=f'{{"settings": {{"volume": {volume}}}}}')

    async def head(self) -> bytes:
        return await self._reader.readuntil(b"\r\n\r\n")

    async def response(self) -> bytes:
        head = await self.head()
        length = re.search(rb"Content-Length: (\d+)", head)
        body = await self._reader.readexactly(int(length[1])) if length else b""
        # A time has more or fewer digits.
        varying = rb'\r\nDate: [^\r]+|\r\nContent-Length: \d+|"last_updated":[\d.]+'
        return re.sub(varying, b"", head + body)

    async def ask(self, request: bytes) -> bytes:
        self.writer.write(request)
        return await self.response()


@pytest.fixture
async def made(tmp_path: Path) -> AsyncGenerator[Core, None]:
    async with core(tmp_path, FILES) as started:
        yield started


@pytest.fixture
async def connection(made: Core) -> AsyncGenerator[Connection, None]:
    async with listening(made) as url, Connection(url) as opened, asyncio.timeout(20):
        yield opened


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations of requests that were taken, in order."""
    found: list[str] = []
    original = DirectRequests.answer

    def answer(self: DirectRequests, route: Route, request: Any) -> bytes | None:
        found.append(route.operation.name)
        return original(self, route, request)

    monkeypatch.setattr(DirectRequests, "answer", answer)
    return found


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods of requests of which the head had arrived, alone."""
    found: list[str] = []
    original = DirectRequests.route

    def route(self: DirectRequests, message: Any, body: Any) -> Route | None:
        found.append(message.method)
        return original(self, message, body)

    monkeypatch.setattr(DirectRequests, "route", route)
    return found


@contextlib.contextmanager
def by_aiohttp() -> Iterator[None]:
    """Let aiohttp handle everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DirectRequests, "route", lambda *_: None)
        yield


REQUESTS: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("GET", "/config/bell?wait_seconds=0", "", ()),
    ("GET", "/config/bell?pointer=/settings/volume&x=1", "", ()),
    ("GET", "/config/bell?format=yaml", "", ()),
    ("GET", "/config/bell?format=yaml", "", ("If-None-Match: *",)),
    ("GET", "/config/nobody", "", ()),
    ("GET", "/config/bell/explain", "", ()),
    ("GET", "/config/bell/history", "", ()),
    ("GET", "/configs?include=config&request_id=7", "", ()),
    ("GET", "/config/schema/bell", "", ()),
    ("GET", "/config/bell/explain", "", ("Origin: http://evil.example",)),
    ("POST", "/local/token_list", "", ()),
    ("PATCH", "/config/bell?dry_run", '{"settings": {"volume": 2}}', ()),
    ("PATCH", "/config/bell", '{"settings": {"volume": 1}}', ()),
    ("PATCH", "/config/bell?request_id=a", '{"mqtt_config": 5}', ()),
    ("PATCH", "/config/bell?expected_revision=9", '{"settings": {"volume": 2}}', ()),
    ("PATCH", "/config/bell", '{"settings": {"volume": 2}}', ('If-Match: "9"',)),
    ("PATCH", "/config/bell", '{"settings": {"volume": 2}}', ("Authorization: Bearer acfg_no",)),
    ("PATCH", "/config/bell", '{"settings": ', ()),
    ("PATCH", "/config/bell", '{"settings": 1}', ("Content-Encoding: gzip",)),
    ("PATCH", "/config/bell", "", ()),
    ("PUT", "/config/b%C3%A9ll", "{}", ()),
    ("POST", "/config/bell/unset", '{"pointer": "/nothing", "other": 1}', ()),
    ("POST", "/config/validate", '{"service": "bell", "config": {}}', ()),
]  # fmt: skip


async def test_a_request_is_answered_as_by_aiohttp(made: Core, begun: list[str]):
    """Byte for byte, the date aside, from the second request of a path on."""
    for method, path, body, headers in REQUESTS:
        async with listening(made) as url, Connection(url) as connection, asyncio.timeout(20):
            request = connection.request(method, path, *headers, body=body)
            with by_aiohttp():
                expected = await connection.ask(request)
            assert not begun, (method, path, headers)
            assert await connection.ask(request) == expected, (method, path, headers)
            assert len(begun) == 1, (method, path, headers)
            begun.clear()


async def test_a_large_response_is_sent_in_parts_as_by_aiohttp(connection: Connection, begun: list[str], made: Core):
    """Larger than what is sent at once."""
    text = "y" * 150_000
    await made.ask("patch", "bell", patch={"settings": {"text": text}})
    request = connection.request("GET", "/config/bell/explain")
    with by_aiohttp():
        expected = await connection.ask(request)
    assert text.encode() in expected
    assert await connection.ask(request) == expected
    assert begun == ["explain"]


@pytest.mark.parametrize(
    "request_",
    [
        b"HEAD /config/bell HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /config/bell/history HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /config/bell/history HTTP/1.0\r\nHost: localhost\r\n\r\n",
        b"GET /config/bell/history HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"PATCH /config/bell HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        b"PATCH /config/bell HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{",
        b"GET /config/bell/unknown HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["HEAD", "close", "1.0", "upgrade", "expect", "body to come", "no route", "no path"],
)
async def test_what_needs_more_of_aiohttp_is_left_to_it(
    connection: Connection, begun: list[str], looked_at: list[str], request_: bytes
):
    """Though the path is known."""
    for known in ("/config/bell", "/config/bell/history"):
        await connection.ask(connection.request("GET", known))
    await connection.ask(connection.patch(1))
    begun.clear()
    looked_at.clear()
    connection.writer.write(request_)
    if request_.endswith(b"{"):
        await eventually(lambda: looked_at == ["PATCH"])
        connection.writer.write(b"}")
    assert (await connection.head()).startswith(b"HTTP/1.")
    assert begun == []


async def test_requests_behind_one_are_answered_in_order(connection: Connection, begun: list[str]):
    """They arrive while it is under way, and wait for it."""
    await connection.ask(connection.patch(1))
    connection.writer.write(connection.patch(2))
    await eventually(lambda: begun == ["patch"])
    connection.writer.write(connection.patch(3) + connection.request("GET", "/config/bell?pointer=/settings/volume"))
    first, second, third = [await connection.response() for _ in range(3)]
    assert b'"volume":2' in first
    assert b'"volume":3' in second
    assert b'"revision":3' in third
    assert begun == ["patch"]
    assert b'"volume":4' in await connection.ask(connection.patch(4))
    assert begun == ["patch", "patch"]


async def test_a_write_is_completed_when_its_client_disconnects(connection: Connection, begun: list[str], made: Core):
    """It had arrived completely."""
    await connection.ask(connection.patch(1))
    connection.writer.write(connection.patch(2))
    await eventually(lambda: begun == ["patch"])
    connection.writer.transport.abort()
    await eventually(lambda: made.parts.service.writes.current("bell", None).revision == 2)


async def test_a_long_poll_ends_when_its_client_disconnects(connection: Connection, begun: list[str], made: Core):
    """It must not hold its slot until its time is over."""
    tag = re.search(rb"ETag: ([^\r]+)", await connection.ask(connection.request("GET", "/config/bell")))
    assert tag is not None
    poll = connection.request("GET", "/config/bell?wait_seconds=60", f"If-None-Match: {tag[1].decode()}")
    connection.writer.write(poll)
    waiters = made.parts.service.reads._parts.waiters._waiters  # pyright: ignore[reportPrivateUsage]
    await eventually(lambda: any(waiters.values()))
    assert begun == ["get"]
    connection.writer.transport.abort()
    await eventually(lambda: not any(waiters.values()))


async def test_a_connection_is_not_idle_while_a_request_is_under_way(
    made: Core, begun: list[str], monkeypatch: pytest.MonkeyPatch
):
    """Nor directly after one: the time after which aiohttp closes idle connections begins anew."""
    looked, make, look = [0], RequestProtocol.__init__, RequestProtocol._process_keepalive  # pyright: ignore[reportPrivateUsage]

    def impatient(self: Any, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        # Longer than a busy machine takes between two steps of the test.
        self._keepalive_timeout = 0.5

    def counted(self: RequestProtocol) -> None:
        looked[0] += 1
        look(self)

    monkeypatch.setattr(RequestProtocol, "__init__", impatient)
    monkeypatch.setattr(RequestProtocol, "_process_keepalive", counted)
    async with listening(made) as url, Connection(url) as connection, asyncio.timeout(20):
        tag = re.search(rb"ETag: ([^\r]+)", await connection.ask(connection.request("GET", "/config/bell")))
        assert tag is not None
        poll = connection.request("GET", "/config/bell?wait_seconds=60", f"If-None-Match: {tag[1].decode()}")
        connection.writer.write(poll)
        await eventually(lambda: looked[0] >= 3)
        await made.ask("patch", "bell", patch={"settings": {"volume": 2}})
        assert b'"volume":2' in await connection.response()
        assert begun == ["get"]


async def test_a_stopping_server_answers_what_is_under_way(made: Core, begun: list[str]):
    """And closes the connection afterwards."""
    async with asyncio.timeout(20), contextlib.AsyncExitStack() as server:
        url = await server.enter_async_context(listening(made))
        async with Connection(url) as connection:
            await connection.ask(connection.patch(1))
            connection.writer.write(connection.patch(2))
            await eventually(lambda: begun == ["patch"])
            await server.aclose()
            assert b'"volume":2' in await connection.response()
            with pytest.raises(asyncio.IncompleteReadError):
                await connection.response()


async def test_a_bounded_number_of_short_paths_is_known(made: Core, monkeypatch: pytest.MonkeyPatch):
    """All others are found by aiohttp's router each time."""
    monkeypatch.setattr(direct, "_MAX_ROUTES", 3)
    found: list[Any] = []
    original = DirectRequests.__init__

    def init(self: DirectRequests, *args: Any) -> None:
        original(self, *args)
        found.append(self._routes)  # pyright: ignore[reportPrivateUsage]

    monkeypatch.setattr(DirectRequests, "__init__", init)
    async with asyncio.timeout(20), listening(made) as url, Connection(url) as connection:
        for number in range(5):
            assert b" 404 " in await connection.ask(connection.request("GET", f"/config/s{number}/history"))
            assert len(found[0]) <= 3
        known = dict(found[0])
        assert b" 400 " in await connection.ask(connection.request("GET", f"/config/{'s' * 300}/history"))
        assert found[0] == known
    assert {route.operation for route in known.values()} == {BY_NAME["history"]}
