"""Accepts TCP connections, with TLS or without, and stands between their transports and aiohttp's protocol.

asyncio would accept connections without a limit, and make a TLS connection known only after its handshake. Here each
one counts from the moment it is accepted, and costs a socket until its client shows that it speaks TLS.
"""

import asyncio
import contextlib
import resource
import socket
import ssl
import sys
from collections.abc import Callable
from typing import cast

import structlog

from aliciacfg.file_errors import remedy
from aliciacfg.http.connection_limits import Limits
from aliciacfg.http.connections import Connections

Handler = Callable[[], asyncio.Protocol]
"""Returns the protocol that handles the requests of a new connection."""

_BACKLOG = 128
# Accepted at once, before the connections that are open have their turn.
_ACCEPTED_AT_ONCE = 32
# After the system had no descriptor for a connection.
_PAUSE_SECONDS = 0.5
# For the database, files, the broker and the local socket.
_RESERVED_DESCRIPTORS = 128
# What is read from a connection at once.
_READ_BYTES = 32 * 1024
# What a transport holds before its writer has to wait.
_WRITE_BUFFER_BYTES = 32 * 1024
# The type of the record that begins a TLS connection (RFC 8446 §5.1).
_HANDSHAKE = b"\x16"

_log = structlog.get_logger(__name__)


class Listener:
    """Listens on a TCP port.

    Attributes:
        connections: The connections that were accepted and are open.
        sockets: One for each address of the host, while it listens.
        paused: Whether new connections wait in the system's queue.
    """

    def __init__(self, limits: Limits, *, answer_to_plain: bytes = b"") -> None:
        """Make a listener that does not listen yet.

        Args:
            limits: How many connections there may be, and how long their clients may take.
            answer_to_plain: Sent to a client that does not speak TLS where it has to.
        """
        self._limits = limits
        self._answer_to_plain = answer_to_plain
        self.sockets: list[socket.socket] = []
        self.paused = False
        self.connections = Connections(limits, most=min(limits.connections, _free_descriptors()))
        # One buffer for all connections: what was read is passed on before anything else is read.
        self._buffer = memoryview(bytearray(_READ_BYTES))

    async def start(self, handler: Handler, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Listen and return the port.

        Args:
            handler: Handles the requests of a connection.
            host: The address to listen on.
            port: 0 chooses a free one.
            tls: The TLS context; None for plain TCP.

        Raises:
            OSError: The address is in use or does not belong to this machine.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
                made = socket.create_server((address[0], port, *address[2:]), family=family, backlog=_BACKLOG)
                made.setblocking(False)
                self.sockets.append(made)
                port = made.getsockname()[1]
        except OSError:
            self.close()
            raise
        for listening in self.sockets:
            loop.add_reader(listening, self._accept, listening, handler, tls)
        return port

    def close(self) -> None:
        """Stop listening, and close what is not open for requests yet; the rest stays open. Safe to call twice."""
        for listening in self.sockets:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        self.sockets.clear()
        self.connections.abort_unattached()

    def _accept(self, listening: socket.socket, handler: Handler, tls: ssl.SSLContext | None) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listening, handler, tls, error)
                return
            accepted.setblocking(False)
            connection = _Accepted(accepted, self._limits, self.connections)
            if not self.connections.admit(connection):
                accepted.close()
                continue
            protocol = _Connection(connection, self._buffer, handler)
            if tls is None:
                connection.open(protocol)
            else:
                connection.expect_tls(protocol, tls, self._answer_to_plain)

    def _pause(self, listening: socket.socket, handler: Handler, tls: ssl.SSLContext | None, error: OSError) -> None:
        """Let new connections wait in the system's queue, because it has no descriptor or memory for them."""
        loop = asyncio.get_running_loop()
        _log.warning(
            "connection_not_accepted", reason=error.strerror, remedy=remedy(error) or "it is tried again in a second"
        )
        loop.remove_reader(listening)
        self.paused = True

        def resume() -> None:
            self.paused = False
            if listening in self.sockets:
                loop.add_reader(listening, self._accept, listening, handler, tls)

        loop.call_later(_PAUSE_SECONDS, resume)


class _Connection(asyncio.BufferedProtocol):
    """Forwards every event to the protocol that handles the requests."""

    def __init__(self, accepted: "_Accepted", buffer: memoryview, handler: Handler) -> None:
        self._accepted = accepted
        self._buffer = buffer
        self._create_handler = handler
        # A protocol that does nothing, until the connection is open.
        self._handler = asyncio.Protocol()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        opened = cast("asyncio.Transport", transport)
        if not self._accepted.opened(opened):
            opened.abort()
            return
        opened.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._handler = self._create_handler()
        self._handler.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._handler.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._accepted.lost()
        self._handler.connection_lost(exc)


class _Accepted:
    """A connection that was accepted: first its socket, later its transport. A ``Peer``."""

    def __init__(self, accepted: socket.socket, limits: Limits, connections: Connections) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = accepted
        self._limits = limits
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def expect_tls(self, protocol: _Connection, tls: ssl.SSLContext, answer_to_plain: bytes) -> None:
        """Wait for the first byte, within the time for the handshake: only the handshake itself makes a TLS object."""

        def look() -> None:
            try:
                first = self._socket.recv(1, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                first = b""
            self._loop.remove_reader(self._socket)
            if first == _HANDSHAKE:
                self.open(protocol, tls)
                return
            if first:
                self._answer(answer_to_plain)
            self.abort()

        self._timer = self._loop.call_later(self._limits.handshake_seconds, self.abort)
        self._loop.add_reader(self._socket, look)

    def open(self, protocol: _Connection, tls: ssl.SSLContext | None = None) -> None:
        """Make the transport, after the handshake where there is one."""
        self._task = self._loop.create_task(self._open(protocol, tls), name="http-connection")
        self._task.add_done_callback(lambda _: self._end())

    def opened(self, transport: asyncio.Transport) -> bool:
        """Take the transport, which is ready for requests; return whether the connection may stay open."""
        self._transport = transport
        if self._timer is not None:
            self._timer.cancel()
        return self._connections.attach(self, transport)

    def lost(self) -> None:
        """Forget the transport, which is closed."""
        self._connections.remove(self, self._transport)

    def close(self) -> None:
        """Close the connection after what was written is sent."""
        if self._transport is None:
            self.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()
        elif self._task is not None:
            self._task.cancel()
        else:
            self._loop.remove_reader(self._socket)
            self._end()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that were written and not sent."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    async def _open(self, protocol: _Connection, tls: ssl.SSLContext | None) -> None:
        # Timeouts and failed handshakes are among the errors of the system.
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                self._socket,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else self._limits.handshake_seconds,
                ssl_shutdown_timeout=None if tls is None else self._limits.closing_seconds,
            )

    def _answer(self, answer: bytes) -> None:
        """Send an answer as far as the system takes it at once."""
        with contextlib.suppress(OSError):
            # Closing with unread data would reset the connection, and the client would not see the answer.
            self._socket.recv(_READ_BYTES)
            self._socket.send(answer)
            self._socket.shutdown(socket.SHUT_WR)

    def _end(self) -> None:
        """Close the socket unless it became a transport."""
        if self._transport is None:
            self._connections.remove(self)
            self._socket.close()
            if self._timer is not None:
                self._timer.cancel()


def _free_descriptors() -> int:
    """Return how many connections there may be beside what else the process has open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(soft - _RESERVED_DESCRIPTORS, soft // 2)
