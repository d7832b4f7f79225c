"""What comes in on a connection of MQTT 5: a number of packets in one turn of the event loop, and when none is read.

What one read brings is answered by one write. After a number of packets others have their turn on the event loop, and
the socket is not read meanwhile; nor while too much waits for the socket.
"""

import asyncio
import time
from collections.abc import Callable

from aliciacfg.mqtt.identifiers import Identifiers
from aliciacfg.mqtt.mqtt5_output import Output
from aliciacfg.mqtt.packet_reader import MalformedPacket, Packet, PacketReader

# About two milliseconds.
_PACKETS_PER_TURN = 128
# How many packets the lane handles in the time of another one.
_LANE_PACKETS = 4
# With more than this unwritten nothing is read: each PUBREL or PUBLISH would be answered into memory, by a broker that
# sends and does not read 4 bytes for 4. What is published waits from a quarter of it on, in ``SendQueue``.
_MAX_UNWRITTEN_BYTES = 16 * 1024 * 1024


class Input:
    """Splits what is received into packets, and has them handled.

    Attributes:
        handle: Called with each packet.
        closed: Whether nothing counts any more that the broker sends.
        run_lane: The ``run`` of a lane that looks first at what is received, unless ``exactly_once`` has anything.
        exactly_once: The packet identifiers of messages at QoS 2, which only another subscription than ours can bring.
    """

    def __init__(
        self,
        max_packet_bytes: int,
        output: Output,
        identifiers: Identifiers,
        *,
        handle: Callable[[Packet], None],
        refuse: Callable[[MalformedPacket], None],
    ) -> None:
        """Receive nothing yet.

        Args:
            max_packet_bytes: The largest packet that is received whole.
            output: Where answers go.
            identifiers: Of the connection.
            handle: Called with each packet.
            refuse: Called with what was wrong with one.
        """
        self.handle = handle
        self.closed = False
        self.run_lane: Callable[[bytes, int, int, Identifiers, list[bytes]], tuple[int, int, int]] | None = None
        self.exactly_once: set[int] = set()
        self._output = output
        self._identifiers = identifiers
        self._refuse = refuse
        self._reader = PacketReader(max_packet_bytes)
        self._loop = asyncio.get_running_loop()
        self._paused = False
        # Whether reading pauses until the socket has taken what it has not; until ``hold`` ends it; and whether a
        # little is read all the same.
        self._stalled = False
        self._held = False
        self._reads_once = False
        self._last_received = time.monotonic()

    @property
    def last_received(self) -> float:
        """When anything was received, on the monotonic clock; while nothing is read, when the socket took anything."""
        return max(self._last_received, self._output.last_sent) if self._held else self._last_received

    def receive(self, data: bytes) -> None:
        """Handle what was received."""
        self._last_received = time.monotonic()
        if self.closed:
            return
        self._reader.feed(data)
        if not self._paused:
            self._go_on()

    def hold(self, held: bool) -> None:
        """Read nothing, or go on."""
        self._held = held
        self._reads_once = False
        self._last_received = max(self._last_received, self._output.last_sent)
        if held:
            self._pause()
        else:
            self._loop.call_soon(self._go_on)

    def read_once(self) -> None:
        """Handle the packets of one turn, though nothing is to be read."""
        self._reads_once = True
        self._go_on()

    def note_written(self) -> None:
        """Go on if reading paused until the socket had taken enough."""
        if self._stalled:
            self._stalled = False
            self._go_on()

    def close(self) -> None:
        """Read only to notice the end."""
        self.closed = True
        self._held = False
        self._resume()

    def _go_on(self) -> None:
        """Handle a number of packets, and write the answers; leave the others to the next turn."""
        if self.closed or self._stalled or not self._may_read:
            return
        left: float = _PACKETS_PER_TURN
        scheduled = self._output.begin_turn()
        try:
            while left > 0 and not self.closed and self._may_read:
                left -= self._use_lane(left)
                if left <= 0 or (packet := self._reader.take()) is None:
                    break
                left -= 1
                self.handle(packet)
        except MalformedPacket as error:
            self._refuse(error)
        finally:
            self._output.end_turn(scheduled)
        if left < _PACKETS_PER_TURN:
            self._reads_once = False
        self._read_or_pause(to_handle=left <= 0)

    def _read_or_pause(self, *, to_handle: bool) -> None:
        """Go on reading, or not, after a turn; what is still to handle is handled before more is read."""
        self._stalled = self._output.buffered_bytes > _MAX_UNWRITTEN_BYTES
        if self._stalled or not self._may_read:
            self._pause()
        elif to_handle:
            self._pause()
            self._loop.call_soon(self._go_on)
        else:
            self._resume()

    @property
    def _may_read(self) -> bool:
        return self._reads_once or not self._held

    def _use_lane(self, left: float) -> float:
        """Have the lane handle what it can; return how many other packets take as long."""
        reader = self._reader
        whole = reader.whole
        if self.run_lane is None or whole is None or self.exactly_once:
            return 0
        most, pieces = int(left * _LANE_PACKETS), self._output.pieces
        reader.position, count, size = self.run_lane(whole, reader.position, most, self._identifiers, pieces)
        self._output.count(size)
        return count / _LANE_PACKETS

    def _pause(self) -> None:
        if not self._paused and self._output.transport is not None:
            self._paused = True
            self._output.transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._output.transport is not None:
            self._paused = False
            self._output.transport.resume_reading()
