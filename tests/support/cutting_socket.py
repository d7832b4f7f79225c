"""A way to a PostgreSQL server on which answers get lost, or nothing goes on."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

NAME = ".s.PGSQL.5432"


class CuttingSocket:
    """Passes connections on to the server's socket; can cut them around COMMIT, let none through, or have all hang.

    Attributes:
        directory: Holds the socket; the ``host`` of an address.
        cuts: How many connections it has cut so far because of ``cut_commit``.
    """

    def __init__(self, directory: Path, target: Path) -> None:
        self.directory = directory
        self.cuts = 0
        self._target = target / NAME
        self._cut = ""
        self._open = True
        self._flows = asyncio.Event()
        self._flows.set()
        self._links: set[asyncio.StreamWriter] = set()

    def cut_commit(self, when: str) -> None:
        """Cut the connection of the next COMMIT: ``before`` the server gets it, or ``after``, before its answer."""
        self._cut = when

    async def shut(self) -> None:
        """Cut all connections, and accept none, until ``reopen``."""
        self._open = False
        for writer in list(self._links):
            writer.transport.abort()

    def hang(self) -> None:
        """Pass nothing on, as if the server stood still, until ``reopen``; connections are accepted."""
        self._flows.clear()

    def reopen(self) -> None:
        self._open = True
        self._flows.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if self._open:
                server_reader, server_writer = await asyncio.open_unix_connection(self._target)
                await self._pass_both(reader, writer, server_reader, server_writer)
        writer.transport.abort()

    async def _pass_both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        self._links |= {writer, server_writer}
        answers = asyncio.create_task(self._pass_answers(server_reader, writer))
        try:
            while data := await reader.read(65536):
                await self._flows.wait()
                if self._cut and b"COMMIT\x00" in data:
                    when, self._cut = self._cut, ""
                    self.cuts += 1
                    if when == "after":
                        answers.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await answers
                        server_writer.write(data)
                        # The server's answer: it has carried the command out.
                        await server_reader.read(65536)
                    return
                server_writer.write(data)
                await server_writer.drain()
        finally:
            answers.cancel()
            self._links -= {writer, server_writer}
            server_writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await answers

    async def _pass_answers(self, server_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await server_reader.read(65536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@contextlib.asynccontextmanager
async def cutting_socket(target: Path) -> AsyncGenerator[CuttingSocket]:
    """Serve on a socket in a directory of its own; ``target`` is the directory of the server's socket."""
    with tempfile.TemporaryDirectory(prefix="cut-", dir="/tmp") as directory:
        made = CuttingSocket(Path(directory), target)
        server = await asyncio.start_unix_server(made.serve, made.directory / NAME)
        try:
            yield made
        finally:
            await made.shut()
            server.close()
