"""Requests that arrive alone, whole and at once, carried out without the way through aiohttp's application.

aiohttp wakes a task for each request, makes another one, and finds the route; a write needed a third task, which goes
on when its client disconnects. Nearly all requests arrive while nothing else is under way on their connection. Such a
request of a known route has one task, or none where the answer is in the cache.

A route is what aiohttp's router made of the method and path of an earlier request; that depends on nothing else.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from aiohttp import HttpVersion11, StreamReader, hdrs, web
from aiohttp.http import RawRequestMessage

from aliciacfg.http.operation_handler import PROTECTED, TARGET, OperationHandler
from aliciacfg.http.responses import Reply
from aliciacfg.operations.table import Operation

Handler = Callable[[web.Request], Coroutine[Any, Any, Reply | web.Response]]
"""Carries out a request inside the server's boundary: every refusal and failure is a reply, too."""

ReadCached = Callable[[web.Request], bytes | Reply | None]
"""Returns the response from the cache, encoded if it can be; None where the full way has to answer."""

# A home has some hundred services, each with a few paths. Beyond this each is routed by aiohttp once more.
_MAX_ROUTES = 4096
_MAX_PATH = 256


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests of one method and path go.

    Attributes:
        operation: What they ask for.
        target: The name in the path; empty if it has none.
        handler: Carries them out.
        cached: Asked before.
    """

    operation: Operation
    target: str
    handler: Handler
    cached: ReadCached | None = None


class DirectRequests:
    """Knows the routes of earlier requests, and begins what comes on them."""

    def __init__(self, operations: OperationHandler) -> None:
        """Begin without routes.

        Args:
            operations: Waits for the writes under way when the server stops.
        """
        self._operations = operations
        self._routes: dict[tuple[str, str], Route] = {}

    def learn(self, method: str, path: str, route: Route) -> None:
        """Remember where aiohttp's router sends requests.

        Args:
            method: Not HEAD, whose response has no body.
            path: As it was sent, without the query.
            route: Where they go.
        """
        if len(path) > _MAX_PATH:
            return
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        self._routes[method, path] = route

    def route(self, message: RawRequestMessage, body: StreamReader) -> Route | None:
        """Return the route of a request; None if it is not known, or aiohttp has more to do for this request."""
        if (
            message.should_close
            or message.upgrade
            or message.version != HttpVersion11
            or hdrs.EXPECT in message.headers
            or not body.is_eof()
        ):
            return None
        return self._routes.get((message.method, message.path.partition("?")[0]))

    def answer(self, route: Route, request: web.Request) -> bytes | None:
        """Return the encoded response to a request if nothing has to be waited for."""
        request[TARGET] = route.target
        found = None if route.cached is None else route.cached(request)
        return found.encoded() if isinstance(found, Reply) else found

    def begin(
        self, route: Route, request: web.Request, respond: Callable[[web.Request, Handler], Coroutine[Any, Any, None]]
    ) -> "asyncio.Task[None] | None":
        """Make the task that carries out a request, after ``answer``.

        Args:
            route: Of the request.
            request: The request.
            respond: Has the handler carry out the request, and sends the response.

        Returns:
            The task to cancel when the client disconnects; None if the request has to be completed nevertheless.
        """
        writes = request[PROTECTED] = route.operation.writes
        task = asyncio.get_running_loop().create_task(respond(request, route.handler))
        if not writes:
            return task
        self._operations.protect(task)
        return None
