"""A database filled with the rows of another one, on each backend from each."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from aliciacfg.errors import Unavailable
from aliciacfg.model.records import Position, Write
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.store import Database, StoreError
from postgres import Postgres
from soak import rarely
from stored_rows import CHAIN, entry, revision, three_revisions

# Each backend is filled by the other one; by its own kind it is rarely, but for the rows themselves.
IN_TURN = pytest.mark.parametrize(
    ("make_database", "target"),
    [
        ("postgres", "sqlite"),
        ("sqlite", "postgres"),
        rarely("postgres", "postgres"),
        rarely("sqlite", "sqlite"),
    ],
    indirect=True,
)


@pytest.fixture(params=["postgres", "sqlite"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty database of each backend."""
    directory = tmp_path / "target"
    directory.mkdir()
    return database_in(directory, request.getfixturevalue("postgres").create() if request.param == "postgres" else None)


@pytest.fixture
def source(make_database: Callable[[Path], Database], tmp_path: Path) -> Database:
    """A database of each backend, with more rows than are copied at once, and texts that PostgreSQL does not have."""
    directory = tmp_path / "source"
    directory.mkdir()
    database = make_database(directory)

    async def fill() -> None:
        async with database.open(CHAIN) as store:
            await store.load()
            await store.commit(three_revisions())
            await store.commit(
                [
                    Write(
                        records=(revision("two", number, {}, comment="\x00 and \x1a"),),
                        audit=(entry("two", number),),
                        position=Position(2, number),
                    )
                    for number in range(1, 230)
                ]
            )

    asyncio.run(fill())
    return database


def test_every_row_is_there_and_confirmed(source: Database, target: Database):
    """The copy says of itself what the source does, and the store goes on from there."""
    with target.filling() as filling:
        source.copy_rows(filling.add)
        assert filling.verify(CHAIN) == source.verify(CHAIN)
    assert target.verify(CHAIN) == source.verify(CHAIN)
    before, after = source.describe(), target.describe()
    assert (before.position, before.meta, before.rows, before.head) == (
        after.position,
        after.meta,
        after.rows,
        after.head,
    )

    async def go_on() -> None:
        async with source.open(CHAIN) as old, target.open(CHAIN) as new:
            one, two = await old.load(), await new.load()
            assert (one.records, one.overlays, one.announcements) == (two.records, two.overlays, two.announcements)
            assert await old.tokens() == await new.tokens()
            assert await old.audit(before=None, limit=500, service=None) == await new.audit(
                before=None, limit=500, service=None
            )
            await new.commit([Write(records=(revision("two", 230, {}),), position=Position(2, 230))])
            assert not (await new.verify()).broken

    asyncio.run(go_on())


@IN_TURN
def test_a_block_that_fails_leaves_nothing(source: Database, target: Database):
    """Neither rows nor tables nor a file; the next attempt succeeds."""

    def fail() -> None:
        with target.filling() as filling:
            source.copy_rows(filling.add)
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - raised above
        fail()
    assert not target.exists()
    with target.filling() as filling:
        source.copy_rows(filling.add)
    assert not target.verify(CHAIN).broken


@IN_TURN
def test_a_home_that_is_there_is_refused(source: Database, target: Database):
    """Nothing of it is touched."""
    with target.filling() as filling:
        source.copy_rows(filling.add)
    with pytest.raises(StoreError, match="holds a home already"), target.filling():
        pass
    assert not target.verify(CHAIN).broken


def test_a_value_that_a_server_does_not_store_is_an_error(postgres: Postgres, tmp_path: Path):
    """It names the table; nothing is there afterwards."""
    database = database_in(tmp_path, postgres.create())
    with pytest.raises(Unavailable, match="Rows of the table meta cannot be stored"), database.filling() as filling:
        filling.add("meta", [("name", 5, b"")])
    assert not database.exists()


def test_tables_of_a_home_on_a_server_can_be_kept(postgres: Postgres, source: Database, tmp_path: Path):
    """Under another name, as they are."""
    url = postgres.create()
    database = database_in(tmp_path, url)
    with database.filling() as filling:
        source.copy_rows(filling.add)
    with database.filling(kept_as="before it") as filling:
        filling.add("meta", [("name", "value", b"")])
    assert postgres.execute('SELECT count(*) FROM "before it".revisions', url=url)[0][0] > 200
    assert postgres.execute("SELECT count(*) FROM aliciacfg.revisions", url=url)[0][0] == 0
    postgres.execute('DROP SCHEMA "before it" CASCADE', url=url)


def test_a_server_names_the_daemons_that_use_the_database(postgres: Postgres, tmp_path: Path):
    """As long as they do."""
    database = database_in(tmp_path, postgres.create())

    async def work() -> None:
        async with database.open(CHAIN) as store:
            assert store.shared is not None
            await asyncio.wait_for(store.shared.hints().wait(), 20)
            assert len(await asyncio.to_thread(database.users)) == 1

    assert database.users() == []
    asyncio.run(work())


@pytest.mark.parametrize("seconds", [5, -60])
def test_a_daemon_that_leads_or_reported_lately_uses_the_database(postgres: Postgres, tmp_path: Path, seconds: int):
    """One that ended long ago does not. A lease lasts three seconds, so one that ends much later has another clock."""
    url = postgres.create()
    database = database_in(tmp_path, url)
    with database.filling():
        pass
    until = f"extract(epoch FROM clock_timestamp()) + {seconds}"
    postgres.execute(f"INSERT INTO aliciacfg.lease VALUES (true, 'one', {until})", url=url)
    assert database.users() == (["one"] if seconds > 0 else [])


def test_a_server_that_cannot_be_used_is_left_alone(postgres: Postgres, tmp_path: Path):
    """One with tables of a newer version, and one whose tables are incomplete."""
    url = postgres.create()
    database = database_in(tmp_path, url)
    with database.filling():
        pass
    postgres.execute("UPDATE aliciacfg.home SET format = 99", url=url)
    for work in (database.users, lambda: database.filling().__enter__()):
        with pytest.raises(StoreError, match=r"^postgresql://\S+ cannot be used: the home has format 99,"):
            work()
