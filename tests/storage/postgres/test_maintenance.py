"""Work on the whole database beside those who have it open."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from aliciacfg.model.records import Write
from aliciacfg.storage.backend import database_in
from postgres import Postgres
from stored_rows import CHAIN, revision

WORD = b"a-word-that-is-nowhere-else"


@pytest.fixture
def url(postgres: Postgres) -> str:
    """An empty database."""
    return postgres.create()


def tables(postgres: Postgres) -> bytes:
    """The files of all tables, as they are on the disk."""
    postgres.execute("CHECKPOINT", "SELECT 1")
    return b"".join(path.read_bytes() for path in (postgres.data / "base").rglob("*") if path.is_file())


async def test_a_scrub_leaves_nothing_of_what_was_replaced_in_the_tables(postgres: Postgres, url: str, tmp_path: Path):
    """Once nobody reads an older state; a scrub that has nothing to do does nothing."""
    async with database_in(tmp_path, url).open(CHAIN) as store:
        await store.commit([Write(records=(revision("one", 1, {"secret": WORD.decode()}),))])
        assert WORD in await asyncio.to_thread(tables, postgres)
        reader = await asyncpg.connect(url)
        await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await reader.fetch("SELECT * FROM aliciacfg.revisions")
        assert await store.scrub()
        await store.commit([Write(resealed=(revision("one", 1, {}, secret=WORD.decode()),))])
        assert not await store.scrub()
        await reader.close()
        assert await store.scrub()
        assert WORD not in await asyncio.to_thread(tables, postgres)
        assert (await store.verify()).broken == []
        assert await store.scrub()


async def test_a_scrub_waits_for_nobody(url: str, tmp_path: Path):
    """Where somebody holds a lock on a table it is not done, and says so."""
    async with database_in(tmp_path, url).open(CHAIN) as store:
        await store.commit([Write(records=(revision("one", 1, {"secret": "x"}),))])
        await store.commit([Write(resealed=(revision("one", 1, {}, secret="x"),))])
        holder = await asyncpg.connect(url)
        await holder.execute("BEGIN; LOCK TABLE aliciacfg.overlays IN ACCESS SHARE MODE")
        assert not await store.scrub()
        await holder.close()
        assert await store.scrub()
