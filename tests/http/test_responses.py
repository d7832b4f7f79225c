"""Large responses over the real server: sent as their clients receive them, one copy of each body for all."""

import asyncio
import contextlib
import socket
import tracemalloc
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from aliciacfg.http.connection_limits import Limits
from aliciacfg.http.pages import Page
from builders import valid_config
from inprocess import Core, Home, listening
from machine import SECONDS

MIB = 1024 * 1024
CONTENT = bytes(range(256)) * (8 * MIB // 256)
PATIENT = Limits(idle_seconds=10 * SECONDS, send_seconds=10 * SECONDS)


@asynccontextmanager
async def serving(
    directory: Path,
    limits: Limits = PATIENT,
    pages: dict[str, bytes] | None = None,
    content_type: str = "application/octet-stream",
) -> AsyncGenerator[tuple[Core, aiohttp.ClientSession]]:
    files = {"environments/dev.yaml": {"services": {"bell": valid_config(), "siren": valid_config()}}}
    made = {path: Page(content_type, content) for path, content in (pages or {}).items()}
    async with (
        Home(directory, files).core() as core,
        listening(core, limits, made) as url,
        aiohttp.ClientSession(url) as client,
        asyncio.timeout(2 * SECONDS),
    ):
        yield core, client


@contextlib.contextmanager
def idle_readers(client: aiohttp.ClientSession, path: str, number: int) -> Iterator[list[socket.socket]]:
    """Clients that ask for a path and receive nothing."""
    base = client._base_url  # pyright: ignore[reportPrivateUsage]
    assert base is not None
    with contextlib.ExitStack() as stack:
        made: list[socket.socket] = []
        for _ in range(number):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect((base.host, base.port))
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            made.append(reader)
        yield made


async def test_clients_that_do_not_read_share_one_copy(tmp_path: Path):
    """Twenty of them hold less than a quarter of one body more than one of them does."""
    async with serving(tmp_path, pages={"/big": CONTENT}) as (_, client):
        async with client.get("/big") as answer:
            assert await answer.read() == CONTENT
        tracemalloc.start()
        try:
            with idle_readers(client, "/big", 20):
                for _ in range(50):
                    async with client.get("/health") as answer:
                        assert answer.status == 200
                held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert held < 4 * MIB


async def test_a_client_that_stops_reading_is_disconnected(tmp_path: Path):
    """After the time for a part, and its answer is not held any longer."""
    async with serving(
        tmp_path, Limits(send_seconds=1.0, answer_bytes=10 * MIB), {"/a": CONTENT, "/b": CONTENT[1:]}
    ) as (
        _,
        client,
    ):
        with idle_readers(client, "/a", 1) as (reader,):
            # Otherwise the other body might be first, and this client refused.
            await asyncio.to_thread(reader.recv, 1, socket.MSG_PEEK)

            async def other() -> int:
                async with client.get("/b") as answer:
                    await answer.read()
                    return answer.status

            while (status := await other()) != 503:
                assert status == 200
            while await other() != 200:
                pass
            received = 0
            with contextlib.suppress(ConnectionError):
                while part := await asyncio.to_thread(reader.recv, MIB):
                    received += len(part)
            assert received < len(CONTENT)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_large_response_has_its_length_and_all_of_its_content(tmp_path: Path, method: str):
    """HEAD has the length alone; the connection is used again."""
    async with serving(tmp_path, pages={"/big": CONTENT}) as (_, client):
        for _ in range(2):
            async with client.request(method, "/big") as answer:
                assert int(answer.headers["Content-Length"]) == len(CONTENT)
                assert answer.headers["Content-Type"] == "application/octet-stream"
                assert await answer.read() == (CONTENT if method == "GET" else b"")


@pytest.mark.parametrize("content_type", ["application/octet-stream", "text/plain"])
async def test_a_body_counts_once_however_many_clients_receive_it(tmp_path: Path, content_type: str):
    """Three that do not read, and one that does, of a body that the budget has room for once.

    Text is kept compressed, and none of these clients accepts it so.
    """
    async with serving(tmp_path, Limits(answer_bytes=9 * MIB), {"/a": CONTENT}, content_type) as (_, client):
        with idle_readers(client, "/a", 3):
            async with client.get("/a", headers={"Accept-Encoding": "identity"}) as answer:
                assert answer.status == 200
                assert await answer.read() == CONTENT


@pytest.mark.parametrize("path", ["/configs?include=config", "/config/bell", "/config/bell?format=json&pointer="])
async def test_no_room_for_an_answer_is_busy(tmp_path: Path, path: str):
    """503 with Retry-After and the error object."""
    async with serving(tmp_path, Limits(answer_bytes=100_000)) as (core, client):
        await core.ask("patch", "bell", patch={"settings": {"text": "x" * 200_000}})
        # The second time over the short path of a get, where there is one.
        for _ in range(2):
            async with client.get(path) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
                assert (await answer.json())["code"] == "busy"
        written = {"settings": {"other": 1}}
        async with client.patch("/config/bell", json=written) as answer:
            assert answer.status == 200
            assert (await answer.json())["changed"] == ["/settings/other"]


async def test_large_bodies_have_a_budget_and_small_ones_pass(tmp_path: Path):
    """Each body counts as far as it has arrived, until its request is answered; one too many is 503."""
    limits = Limits(body_bytes=200_000, body_seconds=10 * SECONDS, linger_seconds=0.05)
    async with serving(tmp_path, limits) as (_, client):
        release = asyncio.Event()

        async def slowly() -> AsyncGenerator[bytes]:
            yield b'{"settings": {"text": "' + b"x" * 150_000
            await release.wait()
            yield b'"}}'

        async def patch(name: str) -> int:
            headers = {"Content-Type": "application/json"}
            async with client.patch(f"/config/{name}?dry_run", data=slowly(), headers=headers) as answer:
                return answer.status

        waiting = {asyncio.create_task(patch("bell")) for _ in range(4)}
        refused, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result() for task in refused} == {503}
        async with client.patch("/config/bell?dry_run", json={"limits": {"x": 1}}) as answer:
            assert answer.status == 200
        release.set()
        assert {200, 503} >= {await task for task in pending} >= {200}
        async with client.patch("/config/bell?dry_run", json={"settings": {"text": "x" * 200_000}}) as answer:
            assert answer.status == 200
