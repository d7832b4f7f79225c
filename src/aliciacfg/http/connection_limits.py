"""Limits of the HTTP server: how long a client may take for each step, and how much all of them may take together."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from aliciacfg.errors import Busy


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a client may take, how many connections there may be, and how many bytes they may hold.

    Attributes:
        handshake_seconds: From the connection to the end of the TLS handshake.
        idle_seconds: Without a request in progress. Within this time the headers of the next request must arrive
            completely, and the client must have received the last response.
        closing_seconds: For the other side's part in closing a connection.
        body_seconds: For the body of a request.
        linger_seconds: For the rest of a body that is not read any more.
        send_seconds: For receiving the next part of a large response.
        connections: Open connections.
        waiting: Requests that wait for the rest of their body, and as many that wait for a change. Together they must
            be fewer than ``connections``, so that other requests can still connect.
        body_bytes: Of all large bodies whose requests are in progress.
        answer_bytes: Of all large responses that clients have not received yet.
    """

    handshake_seconds: float = 10.0
    idle_seconds: float = 60.0
    closing_seconds: float = 10.0
    body_seconds: float = 30.0
    linger_seconds: float = 5.0
    send_seconds: float = 20.0
    connections: int = 500
    waiting: int = 200
    body_bytes: int = 16 * 1024 * 1024
    answer_bytes: int = 64 * 1024 * 1024


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


class Budget:
    """A number of bytes that requests share."""

    def __init__(self, size: int, purpose: str) -> None:
        """Create a budget of which nothing is used.

        Args:
            size: In bytes.
            purpose: What the bytes are used for, as in "16777216 bytes are already …".
        """
        self._size = size
        self._purpose = purpose
        self._used = 0

    def take(self, size: int, *, beyond: bool = False) -> None:
        """Use some bytes, until they are given back.

        Args:
            size: How many.
            beyond: Use them even if they are not left.

        Raises:
            Busy: Too few are left.
        """
        if self._used + size > self._size and not beyond:
            raise Busy(f"{self._used} bytes are already {self._purpose}; try again in a second.")
        self._used += size

    def give_back(self, size: int) -> None:
        """End the use of some bytes."""
        self._used -= size

    def share(self) -> "Share":
        """Return a part of the budget of which nothing is used."""
        return Share(self)


class Share:
    """Bytes of a budget that are given back together, at the end of the context."""

    __slots__ = ("_budget", "_taken")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._taken = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give_back(self._taken)

    def take(self, size: int) -> None:
        """Use some more bytes; errors as for ``Budget.take``."""
        self._budget.take(size)
        self._taken += size
