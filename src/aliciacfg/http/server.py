"""The HTTP server: routes from the operations table, start and stop, and the boundary of every request.

Errors become the public error object in one place, also the 404, 405 and 413 that aiohttp itself raises; ``protocol``
does the same with what aiohttp refuses before there is a request.
"""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from time import perf_counter
from typing import cast

import structlog
from aiohttp import HttpVersion11, hdrs, web

from aliciacfg import documents
from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import METRICS_NEED
from aliciacfg.errors import SECOND_HOME, AliciacfgError, Forbidden, InvalidRequest, OperationError, Unauthorized
from aliciacfg.http.cached_reads import CachedReads
from aliciacfg.http.callers import CALLER, BrowserGuard, identify
from aliciacfg.http.connection_limits import Limits
from aliciacfg.http.direct import DirectRequests, Handler, Route
from aliciacfg.http.event_stream import EventStreams
from aliciacfg.http.listener import Listener
from aliciacfg.http.operation_handler import OPERATION, STARTED, TARGET, OperationHandler
from aliciacfg.http.page_handler import PageHandler
from aliciacfg.http.pages import Page
from aliciacfg.http.protocol import RequestProtocol
from aliciacfg.http.refusals import from_aiohttp, internal_error, plain_answer, refusal
from aliciacfg.http.repeats import Repeats
from aliciacfg.http.responses import EncodedResponse, LargeResponses, Reply, not_modified, respond
from aliciacfg.monitoring.metrics import OTHER, Outcome
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.table import HTTP_OPERATIONS, LOCAL_OPERATIONS, OPERATIONS, Operation

_Handler = Callable[[web.Request], Awaitable[Reply | web.Response]]
_AiohttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = structlog.get_logger(__name__)

_SPEAK_TLS = InvalidRequest("Plain HTTP was sent to a port that speaks TLS; use https:// instead of http://.")
_SAFE = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
_ANY_PATH = "/{path:.*}"


class ListenError(AliciacfgError):
    """The server cannot listen on its address."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The settings of the server.

    Attributes:
        host: Address to listen on.
        port: TCP port; 0 chooses a free one.
        allowed_hosts: Names under which clients reach the daemon, besides loopback names and addresses.
        max_config_bytes: The largest configuration; a body may be a little larger.
        socket: A Unix socket to listen on as well. Every user who can write to its directory is an administrator.
        shutdown_seconds: How long requests under way may take at a shutdown.
        tls: The TLS context for HTTPS; None for plain HTTP.
        limits: How long clients may take, and how many connections there may be.
    """

    host: str
    port: int
    allowed_hosts: tuple[str, ...] = ()
    max_config_bytes: int = 256 * 1024
    socket: Path | None = None
    shutdown_seconds: float = 5.0
    tls: ssl.SSLContext | None = None
    limits: Limits = field(default_factory=Limits)


class HttpServer:
    """Serves the operations over HTTP.

    Attributes:
        url: Where the server listens, once it is started; otherwise empty.
        connections: The TCP connections.
    """

    def __init__(
        self,
        service: ConfigService,
        settings: HttpSettings,
        *,
        published_key: Callable[[], Mapping[str, str]],
        pages: Mapping[str, Page],
    ) -> None:
        """Create the routes.

        Args:
            service: Carries out the operations.
            settings: The server's settings.
            published_key: Returns the public part of the current sealing key.
            pages: Pages served besides the operations, by path.
        """
        self._service = service
        self._settings = settings
        self._published_key = published_key
        self._guard = BrowserGuard(listens_on=settings.host, allowed_hosts=settings.allowed_hosts)
        self._operations = OperationHandler(service, settings.limits, max_config_bytes=settings.max_config_bytes)
        self._get_meter = service.health.metrics.meter("get", "http")
        self._cached_reads = CachedReads(service, self._guard)
        self._repeats = Repeats(self._cached_reads, self._get_meter)
        self._direct = DirectRequests(self._operations)
        self._meter = service.health.metrics.meter(OTHER, "http")
        self._listener = Listener(settings.limits, answer_to_plain=plain_answer(_SPEAK_TLS))
        self.connections = self._listener.connections
        self._large = LargeResponses(settings.limits, self.connections)
        self._streams = EventStreams(service, settings.limits, self.connections)
        self._local: asyncio.Server | None = None
        self._app = web.Application()
        self._add_routes(pages)
        self._runner = web.AppRunner(
            self._app,
            handle_signals=False,
            access_log=None,
            shutdown_timeout=settings.shutdown_seconds,
            # A request is cancelled when its client disconnects: a long poll must not wait on for it.
            handler_cancellation=True,
        )
        self.url = ""

    def _add_routes(self, pages: Mapping[str, Page]) -> None:
        router = self._app.router
        for operation in (*OPERATIONS, *HTTP_OPERATIONS, *LOCAL_OPERATIONS):
            path = operation.path.replace("{target}", "{name}")
            handler = self._operation_handler(operation)
            if operation.method == "GET":
                # Adds HEAD as well.
                router.add_get(path, handler, expect_handler=_check_expectation)
            else:
                router.add_route(operation.method, path, handler, expect_handler=_check_expectation)
        others = {
            # What people type. The console itself is at "/".
            "/console": _leads_to("./"),
            "/console/": _leads_to("../"),
            "/events": self._streams.handle,
            "/ready": self._ready,
            "/metrics": self._metrics,
            "/keys/current": self._current_key,
        }
        for path, answer in (others | {path: PageHandler(page) for path, page in pages.items()}).items():
            router.add_get(path, _for_aiohttp(self._bounded(answer)), expect_handler=_check_expectation)
        unmatched = _for_aiohttp(self._bounded(self._unmatched))
        router.add_route("*", _ANY_PATH, unmatched, expect_handler=_check_expectation)

    @property
    def routes(self) -> set[tuple[str, str]]:
        """The method and path of every route; ``{name}`` in a path is the target."""
        return {
            (route.method, route.resource.canonical)
            for route in self._app.router.routes()
            if route.resource is not None and route.method not in {"HEAD", "*"}
        }

    async def start(self) -> str:
        """Listen and return the URL.

        Raises:
            ListenError: The address is in use or does not belong to this machine.
        """
        await self._runner.setup()
        settings = self._settings
        try:
            port = await self._listener.start(self._protocol, settings.host, settings.port, settings.tls)
        except OSError as error:
            await self._runner.cleanup()
            raise ListenError(
                f"cannot listen on {settings.host}:{settings.port}: {os.strerror(error.errno or 0)}; stop what listens "
                f"there, or set ALICIACFG_HTTP_PORT or ALICIACFG_HTTP_HOST; {SECOND_HOME}"
            ) from error
        await self._listen_on_socket()
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"{'http' if settings.tls is None else 'https'}://{host}:{port}"
        return self.url

    async def _listen_on_socket(self) -> None:
        """Listen on the Unix socket; without it, commands for administrators work only while the daemon is stopped."""
        path = self._settings.socket
        if path is None:
            return
        before = os.umask(0o177)
        try:
            # This process holds the lock on the directory, so an existing socket belongs to a daemon that was killed.
            path.unlink(missing_ok=True)
            self._local = await asyncio.get_running_loop().create_unix_server(self._protocol, str(path))
        except OSError as error:
            _log.warning(
                "no_local_socket",
                path=str(path),
                reason=str(error),
                remedy="choose a shorter data directory, or make it writable, and start again",
            )
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Stop listening, wait for the requests under way, close the connections. Safe to call twice."""
        self._operations.end_polls()
        self._streams.close()
        self._listener.close()
        if self._local is not None:
            self._local.close()
        await self._runner.cleanup()
        await self._operations.drain()

    def _protocol(self) -> RequestProtocol:
        """Return the protocol of a new connection."""
        server = cast("web.Server", self._runner.server)
        return RequestProtocol(
            server,
            self._settings.limits,
            self._refuse_unparsed,
            repeats=self._repeats,
            direct=self._direct,
            connections=self.connections,
        )

    def _operation_handler(self, operation: Operation) -> _AiohttpHandler:
        """Return the handler of the requests of an operation that aiohttp has routed."""

        async def carry_out(request: web.Request) -> Reply:
            return await self._operations.handle(operation, request)

        full = self._bounded(carry_out, operation.name)
        respond_in_full = _for_aiohttp(full)
        cached = self._read_cached if operation.name == "get" else None

        async def handle(request: web.Request) -> web.StreamResponse:
            name = request[TARGET] = request.match_info.get("name", "")
            path = request.raw_path.partition("?")[0]
            if path.startswith("/") and request.method == operation.method:
                self._direct.learn(request.method, path, Route(operation, name, full, cached))
            if cached is not None and (response := cached(request)) is not None:
                return EncodedResponse(response) if isinstance(response, bytes) else response.response()
            return await respond_in_full(request)

        return handle

    def _read_cached(self, request: web.Request) -> bytes | Reply | None:
        """Return the response to a ``get`` from the cache, encoded if it can be; None if the full way has it."""
        started = perf_counter()
        read = self._cached_reads.parse(request, request[TARGET])
        if read is None or (found := self._cached_reads.answer(read)) is None:
            return None
        self.connections.mark_idle(request.transport)
        self._get_meter.answered(perf_counter() - started)
        if read.repeatable:
            if isinstance(request.protocol, RequestProtocol):
                request.protocol.remember(request, read)
            return self._repeats.encode(found)
        return not_modified(found.etag) if found.body is None else respond(found.body, etag=found.etag)

    def _bounded(self, handler: _Handler, operation: str = OTHER) -> Handler:
        """Return a handler inside the boundary of all requests, which counts and times its own under a name.

        The boundary checks the Host and Origin, calls the handler and turns every error into a reply. Every handler is
        wrapped once here. A middleware would do the same, at the price of two more coroutines for each request.
        """
        meter = self._service.health.metrics.meter(operation, "http")

        async def handle(request: web.Request) -> Reply | web.Response:
            request[STARTED] = perf_counter()
            outcome: Outcome = "success"
            transport = request.transport
            self.connections.mark_busy(transport)
            try:
                self._guard.check(request)
                reply = await handler(request)
                paced = isinstance(reply, Reply)
                response = self._large.pace(request, reply, optional=request.method in _SAFE) if paced else reply
            except OperationError as error:
                if isinstance(error, Unauthorized | Forbidden):
                    self._audit(request, error)
                outcome, response = error.code, self._refuse(request, error)
            except web.HTTPException as error:
                refused = from_aiohttp(request, error)
                outcome, response = refused.code, self._refuse(request, refused)
            except (ConnectionError, asyncio.CancelledError):
                # The client disconnected: no response can be sent.
                raise
            except Exception:  # noqa: BLE001 - the one boundary of this adapter: every other error is answered with 500
                _log.exception("failed", transport="http", method=request.method, path=request.path)
                outcome, response = "internal", internal_error(request)
            finally:
                self.connections.mark_idle(transport)
            meter.answered(perf_counter() - request[STARTED], outcome)
            return response

        return handle

    def _refuse_unparsed(self, request: web.BaseRequest, error: OperationError) -> web.Response:
        """Return the response to a request that no handler has seen."""
        self._meter.answered(0.0, error.code)
        return self._refuse(request, error).response()

    def _refuse(self, request: web.BaseRequest, error: OperationError) -> Reply:
        reply = refusal(request, error)
        _log.info(
            "refused", transport="http", method=request.method, path=request.path, status=reply.status,
            code=error.code, message=error.logged_message,
        )  # fmt: skip
        return reply

    def _audit(self, request: web.Request, error: OperationError) -> None:
        """Record a refused access; an invalid token does not identify its sender."""
        try:
            caller = request.get(CALLER) or identify(request, self._service.authorizer)
        except Unauthorized:
            caller = Caller(None, "http", address=request.remote)
        operation = request.get(OPERATION) or f"{request.method} {request.path}"
        self._service.audit_log.record_refusal(caller, operation, request.get(TARGET), error)

    async def _unmatched(self, request: web.Request) -> Reply:
        """Raise 405 where the path exists with another method, otherwise 404."""
        allowed: set[str] = set()
        for resource in self._app.router.resources():
            if resource.canonical != "/{path}":
                _, methods = await resource.resolve(request)
                allowed |= methods
        if allowed:
            raise web.HTTPMethodNotAllowed(request.method, allowed)
        raise web.HTTPNotFound

    async def _ready(self, _request: web.Request) -> Reply:
        health = self._service.health
        reason = health.not_ready
        found = {"ready": not reason, "mqtt_connected": health.bus_connected} | ({"reason": reason} if reason else {})
        body = documents.encode(found)
        return respond(body, status=503 if reason else 200)

    async def _metrics(self, request: web.Request) -> Reply:
        self._service.authorizer.check(identify(request, self._service.authorizer), METRICS_NEED, operation="metrics")
        body, content_type = await self._service.health.exposition(request.headers.get("Accept", ""))
        return Reply(body, headers={"Content-Type": content_type})

    async def _current_key(self, _request: web.Request) -> Reply:
        return respond(documents.encode(self._published_key()))


async def _check_expectation(request: web.Request) -> None:
    """Refuse an expectation that cannot be met; a client that waits for 100 gets it when its body is read.

    Raises:
        web.HTTPExpectationFailed: It is not ``100-continue`` (RFC 9110 §10.1.1).
    """
    if request.headers[hdrs.EXPECT].lower() != "100-continue" and request.version >= HttpVersion11:
        raise web.HTTPExpectationFailed


def _for_aiohttp(handler: Handler) -> _AiohttpHandler:
    """Return a handler that makes aiohttp's response of the reply."""

    async def handle(request: web.Request) -> web.StreamResponse:
        reply = await handler(request)
        return reply.response() if isinstance(reply, Reply) else reply

    return handle


def _leads_to(location: str) -> _Handler:
    """Return a handler that leads to another path, relative to that of the request, as behind a proxy."""

    async def handle(_request: web.Request) -> Reply:
        return Reply(b"", HTTPStatus.FOUND.value, {"Location": location})

    return handle
