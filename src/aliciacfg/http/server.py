"""The operations over HTTP: routes, start and stop, and the one boundary of every request.

Routes come from the operations table. Errors become the public error object in one place, also the 404, 405 and 413
that aiohttp itself makes; only a request that is no HTTP at all gets aiohttp's own plain text.
"""

import asyncio
import hashlib
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import cast

import structlog
from aiohttp import web

from aliciacfg import documents
from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import METRICS_NEED
from aliciacfg.api.encoding import encode_success
from aliciacfg.errors import (
    AliciacfgError,
    Forbidden,
    OperationError,
    Unauthorized,
)
from aliciacfg.http.callers import TrustedHosts, identify
from aliciacfg.http.conditions import unless_held
from aliciacfg.http.connection_limits import Limits, Listener
from aliciacfg.http.operation_handler import OPERATION, STARTED, OperationHandler
from aliciacfg.http.pages import Page
from aliciacfg.http.refusals import failed, from_aiohttp, refused
from aliciacfg.http.responses import HEADERS, JSON, json_response
from aliciacfg.monitoring.metrics import OTHER, Meter, Outcome
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.table import LOCAL_OPERATIONS, OPERATIONS, Operation

_Handler = Callable[[web.Request], Awaitable[web.Response]]

_log = structlog.get_logger(__name__)

# The longest comment, each character four bytes and each byte "%xx", and as much again.
_MAX_LINE_BYTES = 32 * 1024
_ANYWHERE = "/{path:.*}"
# Hosts that were found good, and answers made ready to send; a home has a few of each.
_MAX_KNOWN = 4096


class ListenError(AliciacfgError):
    """The address cannot be listened on."""


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


class HttpServer:
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
        self._hosts = TrustedHosts(listens_on=settings.host, allowed=settings.allowed_hosts)
        self._operations = OperationHandler(service, settings.limits, max_config_bytes=settings.max_config_bytes)
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
        self._operations.end_polls()
        self._listener.close()
        await self._runner.cleanup()
        await self._operations.drain()

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
        request[STARTED] = perf_counter()
        outcome: Outcome = "success"
        try:
            self._hosts.check(request)
            response = await handler(request)
        except OperationError as error:
            if isinstance(error, Unauthorized | Forbidden):
                self._audit(request, error)
            outcome = error.code
            response = refused(request, error)
        except web.HTTPException as error:
            refusal = from_aiohttp(request, error)
            outcome = refusal.code
            response = refused(request, refusal)
        except (ConnectionError, asyncio.CancelledError):
            # The client is gone; nobody is left to answer.
            raise
        except Exception:  # noqa: BLE001 - the one boundary of this adapter: whatever happens, the requester is answered
            outcome = "internal"
            response = failed(request)
        meter.answered(perf_counter() - request[STARTED], outcome)
        return response

    def _handler(self, operation: Operation) -> _Handler:
        async def run(request: web.Request) -> web.Response:
            return await self._operations.handle(operation, request)

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
                or headers.get("Host") not in self._hosts.good
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
                sent = {**HEADERS, "Content-Type": JSON, "ETag": f'"{cached.etag}"'}
                answer = self._answers[cached.etag] = encode_success(cached.body, None), sent
            meter.answered(perf_counter() - started)
            return web.Response(body=answer[0], headers=answer[1])

        return handle

    def _caller(self, request: web.Request) -> Caller:
        return identify(request, self._service.authorizer)

    def _audit(self, request: web.Request, error: OperationError) -> None:
        """Write down who was refused what; a token that is not ours names nobody."""
        try:
            caller = self._caller(request)
        except Unauthorized:
            caller = Caller(None, "http", address=request.remote)
        operation = request.get(OPERATION) or f"{request.method} {request.path}"
        self._service.audit_log.refused(caller, operation, request.match_info.get("name"), error)

    def _page(self, page: Page) -> _Handler:
        async def handle(request: web.Request) -> web.Response:
            body = await asyncio.to_thread(page.read)
            etag = hashlib.blake2b(body, digest_size=16).hexdigest()
            sent = {**HEADERS, **page.headers, "Content-Type": page.content_type, "ETag": f'"{etag}"'}
            return unless_held(request, web.Response(body=body, headers=sent), etag)

        return handle

    async def _ready(self, _request: web.Request) -> web.Response:
        ready = self._service.health.ready
        body = documents.encode({"ready": ready, "mqtt_connected": self._service.health.bus_connected})
        return json_response(body, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        self._service.authorizer.check(self._caller(request), METRICS_NEED, operation="metrics")
        body, content_type = self._service.health.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={**HEADERS, "Content-Type": content_type})

    async def _current_key(self, _request: web.Request) -> web.Response:
        return json_response(documents.encode(self._published_key()))
