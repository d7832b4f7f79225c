"""The load generators' ends of a connection: MQTT 5 and 3.1.1, HTTP/1.1, NATS, Redis."""

import asyncio
import os
from collections.abc import Callable
from typing import cast

import wire
from meter import clock

Lost = Callable[[str], None]


class MqttClient(asyncio.Protocol):
    """Subscribes to one topic; calls ``on_ready`` when it has, ``on_message`` with correlation data and payload."""

    def __init__(
        self,
        topic: str,
        *,
        on_ready: Callable[["MqttClient"], None],
        on_message: Callable[[bytes, bytes], None],
        on_lost: Lost,
        client_id: str = "",
        version: int = 5,
    ) -> None:
        self.transport: asyncio.Transport
        self.output: list[bytes] = []
        self._client_id = client_id or f"bench-{os.getpid()}"
        self._topic = topic
        self._on_ready = on_ready
        self._on_message = on_message
        self._on_lost = on_lost
        self._version = version
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(wire.connect(self._client_id, version=self._version))

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
                found = wire.publication(buffer, first, start, version=self._version)
                if found.packet_id:
                    self.output.append(wire.puback(found.packet_id))
                self._on_message(found.correlation, bytes(buffer[found.payload : end]))
            elif kind == wire.CONNACK:
                self.output.append(wire.subscribe(1, self._topic, 1, version=self._version))
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
    """One connection that is kept alive; calls ``on_answer`` with the body of each answer.

    An answer whose status is not among ``statuses`` is a failure.
    """

    def __init__(
        self,
        on_answer: Callable[["HttpClient", bytes], None],
        on_lost: Lost,
        statuses: frozenset[bytes] = frozenset({b"200", b"201"}),
    ) -> None:
        self.transport: asyncio.Transport
        self.sent = 0.0
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._statuses = statuses
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
            status = buffer[9:12]
            end = head + 4 + (0 if status == b"304" else _content_length(buffer, head))
            if len(buffer) >= end:
                self._buffer = buffer[end:]
                if status not in self._statuses:
                    self._on_lost(buffer.decode(errors="replace")[:2000])
                    return
                self._on_answer(self, buffer[head + 4 : end])
                return
        self._buffer = buffer


def _content_length(buffer: bytes, head: int) -> int:
    field = buffer.find(b"Content-Length: ", 0, head)
    if field < 0:
        # As uvicorn writes it.
        field = buffer.index(b"content-length: ", 0, head)
    return int(buffer[field + 16 : buffer.find(b"\r", field)])


def http_request(method: str, path: str, port: int, body: bytes = b"", *, headers: str = "") -> bytes:
    """A request with the least headers that clients send; ``headers`` are further lines, each with its CRLF."""
    content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}{content}\r\n".encode() + body


class RedisClient(asyncio.Protocol):
    """One connection with one command under way; calls ``on_answer`` with the value of each answer (RESP 2)."""

    def __init__(self, on_answer: Callable[["RedisClient", bytes], None], on_lost: Lost) -> None:
        self.transport: asyncio.Transport
        self.sent = 0.0
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(f"Redis closed the connection: {exc}")

    def send(self, command: bytes) -> None:
        self.sent = clock()
        self.transport.write(command)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        self._buffer = buffer
        line = buffer.find(b"\r\n")
        if line < 0:
            return
        kind, text, start = buffer[:1], buffer[1:line], line + 2
        if kind == b"$":
            end = start + int(text)
            if len(buffer) < end + 2:
                return
            text = buffer[start:end]
        elif kind == b"-":
            self._on_lost(text.decode(errors="replace"))
            return
        self._buffer = b""
        self._on_answer(self, text)


def redis_command(*words: bytes) -> bytes:
    """A command as RESP has it: an array of bulk strings."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class NatsClient(asyncio.Protocol):
    """Subscribes to ``<inbox>.*``; calls ``on_answer`` with the last token of the subject, and the payload."""

    def __init__(
        self,
        inbox: str,
        *,
        on_ready: Callable[["NatsClient"], None],
        on_answer: Callable[[bytes, bytes], None],
        on_lost: Lost,
    ) -> None:
        self.transport: asyncio.Transport
        self.output: list[bytes] = []
        self._inbox = inbox
        self._on_ready = on_ready
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        hello = 'CONNECT {"verbose":false,"headers":true,"no_responders":true}'
        self.transport.write(f"{hello}\r\nSUB {self._inbox}.* 1\r\nPING\r\n".encode())

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(f"NATS closed the connection: {exc}")

    def request(self, subject: str, answer: str, payload: bytes = b"") -> None:
        """Put a request into ``output``; its answer comes under the token ``answer``."""
        self.output.append(b"PUB %s %s.%s %d\r\n%s\r\n" % (
            subject.encode(), self._inbox.encode(), answer.encode(), len(payload), payload,
        ))  # fmt: skip

    def data_received(self, data: bytes) -> None:
        buffer, at = self._buffer + data, 0
        while (line := buffer.find(b"\r\n", at)) >= 0:
            words = buffer[at:line].split(b" ")
            start = line + 2
            if words[0] in {b"MSG", b"HMSG"}:
                # MSG <subject> <sid> [reply] <size>; HMSG has the size of its headers before that of both.
                end = start + int(words[-1])
                if len(buffer) < end + 2:
                    break
                skipped = int(words[-2]) if words[0] == b"HMSG" else 0
                self._on_answer(words[1].rpartition(b".")[2], buffer[start + skipped : end])
                at = end + 2
                continue
            at = start
            if words[0] == b"PING":
                self.output.append(b"PONG\r\n")
            elif words[0] == b"PONG":
                self._on_ready(self)
            elif words[0] == b"-ERR":
                self._on_lost(buffer[at:].decode(errors="replace"))
        self._buffer = buffer[at:]
        self.flush()

    def flush(self) -> None:
        """Send what was put into ``output``, at once for all that one read brought."""
        if self.output:
            self.transport.write(b"".join(self.output))
            self.output.clear()
