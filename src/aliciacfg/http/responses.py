"""What all responses have in common: media types, headers, entity tags, and how they are sent."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import abc, payload, web
from aiohttp.http import SERVER_SOFTWARE

from aliciacfg.api.fields import Form
from aliciacfg.http.connection_limits import Budget, Limits
from aliciacfg.http.connections import Connections

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
# RFC 9512 for YAML; curl prints text/plain on a terminal.
MEDIA_TYPES: Mapping[Form, str] = {"json": JSON, "yaml": "application/yaml", "env": "text/plain"}
# No copy of a configuration stays in the cache of a browser; who keeps one asks with its ETag.
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_COMMON = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
_STARTS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n{_COMMON}" for status in HTTPStatus}


@dataclass(slots=True)
class Reply:
    """What a request is answered with, however it is sent.

    Attributes:
        body: Encoded; None for none, as with 304.
        status: The HTTP status.
        headers: Those that not every response has.
        closes: Whether the connection is closed afterwards.
    """

    body: bytes | None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    closes: bool = False

    def response(self) -> web.Response:
        """Return the response for aiohttp to send."""
        response = web.Response(body=self.body, status=self.status, headers={**HEADERS, **self.headers})
        if self.closes:
            response.force_close()
        return response

    def encoded(self) -> bytes:
        """Return the bytes that aiohttp sends for the response to a GET of HTTP/1.1 on a connection that stays open.

        aiohttp takes 20 of the 110 µs of a write without the core to make and encode one.
        """
        lines = "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])
        body = self.body
        if body is None:
            return (_STARTS[self.status] + lines).encode() + last_headers(int(time.time()))
        head = f"{_STARTS[self.status]}{lines}Content-Length: {len(body)}\r\n"
        return b"".join((head.encode(), last_headers(int(time.time())), body))


@lru_cache(maxsize=1)
def last_headers(now: int) -> bytes:
    """Return the headers that a server adds, and the empty line; the date in the form of RFC 9110 §5.6.7.

    Args:
        now: Unix seconds.
    """
    return f"Date: {formatdate(now, usegmt=True)}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n".encode()


def respond(
    body: bytes, *, status: int = 200, media_type: str = JSON, charset: str | None = None, etag: str | None = None
) -> Reply:
    """Return a reply with a body.

    Args:
        body: Encoded.
        status: The HTTP status.
        media_type: Of the body, without parameters.
        charset: Parameter of the media type.
        etag: The opaque value of the entity tag, without quotes.
    """
    content_type = media_type if charset is None else f"{media_type}; charset={charset}"
    headers = {"Content-Type": content_type}
    if etag is not None:
        headers["ETag"] = f'"{etag}"'
    return Reply(body, status, headers)


def not_modified(etag: str) -> Reply:
    """Return the reply to a client that has the current content (RFC 9110 §15.4.5)."""
    return Reply(None, 304, {"ETag": f'"{etag}"'})


class EncodedResponse(web.StreamResponse):
    """A response that is encoded already, status line and headers included: aiohttp only sends it.

    It answers a GET of HTTP/1.1 on a connection that stays open. aiohttp takes 9 of 35 µs to encode one.
    """

    def __init__(self, encoded: bytes) -> None:  # pyright: ignore[reportMissingSuperCall]
        # Not that of the base class, which makes headers, cookies and a state that are never used.
        self._encoded = encoded
        self._writer: abc.AbstractStreamWriter | None = None

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open."""
        return True

    async def prepare(self, request: web.BaseRequest) -> abc.AbstractStreamWriter | None:
        """Note where to send it."""
        self._writer = request.writer
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Send it, and wait until the client has received enough of it; ``data`` is what aiohttp appends: nothing."""
        if self._writer is not None:
            await self._writer.write(self._encoded + data)
            await self._writer.drain()


LARGE_BYTES = 64 * 1024
"""The size of a body that is sent at once: a connection may hold as much anyway."""

_PART_BYTES = 32 * 1024


class LargeResponses:
    """Sends large responses part by part, as their clients receive them, and bounds what they take together.

    A connection that is sent a response holds two parts at most. The body itself counts once, however many clients
    receive it.
    """

    def __init__(self, limits: Limits, connections: Connections) -> None:
        """Start without responses.

        Args:
            limits: How much all bodies may take together.
            connections: Notes each part, and closes the connection of a client that does not receive it.
        """
        self._budget = Budget(limits.answer_bytes, "on their way to clients")
        self._connections = connections
        # By id: each body with the number of connections that it is sent to.
        self._bodies: dict[int, tuple[bytes, int]] = {}

    def pace(self, request: web.Request, reply: Reply, *, optional: bool = True) -> Reply | web.Response:
        """Return a reply as it is, or the response that is sent in parts if it is large.

        Args:
            request: The request that is answered.
            reply: Not sent yet.
            optional: Whether the client can ask again. The answer to a write must be sent.

        Raises:
            Busy: Other bodies that were not received yet take all the room.
        """
        body = reply.body
        if body is None or len(body) <= LARGE_BYTES or request.method == "HEAD":
            return reply
        _, clients = self._bodies.get(id(body), (body, 0))
        if clients == 0:
            self._budget.take(len(body), beyond=not optional)
        self._bodies[id(body)] = body, clients + 1
        response = reply.response()
        response.body = _Parts(self, body, request.transport)
        return response

    async def send(self, body: bytes, writer: abc.AbstractStreamWriter, transport: asyncio.Transport | None) -> None:
        """Send a body that ``pace`` has accepted.

        Raises:
            ConnectionError: The client has disconnected.
        """
        try:
            for start in range(0, len(body), _PART_BYTES):
                self._connections.mark_sending(transport)
                # A copy: the transport may hold the last parts for long, and a view would hold the whole body.
                await writer.write(body[start : start + _PART_BYTES])
                await writer.drain()
            self._connections.mark_idle(transport)
        finally:
            self._release(body)

    def _release(self, body: bytes) -> None:
        _, clients = self._bodies.pop(id(body))
        if clients > 1:
            self._bodies[id(body)] = body, clients - 1
        else:
            self._budget.give_back(len(body))


class _Parts(payload.Payload):
    """A body for aiohttp that is sent by ``LargeResponses``."""

    def __init__(self, responses: LargeResponses, body: bytes, transport: asyncio.Transport | None) -> None:
        super().__init__(None)
        self._responses = responses
        self._body = body
        self._transport = transport
        self._size = len(body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._body.decode(encoding, errors)

    async def write(self, writer: abc.AbstractStreamWriter) -> None:
        # aiohttp keeps the last response of a connection until the next one.
        body, self._body = self._body, b""
        await self._responses.send(body, writer, self._transport)
