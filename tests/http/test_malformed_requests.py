"""Requests that no handler sees, over raw sockets: each is answered with the error object, and its connection ends."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio

from aliciacfg.http.connection_limits import Limits
from builders import valid_config
from inprocess import Home, listening
from machine import SECONDS

HOST = b"Host: localhost\r\n"
CHUNKED = b"PATCH /config/bell HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nTransfer-Encoding: "


# One server for all of them, on the event loop of this file: what is no request changes nothing.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    home = Home(tmp_path_factory.mktemp("home"), {"environments/dev.yaml": {"services": {"bell": valid_config()}}})
    async with home.core() as core, listening(core, Limits(linger_seconds=0.05)) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="module")
async def port(server: str) -> AsyncGenerator[int]:
    """The port of a server that goes on to answer afterwards, and has changed nothing."""
    yield int(server.rpartition(":")[2])
    ((status, _, body),) = await answers(int(server.rpartition(":")[2]), get(b"/config/bell", b"Connection: close"))
    assert (status, body["revision"]) == (200, 1)


def get(path: bytes = b"/health", *headers: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + path + b" " + version + b"\r\n" + HOST + b"".join(h + b"\r\n" for h in headers) + b"\r\n"


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return b"POST /reload HTTP/1.1\r\n" + HOST + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


async def answers(port: int, *pieces: bytes) -> list[tuple[int, dict[str, str], Any]]:
    """Send pieces of requests; return status, headers and body of every answer until the server ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(SECONDS):
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        found: list[tuple[int, dict[str, str], Any]] = []
        while head := await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
            first, *lines = head.decode().strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            status = int(first.split()[1])
            found.append((status, headers, json.loads(body) if body else None))
            if status != 100 and (headers.get("connection") == "close" or first.startswith("HTTP/1.0")):
                assert await reader.read() == b""
                break
    writer.close()
    return found


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (b"hello\r\n\r\n", 400, "Invalid method"),
        (b"\x00\xff\xfe" * 1000 + b"\r\n\r\n", 400, "malformed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400, "http://"),
        (b"GET /health\r\n\r\n", 505, "HTTP/1.1"),
        (get(version=b"HTTP/1.2"), 505, "HTTP/1.1"),
        (get(version=b"HTTP/2.0"), 505, "HTTP/1.1"),
        (get(version=b"HTTP/3.0"), 505, "HTTP/1.1"),
        (get(version=b"HTTX/1.1"), 400, "malformed"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1"),
        (b"BREW /health HTTP/1.1\r\n" + HOST + b"\r\n", 501, "method"),
        (b"get /health HTTP/1.1\r\n" + HOST + b"\r\n", 501, "method"),
        (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", 501, "no proxy"),
        (b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n", 501, "no proxy"),
        (get(b"http://evil.example/health"), 400, "another host"),
        (get(b"http://localhost@evil.example/health"), 400, "another host"),
        (get(b"http:///health"), 400, "malformed"),
        (get(b"health"), 400, "url"),
        (get(b"*"), 400, "malformed"),
        (get(b"/config/\xff"), 400, "url"),
        (get(b"/a\x01b"), 400, "url"),
        (get(b"/" + b"a" * 40_000), 414, "32768 bytes"),
        (get(b"/" + b"a" * 400_000), 414, "32768 bytes"),
        (get(b"/health", b"X: " + b"a" * 9_000), 431, "8192 bytes"),
        (get(b"/health", b"a" * 9_000 + b": x"), 431, "8192 bytes"),
        (get(b"/health", *[b"X: x"] * 200), 431, "at most 100"),
        (get(b"/health", *[b"X: " + b"x" * 8_000] * 90), 431, "49152 bytes together"),
        (get(b"/health", *[b"X: " + b"x" * 8_000] * 6, b"X: " + b"x" * 4_000), 431, "49152 bytes together"),
        (b"GET /health HTTP/1.1\r\n\r\n", 400, "Host"),
        (get(b"/health", b"Host: evil.example"), 400, "Host"),
        (get(b"/health", b"no colon"), 400, "header"),
        (get(b"/health", b"X : x"), 400, "header"),
        (get(b"/health", b"X: a\x00b"), 400, "header"),
        (get(b"/health", b"X: a", b" folded"), 400, "whitespace"),
        (b"GET /health HTTP/1.1\nHost: localhost\n\n", 400, "CRLF"),
        (post(b"Content-Length: abc"), 400, "Content-Length"),
        (post(b"Content-Length: -1"), 400, "Content-Length"),
        (post(b"Content-Length: 9" + b"9" * 30), 400, "Content-Length"),
        (post(b"Content-Length: 1", b"Content-Length: 2", body=b"{}"), 400, "Content-Length"),
        (post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400, "Transfer-Encoding"),
        (post(b"Transfer-Encoding: gzip"), 400, "Transfer-Encoding"),
        (post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501, "transfer coding"),
        (post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), 400, "Transfer-Encoding"),
        (post(b"Transfer-Encoding: chunked").replace(b"1.1", b"1.0") + b"0\r\n\r\n", 400, "HTTP/1.0"),
        (CHUNKED + b"chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400, "chunk"),
        (CHUNKED + b"chunked\r\n\r\n2\r\n{}xx0\r\n\r\n", 400, "chunk"),
        (CHUNKED + b"chunked\r\n\r\n2\r\n{}\r\n0\r\nno colon\r\n\r\n", 400, "header"),
        (get(b"/health", b"Sec-WebSocket-Key1: x"), 400, "malformed"),
    ],
)
async def test_what_is_no_request_gets_the_error_object(port: int, request_: bytes, status: int, words: str):
    """The status of RFC 9110, words that say what is wrong, and nothing of what was sent."""
    ((found, headers, body),) = await answers(port, request_)
    assert (found, headers["content-type"]) == (status, "application/json"), body
    assert body["status"] == "error"
    assert body["code"] == ("too_large" if status in {414, 431} else "invalid_request")
    assert body["request_id"] is None
    assert words in body["message"]
    assert "evil" not in body["message"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"OPTIONS * HTTP/1.1\r\n" + HOST, 404),
        (b"TRACE /health HTTP/1.1\r\n" + HOST, 405),
        (b"PATCH /config/bell HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nExpect: a miracle\r\n", 417),
        (b"GET /health HTTP/1.1\r\n" + HOST + b"Expect: \xff\r\n", 417),
    ],
)
async def test_what_the_library_refuses_itself_has_the_error_object(port: int, request_: bytes, status: int):
    """The request can be parsed, but reaches no handler of ours."""
    ((found, headers, body),) = await answers(port, request_ + b"Connection: close\r\n\r\n")
    assert (found, headers["content-type"], body["status"]) == (status, "application/json", "error")


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "zstd", "compress", "x", "identity, gzip", "\xff"])
async def test_a_content_coding_is_refused(port: int, coding: str):
    """Known or unknown: 415 says which one is accepted, and the body is not decoded."""
    head = b"PATCH /config/bell HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 20\r\n"
    sent = head + b"Connection: close\r\nContent-Encoding: " + coding.encode("latin-1") + b"\r\n\r\n" + bytes(20)
    ((status, headers, body),) = await answers(port, sent)
    assert (status, headers["accept-encoding"], body["code"]) == (415, "identity", "invalid_request")


async def test_the_body_of_a_get_is_refused_every_time(port: int):
    """With a coding and without; the answer that is in the cache by then makes no difference."""
    for header, expected in ((b"Content-Encoding: br", 415), (b"Accept: */*", 400)):
        sent = get(b"/config/bell", header, b"Content-Length: 3") + b"abc"
        plain = get(b"/config/bell")
        found = await answers(port, plain, plain, sent, get(b"/health", b"Connection: close"))
        assert [status for status, _, _ in found] == [200, 200, expected, 200]


@pytest.mark.parametrize("request_", [get(b"http://localhost/health"), get(b"/health", b"Upgrade: h2c"), get(
    b"/health", b"Connection: Upgrade", b"Upgrade: websocket"), get(b"/health", b"Range: bytes=0-1"), get(
    b"/health", b"Range: nonsense"), get(b"/health", b"Content-Encoding: gzip")])  # fmt: skip
async def test_what_http_allows_a_server_to_ignore_is_ignored(port: int, request_: bytes):
    """The whole content, with the status 200: an absolute target, an upgrade, a range; no body has no coding."""
    assert [status for status, _, _ in await answers(port, request_, get(b"/health", b"Connection: close"))] == [
        200
    ] * 2


async def test_a_body_whose_framing_breaks_later_is_refused_at_once(port: int):
    """Its reader does not wait for the rest, and what follows is not taken for a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(SECONDS):
        writer.write(CHUNKED + b"chunked\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"2\r\n{}\r\nzz\r\n" + get())
        found = await reader.read()
    assert found.startswith(b"HTTP/1.1 400 ")
    assert found.count(b"HTTP/1.") == 1
    assert b"chunks" in found
    writer.close()


async def test_a_refused_request_is_not_told_to_send_its_body(port: int):
    """Without 100 the client may give up the body, so the connection ends: its next request would be taken for it."""
    sent = b"PUT /config/bell HTTP/1.1\r\n" + HOST + b"Content-Encoding: gzip\r\nContent-Length: 60\r\n"
    found = await answers(port, sent + b"Expect: 100-continue\r\n\r\n", get())
    assert [status for status, _, _ in found] == [415]
    assert found[0][1]["connection"] == "close"


async def test_a_client_that_waits_is_told_to_send_its_body(port: int):
    """100, then the answer; the connection stays open."""
    body = b'{"limits": {"x": 1}}'
    sent = b"PATCH /config/bell?dry_run HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    sent += b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(SECONDS):
        writer.write(sent)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body + get(b"/health", b"Connection: close"))
        assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 2
    writer.close()


async def test_many_requests_sent_ahead_are_answered_in_order(port: int):
    """Two are parsed ahead, the others wait unparsed; none is lost."""
    ahead = [get(b"/config/bell?request_id=%d" % number) for number in range(50)]
    found = await answers(port, b"".join(ahead) + get(b"/config/bell?request_id=50", b"Connection: close"))
    assert [body["request_id"] for _, _, body in found] == [str(number) for number in range(51)]
