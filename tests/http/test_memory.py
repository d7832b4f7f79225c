"""What answers leave in memory, over the real server: no old revision, and one copy of each page."""

import asyncio
import contextlib
import gc
import tracemalloc
from pathlib import Path

import aiohttp

from aliciacfg.http.pages import Page
from builders import valid_config
from inprocess import Home, listening

REVISIONS = 20
SIZE = 100_000


async def test_old_revisions_that_were_read_do_not_stay_in_memory(tmp_path: Path):
    """The answer with each revision is read once; afterwards only the newest one is kept."""
    home = Home(tmp_path, {"environments/dev.yaml": {"services": {"bell": valid_config()}}})
    async with home.core() as core, listening(core) as url, aiohttp.ClientSession(url) as client:

        async def change_and_read(number: int) -> None:
            await core.ask("patch", "bell", patch={"settings": {"text": f"{number:06}" * (SIZE // 6)}})
            async with client.get("/config/bell") as answer:
                assert (await answer.json())["config"]["settings"]["text"].startswith(f"{number:06}")

        for number in range(3):
            await change_and_read(number)
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(3, 3 + REVISIONS):
                await change_and_read(number)
            gc.collect()
            left, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert left < 10 * SIZE


async def test_a_page_is_read_once_however_many_ask_for_it_at_the_start(tmp_path: Path):
    """A hundred clients at the same time share one copy of its content."""
    file = tmp_path / "page"
    file.write_bytes(bytes(SIZE))
    reads: list[Path] = []

    class Counted(type(file)):
        def read_bytes(self) -> bytes:
            reads.append(self)
            return super().read_bytes()

    pages = {"/page": Page("text/plain", Counted(file))}
    home = Home(tmp_path, {"environments/dev.yaml": {"services": {"bell": valid_config()}}})
    async with home.core() as core, listening(core, pages=pages) as url, aiohttp.ClientSession(url) as client:

        async def get() -> int:
            async with client.get("/page") as answer:
                return len(await answer.read())

        assert await asyncio.gather(*(get() for _ in range(100))) == [SIZE] * 100
    assert len(reads) == 1


async def test_an_answer_that_was_received_is_not_kept_for_its_connection(tmp_path: Path):
    """Ten connections stay open after an answer of 200 kB each."""
    home = Home(tmp_path, {"environments/dev.yaml": {"services": {"bell": valid_config()}}})
    async with home.core() as core, listening(core) as url:
        await core.ask("patch", "bell", patch={"settings": {"text": "x" * 2 * SIZE}})
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(aiohttp.ClientSession(url)) for _ in range(10)]

            async def size(client: aiohttp.ClientSession, path: str) -> int:
                async with client.get(path) as answer:
                    return len(await answer.read())

            for client in clients:
                assert await size(client, "/health")
            gc.collect()
            tracemalloc.start()
            try:
                for client in clients:
                    assert await size(client, "/configs?include=config") > 2 * SIZE
                gc.collect()
                left, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert left < 6 * SIZE
