"""What a connection to the broker needs of the library that carries it, whichever that is."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt import messages
from aliciacfg.mqtt.identifiers import Identifiers
from aliciacfg.mqtt.messages import Inbound, Publication

TIMEOUT_SECONDS = 5.0
"""The time in which a broker that has to acknowledge something may be silent."""

PATIENCE_SECONDS = 60.0
"""The time after which a broker that does everything else but acknowledge counts as broken."""

KEEPALIVE_SECONDS = 30
"""The Keep Alive of CONNECT (MQTT 5 §3.1.2.10)."""

DEFAULT_RECEIVE_MAXIMUM = 65_535
"""How many publications at QoS 1 a broker takes at a time that announces nothing (MQTT 5 §3.2.2.3.3)."""

KEPT_BYTES = 256 * 1024
"""What is kept of a packet that is too large: enough for its topic and the properties that say where to answer."""

KEPT_PAYLOAD_BYTES = 1024
"""What is kept of the payload of such a packet."""

# Reason codes from here on are failures (MQTT 5 §2.4).
_FAILURE = 0x80

_Answer = TypeVar("_Answer")


class SubscriptionRefused(BrokerUnavailable):
    """The broker refused topic filters (MQTT 5 §3.9.3, MQTT 3.1.1 §3.9.3)."""

    def __init__(self, filters: Sequence[str]) -> None:
        super().__init__(f"the broker refused the subscription of {', '.join(filters)}")


class Lane(Protocol):
    """Handles some of the packets of MQTT 5 from bytes to bytes."""

    def run(
        self, buffer: bytes, position: int, most: int, identifiers: Identifiers, output: list[bytes]
    ) -> tuple[int, int, int]:
        """Handle packets from a position on, up to the first that is not for the lane.

        Args:
            buffer: What was received.
            position: Where a packet begins in it.
            most: How many packets to handle.
            identifiers: Of the connection.
            output: Gets what is to be sent.

        Returns:
            Where it has come to, how many packets it handled, and how many bytes are to be sent.
        """
        ...


class BrokerClient(Protocol):
    """A connection that is used once.

    Attributes:
        protocol: The version of MQTT that it speaks.
        max_packet_bytes: The Maximum Packet Size that the broker announced (MQTT 5 §3.2.2.3.6), or None.
        receive_maximum: How many publications at QoS 1 the broker takes at a time.
        shares: False if the broker said that it has no shared subscriptions (MQTT 5 §3.2.2.3.13).
        end_code: After the end, the reason code (MQTT 5 §2.4) if there is one; else 0.
        on_message: Called with every message, on the event loop. At QoS 1 the broker regards it as under way until
            ``acknowledge`` is called.
        on_acknowledged: Called with the packet identifier of a publication at QoS 1, and the broker's reason code.
        on_written: Called when the socket has taken something, if it took less than there was.
    """

    protocol: messages.Protocol
    max_packet_bytes: int | None
    receive_maximum: int
    shares: bool
    end_code: int
    on_message: Callable[[Inbound], None]
    on_acknowledged: Callable[[int, int], None]
    on_written: Callable[[], None]

    @property
    def last_received(self) -> float:
        """When anything was received, on the monotonic clock."""
        ...

    @property
    def last_sent(self) -> float:
        """When the socket was last seen to take anything, on the monotonic clock."""
        ...

    @property
    def queued_bytes(self) -> int:
        """How many bytes were handed to the library."""
        ...

    @property
    def written_bytes(self) -> int:
        """How many of them the socket has taken."""
        ...

    def unwritten_bytes(self) -> int:
        """Return how many of them it has not."""
        ...

    async def connect(self) -> None:
        """Connect.

        Raises:
            NotConnected: There is no connection.
        """
        ...

    def abort(self) -> None:
        """Close the connection without a DISCONNECT."""
        ...

    async def disconnect(self, *, with_will: bool = False) -> None:
        """Disconnect, if the broker has not gone first.

        Args:
            with_will: On MQTT 5, whether the broker publishes the last will all the same, after its delay.
        """
        ...

    async def wait_closed(self) -> None:
        """Wait until the connection is gone.

        Raises:
            BrokerUnavailable: It is gone; this never returns.
        """
        ...

    async def subscribe(self, filters: Sequence[str], *, retain_as_published: bool = False) -> None:
        """Subscribe to topic filters at QoS 1; returns when the broker has acknowledged.

        Args:
            filters: What to subscribe to.
            retain_as_published: On MQTT 5, whether messages keep the retain flag that they were published with.

        Raises:
            BrokerUnavailable: The broker did not acknowledge, or refused a filter.
        """
        ...

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe from topic filters; returns when the broker has acknowledged.

        Raises:
            BrokerUnavailable: The broker did not acknowledge.
        """
        ...

    def publish(self, publication: Publication) -> int:
        """Publish; return the packet identifier, with which ``on_acknowledged`` will be called at QoS 1."""
        ...

    def flush(self) -> None:
        """Write what was published now, if it would be written at the end of this turn of the event loop only."""
        ...

    def acknowledge(self, message: Inbound) -> None:
        """Let the broker forget a message, and deliver another one in its place."""
        ...

    def hold(self, held: bool) -> None:
        """Read nothing, or go on.

        While nothing is read, what the socket takes counts as received for ``last_received`` and the Keep Alive: the
        broker's own signs of life wait unread.
        """
        ...

    def read_once(self) -> None:
        """Read a little while nothing is to be read."""
        ...

    def use(self, lane: "Lane") -> None:
        """Have a lane look first at what is received; without effect on MQTT 3.1.1."""
        ...


async def while_alive(work: Coroutine[Any, Any, _Answer], last_received: Callable[[], float]) -> _Answer:
    """Wait for an acknowledgement as long as the broker is not silent.

    Args:
        work: Waits for it.
        last_received: Returns when anything was received, on the monotonic clock.

    Raises:
        BrokerUnavailable: Nothing was received for ``TIMEOUT_SECONDS``.
    """
    task = asyncio.ensure_future(work)
    began = time.monotonic()
    try:
        while not task.done():
            silent = time.monotonic() - max(began, last_received())
            if silent >= TIMEOUT_SECONDS:
                raise BrokerUnavailable("the broker does not answer")
            await asyncio.wait({task}, timeout=TIMEOUT_SECONDS - silent)
        return task.result()
    finally:
        task.cancel()


def is_failure(code: int) -> bool:
    """Return whether a reason code says that something was refused."""
    return code >= _FAILURE
