"""A transport of MQTT 5 without a socket."""

import asyncio
from typing import Any

import mqtt5

from aliciacfg.mqtt.packet_reader import PacketReader


class Wire(asyncio.Transport):
    """A transport without a socket.

    Attributes:
        written: What each write was given.
        paused: Whether the protocol reads at present.
        unwritten: How many bytes the socket has not taken.
        closed: Whether the protocol has closed it.
    """

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self.written: list[bytes] = []
        self.paused = False
        self.unwritten = 0
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def sent(self) -> list[Any]:
        """Return what was written, as packets, and forget it."""
        reader, found = PacketReader(2**28), []
        reader.feed(b"".join(self.written))
        self.written.clear()
        while (taken := reader.take()) is not None:
            found.append(mqtt5.read(memoryview(taken[0]))[0])
        return found

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unwritten

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self._protocol.connection_lost(None)
