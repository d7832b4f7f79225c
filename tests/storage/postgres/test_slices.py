"""Verifications and backups read the chain in slices: no snapshot stays open, and changes meanwhile do no harm."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from aliciacfg.model.records import Overlay, Write
from aliciacfg.sealing import sealed_documents
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.postgres import slices
from aliciacfg.storage.postgres.copying import back_up
from aliciacfg.storage.postgres.slices import ChainedValues, ChainSlices
from aliciacfg.storage.postgres.verification import verify_database
from aliciacfg.storage.sqlite.copies import writing_copy
from aliciacfg.storage.sqlite.maintenance import key_ids_in_file, verify_file
from aliciacfg.storage.store import Kept, Store
from aliciacfg.storage.verifier import Findings
from postgres import Postgres
from stored_rows import CHAIN, KEY, OTHER, entry, revision

ROTATED = Keyring(current=OTHER.public.key_id, keys=[OTHER, KEY], digest_key=b"d" * 32)
KEEP_TWO = Kept(revisions=2, revisions_since=None, audit=4, audit_since=None)
SNAPSHOTS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database()
"""


def resealed(document: bytes, environment: str, service: str) -> bytes:
    return sealed_documents.reseal(document, ROTATED, service=service, environment=environment).document


def change(number: int) -> Write:
    return Write(
        records=(revision("one", number, {"size": number}, secret="open-sesame"),),
        audit=(entry("one", number),),
        overlays=(Overlay("dev", "one", b"{}", {}),),
    )


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.create()


@pytest.fixture
async def store(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Store]:
    """A store with twelve revisions, of which a slice has two."""
    monkeypatch.setattr(slices, "ROWS", 2)
    (tmp_path / "data").mkdir()
    async with database_in(tmp_path / "data", url).open(CHAIN) as made:
        await made.load()
        for number in range(1, 13):
            await made.commit([change(number)])
        yield made


@pytest.fixture
async def connection(url: str) -> AsyncGenerator[Any]:
    """A connection to the database that is none of the store's."""
    made = await asyncpg.connect(url)
    yield made
    await made.close()


Calls = list[Callable[[], Awaitable[object]]]


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What is called after each slice."""
    calls: Calls = []
    read = ChainSlices.read

    async def reading(self: ChainSlices, columns: Mapping[str, str]) -> AsyncGenerator[list[ChainedValues]]:
        async for rows in read(self, columns):
            yield rows
            for call in calls:
                await call()

    monkeypatch.setattr(ChainSlices, "read", reading)
    return calls


class Backups:
    """Backs up into new files; ``made`` are all that were begun."""

    def __init__(self, directory: Path, url: str) -> None:
        self.made: list[Path] = []
        self._directory = directory
        self._url = url

    async def back_up(self) -> Findings:
        def target() -> Any:
            self.made.append(self._directory / f"{len(self.made)}.db")
            return writing_copy(self.made[-1])

        await back_up(self._url, CHAIN, target)
        return verify_file(self.made[-1], CHAIN)


@pytest.fixture
def backups(tmp_path: Path, url: str) -> Backups:
    return Backups(tmp_path, url)


@pytest.fixture(params=["verify", "backup"])
def findings(request: pytest.FixtureRequest, url: str, backups: Backups) -> Callable[[], Awaitable[Findings]]:
    """Verify the database, or a backup of it."""
    return backups.back_up if request.param == "backup" else lambda: verify_database(url, CHAIN)


def sound(found: Findings) -> int:
    """How many rows were confirmed; nothing else was found."""
    assert (found.broken, found.damage) == ([], [])
    return found.confirmed


async def test_no_snapshot_stays_open(
    store: Store, findings: Callable[[], Awaitable[Findings]], between: Calls, connection: Any
):
    """The rows are those of the beginning, whatever is written meanwhile."""
    before = sound(await store.verify())
    open_snapshots: list[int] = []
    numbers = iter(range(13, 1000))

    async def look() -> None:
        open_snapshots.append(await connection.fetchval(SNAPSHOTS))
        await store.commit([change(next(numbers))])

    between.append(look)
    assert sound(await findings()) == before
    assert set(open_snapshots) == {0}
    assert len(open_snapshots) >= 8
    between.clear()
    assert sound(await store.verify()) > before


@pytest.mark.parametrize("often", [False, True])
async def test_retention_meanwhile(
    store: Store, findings: Callable[[], Awaitable[Findings]], between: Calls, *, often: bool
):
    """It begins again where rows were removed; where that goes on, one transaction reads everything."""
    numbers = iter(range(13, 1000))

    async def no_pause() -> None:
        pass

    async def remove() -> None:
        await store.commit([change(next(numbers))])
        await store.remove_old(KEEP_TWO, pause=no_pause)
        if not often:
            between.clear()

    between.append(remove)
    sound(await findings())
    between.clear()
    sound(await store.verify())


async def test_resealing_meanwhile(store: Store, backups: Backups, between: Calls):
    """A backup that has rows from before and from after it is made again."""

    async def seal_anew() -> None:
        between.clear()
        await store.reseal(resealed)

    between.append(seal_anew)
    sound(await backups.back_up())
    assert len(backups.made) == 2
    assert key_ids_in_file(backups.made[-1]) == {OTHER.public.key_id}
    assert not backups.made[0].exists()


async def test_a_restore_meanwhile(store: Store, url: str, between: Calls, connection: Any):
    """The rows of two homes are never mixed."""

    async def replace() -> None:
        between.clear()
        await connection.execute("""
            BEGIN; ALTER TABLE aliciacfg.home RENAME TO before; ALTER INDEX aliciacfg.home_pkey RENAME TO before_pkey;
            CREATE TABLE aliciacfg.home (LIKE aliciacfg.before INCLUDING ALL);
            INSERT INTO aliciacfg.home SELECT * FROM aliciacfg.before; COMMIT
        """)

    between.append(replace)
    assert sound(await verify_database(url, CHAIN)) == sound(await store.verify())
