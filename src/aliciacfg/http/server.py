"""The operations over HTTP; the only module that imports aiohttp's server.

Routes come from the operations table. Errors become the public error object in one place, also the 404, 405 and 413
that aiohttp itself makes; only a request that is no HTTP at all gets aiohttp's own plain text.
"""

import asyncio
import contextlib
import hashlib
import ipaddress
import os
import pwd
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import cast

import structlog
from aiohttp import hdrs, web

from aliciacfg import documents
from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import METRICS_NEED
from aliciacfg.api.encoding import Answer, encode_failure, encode_internal, encode_success
from aliciacfg.api.fields import MAX_REQUEST_ID_BYTES, Form
from aliciacfg.api.requests import GetRequest, Request, WriteRequest
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import (
    AliciacfgError,
    Conflict,
    ErrorCode,
    Forbidden,
    InvalidRequest,
    NotFound,
    OperationError,
    Problem,
    TooLarge,
    Unauthorized,
)
from aliciacfg.http.connection_limits import Limits, Listener, Room
from aliciacfg.http.pages import Page
from aliciacfg.monitoring.metrics import OTHER, Meter, Outcome
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.table import LOCAL_OPERATIONS, OPERATIONS, Operation, encode_answer
from aliciacfg.operations.writes import Current

_Handler = Callable[[web.Request], Awaitable[web.Response]]

_log = structlog.get_logger(__name__)

STATUS: Mapping[ErrorCode, int] = {
    "invalid_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "incompatible": 409,
    "too_large": 413,
    "validation_failed": 422,
    "busy": 503,
    "unavailable": 503,
    "internal": 500,
}

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
_JSON_TYPES = frozenset({JSON, MERGE_PATCH})
# RFC 7239, RFC 9110 §7.6.3, and what proxies did before.
_FORWARDING = (hdrs.FORWARDED, hdrs.VIA, hdrs.X_FORWARDED_FOR, "X-Real-IP")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_BODY_OVERHEAD_BYTES = 16 * 1024
# The longest comment, each character four bytes and each byte "%xx", and as much again.
_MAX_LINE_BYTES = 32 * 1024
_RETRY_AFTER_SECONDS = "1"
_ANYWHERE = "/{path:.*}"
_STARTED = web.RequestKey("started", float)
_OPERATION = web.RequestKey("operation", str)
_REQUEST_ID = web.RequestKey("request_id", object)
# Hosts that were found good, and answers made ready to send; a home has a few of each.
_MAX_KNOWN = 4096
_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
_CONDITIONS = ("If-Match", "If-None-Match")
# Query parameters are text; these fields are not.
_INTEGERS = frozenset({"expected_revision", "revision", "limit", "before", "rev1", "rev2"})
_NUMBERS = frozenset({"wait_seconds"})
_BOOLEANS = frozenset({"dry_run", "allow_breaking", "migrate", "atomic"})
# RFC 9512, and what curl prints on a terminal.
MEDIA_TYPES: Mapping[Form, str] = {"json": JSON, "yaml": "application/yaml", "env": "text/plain"}


class ListenError(AliciacfgError):
    """The address cannot be listened on."""


class _MethodNotAllowed(InvalidRequest):
    """405."""

    def __init__(self, message: str, *, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class _UnsupportedMediaType(InvalidRequest):
    """415."""


class _BodyTimeout(InvalidRequest):
    """408."""


class _PreconditionFailed(Conflict):
    """412: the condition came as a header."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where to listen and whom to believe.

    Attributes:
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        allowed_hosts: Names besides the obvious ones under which clients reach the daemon.
        max_config_bytes: The largest configuration; a body may be a little larger.
        socket: A Unix socket to listen on too; whoever may write its directory may do everything.
        shutdown_seconds: How long requests may take to end at a shutdown.
        tls: Makes it HTTPS.
        limits: How long clients may take, and how many there may be.
    """

    host: str
    port: int
    allowed_hosts: tuple[str, ...] = ()
    max_config_bytes: int = 256 * 1024
    socket: Path | None = None
    shutdown_seconds: float = 5.0
    tls: ssl.SSLContext | None = None
    limits: Limits = field(default_factory=Limits)


class HttpAdapter:
    """Serves the operations over HTTP."""

    def __init__(
        self,
        service: ConfigService,
        settings: HttpSettings,
        *,
        published_key: Callable[[], Mapping[str, str]],
        pages: Mapping[str, Page],
    ) -> None:
        """Make the routes.

        Args:
            service: What carries operations out.
            settings: Where to listen and whom to believe.
            published_key: What anyone may know of the key that seals now.
            pages: What is served beside the operations, by path.
        """
        self._service = service
        self._settings = settings
        self._published_key = published_key
        self._closing = asyncio.Event()
        self._writes: set[asyncio.Task[Answer]] = set()
        self._loopback = is_loopback(settings.host)
        self._known_hosts = _LOOPBACK_NAMES | {name.lower() for name in settings.allowed_hosts}
        self._good_hosts: set[str] = set()
        self._bodies = Room(settings.limits.waiting, "wait for the rest of their body")
        self._polls = Room(settings.limits.waiting, "wait for a change")
        self._answers: dict[str, tuple[bytes, dict[str, str]]] = {}
        # No middleware: it costs every request two more coroutines. The boundary is around each handler instead.
        app = web.Application()
        for operation in (*OPERATIONS, *LOCAL_OPERATIONS):
            path = operation.path.replace("{target}", "{name}")
            handler = self._handler(operation)
            if operation.method == "GET":
                app.router.add_get(path, handler)
            else:
                app.router.add_route(operation.method, path, handler)
        app.router.add_get("/ready", self._within(self._ready))
        app.router.add_get("/metrics", self._within(self._metrics))
        app.router.add_get("/keys/current", self._within(self._current_key))
        for path, page in pages.items():
            app.router.add_get(path, self._within(self._page(page)))
        app.router.add_route("*", _ANYWHERE, self._within(self._nowhere))
        self._app = app
        # Cancelled with its connection: nobody waits on for a client that is gone.
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            shutdown_timeout=settings.shutdown_seconds,
            max_line_size=_MAX_LINE_BYTES,
            handler_cancellation=True,
            lingering_time=settings.limits.linger_seconds,
        )
        self._listener = Listener(settings.limits)
        self.url = ""

    @property
    def routes(self) -> set[tuple[str, str]]:
        """Every method and path that is answered; in a path, ``{name}`` is the target."""
        return {
            (route.method, route.resource.canonical)
            for route in self._app.router.routes()
            if route.resource is not None and route.method not in {"HEAD", "*"}
        }

    async def start(self) -> str:
        """Listen; returns the URL.

        Raises:
            ListenError: The address is taken or not ours.
        """
        await self._runner.setup()
        settings = self._settings
        server = cast("web.Server", self._runner.server)
        try:
            port = await self._listener.start(server, settings.host, settings.port, settings.tls)
        except OSError as error:
            await self._runner.cleanup()
            raise ListenError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}; stop what listens "
                "there, or set ALICIACFG_HTTP_PORT or ALICIACFG_HTTP_HOST"
            ) from error
        await self._listen_locally()
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"{'http' if settings.tls is None else 'https'}://{host}:{port}"
        return self.url

    async def _listen_locally(self) -> None:
        """Listen on the Unix socket; without one, the commands for administrators need a stopped daemon."""
        path = self._settings.socket
        if path is None:
            return
        # The directory is the lock's holder's: a socket that lies there is of a daemon that was killed.
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(path)).start()
        except OSError as error:
            _log.warning("no_local_socket", path=str(path), reason=str(error), remedy="choose a shorter data directory")
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Stop listening, let requests end, close. Safe to call twice."""
        self._closing.set()
        self._listener.close()
        await self._runner.cleanup()
        if self._writes:
            await asyncio.wait(self._writes)

    def _within(self, handler: _Handler, operation: str = OTHER) -> _Handler:
        """A handler within the boundary; its requests are counted as those of an operation."""
        meter = self._service.health.metrics.meter(operation, "http")

        async def handle(request: web.Request) -> web.Response:
            transport = request.transport
            self._listener.begin(transport)
            try:
                return await self._boundary(request, handler, meter)
            finally:
                self._listener.end(transport)

        return handle

    async def _nowhere(self, request: web.Request) -> web.Response:
        """What no route takes: 405 where another method would do, else 404."""
        allowed: set[str] = set()
        for resource in self._app.router.resources():
            if resource.canonical != "/{path}":
                _, methods = await resource.resolve(request)
                allowed |= methods
        if allowed:
            raise web.HTTPMethodNotAllowed(request.method, allowed)
        raise web.HTTPNotFound

    async def _boundary(self, request: web.Request, handler: _Handler, meter: Meter) -> web.Response:
        """Every request comes and goes through here: who may drive us, what errors look like, what is counted."""
        request[_STARTED] = perf_counter()
        outcome: Outcome = "success"
        try:
            self._check_browser(request)
            response = await handler(request)
        except OperationError as error:
            if isinstance(error, Unauthorized | Forbidden):
                self._audit(request, error)
            outcome = error.code
            response = self._refused(request, error)
        except web.HTTPException as error:
            refusal = _from_aiohttp(request, error)
            outcome = refusal.code
            response = self._refused(request, refusal)
        except (ConnectionError, asyncio.CancelledError):
            # The client is gone; nobody is left to answer.
            raise
        except Exception:  # noqa: BLE001 - the one boundary of this adapter: whatever happens, the requester is answered
            _log.exception("failed", transport="http", method=request.method, path=request.path)
            outcome = "internal"
            response = _json(encode_internal(_request_id(request)), status=500)
        meter.answered(perf_counter() - request[_STARTED], outcome)
        return response

    def _refused(self, request: web.Request, error: OperationError) -> web.Response:
        status = _status(error)
        _log.info(
            "refused", transport="http", method=request.method, path=request.path, status=status, code=error.code,
            message=error.message,
        )  # fmt: skip
        response = _json(encode_failure(error, _request_id(request)), status=status)
        if status == STATUS["busy"]:
            response.headers["Retry-After"] = _RETRY_AFTER_SECONDS
        if isinstance(error, Unauthorized):
            response.headers["WWW-Authenticate"] = 'Bearer realm="aliciacfg"'
        if isinstance(error, _MethodNotAllowed):
            response.headers["Allow"] = error.allowed
        if isinstance(error, _BodyTimeout):
            # RFC 9110 §15.5.9; what comes of the body later is no request.
            response.force_close()
        return response

    def _handler(self, operation: Operation) -> _Handler:
        async def run(request: web.Request) -> web.Response:
            return await self._run(operation, request)

        handle = self._within(run, operation.name)
        return self._get(handle) if operation.name == "get" else handle

    def _get(self, otherwise: _Handler) -> _Handler:
        """The short path of a plain read from a known host, where nothing can fail: name, ready bytes, send."""
        meter = self._service.health.metrics.meter("get", "http")

        async def handle(request: web.Request) -> web.Response:
            started = perf_counter()
            headers = request.headers
            if (
                request.query_string
                or self._service.authorizer.access.enforced
                or "Authorization" in headers
                or headers.get("Host") not in self._good_hosts
                or "Origin" in headers
                or "If-None-Match" in headers
                or (cached := self._service.reads.cached_get(request.match_info["name"])) is None
            ):
                return await otherwise(request)
            self._listener.end(request.transport)
            answer = self._answers.get(cached.etag)
            if answer is None:
                if len(self._answers) >= _MAX_KNOWN:
                    self._answers.clear()
                sent = {**_HEADERS, "Content-Type": JSON, "ETag": f'"{cached.etag}"'}
                answer = self._answers[cached.etag] = encode_success(cached.body, None), sent
            meter.answered(perf_counter() - started)
            return web.Response(body=answer[0], headers=answer[1])

        return handle

    async def _run(self, operation: Operation, request: web.Request) -> web.Response:
        request[_OPERATION] = operation.name
        fields = _query_fields(request)
        name = request.match_info.get("name", "")
        caller = self._caller(request)
        if operation.local and caller.transport != "local":
            raise web.HTTPNotFound
        self._refuse_nobody(operation, caller, name)
        if operation.body != "none" or request.body_exists:
            name = await self._read_body(operation, request, fields) or name
        request[_REQUEST_ID] = fields.get("request_id")
        operation.authorize(self._service, caller, name)
        _check_known(operation, fields)
        conditional = operation.writes and any(header in request.headers for header in _CONDITIONS)
        if conditional:
            # RFC 9110 §13.2.1: what would be refused without its conditions is refused for that.
            operation.parse(fields)
            self._put_condition(operation, request, fields, name)
        held = request.headers.get("If-None-Match")
        if held is not None and operation.name == "get":
            await self._wait(name, operation.parse(fields), held)
            # The time that a client asks to wait is none that its answer takes.
            request[_STARTED] = perf_counter()
            # Its token may have ended meanwhile.
            caller = self._caller(request)
        try:
            answer = await self._carried_out(operation, caller, name, fields)
        except Conflict as error:
            if not conditional:
                raise
            # Another write came between the look at the condition and this one.
            raise _PreconditionFailed(error.message, revision=error.revision, checksum=error.checksum) from error
        if answer.form != "json":
            response = web.Response(body=answer.body, content_type=MEDIA_TYPES[answer.form], charset="utf-8")
            response.headers.update({**_HEADERS, "ETag": f'"{answer.etag}"'})
            return self._unless_held(request, response, answer.etag)
        body = encode_answer(operation, answer, _request_id(request))
        if answer.etag is None:
            return _json(body)
        if operation.writes:
            return _json(body, status=201 if answer.created else 200, etag=answer.etag)
        return self._unless_held(request, _json(body, etag=answer.etag), answer.etag)

    def _refuse_nobody(self, operation: Operation, caller: Caller, name: str) -> None:
        """Refuse whoever does not say who he is what needs that, before his body is read."""
        if caller.name is None:
            operation.authorize(self._service, caller, name)

    async def _carried_out(self, operation: Operation, caller: Caller, name: str, fields: JsonObject) -> Answer:
        """The answer of an operation; a write comes to its end also when the client is gone meanwhile."""
        if not operation.writes:
            return await operation.run(self._service, caller, name, fields)
        work = asyncio.create_task(operation.run(self._service, caller, name, fields), name="http-write")
        self._writes.add(work)
        work.add_done_callback(self._writes.discard)
        return await asyncio.shield(work)

    def _is_local(self, request: web.Request) -> bool:
        """Whether a request came in through the Unix socket."""
        transport = request.transport
        return transport is not None and isinstance(transport.get_extra_info("sockname"), str)

    def _caller(self, request: web.Request) -> Caller:
        """Who asks: the bearer of the token that came with the request (RFC 6750 §2.1), else nobody.

        Raises:
            Unauthorized: The token is not one of ours, or no longer.
        """
        if self._is_local(request):
            return Caller(_peer_name(request), "local", proven=True, role="admin", private=True)
        peer = request.remote
        private = request.secure or (peer is not None and is_loopback(peer) and not _is_forwarded(request))
        header = request.headers.get("Authorization")
        if header is None:
            return Caller(None, "http", address=peer, private=private)
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("Send a token: Authorization: Bearer acfg_… (aliciacfg token create makes one).")
        name, role = self._service.authorizer.bearer(token.strip())
        return Caller(name, "http", proven=True, role=role, address=peer, private=private)

    def _audit(self, request: web.Request, error: OperationError) -> None:
        """Write down who was refused what; a token that is not ours names nobody."""
        try:
            caller = self._caller(request)
        except Unauthorized:
            caller = Caller(None, "http", address=request.remote)
        operation = request.get(_OPERATION) or f"{request.method} {request.path}"
        self._service.audit_log.refused(caller, operation, request.match_info.get("name"), error)

    def _unless_held(self, request: web.Request, response: web.Response, etag: str | None) -> web.Response:
        """RFC 9110 §13.1.2: what the client has already is not sent again."""
        condition = request.headers.get("If-None-Match")
        if condition is not None and etag is not None and _etag_matches(condition, etag):
            return web.Response(status=304, headers={**_HEADERS, "ETag": f'"{etag}"'})
        return response

    async def _wait(self, name: str, request: Request, held: str) -> None:
        """Until what the client holds is no longer current, its time is over, or the daemon stops."""
        if not isinstance(request, GetRequest) or not request.wait_seconds:
            return
        if request.revision is not None:
            raise InvalidRequest("wait_seconds waits for the newest revision; leave revision out.")
        # A malformed pointer is told before the wait, not after it.
        documents.parse_pointer(request.pointer or "")
        waiting = asyncio.ensure_future(
            self._service.reads.while_current(
                name, request.environment, lambda etag: _etag_matches(held, etag), request.wait_seconds
            )
        )
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            with self._polls.taken():
                await asyncio.wait({waiting, closing}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
        finally:
            waiting.cancel()
            closing.cancel()

    def _page(self, page: Page) -> _Handler:
        async def handle(request: web.Request) -> web.Response:
            body = await asyncio.to_thread(page.read)
            etag = hashlib.blake2b(body, digest_size=16).hexdigest()
            sent = {**_HEADERS, **page.headers, "Content-Type": page.content_type, "ETag": f'"{etag}"'}
            return self._unless_held(request, web.Response(body=body, headers=sent), etag)

        return handle

    async def _read_body(self, operation: Operation, request: web.Request, fields: JsonObject) -> str | None:
        """Put what the body says into ``fields``; returns the service where the body names it."""
        data = await self._body_bytes(request, self._max_bytes(operation))
        if operation.body == "none":
            if data:
                raise InvalidRequest(f"{request.method} {request.path} takes no body; send query parameters.")
            return None
        if data and request.content_type not in _JSON_TYPES:
            raise _UnsupportedMediaType(
                f"The body is {request.content_type}; send JSON with Content-Type: application/json."
            )
        if operation.body == "fields":
            return _take_fields(operation, documents.decode(data) if data else {}, fields)
        if not data:
            raise InvalidRequest(f"The body is empty; send the {operation.body} as JSON.")
        fields[operation.body] = documents.decode(data)
        return None

    def _max_bytes(self, operation: Operation) -> int:
        return (operation.max_bytes or self._settings.max_config_bytes) + _BODY_OVERHEAD_BYTES

    async def _body_bytes(self, request: web.Request, limit: int) -> bytes:
        length = request.content_length or 0
        seconds = self._settings.limits.body_seconds
        data = bytearray()
        # One that came with its headers waits for nobody.
        room = contextlib.nullcontext() if request.content.is_eof() else self._bodies.taken()
        try:
            async with asyncio.timeout(seconds):
                with room:
                    while length <= limit and len(data) <= limit and (chunk := await request.content.readany()):
                        data += chunk
        except TimeoutError as error:
            raise _BodyTimeout(
                f"Only a part of the body came within {seconds:g} s; send the request again on a new connection."
            ) from error
        except web.RequestPayloadError as error:
            raise InvalidRequest("The body is not what its headers say: its encoding or its end is wrong.") from error
        if max(length, len(data)) > limit:
            raise TooLarge(f"The body is larger than the {limit} bytes that are allowed.")
        return bytes(data)

    def _put_condition(self, operation: Operation, request: web.Request, fields: JsonObject, service: str) -> None:
        """Turn ``If-Match`` and ``If-None-Match: *`` (RFC 9110 §13.1) into ``expected_revision``."""
        if_match = request.headers.get("If-Match")
        if_none_match = request.headers.get("If-None-Match")
        if not issubclass(operation.request, WriteRequest):
            raise InvalidRequest(
                f"{operation.name} is about no single configuration; leave If-Match and If-None-Match out."
            )
        if "expected_revision" in fields or None not in {if_match, if_none_match}:
            raise InvalidRequest("expected_revision, If-Match and If-None-Match say the same; send one of them.")
        if if_none_match is not None and if_none_match.strip() != "*":
            raise InvalidRequest('A write takes If-None-Match only as "*", which means: must not exist yet.')
        environment = fields.get("environment")
        current = self._service.writes.current(service, environment if isinstance(environment, str) else None)
        expected = 0 if if_match is None else _expected(if_match, current)
        if expected != current.revision:
            raise _PreconditionFailed(
                f"{service} is at revision {current.revision}, which is not what the request's condition says; get it "
                "again and redo the change.",
                revision=current.revision,
                checksum=current.checksum,
            )
        fields["expected_revision"] = expected

    async def _ready(self, _request: web.Request) -> web.Response:
        ready = self._service.health.ready
        body: JsonObject = {"ready": ready, "mqtt_connected": self._service.health.bus_connected}
        return _json(documents.encode(body), status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        self._service.authorizer.check(self._caller(request), METRICS_NEED, operation="metrics")
        body, content_type = self._service.health.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})

    async def _current_key(self, _request: web.Request) -> web.Response:
        return _json(documents.encode(self._published_key()))

    def _check_browser(self, request: web.Request) -> None:
        """Refuse what a foreign web page makes a browser send: it must not drive a daemon on loopback.

        Raises:
            Forbidden: The Host is not one of ours (DNS rebinding), or the Origin is another site.
        """
        if self._is_local(request):
            return
        host = request.headers.get("Host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.lower() not in self._known_hosts and not self._believable(name.lower()):
            raise Forbidden(
                f"The Host {host[:100]!r} is not a name of this daemon; use http://127.0.0.1, or list the name in "
                "ALICIACFG_HTTP_ALLOWED_HOSTS."
            )
        if len(self._good_hosts) < _MAX_KNOWN:
            self._good_hosts.add(host)
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() != f"{request.scheme}://{host}".lower():
            raise Forbidden(f"The Origin {origin[:100]!r} is another site; web pages of other sites may not do this.")

    def _believable(self, name: str) -> bool:
        """Beyond loopback, addresses and names without a dot: no web page can be served under one of ours."""
        if self._loopback:
            return is_loopback(name.strip("[]"))
        if name and "." not in name and ":" not in name:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def _is_forwarded(request: web.Request) -> bool:
    """Whether a proxy passes a request on, so that the peer is not who asks."""
    return any(name in request.headers for name in _FORWARDING)


def _peer_name(request: web.Request) -> str:
    """The user of this machine at the other end of a Unix socket."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "SO_PEERCRED"):
        return "local"
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid_{uid}"


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _json(body: bytes, *, status: int = 200, etag: str | None = None) -> web.Response:
    headers = _HEADERS if etag is None else {**_HEADERS, "ETag": f'"{etag}"'}
    return web.Response(body=body, status=status, content_type=JSON, headers=headers)


def _request_id(request: web.Request) -> str | None:
    """The requester's own id as it can be echoed: out of the body once that was read, else of the query."""
    given = request.get(_REQUEST_ID) or request.query.get("request_id")
    return given if isinstance(given, str) and len(given.encode()) <= MAX_REQUEST_ID_BYTES else None


def _status(error: OperationError) -> int:
    match error:
        case _MethodNotAllowed():
            return 405
        case _BodyTimeout():
            return 408
        case _UnsupportedMediaType():
            return 415
        case _PreconditionFailed():
            return 412
        case _:
            return STATUS[error.code]


def _from_aiohttp(request: web.Request, error: web.HTTPException) -> OperationError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return _MethodNotAllowed(
            f"{request.method} is not possible on {request.path}; possible: {allowed}.", allowed=allowed
        )
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge("The body is larger than allowed (ALICIACFG_MAX_CONFIG_BYTES).")
    if error.status == STATUS["not_found"]:
        return NotFound(f"There is nothing at {request.path[:200]}; the operations are listed in the README.")
    return InvalidRequest(f"The request is malformed: {error.reason}.")


def _query_fields(request: web.Request) -> JsonObject:
    """The query parameters as the operation's fields.

    Raises:
        InvalidRequest: One comes twice, or is not what it should be.
    """
    fields: JsonObject = {}
    for name, value in request.query.items():
        if name in fields:
            raise InvalidRequest(f"The query parameter {name[:80]!r} comes twice.")
        fields[name] = _typed(name, value)
    return fields


def _typed(name: str, text: str) -> Json:
    if name in _INTEGERS:
        with contextlib.suppress(ValueError):
            return int(text)
        raise InvalidRequest(f"The query parameter {name} is {text[:80]!r}; expected a number.")
    if name in _NUMBERS:
        with contextlib.suppress(ValueError):
            return float(text)
        raise InvalidRequest(f"The query parameter {name} is {text[:80]!r}; expected a number of seconds.")
    if name in _BOOLEANS:
        if text in {"true", "1", ""}:
            return True
        if text in {"false", "0"}:
            return False
        raise InvalidRequest(f"The query parameter {name} is {text[:80]!r}; expected true or false.")
    return text


def _take_fields(operation: Operation, content: Json, fields: JsonObject) -> str | None:
    """Put an object of fields into ``fields``; returns the service where the body names it.

    Raises:
        InvalidRequest: It is no object, says what the query says, or does not name the service it has to.
    """
    if not isinstance(content, dict):
        raise InvalidRequest(f"The body is {documents.type_name(content)}; send a JSON object.")
    if twice := sorted(content.keys() & fields.keys()):
        raise InvalidRequest(f"{twice[0]} comes in the query and in the body; send it once.")
    fields.update(content)
    if operation.target is None or "{target}" in operation.path:
        return None
    name = fields.pop("service", None)
    if not isinstance(name, str):
        raise InvalidRequest('The body names no service; send {"service": …, "config": …}.')
    return name


def _check_known(operation: Operation, fields: JsonObject) -> None:
    """Over HTTP an unknown field is a mistake worth telling; over MQTT the bus adds its own."""
    unknown = list(operation.unknown(fields))
    if unknown:
        pointer, known = unknown[0]
        name = documents.parse_pointer(pointer)[-1]
        raise InvalidRequest(
            f"{operation.name} does not know {name[:80]!r}; it takes: {', '.join(sorted(known))}.",
            [Problem(pointer, "is not known here") for pointer, _ in unknown],
        )


def _etag_matches(header: str, etag: str) -> bool:
    """Weak comparison (RFC 9110 §8.8.3.2) with a list of entity tags, or ``*``."""
    return header.strip() == "*" or any(part.strip().removeprefix("W/") == f'"{etag}"' for part in header.split(","))


def _expected(if_match: str, current: Current) -> int:
    """The revision that ``If-Match`` expects; -1, which no configuration has, where it is not the current one."""
    revision = current.revision
    if if_match.strip() == "*":
        return revision or -1
    tags = {tag.strip().strip('"') for tag in if_match.split(",")}
    known = {str(revision), *current.etags}
    return revision if tags & known else -1
