"""The connections of the HTTP server: how long a client may take over each step, and how many there may be.

aiohttp waits for as long as a client likes, so the bounds stand between it and the transport, where everything is
asyncio's public interface. Only a request's body is bounded by whoever reads it.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import structlog

from aliciacfg.errors import Busy

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a client may take, and how many connections there may be.

    Attributes:
        handshake_seconds: For agreeing on TLS.
        idle_seconds: Without a request at work. The headers of the next one have to be there by then, and the answer
            to the last one has to be taken.
        closing_seconds: For taking what is left when the connection is being closed.
        body_seconds: For the body of a request.
        linger_seconds: For the rest of a body that nobody reads any more.
        connections: Open at the same time.
        waiting: Requests that wait for the rest of their body, and as many that wait for a change: together fewer than
            ``connections``, so that whoever just asks is served.
    """

    handshake_seconds: float = 10.0
    idle_seconds: float = 60.0
    closing_seconds: float = 30.0
    body_seconds: float = 30.0
    linger_seconds: float = 10.0
    connections: int = 500
    waiting: int = 200


class Room:
    """How many requests may do something at the same time, so that it does not take every connection."""

    def __init__(self, size: int, what: str) -> None:
        self._size = size
        self._what = what
        self._taken = 0

    @contextmanager
    def taken(self) -> Generator[None]:
        """Take a place for as long as it lasts.

        Raises:
            Busy: There is none.
        """
        if self._taken >= self._size:
            raise Busy(f"{self._size} requests {self._what} already; try again in a second.")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Listener:
    """Listens, and ends connections that exceed their limits.

    A connection is idle from its start, and from the end of one request to the beginning of the next. Whoever handles
    requests says so with ``begin`` and ``end``.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Transport] = set()
        # Since when; the longest idle one first.
        self._idle: dict[asyncio.Transport, float] = {}
        self._look: asyncio.TimerHandle | None = None
        self._told_full = False

    async def start(
        self, handler: Callable[[], asyncio.Protocol], host: str, port: int, tls: ssl.SSLContext | None
    ) -> int:
        """Listen.

        Args:
            handler: Makes the protocol that handles the requests of a connection.
            host: The address.
            port: 0 takes a free one.
            tls: None for none.

        Returns:
            The port.

        Raises:
            OSError: The address is taken or not ours.
        """
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self, handler),
            host,
            port,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else self._limits.handshake_seconds,
            ssl_shutdown_timeout=None if tls is None else self._limits.closing_seconds,
        )
        return cast("int", self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Stop listening; open connections stay. Safe to call twice."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def begin(self, transport: asyncio.Transport | None) -> None:
        """A request has come whole, but for its body: it takes as long as it takes."""
        if transport is not None:
            self._idle.pop(transport, None)

    def end(self, transport: asyncio.Transport | None) -> None:
        """It is answered."""
        if transport in self._open:
            self._rest(transport)

    def admit(self, transport: asyncio.Transport) -> bool:
        """Take in a new connection; at the limit in the place of the one that is idle for longest."""
        if len(self._open) >= self._limits.connections:
            self._tell_full()
            if not self._idle:
                return False
            longest = next(iter(self._idle))
            self.forget(longest)
            longest.abort()
        self._open.add(transport)
        self._rest(transport)
        return True

    def forget(self, transport: asyncio.Transport) -> None:
        """A connection is gone. Safe to call twice."""
        self._open.discard(transport)
        self._idle.pop(transport, None)
        if len(self._open) <= self._limits.connections // 2:
            self._told_full = False

    def _rest(self, transport: asyncio.Transport) -> None:
        self._idle.pop(transport, None)
        self._idle[transport] = time.monotonic()
        if self._look is None:
            self._look_in(self._limits.idle_seconds)

    def _look_in(self, seconds: float) -> None:
        self._look = asyncio.get_running_loop().call_later(seconds, self._end_idle)

    def _end_idle(self) -> None:
        """Close what has been idle for too long, and look again when the next one will have been."""
        self._look = None
        now = time.monotonic()
        while self._idle:
            transport, since = next(iter(self._idle.items()))
            left = since + self._limits.idle_seconds - now
            if left > 0:
                self._look_in(left)
                return
            del self._idle[transport]
            transport.close()
            # A close waits for as long as the client takes nothing.
            asyncio.get_running_loop().call_later(self._limits.closing_seconds, self._make_sure_it_ends, transport)

    def _make_sure_it_ends(self, transport: asyncio.Transport) -> None:
        if transport in self._open:
            transport.abort()

    def _tell_full(self) -> None:
        if not self._told_full:
            self._told_full = True
            _log.warning(
                "connections_full",
                open=len(self._open),
                remedy="idle ones make room; if there are none, clients have to come again",
            )


class _Connection(asyncio.Protocol):
    """Hands everything on to the protocol that handles requests, and says when it begins and ends."""

    def __init__(self, listener: Listener, handler: Callable[[], asyncio.Protocol]) -> None:
        self._listener = listener
        self._make_handler = handler
        # Until the connection is taken in, and if it is not, one that does nothing.
        self._handler = asyncio.Protocol()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._listener.admit(self._transport):
            self._transport.abort()
            return
        self._handler = self._make_handler()
        self._handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._listener.forget(self._transport)
        self._handler.connection_lost(exc)
