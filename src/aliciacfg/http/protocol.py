"""The protocol of a connection: aiohttp's own, with bounds on what a client may send ahead and the public error object.

What aiohttp refuses itself is answered like every other refusal: what is no HTTP/1.1, malformed, or too long.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, cast

import structlog
from aiohttp import EMPTY_PAYLOAD, HttpVersion10, HttpVersion11, StreamReader, hdrs, web
from aiohttp.http import HttpRequestParser, RawRequestMessage, StreamWriter
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, HttpProcessingError, LineTooLong

from aliciacfg.errors import InvalidRequest, OperationError
from aliciacfg.http.cached_reads import CachedRead
from aliciacfg.http.connection_limits import Limits
from aliciacfg.http.connections import Connections
from aliciacfg.http.direct import DirectRequests, Handler
from aliciacfg.http.refusals import (
    HeadersTooLong,
    MethodNotImplemented,
    TargetTooLong,
    VersionNotSupported,
    from_aiohttp,
)
from aliciacfg.http.repeats import MAX_BYTES, Repeats
from aliciacfg.http.responses import Reply

Refuse = Callable[[web.BaseRequest, OperationError], web.Response]
"""Reports a refusal and returns the response to it."""

# The longest comment, each character four bytes and each byte "%xx", and as much again.
_MAX_LINE_BYTES = 32 * 1024
_MAX_HEADER_BYTES = 8 * 1024
_MAX_HEADERS = 100
# Of the first line and the headers together.
_MAX_HEAD_BYTES = 48 * 1024
# Of a body, until the handler reads it.
_MAX_UNREAD_BYTES = 32 * 1024
# Requests that are parsed while the one before them is under way, each in a few times its size.
_MAX_REQUESTS_AHEAD = 2
# How long the end of a connection waits for the client to read the refusal of a malformed request.
_LAST_WORDS_SECONDS = 1.0

# What the parser says of these refusals; it has no types for them.
_TOO_MANY_HEADERS = "Too many headers"
_OTHER_VERSIONS = ("Invalid HTTP version", "Pause on PRI/Upgrade")
_TLS = "HTTPS traffic"
_REQUEST_LINE = re.compile(r"b'[!-~]+ [!-~]+ HTTP/1\.[01]'")

_log = structlog.get_logger(__name__)


class RequestProtocol(web.RequestHandler):
    """Parses the requests of one connection, has the manager handle them one after the other, and sends the responses.

    It uses protected members of aiohttp's class, which has no other way to bound what it parses ahead.
    """

    __slots__ = (
        "_at_end", "_connections", "_direct", "_discards", "_idle", "_refuse", "_repeats", "_under_way", "_until_lost",
        "_whole",
    )  # fmt: skip

    def __init__(
        self,
        manager: web.Server,
        limits: Limits,
        refuse: Refuse,
        *,
        repeats: Repeats,
        direct: DirectRequests,
        connections: Connections,
    ) -> None:
        """Make the protocol of a new connection.

        Args:
            manager: Handles the requests.
            limits: How long the rest of an unwanted body is read.
            refuse: Called with what this protocol refuses.
            repeats: Answers what it knows, instead of the manager.
            direct: Begins what it knows, instead of the manager.
            connections: Counts the requests that it answers.
        """
        loop = asyncio.get_running_loop()
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # pyright: ignore[reportArgumentType] - aiohttp's runners pass it as well
            lingering_time=limits.linger_seconds,
        )
        self._refuse = refuse
        self._repeats = repeats
        self._direct = direct
        self._connections = connections
        # Whether a request is under way that does not come from the manager: aiohttp's task waits meanwhile.
        self._under_way = False
        # The task of this request, if it ends when the client disconnects.
        self._until_lost: asyncio.Task[None] | None = None
        # Whether what has arrived so far ends where a request without a body ends.
        self._at_end = True
        # Whether every request was answered, and the connection stays open. aiohttp's task learns of it a turn of the
        # event loop later, when the next request may have arrived already.
        self._idle = True
        # The last request that arrived alone, whole and at once, and its digest.
        self._whole: tuple[RawRequestMessage, bytes] | None = None
        # Whether what still arrives is dropped, because the last response was sent.
        self._discards = False
        self._parser = _Parser(
            self,
            loop,
            _MAX_UNREAD_BYTES,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_headers=_MAX_HEADERS,
            payload_exception=web.RequestPayloadError,
            # A coding other than identity is refused, and nothing is decoded for that.
            auto_decompress=False,
            max_msg_queue_size=_MAX_REQUESTS_AHEAD,
        )
        self._max_msg_queue_size = _MAX_REQUESTS_AHEAD
        self._msg_queue_resume_size = 0

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived; nothing more is read while requests wait for the one under way."""
        if self._discards:
            return
        digest = None
        if self._at_end and self._is_ready() and len(data) <= MAX_BYTES:
            digest = self._repeats.digest(data)
            if (response := self._repeats.answer(digest)) is not None:
                self._send(response)
                self._connections.mark_idle(self.transport)
                return
        under_way = not self._idle
        self._parse(data, digest)
        if under_way and self._messages and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _is_ready(self) -> bool:
        """Return whether nothing is under way, the connection stays open, and the client receives what it is sent."""
        return self._idle and not (self._paused or self._close or self._force_close)

    def _send(self, response: bytes) -> None:
        """Send a response that does not come from the manager, and put off the end of the connection as it does."""
        if self.transport is not None:
            self.transport.write(response)
        self._put_off_end()

    def _put_off_end(self) -> None:
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout

    def _process_keepalive(self) -> None:
        """Close the connection if it has been idle for long; aiohttp's task does not know of every request."""
        if self._under_way:
            self._put_off_end()
        super()._process_keepalive()

    def _parse(self, data: bytes, digest: bytes | None) -> None:
        """Have data parsed, and note whether it was a request and nothing else; ``digest`` if it may be one."""
        waiting = len(self._messages)
        may_begin = self._is_ready()
        # aiohttp's task must not be woken for what it is not to handle, or not yet.
        held, self._waiter = self._waiter, None
        try:
            super().data_received(data)
        finally:
            self._waiter = held
        # If requests had waited, the parser might hold back the rest of the data.
        if len(self._messages) > waiting:
            self._idle = False
        message, body = self._messages[0] if len(self._messages) == 1 and not waiting else (None, None)
        # What follows an offered upgrade is parsed when that is declined.
        offered = self._upgraded is True  # pyright: ignore[reportUnknownMemberType] - aiohttp does not say its type
        # An empty line ends a request without a body, and only empty lines may precede the next one.
        self._at_end = body is EMPTY_PAYLOAD and data.endswith(b"\r\n\r\n") and not offered
        self._whole = None
        if self._at_end and digest is not None and isinstance(message, RawRequestMessage):
            self._whole = message, digest
        if self._messages and not self._under_way:
            if may_begin and held is not None and isinstance(message, RawRequestMessage) and not offered:
                self._begin(message, body or EMPTY_PAYLOAD)
            else:
                self._wake()

    def _wake(self) -> None:
        """Have aiohttp's task handle the requests that wait."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _begin(self, message: RawRequestMessage, body: StreamReader) -> None:
        """Begin the one request that waits, without aiohttp's task if that is possible."""
        route = self._direct.route(message, body)
        if route is None or self._request_factory is None or self._task_handler is None:
            self._wake()
            return
        writer = StreamWriter(self, self._loop)
        request = cast("web.Request", self._request_factory(message, body, self, writer, self._task_handler))
        self._messages.popleft()
        self._parser.message_consumed()
        response = self._direct.answer(route, request)
        if response is not None:
            self._idle = True
            self._send(response)
            return
        self._under_way = self._request_in_progress = True
        self._until_lost = self._direct.begin(route, request, self._respond)

    async def _respond(self, request: web.Request, handler: Handler) -> None:
        """Have a request handled that ``_begin`` took, send the response, and go on as aiohttp does."""
        keep = False
        try:
            reply = await handler(request)
            if isinstance(reply, Reply) and not reply.closes:
                self._send(reply.encoded())
                self._idle = keep = True
                if self._paused:
                    await self._drain_helper()
            else:
                response = reply.response() if isinstance(reply, Reply) else reply
                sent, reset = await self.finish_response(request, response, None)
                keep = bool(sent.keep_alive) and not reset
                self._put_off_end()
        except ConnectionError:
            # The client disconnected.
            keep = False
        finally:
            self._under_way = self._request_in_progress = False
            self._until_lost = None
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
            if not keep or self._close or self._force_close:
                self.force_close()
            elif self._messages:
                self._idle = False
                self._wake()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End what is of no use without the client."""
        super().connection_lost(exc)
        if self._until_lost is not None:
            self._until_lost.cancel()

    def remember(self, request: web.BaseRequest, read: CachedRead) -> None:
        """Answer the bytes of a request without parsing them from now on, if they arrived alone, whole and at once."""
        if self._whole is not None and self._whole[0].headers is request.headers:
            self._repeats.remember(self._whole[1], read)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to a request that could not be parsed; arguments as aiohttp's."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        refused = self._refuse(request, _refused(exc))
        response = _LastResponse(self, status=refused.status, headers=refused.headers, body=refused.body)
        response.force_close()
        return response

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on reading, if it was held up.

        aiohttp calls this for each body that was read, and would parse no bytes for 12 of the 110 µs of a write without
        the core.
        """
        if self._reading_paused:
            super().resume_reading(resume_parser)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; one of aiohttp's own becomes the public error object."""
        if isinstance(resp, web.HTTPException):
            resp = self._refuse(request, from_aiohttp(request, resp))
        sent, reset = await super().finish_response(request, resp, start_time)
        self._idle = bool(sent.keep_alive) and not reset and not self._messages
        return sent, reset

    async def let_client_read(self) -> None:
        """Wait until the client disconnects, for a short time.

        Closing at once would reset the connection while the client still sends, and it would not see the response.
        """
        self._discards = True
        transport = self.transport
        if transport is not None and transport.can_write_eof():
            transport.write_eof()
        # A disconnection cancels this task.
        await asyncio.sleep(_LAST_WORDS_SECONDS)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an error that ends the connection outside of a request's handler, such as a body cut short."""
        _log.info("connection_failed", transport="http", reason=repr(kw.get("exc_info"))[:200], at=str(args[:1]))


class _LastResponse(web.Response):
    """The response to a malformed request; nothing that comes after it can be understood."""

    def __init__(self, protocol: RequestProtocol, **content: Any) -> None:
        super().__init__(**content)
        self._protocol = protocol

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        await self._protocol.let_client_read()


class _Refused(BadHttpMessage):
    """A request that llhttp accepts and this server does not.

    Attributes:
        refusal: Why.
    """

    def __init__(self, refusal: OperationError) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class _Parser(HttpRequestParser):
    """aiohttp's parser, which also bounds the size of a request's head and refuses what llhttp is lenient about."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        # The bytes of a head of which the end has not arrived.
        self._head_bytes = 0
        # The body of the last request.
        self._body: StreamReader = EMPTY_PAYLOAD
        # The requests that were returned and not consumed.
        self._returned = 0
        # Whether the last request was consumed before its body had ended.
        self._consumed_early = False

    def message_consumed(self) -> None:
        """Note that the next request is handled from now on.

        aiohttp counts a request when its body has ended. Notified before, it would count it for ever, and hold back
        what arrives behind a later request until still more arrives.
        """
        self._returned = max(0, self._returned - 1)
        if self._returned or self._body.is_eof():
            super().message_consumed()
        else:
            self._consumed_early = True

    def _feed(self, *args: Any, **kw: Any) -> tuple[list[tuple[RawRequestMessage, StreamReader]], bool, bytes]:
        found = super().feed_data(*args, **kw)
        if self._consumed_early and self._body.is_eof():
            self._consumed_early = False
            super().message_consumed()
            if not found[1]:
                # What was held back, because the request still counted.
                more = super().feed_data(b"")
                found = [*found[0], *more[0]], more[1], more[2]
        return found

    def feed_data(self, *args: Any, **kw: Any) -> tuple[list[tuple[RawRequestMessage, StreamReader]], bool, bytes]:
        """Parse data; return the requests whose heads are complete, whether the protocol changes, and what is left.

        Raises:
            HttpProcessingError: The data is not a request that this server understands.
        """
        body_ends = self._body.is_eof()
        try:
            found = self._feed(*args, **kw)
        except HttpProcessingError:
            if not body_ends:
                # Who reads the body would otherwise wait for the rest of it.
                self._body.set_exception(web.RequestPayloadError("malformed"))
            raise
        messages = found[0]
        if messages:
            for message, _ in messages:
                _check(message)
                if self._head_bytes + len(args[0]) > _MAX_HEAD_BYTES and _head_bytes(message) > _MAX_HEAD_BYTES:
                    raise _Refused(_headers_too_long())
            self._body = messages[-1][1]
            self._returned += len(messages)
            self._head_bytes = 0
        elif body_ends:
            self._head_bytes += len(args[0])
            if self._head_bytes > _MAX_HEAD_BYTES:
                raise _Refused(_headers_too_long())
        return found


def _head_bytes(message: RawRequestMessage) -> int:
    return len(message.path) + sum(len(name) + len(value) for name, value in message.raw_headers)


def _check(message: RawRequestMessage) -> None:
    """Raise an error for a head that cannot be taken as it is.

    Raises:
        _Refused: Another version of HTTP, a method or a transfer coding that this server does not have, or a target
            that names another server than the Host.
    """
    version, path = message.version, message.path
    if version not in {HttpVersion11, HttpVersion10}:
        raise _Refused(VersionNotSupported(f"HTTP/{version.major}.{version.minor} is not supported; send HTTP/1.1."))
    if message.method == hdrs.METH_CONNECT:
        raise _Refused(MethodNotImplemented("CONNECT is not supported: this server is no proxy."))
    if message.chunked:
        if message.headers[hdrs.TRANSFER_ENCODING].strip().lower() != "chunked":
            raise _Refused(MethodNotImplemented("The only transfer coding that is supported is chunked."))
        if version == HttpVersion10:
            # RFC 9112 §6.1: the framing may be wrong.
            raise _Refused(InvalidRequest("HTTP/1.0 has no transfer codings; send Content-Length, or HTTP/1.1."))
    if not path.startswith("/") and path != "*":
        authority = path.partition("://")[2].partition("/")[0].partition("?")[0]
        if authority.lower() != message.headers.get(hdrs.HOST, "").lower():
            raise _Refused(InvalidRequest("The target names another host than the header Host; send the path alone."))


def _refused(error: HttpProcessingError) -> OperationError:
    """Return the refusal for an error of the parser; it quotes nothing of what was sent."""
    if isinstance(error, _Refused):
        return error.refusal
    said = error.message
    if isinstance(error, LineTooLong):
        # The parser does not say what was too long, but the limit that it exceeds.
        if error.args[1] == _MAX_LINE_BYTES:
            return TargetTooLong(f"The target of the request is longer than {_MAX_LINE_BYTES} bytes.")
        return _headers_too_long()
    if said.startswith(_TOO_MANY_HEADERS):
        return _headers_too_long()
    if any(text in said for text in _OTHER_VERSIONS):
        return VersionNotSupported("This version of HTTP is not supported; send HTTP/1.1.")
    if isinstance(error, BadHttpMethod) and _TLS in said:
        return InvalidRequest("TLS was sent to a port that speaks plain HTTP; use http:// instead of https://.")
    if isinstance(error, BadHttpMethod) and _REQUEST_LINE.search(said):
        return MethodNotImplemented("The method is not supported; GET /openapi.json lists the operations.")
    what = said.removeprefix("Bad status line:\n").strip().partition(":\n")[0].partition("\n")[0].rstrip(".")
    described = f" ({what})" if re.fullmatch(r"[\w '`/-]{1,80}", what, re.ASCII) else ""
    return InvalidRequest(f"The request is malformed{described}; send HTTP/1.1 as in RFC 9112.")


def _headers_too_long() -> HeadersTooLong:
    return HeadersTooLong(
        f"The headers are too long: at most {_MAX_HEADERS} are allowed, each of {_MAX_HEADER_BYTES} bytes, and "
        f"{_MAX_HEAD_BYTES} bytes together."
    )
