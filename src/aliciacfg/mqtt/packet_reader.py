"""Where packets begin and end in what is received (MQTT 5 §2.1); no packet is collected that is too large."""

from aliciacfg.mqtt.broker_client import KEPT_BYTES
from aliciacfg.mqtt.packets import variable_integer

# A Variable Byte Integer has at most four (MQTT 5 §1.5.5).
_LENGTH_BYTES = 4
_MORE = 0x80
# A rest that is shorter is copied for each piece that follows; the rest of a large packet once.
_SMALL_BYTES = 4096
# The type and the shortest length.
_SHORTEST = 2


class MalformedPacket(Exception):
    """What was received cannot be a packet (MQTT 5 §4.13); says why.

    Attributes:
        code: The reason code to send to the broker (MQTT 5 §3.14.2.1).
    """

    def __init__(self, text: str, *, code: int = 0x81) -> None:
        super().__init__(text)
        self.code = code


Packet = tuple[bytes, int, int]
"""A packet: all of it, or only the beginning, with the length corrected, if it is too large; where its variable header
begins; and its size in bytes if that is more than is read, else 0."""


class _Dropping:
    """An oversized packet that arrives.

    Attributes:
        first: Its first byte.
        size: Of the whole packet.
        left: How many of its bytes are still to come.
        kept: The beginning of what follows the fixed header.
    """

    __slots__ = ("first", "kept", "left", "size")

    def __init__(self, first: int, size: int, left: int) -> None:
        self.first = first
        self.size = size
        self.left = left
        self.kept = bytearray()


class PacketReader:
    """Splits a stream of bytes into packets.

    Attributes:
        position: Where in ``whole`` is what was not read yet; to be set by who has read it.
    """

    def __init__(self, max_packet_bytes: int) -> None:
        """Begin a stream.

        Args:
            max_packet_bytes: Of a larger packet only the beginning is kept.
        """
        self._max_bytes = max_packet_bytes
        self._buffer: bytes | bytearray = b""
        self.position = 0
        self._dropping: _Dropping | None = None

    def feed(self, data: bytes) -> None:
        """Take what was received, in pieces of any size."""
        buffer, position = self._buffer, self.position
        self.position = 0
        if position == len(buffer):
            self._buffer = data
            return
        if len(buffer) - position < _SMALL_BYTES and self._dropping is None:
            # What ends within a packet is to be ``whole`` again.
            self._buffer = bytes(memoryview(buffer)[position:]) + data
            return
        if isinstance(buffer, bytearray):
            del buffer[:position]
        else:
            buffer = self._buffer = bytearray(memoryview(buffer)[position:])
        buffer += data

    @property
    def whole(self) -> bytes | None:
        """What is to be read, from the position on, at a packet's beginning; None within a large packet."""
        return self._buffer if isinstance(self._buffer, bytes) and self._dropping is None else None

    def take(self) -> Packet | None:
        """Return the next packet; None until more is received.

        Raises:
            MalformedPacket: A length has more than four bytes.
        """
        if self._dropping is not None:
            return self._drop(self._dropping)
        buffer, position = self._buffer, self.position
        if len(buffer) - position < _SHORTEST:
            return None
        length, start = buffer[position + 1], position + 2
        if length & _MORE:
            found = self._long_length(position + 1)
            if found is None:
                return None
            length, start = found
        end = start + length
        if end - position > self._max_bytes:
            self.position = start
            self._dropping = _Dropping(buffer[position], end - position, length)
            return self._drop(self._dropping)
        if end > len(buffer):
            return None
        self.position = end
        return bytes(buffer[position:end]), start - position, 0

    def _long_length(self, place: int) -> tuple[int, int] | None:
        """Return a length of several bytes, and where it ends; None until all of it is received.

        Raises:
            MalformedPacket: It has more than four bytes.
        """
        length = 0
        for number, byte in enumerate(self._buffer[place : place + _LENGTH_BYTES]):
            length |= (byte & ~_MORE) << 7 * number
            if not byte & _MORE:
                return length, place + number + 1
        if len(self._buffer) - place >= _LENGTH_BYTES:
            raise MalformedPacket("the length of a packet has more than four bytes")
        return None

    def _drop(self, dropping: _Dropping) -> Packet | None:
        """Drop what was received of an oversized packet; return its beginning when all of it has passed."""
        position = self.position
        size = min(dropping.left, len(self._buffer) - position)
        room = KEPT_BYTES - len(dropping.kept)
        dropping.kept += self._buffer[position : position + min(size, room)]
        dropping.left -= size
        self.position = position + size
        if dropping.left:
            return None
        self._dropping = None
        header = bytes([dropping.first]) + variable_integer(len(dropping.kept))
        return bytes(header + dropping.kept), len(header), dropping.size
