"""Limits of the HTTP server's connections: how long a client may take for each step, and how many there may be.

aiohttp waits for a client without a limit, so this module stands between its protocol and the transport, and uses
only asyncio's public interface. The time for a request's body is limited where the body is read.
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
        handshake_seconds: For the TLS handshake.
        idle_seconds: Without a request in progress. Within this time the headers of the next request must arrive
            completely, and the client must have received the last response.
        closing_seconds: For receiving the rest of a response while the connection is closed.
        body_seconds: For the body of a request.
        linger_seconds: For the rest of a body that is not read any more.
        connections: Open connections.
        waiting: Requests that wait for the rest of their body, and as many that wait for a change. Together they must
            be fewer than ``connections``, so that other requests can still connect.
    """

    handshake_seconds: float = 10.0
    idle_seconds: float = 60.0
    closing_seconds: float = 30.0
    body_seconds: float = 30.0
    linger_seconds: float = 10.0
    connections: int = 500
    waiting: int = 200


class Slots:
    """A number of slots for requests that wait, so that they do not use up the connections."""

    def __init__(self, size: int, purpose: str) -> None:
        """Create free slots.

        Args:
            size: How many.
            purpose: What requests do in them, as in "200 requests already …".
        """
        self._size = size
        self._purpose = purpose
        self._used = 0

    @contextmanager
    def use(self) -> Generator[None]:
        """Occupy a slot inside the context.

        Raises:
            Busy: All are in use.
        """
        if self._used >= self._size:
            raise Busy(f"{self._size} requests already {self._purpose}; try again in a second.")
        self._used += 1
        try:
            yield
        finally:
            self._used -= 1


class Listener:
    """Listens on a TCP port and closes connections that exceed their limits.

    A connection is idle from its start to its first request, and from the end of one request to the beginning of the
    next. The handler of a request reports both with ``mark_busy`` and ``mark_idle``.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Transport] = set()
        # The idle connections with the time.monotonic() since when, the longest idle one first.
        self._idle: dict[asyncio.Transport, float] = {}
        # Runs when the longest idle connection reaches its limit.
        self._timer: asyncio.TimerHandle | None = None
        # Whether the warning about the limit was logged; reset when half of the connections are free again.
        self._warned = False

    async def start(
        self, handler: Callable[[], asyncio.Protocol], host: str, port: int, tls: ssl.SSLContext | None
    ) -> int:
        """Listen and return the port.

        Args:
            handler: Returns the protocol that handles the requests of a new connection.
            host: The address to listen on.
            port: 0 chooses a free one.
            tls: The TLS context; None for plain TCP.

        Raises:
            OSError: The address is in use or does not belong to this machine.
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
        """Stop listening; open connections stay open. Safe to call twice."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def mark_busy(self, transport: asyncio.Transport | None) -> None:
        """Stop the idle time of a connection: the headers of a request have arrived."""
        if transport is not None:
            self._idle.pop(transport, None)

    def mark_idle(self, transport: asyncio.Transport | None) -> None:
        """Start the idle time of a connection anew: a request is answered."""
        if transport in self._open:
            self._start_idle(transport)

    def admit(self, transport: asyncio.Transport) -> bool:
        """Register a new connection; return whether there is room for it.

        At the limit the longest idle connection is closed for it. Connections with a request in progress are not.
        """
        if len(self._open) >= self._limits.connections:
            self._warn_full()
            if not self._idle:
                return False
            longest_idle = next(iter(self._idle))
            self.remove(longest_idle)
            longest_idle.abort()
        self._open.add(transport)
        self._start_idle(transport)
        return True

    def remove(self, transport: asyncio.Transport) -> None:
        """Forget a connection that is closed. Safe to call twice."""
        self._open.discard(transport)
        self._idle.pop(transport, None)
        if len(self._open) <= self._limits.connections // 2:
            self._warned = False

    def _start_idle(self, transport: asyncio.Transport) -> None:
        # Removed first, so that it moves to the end of the dictionary.
        self._idle.pop(transport, None)
        self._idle[transport] = time.monotonic()
        if self._timer is None:
            self._start_timer(self._limits.idle_seconds)

    def _start_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._close_idle)

    def _close_idle(self) -> None:
        """Close the connections that were idle for too long; start the timer for the next one."""
        self._timer = None
        now = time.monotonic()
        while self._idle:
            transport, since = next(iter(self._idle.items()))
            left = since + self._limits.idle_seconds - now
            if left > 0:
                self._start_timer(left)
                return
            del self._idle[transport]
            transport.close()
            # close() waits until the client has received everything, which may be never.
            asyncio.get_running_loop().call_later(self._limits.closing_seconds, self._abort, transport)

    def _abort(self, transport: asyncio.Transport) -> None:
        if transport in self._open:
            transport.abort()

    def _warn_full(self) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "connections_full",
                open=len(self._open),
                remedy="none needed while idle connections can be closed; otherwise new clients must try again",
            )


class _Connection(asyncio.Protocol):
    """Forwards every event to the protocol that handles the requests, and reports to the listener."""

    def __init__(self, listener: Listener, handler: Callable[[], asyncio.Protocol]) -> None:
        self._listener = listener
        self._create_handler = handler
        # A protocol that does nothing, until the connection is admitted.
        self._handler = asyncio.Protocol()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._listener.admit(self._transport):
            self._transport.abort()
            return
        self._handler = self._create_handler()
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
            self._listener.remove(self._transport)
        self._handler.connection_lost(exc)
