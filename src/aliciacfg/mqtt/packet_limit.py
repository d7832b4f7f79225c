"""The largest packet that may be sent, as far as it is known.

MQTT 5 brokers announce their limit in CONNACK. Brokers of 3.1.1 cannot: they close the connection over a larger packet.
The same packet would make them close the next one, so that no request would ever be answered. So what was under way is
remembered when connections are closed one after the other, and its largest packet is not sent again.
"""

import time
from collections.abc import Callable, Collection

import structlog

from aliciacfg.mqtt.messages import Protocol

_log = structlog.get_logger(__name__)

# A broker may go away at any moment; that often in a row, with a large packet under way, is no coincidence.
_CUTS = 3
_IN_A_ROW_SECONDS = 60.0
# No broker limits packets to less.
_ALWAYS_FIT_BYTES = 2048
# The broker's settings may have been changed since.
_REMEMBERED_SECONDS = 3600.0


class PacketLimit:
    """The largest packet that may be sent to one broker, over all connections to it.

    Attributes:
        bytes: The largest packet that may be sent; an attribute, as every answer is compared with it.
    """

    def __init__(self, own: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without a limit of the broker.

        Args:
            own: The setting, in bytes; nothing larger is sent in any case.
            clock: Seconds, monotonic.
        """
        self._own = own
        self._clock = clock
        self._announced: int | None = None
        # Whether the broker cannot announce its limit.
        self._silent = False
        # Learned from acknowledgements of this connection: another one costs no more than to be refused once again.
        self._refused: int | None = None
        # Learned from closed connections, and when.
        self._learned: int | None = None
        self._learned_at = 0.0
        # The largest packet that the broker has acknowledged.
        self._accepted = 0
        self._cuts = 0
        self._cut_at = -_IN_A_ROW_SECONDS
        self.bytes = own

    @property
    def careful(self) -> bool:
        """Whether the broker closed a connection lately over what may be too large: send large messages one by one."""
        return self._cuts > 0 and self._clock() - self._cut_at < _IN_A_ROW_SECONDS

    def begin(self, protocol: Protocol, announced: int | None) -> None:
        """Begin a connection, whose CONNACK announced a Maximum Packet Size (MQTT 5 §3.2.2.3.6) or None."""
        self._announced = announced
        self._silent = protocol == "3.1.1"
        self._refused = None
        if self._learned is not None and self._clock() - self._learned_at > _REMEMBERED_SECONDS:
            self.forget()
        self._set_bytes()

    def forget(self) -> None:
        """Forget what was learned: the broker was away, and may have come back with other settings."""
        self._learned = self._refused = None
        self._accepted = 0
        self._cuts = 0
        self._set_bytes()

    def accepted(self, size: int) -> None:
        """Note that the broker acknowledged a packet."""
        if size > self._accepted:
            self._accepted = size
            self._cuts = 0

    def refused(self, size: int, *, closed: bool = False) -> None:
        """Note that the broker refused a packet as too large (MQTT 5 §2.4, 0x95), and whether it closed the connection.

        What always fits was not it: no connection is of use without what the daemon says to itself through the broker.
        """
        if size <= _ALWAYS_FIT_BYTES:
            return
        if closed:
            self._learn(size - 1)
        else:
            self._refused = size - 1 if self._refused is None else min(self._refused, size - 1)
            self._set_bytes()

    def closed(self, under_way: Collection[int]) -> None:
        """Note that the broker closed a connection.

        Args:
            under_way: The sizes of the packets that it had been sent and had not acknowledged.
        """
        largest = max(under_way, default=0)
        if not self._silent or largest <= max(self._accepted, _ALWAYS_FIT_BYTES):
            return
        if self._clock() - self._cut_at > _IN_A_ROW_SECONDS:
            self._cuts = 0
        self._cut_at = self._clock()
        self._cuts += 1
        if self._cuts >= _CUTS:
            # Answers are a little smaller than the update of the same configuration, and would be tried one by one.
            self._learn(max(self._accepted, largest * 9 // 10))
            _log.warning(
                "packet_limit_learned",
                bytes=self.bytes,
                reason=f"the broker closed {_CUTS} connections in a row with a packet of {largest} bytes under way",
                remedy="set ALICIACFG_MAX_PACKET_BYTES to the broker's limit, or raise the broker's",
            )

    def _learn(self, limit: int) -> None:
        self._learned = limit if self._learned is None else min(self._learned, limit)
        self._learned_at = self._clock()
        # The next largest may be too large as well.
        self._cuts = min(self._cuts, 1)
        self._set_bytes()

    def _set_bytes(self) -> None:
        known = (self._own, self._announced, self._refused, self._learned)
        self.bytes = min(limit for limit in known if limit is not None)
