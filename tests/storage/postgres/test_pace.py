"""Commits of many rows: the event loop goes on to answer meanwhile, and the server keeps the lock for them."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from aliciacfg.model.records import Announcement, Applied, AuditEntry, Overlay, Position, Write
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.store import Store
from postgres import Postgres
from stored_rows import CHAIN, entry, revision

COUNT = 1500
# Of all the work of such a commit; at once, its largest part takes more than a fourth.
LONGEST_PART = 0.2


@contextlib.asynccontextmanager
async def stops(found: list[float]) -> AsyncGenerator[None]:
    """Note the processor time of each stretch in which the event loop did nothing else in the block.

    The garbage collector rests meanwhile: what the tests before left behind is no work of the block.
    """

    async def watch() -> None:
        last = time.thread_time()
        while True:
            # Hardly ever while the server works: turns without an end would be work as well.
            await asyncio.sleep(0.001)
            now = time.thread_time()
            found.append(now - last)
            last = now

    gc.collect()
    gc.disable()
    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        gc.enable()
        watching.cancel()


def stores(url: str, directory: Path, name: str) -> contextlib.AbstractAsyncContextManager[Store]:
    (directory / name).mkdir()
    return database_in(directory / name, url).open(CHAIN)


@pytest.mark.timeout(120)
async def test_a_large_commit_lets_other_tasks_go_on(postgres: Postgres, tmp_path: Path):
    """Where it is made, and where others follow; every row is there and whole."""
    url = await asyncio.to_thread(postgres.create)
    audit: list[AuditEntry] = [entry(f"s{number}", 1) for number in range(COUNT)]
    write = Write(
        records=tuple(revision(f"s{number}", 1, {"key": "x" * 500}) for number in range(COUNT)),
        audit=tuple(audit),
        overlays=tuple(Overlay("dev", f"s{number}", b"{}", {}) for number in range(COUNT)),
        announcements=tuple(Announcement(f"service/s{number}", number + 1, b"x" * 500) for number in range(COUNT)),
        applied=tuple(Applied(f"s{number}", "a", "dev", 1, "c", "applied", None, 1.5, 2.0) for number in range(COUNT)),
        position=Position(1, COUNT),
    )
    forgotten = Write(confirmed=write.announcements, forgotten=write.applied)
    async with stores(url, tmp_path, "one") as one, stores(url, tmp_path, "other") as other:
        await one.load()
        await other.load()
        told: list[int] = []
        other.listen_others(lambda state: told.append(len(state.records) + len(state.applied)))
        found: list[float] = []
        async with stops(found):
            await one.commit([write])
            await other.catch_up()
        assert told == [2 * COUNT]
        assert max(found) < LONGEST_PART * sum(found)
        await one.commit([forgotten])
        assert await other.applied() == []
        assert not any(item.pending for item in (await other.load()).announcements)
        assert (await other.verify()).broken == []
