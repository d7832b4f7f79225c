"""The format of the tables: an older version beside a newer one, and after it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from aliciacfg.errors import KeyFileError, OtherFormat, Superseded, Unavailable
from aliciacfg.model.records import AuditEntry, Basis, Replica, StoredState, Write
from aliciacfg.storage.backend import database_in, key_table
from aliciacfg.storage.postgres import formats
from aliciacfg.storage.postgres.formats import Step
from aliciacfg.storage.shared_keys import WrappedKeys
from aliciacfg.storage.store import SharedHome, Store, StoreError
from aliciacfg.storage.verifier import Findings
from postgres import Postgres
from stored_rows import CHAIN, entry, revision

ADDED = Step(
    "9.1.0",
    expand=("ALTER TABLE aliciacfg.overlays ADD COLUMN IF NOT EXISTS note text",),
    contract=("CREATE TABLE IF NOT EXISTS aliciacfg.contracted ()",),
)
RAISED = AuditEntry(timestamp=1.0, who="config_service", where="local", operation="format", outcome="done")
Open = Callable[[str], Awaitable[Store]]


@pytest.fixture
def url(postgres: Postgres) -> str:
    """An empty database."""
    return postgres.create()


@pytest.fixture
async def open_store(url: str, tmp_path: Path) -> AsyncGenerator[Open]:
    """Open stores of daemons on one database, as the version that runs at that moment."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_one(name: str) -> Store:
            (tmp_path / name).mkdir(exist_ok=True)
            store = await stack.enter_async_context(database_in(tmp_path / name, url).open(CHAIN))
            await store.load()
            return store

        yield open_one


@pytest.fixture
def sql(postgres: Postgres, url: str) -> Callable[[str], Awaitable[list[Any]]]:
    async def run(statement: str) -> list[Any]:
        return [tuple(row) for row in await asyncio.to_thread(postgres.execute, statement, url=url)]

    return run


Sql = Callable[[str], Awaitable[list[Any]]]


def run_version(monkeypatch: pytest.MonkeyPatch, *steps: Step) -> None:
    """Let what follows be carried out by a version that knows these steps."""
    monkeypatch.setattr(formats, "STEPS", list(steps))


def shared(store: Store) -> SharedHome:
    assert store.shared is not None
    return store.shared


def report(name: str, number: int) -> Replica:
    return Replica(replica=name, name=name, version="1", url="", started=1.0, format=number, files="")


def change(number: int, *, basis: Basis | None = None) -> Write:
    return Write(records=(revision("one", number, {"a": number}),), audit=(entry("one", number),), basis=basis)


async def test_a_newer_version_works_in_the_format_that_is_there(
    open_store: Open, sql: Sql, monkeypatch: pytest.MonkeyPatch
):
    """It adds what it needs once, the older version beside it goes on, and so does one that takes its place."""
    old = await open_store("old")
    await old.commit([change(1)])
    run_version(monkeypatch, ADDED)
    new = await open_store("new")
    assert await sql("SELECT format, expanded FROM aliciacfg.home") == [(1, 2)]
    assert await sql("SELECT note FROM aliciacfg.overlays") == []
    await new.commit([change(2)])
    run_version(monkeypatch)
    await old.commit([change(3)])
    again = await open_store("again")
    await again.commit([change(4)])
    run_version(monkeypatch, ADDED)
    await new.commit([change(5)])
    assert shared(new).home_format == 1
    assert await new.verify() == Findings(confirmed=10)


async def test_a_new_database_has_the_newest_format(open_store: Open, sql: Sql, monkeypatch: pytest.MonkeyPatch):
    """No older version has to work with it."""
    run_version(monkeypatch, ADDED)
    store = await open_store("new")
    assert shared(store).home_format == 2
    assert await sql("SELECT format, needs, expanded FROM aliciacfg.home") == [(2, "9.1.0", 2)]
    assert await sql("SELECT to_regclass('aliciacfg.contracted') IS NOT NULL") == [(True,)]


async def test_the_format_rises_when_all_can(open_store: Open, sql: Sql, monkeypatch: pytest.MonkeyPatch):
    """Not before; in one transaction of the home, which an entry of the audit log tells of."""
    old = await open_store("old")
    run_version(monkeypatch, ADDED)
    new = await open_store("new")
    await shared(new).report(report("new", 2))
    await shared(old).report(report("old", 1))
    assert not await shared(new).raise_format(2, RAISED)
    await shared(old).forget("old")
    before = await sql("SELECT commit FROM aliciacfg.home")
    assert await shared(new).raise_format(2, RAISED)
    assert await sql("SELECT commit, format, needs FROM aliciacfg.home") == [(before[0][0] + 1, 2, "9.1.0")]
    assert await sql("SELECT to_regclass('aliciacfg.contracted') IS NOT NULL") == [(True,)]
    assert not await shared(new).raise_format(2, RAISED)
    await new.catch_up()
    assert shared(new).home_format == 2
    (audited,) = await new.audit(before=None, limit=10, service=None)
    assert audited.operation == "format"
    assert await new.verify() == Findings(confirmed=1)


@pytest.mark.parametrize("whose", ["own", "others"])
async def test_what_was_planned_before_the_format_rose_is_planned_again(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, whose: str
):
    """Here and elsewhere: the rise is in the basis of every plan; what builds on nothing is written."""
    run_version(monkeypatch)
    await open_store("old")
    run_version(monkeypatch, ADDED)
    new, other = await open_store("new"), await open_store("other")
    told: list[StoredState] = []
    planner = new if whose == "own" else other
    planner.listen_others(told.append)
    await shared(new).report(report("new", 2))
    assert await shared(new).raise_format(2, RAISED)
    with pytest.raises(Superseded):
        await planner.commit([change(1, basis=Basis(frozenset({"one"})))])
    assert [state.format for state in told] == [True]
    await planner.commit([change(1, basis=Basis(frozenset({"one"})))])
    await planner.commit([change(2)])
    assert [state.format for state in told] == [True]


async def test_an_older_version_writes_nothing_after_the_rise(
    open_store: Open, sql: Sql, url: str, monkeypatch: pytest.MonkeyPatch
):
    """Neither changes, nor reports, nor a lease, nor keys; its first look says which version is needed."""
    old = await open_store("old")
    run_version(monkeypatch, ADDED)
    new = await open_store("new")
    await shared(new).report(report("new", 2))
    assert await shared(new).raise_format(2, RAISED)
    before = [await sql(f"SELECT * FROM aliciacfg.{table}") for table in ("home", "audit", "meta", "replicas")]
    run_version(monkeypatch)
    needed = r"format 2, which needs aliciacfg 9\.1\.0 or later; this is .* Nothing was written\. Install"
    with pytest.raises(OtherFormat, match=needed):
        await old.commit([change(1)])
    with pytest.raises(OtherFormat, match=needed):
        await old.catch_up()
    with pytest.raises(OtherFormat, match=needed):
        async with old.holding():
            pass
    with pytest.raises(Unavailable, match=needed):
        await old.verify()
    with pytest.raises(OtherFormat, match=needed):
        await old.scrub()
    await shared(old).report(report("old", 1))
    assert not await shared(old).renew_lease("old", 3)
    keys = key_table(url)
    with pytest.raises(KeyFileError, match=needed):
        await asyncio.to_thread(keys.update, lambda _: WrappedKeys(b"x", "home", "key", 1))
    assert before == [await sql(f"SELECT * FROM aliciacfg.{table}") for table in ("home", "audit", "meta", "replicas")]
    assert await sql("SELECT * FROM aliciacfg.lease") == []
    assert await sql("SELECT * FROM aliciacfg.keys") == []
    with pytest.raises(StoreError, match=needed):
        await open_store("again")


async def test_an_older_version_says_so_even_if_tables_that_it_reads_are_gone(
    open_store: Open, sql: Sql, monkeypatch: pytest.MonkeyPatch
):
    """The newer version has contracted them."""
    old = await open_store("old")
    run_version(monkeypatch, Step("9.1.0", contract=("ALTER TABLE aliciacfg.applied DROP COLUMN error",)))
    new = await open_store("new")
    await shared(new).report(report("new", 2))
    assert await shared(new).raise_format(2, RAISED)
    run_version(monkeypatch)
    with pytest.raises(OtherFormat, match=r"needs aliciacfg 9\.1\.0"):
        await old.catch_up()
    assert await sql("SELECT format FROM aliciacfg.home") == [(2,)]


async def test_a_version_that_no_longer_knows_a_format_says_what_to_run_before(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
):
    """One that knows it and the next one."""
    await open_store("old")
    monkeypatch.setattr(formats, "FIRST", 3)
    monkeypatch.setattr(formats, "version_of", {2: "9.1.0", 3: "9.2.0"}.__getitem__)
    with pytest.raises(StoreError, match=r"format 1; .* Run aliciacfg 9\.1\.0 on all machines until .* says format 2"):
        await open_store("new")


async def test_a_long_read_holds_up_the_newer_version_and_nobody_else(
    open_store: Open, url: str, monkeypatch: pytest.MonkeyPatch
):
    """It tries again until the tables can be changed; meanwhile the older version writes."""
    old = await open_store("old")
    run_version(monkeypatch, ADDED)
    reader = await asyncpg.connect(url)
    try:
        await reader.execute("BEGIN; LOCK TABLE aliciacfg.overlays IN ACCESS SHARE MODE")
        opening = asyncio.ensure_future(open_store("new"))
        for number in range(1, 4):
            await asyncio.wait_for(old.commit([change(number)]), 5)
        assert not opening.done()
        await reader.execute("ROLLBACK")
        await opening
    finally:
        await reader.close()
