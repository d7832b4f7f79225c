"""The silence of a broker that has to acknowledge something: it may hang, though its connection is open."""

import time
from collections.abc import Callable

from aliciacfg.mqtt.broker_client import BrokerClient


class Silence:
    """How long a broker has sent nothing since it was given a publication that it has not acknowledged."""

    def __init__(self, client: BrokerClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without a publication.

        Args:
            client: Knows when anything was received and sent.
            clock: Seconds, as the client's: monotonic.
        """
        self._client = client
        self._clock = clock
        self._unacknowledged = 0
        # When the first of those that are not acknowledged left, as far as is known.
        self._since = 0.0
        # Whether the socket may still hold some of what was published before the broker last sent anything.
        self._leaves = False
        self._last_received = 0.0

    def begin(self) -> None:
        """Note that a publication is handed over."""
        if not self._unacknowledged:
            self._since = self._clock()
            self._leaves = True
        self._unacknowledged += 1

    def end(self) -> None:
        """Note that one is acknowledged."""
        self._unacknowledged -= 1

    @property
    def seconds(self) -> float:
        """The time; 0 while everything is acknowledged."""
        if not self._unacknowledged:
            return 0.0
        if self._client.last_received > self._last_received:
            # It was alive then, and may not have got what it has to acknowledge now.
            self._last_received = self._client.last_received
            self._leaves = True
        if self._leaves:
            # While a message waits for the socket, what the socket takes is a sign of life, too.
            self._since = max(self._since, self._client.last_sent)
            self._leaves = self._client.unwritten_bytes() > 0
        return max(0.0, self._clock() - max(self._since, self._client.last_received))
