"""``GET /events``: the events of the home as server-sent events (WHATWG HTML §9.2), for as long as the client listens.

``EventSource`` of a browser cannot send a token, ``fetch`` can; the form is the same for both.
"""

import asyncio
import os
import re
import socket

from aiohttp import abc, payload, web

from aliciacfg.access.caller import Caller
from aliciacfg.api.events import DATA
from aliciacfg.api.fields import MAX_NUMBER
from aliciacfg.errors import Forbidden, InvalidRequest
from aliciacfg.http.callers import CALLER, identify
from aliciacfg.http.connection_limits import Limits
from aliciacfg.http.connections import Connections
from aliciacfg.http.responses import HEADERS
from aliciacfg.model import names
from aliciacfg.model.records import Position
from aliciacfg.operations.event_reader import OPERATION, EventFilter, EventReader
from aliciacfg.operations.event_states import Event
from aliciacfg.operations.service import ConfigService

MEDIA_TYPE = "text/event-stream"
LAST_EVENT_ID = "Last-Event-ID"

_HEADERS = {
    **HEADERS,
    # nginx would hold events back until its buffer is full.
    "X-Accel-Buffering": "no",
    "Content-Type": MEDIA_TYPE,
}
# So long a browser waits before it connects again.
_START = b"retry: 2000\n\n"
_HEARTBEAT_SECONDS = 15.0
# A client that acknowledges nothing for so long is gone, though its connection was never closed; it is sent something
# every 15 seconds.
_DEAD_MILLISECONDS = 45_000
_ID = re.compile(r"([1-9][0-9]{0,15})\.(0|[1-9][0-9]{0,15})", re.ASCII)
_PARAMETERS = ("service", "environment", "event", "last_event_id")
# A watcher names a few; each of them is compared with every event.
_MAX_NAMED = 100


def encode(event: Event) -> bytes:
    """Return an event as it is sent."""
    place = "" if event.position is None else f"id: {event_id(event.position)}\n"
    return b"".join((f"{place}event: {event.kind}\ndata: ".encode(), event.data, b"\n\n"))


def event_id(position: Position) -> str:
    """Return the id of what has a place in the order of the home."""
    return f"{position.epoch}.{position.sequence}"


def _heartbeat(reader: EventReader) -> bytes:
    """Return what keeps a quiet stream open: a comment, and the place up to which there is nothing for the client."""
    place = reader.place
    return b":\n\n" if place is None else f"id: {event_id(place)}\n:\n\n".encode()


class EventStreams:
    """Answers requests for events."""

    def __init__(self, service: ConfigService, limits: Limits, connections: Connections) -> None:
        """Have the feed encode events for this transport.

        Args:
            service: Has the feed.
            limits: How long a client may take to receive what it is sent.
            connections: Keeps the connection of a stream as busy.
        """
        self._service = service
        self._limits = limits
        self._connections = connections
        # Of the clients that have not received yet what they were sent.
        self._behind: set[asyncio.Transport] = set()
        service.events.encode = encode

    def close(self) -> None:
        """End all streams, present and future. Safe to call twice."""
        self._service.events.close()
        for transport in self._behind:
            # What it is sent last it would not receive in time.
            transport.abort()

    async def handle(self, request: web.Request) -> web.Response:
        """Return the response that sends events until the client disconnects.

        Raises:
            InvalidRequest: A parameter is not known, or not valid.
            Unauthorized: The caller is anonymous, or its token not valid.
            Forbidden: The caller may read no service, or not one that it names; or the request is another site's.
            Busy: All streams are taken, and the caller has its share of them.
        """
        _refuse_other_sites(request)
        caller = request[CALLER] = self._identify(request)
        authorizer = self._service.authorizer
        authorizer.check(caller, "read_any", operation=OPERATION)
        wanted = _wanted(request)
        for service in wanted.services:
            authorizer.check(caller, "read", service, operation=OPERATION)
        last = _last_place(request)
        self._service.events.check_room(caller, self._connections.room_for_streams)
        response = web.Response(headers=_HEADERS)
        # What ends a stream ends its connection, so that no proxy waits for more.
        response.force_close()
        response.body = _Stream(self, request, wanted, last)
        return response

    def _identify(self, request: web.Request) -> Caller:
        return identify(request, self._service.authorizer)

    async def send(
        self, request: web.Request, writer: abc.AbstractStreamWriter, wanted: EventFilter, last: Position | str | None
    ) -> None:
        """Send events until the stream has to end.

        Args:
            request: The request for them.
            writer: Takes what is sent.
            wanted: What the client asks for.
            last: The place that it knows; None if it knows none, a text if it is not a place.

        Raises:
            ConnectionError: The client has disconnected, or does not receive what it is sent.
        """
        reader = self._service.events.open(
            request[CALLER],
            self._connections.room_for_streams,
            identify=lambda: self._identify(request),
            wanted=wanted,
            last=last,
        )
        with reader:
            await self._send(reader, request, writer)

    async def _send(self, reader: EventReader, request: web.Request, writer: abc.AbstractStreamWriter) -> None:
        transport = request.transport
        # Neither the time between two requests nor that of a response counts.
        self._connections.mark_busy(transport)
        if transport is not None:
            _give_up_dead(transport)
        clock = asyncio.get_running_loop().time
        await self._write(_START, transport, writer)
        quiet_since = clock()
        while not reader.ended:
            data = b"".join(reader.take())
            quiet_seconds = clock() - quiet_since
            if not data and quiet_seconds >= _HEARTBEAT_SECONDS:
                data = _heartbeat(reader)
            if data:
                await self._write(data, transport, writer)
                quiet_since = clock()
            else:
                await reader.wait(_HEARTBEAT_SECONDS - quiet_seconds)

    async def _write(self, data: bytes, transport: asyncio.Transport | None, writer: abc.AbstractStreamWriter) -> None:
        if transport is None:
            raise ConnectionResetError("the client has disconnected")
        self._behind.add(transport)
        try:
            async with asyncio.timeout(self._limits.send_seconds):
                await writer.write(data)
                await writer.drain()
        except TimeoutError:
            transport.abort()
            raise ConnectionResetError("the client receives nothing") from None
        finally:
            self._behind.discard(transport)


class _Stream(payload.Payload):
    """The body of a response, for aiohttp: events until the reader ends."""

    def __init__(
        self, streams: EventStreams, request: web.Request, wanted: EventFilter, last: Position | str | None
    ) -> None:
        super().__init__(None)
        self._streams = streams
        self._request = request
        self._wanted = wanted
        self._last = last

    @property
    def size(self) -> int | None:
        """Not known before the end."""
        return None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's signature
        """Return nothing: the content does not end."""
        return ""

    async def write(self, writer: abc.AbstractStreamWriter) -> None:
        """Send events until the stream ends."""
        await self._streams.send(self._request, writer, self._wanted, self._last)


def _give_up_dead(transport: asyncio.Transport) -> None:
    """Have the system close the connection of a client that acknowledges nothing; it would try for a quarter hour."""
    given = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if given is None or option is None or given.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    # A copy with the methods that the loop's own object lacks.
    with socket.socket(fileno=os.dup(given.fileno())) as copy:
        copy.setsockopt(socket.IPPROTO_TCP, option, _DEAD_MILLISECONDS)


def _refuse_other_sites(request: web.Request) -> None:
    """Return if no page of another site makes a browser ask.

    Such a page gets nothing to see of an answer without an Origin, as that to the address of an image; but its streams
    would take the places of others.

    Raises:
        Forbidden: One does, by the header that browsers send (Fetch Metadata).
    """
    if request.headers.get("Sec-Fetch-Site", "none").lower() not in {"none", "same-origin"}:
        raise Forbidden("Web pages of other sites may not listen to events.")


def _wanted(request: web.Request) -> EventFilter:
    """Return what a client asks for.

    Raises:
        InvalidRequest: A parameter is not known, or not valid.
    """
    if unknown := sorted(set(request.query) - set(_PARAMETERS)):
        raise InvalidRequest(f"events has no parameter {unknown[0][:80]!r}; it has: {', '.join(_PARAMETERS)}.")
    found = {name: frozenset(request.query.getall(name, ())) for name in ("service", "environment", "event")}
    if any(len(listed) > _MAX_NAMED for listed in found.values()):
        raise InvalidRequest(f"A parameter is repeated more than {_MAX_NAMED} times; leave it out and get all events.")
    for service in found["service"]:
        names.check_service(service)
    for environment in found["environment"]:
        names.check_environment(environment)
    if wrong := sorted(found["event"] - DATA.keys()):
        raise InvalidRequest(f"There is no event {wrong[0][:80]!r}; there are: {', '.join(DATA)}.")
    return EventFilter(found["service"], found["environment"], found["event"])


def _last_place(request: web.Request) -> Position | str | None:
    """Return the place in the header ``Last-Event-ID`` or the parameter of that name; a text if it is none."""
    text = request.headers.get(LAST_EVENT_ID) or request.query.get("last_event_id")
    if not text:
        return None
    found = _ID.fullmatch(text)
    if found is None or max(map(int, found.groups())) > MAX_NUMBER:
        return text[:80]
    return Position(int(found[1]), int(found[2]))
