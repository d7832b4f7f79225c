"""Proxies in front of a broker that behave as older, hanging or vanishing brokers do."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Literal

# MQTT 5 §3.2.2.2: unsupported protocol version.
REFUSAL = b"\x20\x03\x00\x84\x00"
LEVEL_5 = 5
SUBSCRIBE = 8


@contextlib.asynccontextmanager
async def _listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncGenerator[int, None]:
    """Serve connections at a port; those that are open at the end are cut, so that none outlives the event loop."""
    open_: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_[task] = writer
        # asyncio complains of a cancelled handler.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()
        del open_[task]

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        left = dict(open_)
        for task in left:
            task.cancel()
        await asyncio.gather(*left)
        for writer in left.values():
            writer.transport.abort()


@contextlib.asynccontextmanager
async def _connected(port: int) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter], None]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    except BaseException:
        writer.transport.abort()
        raise
    # What it has not sent yet, such as DISCONNECT, is sent first.
    writer.close()


class OlderBroker:
    """A broker of MQTT 3.1.1 only, in front of a Mosquitto.

    Attributes:
        port: Where it listens.
        speaks_five: Whether it has been upgraded.
        connects: The protocol levels of the CONNECT packets that it got.
    """

    def __init__(self, broker_port: int) -> None:
        self.port = 0
        self.speaks_five = False
        self.connects: list[int] = []
        self._broker_port = broker_port
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End every connection."""
        for writer in self._open:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Refuse a CONNECT of MQTT 5; pass on everything else."""
        # Fixed header, remaining length, "MQTT", level.
        head = await reader.readexactly(2)
        while head[-1] & 0x80:
            head += await reader.readexactly(1)
        head += await reader.readexactly(7)
        self.connects.append(head[-1])
        if head[-1] == LEVEL_5 and not self.speaks_five:
            writer.write(REFUSAL)
            await writer.drain()
            return
        async with _connected(self._broker_port) as (theirs, ours):
            ours.write(head)
            self._open.add(writer)
            tasks = [asyncio.create_task(_copy(reader, ours)), asyncio.create_task(_copy(theirs, writer))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._open.discard(writer)
                for task in tasks:
                    task.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def older_broker(broker_port: int) -> AsyncGenerator[OlderBroker, None]:
    """A broker of MQTT 3.1.1 only."""
    made = OlderBroker(broker_port)
    async with _listening(made.serve) as made.port:
        yield made


Unshared = Literal["refuses", "ignores", "disconnects"]


class UnsharingBroker:
    """A broker without shared subscriptions, in front of a Mosquitto, for clients of MQTT 5.

    Attributes:
        port: Where it listens.
        behaviour: What becomes of a subscription of ``$share/…``; None passes it on.
    """

    def __init__(self, broker_port: int, behaviour: Unshared) -> None:
        self.port = 0
        self.behaviour: Unshared | None = behaviour
        self._broker_port = broker_port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass packets on, but for subscriptions of ``$share/…``."""
        async with _connected(self._broker_port) as (theirs, ours):
            back = asyncio.create_task(_copy(theirs, writer))
            back.add_done_callback(lambda _: writer.close())
            try:
                while not back.done():
                    packet = await self._packet(reader)
                    if packet[0] >> 4 != SUBSCRIBE or b"$share/" not in packet or self.behaviour is None:
                        ours.write(packet)
                        await ours.drain()
                    elif self.behaviour == "disconnects":
                        break
                    else:
                        code = 0x9E if self.behaviour == "refuses" else 0x01
                        # Its length has one byte: the filters are short.
                        writer.write(bytes([0x90, 4]) + packet[2:4] + bytes([0, code]))
            finally:
                back.cancel()

    @staticmethod
    async def _packet(reader: asyncio.StreamReader) -> bytes:
        head = await reader.readexactly(2)
        while head[-1] & 0x80:
            head += await reader.readexactly(1)
        size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[1:]))
        return head + await reader.readexactly(size)


@contextlib.asynccontextmanager
async def unsharing_broker(broker_port: int, behaviour: Unshared) -> AsyncGenerator[UnsharingBroker, None]:
    """A broker without shared subscriptions."""
    made = UnsharingBroker(broker_port, behaviour)
    async with _listening(made.serve) as made.port:
        yield made
