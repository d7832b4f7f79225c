"""The open connections of the HTTP server: how many there are, and which of them are closed because they are idle."""

import asyncio
import time
from typing import Protocol

import structlog

from aliciacfg.http.connection_limits import Limits

_log = structlog.get_logger(__name__)


class Peer(Protocol):
    """The other end of a connection, from the moment that it is accepted."""

    def close(self) -> None:
        """Close the connection after what was written is sent."""
        ...

    def abort(self) -> None:
        """Close the connection at once."""
        ...

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that were written and not sent."""
        ...


class Connections:
    """Counts connections and closes those that exceed their limits.

    A connection is idle from its start to its first request, and from the end of one request to the beginning of the
    next; its handler reports both with ``mark_busy`` and ``mark_idle``. While a client receives a large response its
    connection may be closed for others too, and each part, reported with ``mark_sending``, starts its time anew.
    """

    def __init__(self, limits: Limits, *, most: int) -> None:
        """Start without connections.

        Args:
            limits: How long a connection may be idle or take to close.
            most: The largest number of connections.
        """
        self._limits = limits
        self._most = most
        self._open: set[Peer] = set()
        # Of the connections that are open for requests.
        self._peers: dict[asyncio.Transport, Peer] = {}
        # Connections with the time.monotonic() since when nothing happened, the longest idle one first: those that
        # have not sent a request yet, those between two requests, and those that are sent a large response.
        self._new: dict[Peer, float] = {}
        self._idle: dict[Peer, float] = {}
        self._sending: dict[Peer, float] = {}
        self._waiting = (
            (self._new, limits.idle_seconds),
            (self._idle, limits.idle_seconds),
            (self._sending, limits.send_seconds),
        )
        # Runs when the first connection reaches its limit.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        # Whether the warning about the limit was logged; reset when half of the connections are free again.
        self._warned = False

    @property
    def count(self) -> int:
        """The number of open connections."""
        return len(self._open)

    @property
    def room_for_streams(self) -> int:
        """The largest number of connections that may be busy for ever, so that others can still connect."""
        return self._most * 4 // 5

    @property
    def busy(self) -> int:
        """The number of connections with a request in progress."""
        return len(self._open) - len(self._new) - len(self._idle)

    def mark_busy(self, transport: asyncio.Transport | None) -> None:
        """Stop the idle time of a connection: the headers of a request have arrived."""
        if (peer := self._peers.get(transport)) is not None:  # pyright: ignore[reportArgumentType] - None is not found
            self._forget_idle(peer)

    def mark_idle(self, transport: asyncio.Transport | None) -> None:
        """Start the idle time of a connection anew: a request is answered."""
        self._wait(transport, self._idle, self._limits.idle_seconds)

    def mark_sending(self, transport: asyncio.Transport | None) -> None:
        """Start the time for receiving a part of a response: the part before was received."""
        self._wait(transport, self._sending, self._limits.send_seconds)

    def _wait(self, transport: asyncio.Transport | None, waiting: dict[Peer, float], seconds: float) -> None:
        if (peer := self._peers.get(transport)) is not None:  # pyright: ignore[reportArgumentType] - None is not found
            # Removed first, so that it moves to the end of the dictionary.
            self._forget_idle(peer)
            waiting[peer] = time.monotonic()
            self._start_timer(seconds)

    def admit(self, peer: Peer) -> bool:
        """Register a new connection; return whether there is room for it.

        At the limit the longest idle connection is closed for it, one that sent no request yet if there are many of
        these. Connections with a request in progress are not closed.
        """
        if len(self._open) >= self._most:
            self._warn_full()
            longest_idle = self._longest_idle()
            if longest_idle is None:
                return False
            self.remove(longest_idle)
            longest_idle.abort()
        self._open.add(peer)
        self._new[peer] = time.monotonic()
        self._start_timer(self._limits.idle_seconds)
        return True

    def attach(self, peer: Peer, transport: asyncio.Transport) -> bool:
        """Note the transport of a connection; return whether the connection is still open."""
        if peer not in self._open:
            return False
        self._peers[transport] = peer
        return True

    def abort_unattached(self) -> None:
        """Close the connections whose transport is not there yet, such as those in a TLS handshake, at once."""
        for peer in self._open.difference(self._peers.values()):
            self.remove(peer)
            peer.abort()

    def remove(self, peer: Peer, transport: asyncio.Transport | None = None) -> None:
        """Forget a connection that is closed, and its transport. Safe to call twice."""
        self._open.discard(peer)
        self._forget_idle(peer)
        if transport is not None:
            self._peers.pop(transport, None)
        if len(self._open) <= self._most // 2:
            self._warned = False

    def _forget_idle(self, peer: Peer) -> None:
        self._idle.pop(peer, None)
        self._new.pop(peer, None)
        self._sending.pop(peer, None)

    def _longest_idle(self) -> Peer | None:
        """Return the connection to close for a new one; None if all are busy."""
        if len(self._new) > self._most // 2:
            return next(iter(self._new))
        heads = [next(iter(waiting.items())) for waiting, _ in self._waiting if waiting]
        return min(heads, key=lambda head: head[1])[0] if heads else None

    def _start_timer(self, seconds: float) -> None:
        """Have the time of the waiting connections looked at when the first one may be over."""
        at = time.monotonic() + seconds
        if self._timer is not None:
            # Every request gets here once; to ask the timer itself for its time takes longer than all else here.
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(seconds, self._close_waiting)

    def _close_waiting(self) -> None:
        """Close the connections whose time is over; start the timer for the next one."""
        self._timer = None
        now = time.monotonic()
        for waiting, seconds in self._waiting:
            while waiting:
                peer, since = next(iter(waiting.items()))
                left = since + seconds - now
                if left > 0:
                    self._start_timer(left)
                    break
                del waiting[peer]
                self._close(peer)

    def _close(self, peer: Peer) -> None:
        if peer.get_write_buffer_size():
            # Its client has received nothing for all this time, and close() would wait for it.
            peer.abort()
            return
        peer.close()
        asyncio.get_running_loop().call_later(self._limits.closing_seconds, self._abort, peer)

    def _abort(self, peer: Peer) -> None:
        if peer in self._open:
            peer.abort()

    def _warn_full(self) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "connections_full",
                open=len(self._open),
                busy=self.busy,
                remedy="none needed while idle connections can be closed; otherwise new clients must try again",
            )
