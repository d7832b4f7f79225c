"""What a start finds in the server: no tables, those of others, programs that somebody put there."""

import asyncio
from pathlib import Path

import pytest

from aliciacfg.model.records import Write
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.store import StoreError
from aliciacfg.storage.verifier import Findings
from postgres import Postgres
from stored_rows import CHAIN, entry, revision


@pytest.fixture
def url(postgres: Postgres) -> str:
    """An empty database."""
    return postgres.create()


async def run(postgres: Postgres, url: str, *statements: str) -> None:
    await asyncio.to_thread(postgres.execute, *statements, "SELECT 1", url=url)


async def written(url: str, directory: Path) -> None:
    async with database_in(directory, url).open(CHAIN) as store:
        await store.commit([Write(records=(revision("one", 1, {}),), audit=(entry("one", 1),))])


async def test_daemons_that_start_at_once_make_the_tables_once(url: str, tmp_path: Path):
    """The others wait, and find them."""
    await asyncio.gather(*(written_if_new(url, tmp_path, number) for number in range(1, 6)))
    assert database_in(tmp_path, url).verify(CHAIN) == Findings(confirmed=10)


async def written_if_new(url: str, directory: Path, number: int) -> None:
    async with database_in(directory, url).open(CHAIN) as store:
        await store.commit([Write(records=(revision("one", number, {}),), audit=(entry("one", number),))])


async def test_tables_of_a_newer_version_are_left_alone(postgres: Postgres, url: str, tmp_path: Path):
    """It says to run the newer program."""
    await written(url, tmp_path)
    await run(postgres, url, "UPDATE aliciacfg.home SET format = 99, needs = ''")
    with pytest.raises(StoreError, match=r"home[0-9]* cannot be used: the home has format 99, .*later version"):
        async with database_in(tmp_path, url).open(CHAIN):
            pass


async def test_a_database_that_stores_other_texts_is_refused(postgres: Postgres, tmp_path: Path):
    """It says how to make another one."""
    await run(postgres, postgres.url(), "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(StoreError, match="encoding LATIN1; create one with"):
        async with database_in(tmp_path, postgres.url("latin")).open(CHAIN):
            pass
    await run(postgres, postgres.url(), "DROP DATABASE latin")


async def test_a_program_in_the_database_undoes_nothing(postgres: Postgres, url: str, tmp_path: Path):
    """It is a finding while the daemon runs, and gone after the next start."""
    await written(url, tmp_path)
    await run(
        postgres,
        url,
        "CREATE FUNCTION aliciacfg.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        'CREATE TRIGGER "a ""b" BEFORE INSERT ON aliciacfg.audit FOR EACH ROW EXECUTE FUNCTION aliciacfg.f()',
        "CREATE RULE silent AS ON INSERT TO aliciacfg.revisions DO INSTEAD NOTHING",
        "CREATE VIEW aliciacfg.other AS SELECT * FROM aliciacfg.meta",
    )
    database = database_in(tmp_path, url)
    found = {broken.subject for broken in database.verify(CHAIN).broken}
    assert found == {'trigger/a "b', "rule/silent", "view/other"}
    async with database.open(CHAIN) as store:
        await store.commit([Write(records=(revision("one", 2, {}),), audit=(entry("one", 2),))])
        assert len(await store.audit(before=None, limit=9, service=None)) == 2
        assert await store.verify() == Findings(confirmed=4)


async def test_a_row_of_the_home_that_somebody_removed_is_told(postgres: Postgres, url: str, tmp_path: Path):
    """The next start makes another one, and everything goes on; no verification confirms what comes after."""
    await written(url, tmp_path)
    await run(postgres, url, "DELETE FROM aliciacfg.home")
    database = database_in(tmp_path, url)
    async with database.open(CHAIN) as store:
        assert (await store.load()).commit == 1
        await store.commit([Write(records=(revision("one", 2, {}),))])
        assert [broken.subject for broken in (await store.verify()).broken] == ["dev/one/2"]


async def test_tables_get_the_storage_parameters_of_new_ones(postgres: Postgres, url: str, tmp_path: Path):
    """A start sets those that differ, and nothing else."""
    select = "SELECT relname::text, reloptions FROM pg_class WHERE relnamespace = 'aliciacfg'::regnamespace"

    def options() -> dict[str, set[str] | None]:
        rows = postgres.execute(f"{select} AND relkind = 'r'", url=url)
        return {name: None if found is None else set(found) for name, found in rows}

    await written(url, tmp_path)
    before = await asyncio.to_thread(options)
    assert before["home"]
    await run(
        postgres,
        url,
        "ALTER TABLE aliciacfg.home RESET (fillfactor, autovacuum_vacuum_threshold)",
        "ALTER TABLE aliciacfg.lease SET (fillfactor = 90, toast_tuple_target = 4096)",
        "ALTER TABLE aliciacfg.audit SET (fillfactor = 90)",
    )
    async with database_in(tmp_path, url).open(CHAIN):
        after = await asyncio.to_thread(options)
    assert after["lease"] == {*(before["lease"] or ()), "toast_tuple_target=4096"}
    assert after["audit"] == {"fillfactor=90"}
    assert {name: after[name] for name in after if name not in {"lease", "audit"}} == {
        name: before[name] for name in before if name not in {"lease", "audit"}
    }
