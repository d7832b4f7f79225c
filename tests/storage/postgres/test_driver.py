"""What goes over a connection, and what becomes of one whose other end is gone."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliciacfg.storage.postgres.driver import Link, ServerError, decode_text, encode_text
from cutting_socket import NAME
from postgres import Postgres


@given(st.text(st.characters(codec="utf-8")) | st.text("\x00\x1a01a"))
def test_a_text_is_stored_without_zeros_and_read_as_it_was(text: str):
    """Whatever it holds."""
    stored = encode_text(text)
    assert "\x00" not in stored
    assert decode_text(stored) == text


@contextlib.asynccontextmanager
async def over_tcp(directory: Path) -> AsyncGenerator[str]:
    """Pass TCP connections on to the server's socket; yield host and port."""
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(directory / NAME)
        for one, to in ((reader, server_writer), (server_reader, writer)):
            tasks.add(asyncio.create_task(copy(one, to)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*tasks)


async def test_a_server_that_is_silent_counts_as_lost(postgres: Postgres):
    """The system ends a connection whose other end does not even confirm what it got."""
    async with over_tcp(postgres.directory) as address:
        url = postgres.url().replace(f"@/postgres?host={postgres.directory}", f"@{address}/postgres?sslmode=disable")
        link = await Link.connect(url)
        end = link._connection._transport.get_extra_info("socket")
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
        await link.close()


async def test_rows_within_rows_and_errors(postgres: Postgres):
    """As they are; an error has the server's code, and the connection goes on unless it is lost."""
    link = await Link.connect(postgres.url())
    assert await link.rows("SELECT $1::text, ROW($1::text, 1::bigint, ROW(true, NULL))", "a\x00b") == [
        ("a\x00b", ("a\x00b", 1, (True, None)))
    ]
    with pytest.raises(ServerError) as raised:
        await link.rows("SELECT 1/0")
    assert (raised.value.sqlstate, raised.value.lost) == ("22012", False)
    with pytest.raises(ServerError) as raised:
        await link.rows("SELECT $1::bigint", 2**63)
    assert not raised.value.lost
    ((process,),) = await link.rows("SELECT pg_backend_pid()")
    assert process == link.process
    with pytest.raises(ServerError) as raised:
        await link.run("SELECT pg_terminate_backend(pg_backend_pid())")
    assert raised.value.lost
    await link.ended.wait()
    assert link.closed
    await link.close()


async def test_an_error_tells_no_content_of_rows(postgres: Postgres):
    """The server gives it as detail; errors go to clients and into logs."""
    link = await Link.connect(postgres.url())
    await link.run("CREATE TEMPORARY TABLE one (name text PRIMARY KEY, size int NOT NULL)")
    await link.rows("INSERT INTO one VALUES ('hunter2', 1)")
    for statement in ("INSERT INTO one VALUES ('hunter2', 1)", "INSERT INTO one VALUES ('hunter2', NULL)"):
        with pytest.raises(ServerError) as raised:
            await link.rows(statement)
        assert "violates" in str(raised.value)
        assert "hunter2" not in str(raised.value)
    await link.close()
