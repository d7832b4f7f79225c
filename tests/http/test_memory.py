"""Answers with old revisions, over the real server: they are gone when nobody reads them any more."""

import gc
import tracemalloc
from pathlib import Path

import aiohttp

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
