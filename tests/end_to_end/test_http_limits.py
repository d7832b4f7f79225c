"""Hostile requests over HTTP and HTTPS: each is refused, and the daemon continues to serve."""

import functools
import json
import socket
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from brokers import Broker
from certificates import Authority
from daemons import Daemon
from machine import SECONDS

MIB = 1024 * 1024
SERVICE = "/config/metrics_collector"


@pytest.fixture(scope="module", params=["http", "https"])
def rough(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Daemon]:
    """A READY daemon; no test changes its configurations."""
    directory = tmp_path_factory.mktemp("rough")
    broker = Broker(directory / "broker").start()
    made = Daemon(directory / "home", broker_port=broker.port)
    if request.param == "https":
        pair = authority.issue("rough")
        made.environ |= {"ALICIACFG_TLS_CERT": str(pair.cert), "ALICIACFG_TLS_KEY": str(pair.key)}
        made.tls = authority.context()
    made.start()
    yield made
    assert made.config("metrics_collector")["revision"] == 1
    assert made.stop() == 0
    assert made.logged("failed") == []
    broker.stop()


def said(daemon: Daemon, request: bytes) -> bytes:
    """Send raw bytes and return what the daemon answers until it closes the connection."""
    plain = socket.create_connection(("127.0.0.1", int(daemon.url.rpartition(":")[2])), SECONDS)
    connection = plain if daemon.tls is None else daemon.tls.wrap_socket(plain, server_hostname="localhost")
    found = b""
    with closing(connection):
        try:
            connection.sendall(request)
            while part := connection.recv(65536):
                found += part
        except ConnectionError:
            pass
    return found


def nested(levels: int) -> bytes:
    return b'{"settings": ' + b'{"a": ' * levels + b"1" + b"}" * levels + b"}"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (nested(33), 422, "validation_failed"),
        (nested(500), 413, "too_large"),
        (b'{"a": ' + b"[" * 100_000, 413, "too_large"),
        (b'{"settings": {"a": NaN}}', 400, "invalid_request"),
        (b'{"settings": {"a": -Infinity}}', 400, "invalid_request"),
        (b'{"settings": {"a": 1e999}}', 400, "invalid_request"),
        (b'{"settings": {"a": 123456789012345678901234567890}}', 422, "validation_failed"),
        (b'{"settings": {"a": "\xff"}}', 400, "invalid_request"),
        (b'{"settings": {"a": "\xed\xa0\x80"}}', 400, "invalid_request"),
        (rb'{"settings": {"a": "\ud800"}}', 400, "invalid_request"),
        (b"\xef\xbb\xbf{}", 400, "invalid_request"),
        ("{}".encode("utf-16"), 400, "invalid_request"),
        (b'{"settings": {"a": "' + b"x" * 256 * 1024 + b'"}}', 413, "too_large"),
        (b'{"settings": {' + b",".join(b'"k%d": 1' % n for n in range(40_000)) + b"}}", 413, "too_large"),
        (b"a: &a [x, x]\nb: [*a, *a]\n", 400, "invalid_request"),
    ],
    ids=lambda value: None if isinstance(value, int | str) else repr(value[:24]),
)
def test_an_impossible_document_is_refused(rough: Daemon, body: bytes, status: int, code: str):
    """With the error that says why, in a set and in a patch."""
    for method in ("PUT", "PATCH"):
        answer = rough.http(method, SERVICE, raw=body)
        assert (answer.status, answer.json["code"]) == (status, code), answer.body
        assert answer.json["message"]


def test_a_batch_is_limited_as_a_whole(rough: Daemon):
    """Documents that are each small enough can be too large together."""
    updates = [{"service": "metrics_collector", "patch": {"settings": {"a": "x" * 100_000}}}] * 60
    answer = rough.http("POST", "/configs/batch", {"updates": updates})
    assert (answer.status, answer.json["code"]) == (413, "too_large")


def peak_kib(daemon: Daemon) -> int:
    """Return the peak memory of the daemon so far."""
    assert daemon.process is not None
    text = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1])


@functools.cache
def bomb() -> bytes:
    return zlib.compress(bytes(100 * MIB), 9)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_a_compressed_body_is_refused_without_being_decompressed(rough: Daemon, coding: str):
    """A small document as well as a bomb: 415 names the coding that is accepted."""
    before = peak_kib(rough)
    for body in (zlib.compress(b'{"limits": {}}'), bomb()):
        answer = rough.http("PATCH", SERVICE, raw=body, headers={"Content-Encoding": coding})
        assert (answer.status, answer.headers["Accept-Encoding"]) == (415, "identity")
    assert peak_kib(rough) - before < 16 * 1024


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /config/" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: x\r\n" * 10_000 + b"\r\n", 431),
        (b"GET /health HTTP/1.1\r\nHost: local\x00host\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"\x00\xff\xfe" * 1000 + b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n", 400),
    ],
    ids=["path", "header", "headers", "nul", "smuggling", "negative", "noise", "handshake"],
)
def test_malformed_http_closes_its_connection(rough: Daemon, request_: bytes, status: int):
    """After the error object; other clients are served."""
    head, _, body = said(rough, request_).partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status, head
    assert json.loads(body)["status"] == "error"
    assert rough.http("GET", "/health").status == 200


@pytest.mark.parametrize(
    "path",
    ["/config/%ff%fe", "/config/voice_router?environment=%ff", "/config/%F0%9F%92%A9"],
)
def test_names_that_are_not_text_are_refused(rough: Daemon, path: str):
    """Not UTF-8, or not a name: refused, never an internal error."""
    answer = rough.http("GET", path)
    assert answer.status in {400, 404}
    assert answer.json["code"] in {"invalid_request", "not_found"}


def test_an_alias_bomb_in_a_file_is_refused_at_reload(rough: Daemon):
    """The message names the file, the previous configuration stays, and memory does not grow."""
    file = rough.environments / "dev.yaml"
    good = file.read_text()
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    before = peak_kib(rough)
    file.write_text(bomb)
    try:
        answer = rough.http("POST", "/reload")
        assert answer.status == 422, answer.body
        assert "dev.yaml" in json.dumps(answer.json)
        assert "aliases" in json.dumps(answer.json)
    finally:
        file.write_text(good)
    assert rough.http("POST", "/reload").status == 200
    assert peak_kib(rough) - before < 64 * 1024
