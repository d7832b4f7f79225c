"""A database on a server: its name, what is said when it cannot be used, and what a daemon with other keys may do."""

import asyncio
import sys
from pathlib import Path

import pytest

from aliciacfg.errors import Unavailable
from aliciacfg.model.records import Write
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.storage import backend
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.store import StoreError
from inprocess import eventually
from postgres import USER, Postgres
from stored_rows import CHAIN, revision


@pytest.fixture
def url(postgres: Postgres) -> str:
    """An empty database."""
    return postgres.create()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://mario:it's-me@db/home", "postgresql://mario@db/home"),
        (
            "postgresql://mario@db1:5433,db2/home?password=secret&sslmode=require",
            "postgresql://mario@db1:5433,db2/home",
        ),
        ("postgresql://mario:secret@db1:5433,db2:5432/home", "postgresql://mario@db1:5433,db2:5432/home"),
        ("postgresql://mario:12/secret@db/home", "postgresql://?"),
        ("postgresql://mario:secret/more@db/home", "postgresql://?"),
        ("postgresql:///home?host=/run&password=secret", "postgresql:///home"),
        ("postgres://[::1]:5432/home", "postgres://[::1]:5432/home"),
    ],
)
def test_its_name_tells_no_password(tmp_path: Path, url: str, name: str):
    """Wherever the address has one."""
    assert database_in(tmp_path, url).name == name


def test_a_database_of_the_data_directory_needs_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where it is missing, a database on a server says what to install."""
    for name in [name for name in sys.modules if name.split(".")[0] == "asyncpg" or ".storage.postgres" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    assert not backend.database_in(tmp_path).exists()
    with pytest.raises(StoreError, match=r"pip install 'aliciacfg\[postgres\]'"):
        backend.database_in(tmp_path, "postgresql://mario@db/home")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (("/home", "/nowhere"), r'database "nowhere\w*" does not exist; create it, with `createdb`'),
        ((f"{USER}@", "nobody@"), 'role "nobody" does not exist; see whether ALICIACFG_DATABASE_URL names the right'),
        (("postgresql:", "mysql:"), "invalid DSN"),
    ],
)
async def test_what_is_wrong_for_good_is_said_at_once(url: str, tmp_path: Path, change: tuple[str, str], found: str):
    """With what to do."""
    database = database_in(tmp_path, url.replace(*change))
    with pytest.raises(StoreError, match=f"cannot be used: .*{found}"):
        async with database.open(CHAIN):
            pass
    with pytest.raises(StoreError, match="cannot be used"):
        database.key_ids()
    with pytest.raises(Unavailable, match="cannot be read"):
        database.verify(CHAIN)


async def test_a_start_waits_for_the_server(
    postgres: Postgres, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """And says so; when it is there, it goes on."""
    later = tmp_path / "later"
    opened = asyncio.create_task(open_once(url.replace(str(postgres.directory), str(later)), tmp_path))
    shown: list[str] = []

    def warned() -> bool:
        shown.append(capsys.readouterr().out)
        return "database_unreachable" in "".join(shown)

    await eventually(warned)
    assert not opened.done()
    later.symlink_to(postgres.directory)
    async with asyncio.timeout(40):
        await opened


async def open_once(url: str, directory: Path) -> None:
    async with database_in(directory, url).open(CHAIN) as store:
        await store.commit([Write(records=(revision("one", 1, {}),))])


async def test_a_server_that_may_only_be_read_is_read(postgres: Postgres, url: str, tmp_path: Path):
    """What the store cannot do then it says with a remedy; when it may be written again, it is."""
    database = database_in(tmp_path, url)
    name = database.name.rpartition("/")[2]

    async def let(mode: str) -> None:
        await asyncio.to_thread(
            postgres.execute, f"ALTER DATABASE {name} SET default_transaction_read_only = {mode}", "SELECT 1"
        )

    await let("on")
    with pytest.raises(StoreError, match="there are no tables, and the server only lets it be read"):
        async with database.open(CHAIN):
            pass
    await let("off")
    await open_once(url, tmp_path)
    await let("on")
    async with database.open(CHAIN) as store:
        assert store.unwritable is not None
        assert [record.revision for record in (await store.load()).records] == [1]
        with pytest.raises(Unavailable, match="Name the primary in ALICIACFG_DATABASE_URL"):
            await store.commit([Write(records=(revision("one", 2, {}),))])
        await let("off")
        await store.commit([Write(records=(revision("one", 2, {}),))])
        assert store.unwritable is None
        assert (await store.verify()).broken == []


@pytest.mark.parametrize(("given", "used"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")])
async def test_a_commit_is_durable_whatever_the_defaults_are(
    postgres: Postgres, url: str, tmp_path: Path, given: str, used: str
):
    """Of the database, or the role; nor do others decide how transactions see each other."""
    name = url.partition("@/")[2].partition("?")[0]
    defaults = {
        "synchronous_commit": given,
        "default_transaction_isolation": "serializable",
        "statement_timeout": "1min",
    }
    for setting, value in defaults.items():
        await asyncio.to_thread(postgres.execute, f"ALTER DATABASE {name} SET {setting} = '{value}'", "SELECT 1")
    try:
        await open_once(url, tmp_path)
        # Notes the settings of the transaction that commits.
        await asyncio.to_thread(
            postgres.execute,
            "CREATE TABLE public.seen AS SELECT '' AS name, '' AS value",
            "CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO public.seen SELECT name, setting FROM pg_settings; RETURN NULL; END $$",
            "SELECT 1",
            url=url,
        )
        async with database_in(tmp_path, url).open(CHAIN) as store:
            await asyncio.to_thread(
                postgres.execute,
                "CREATE TRIGGER note AFTER UPDATE ON aliciacfg.home EXECUTE FUNCTION public.note()",
                "SELECT 1",
                url=url,
            )
            await store.commit([Write(records=(revision("one", 2, {}),))])
        seen = await asyncio.to_thread(postgres.execute, "SELECT name, value FROM public.seen", url=url)
        settings = dict(map(tuple, seen))
        assert settings["synchronous_commit"] == used
        assert settings["transaction_isolation"] == "read committed"
        assert settings["statement_timeout"] == "0"
    finally:
        for setting in defaults:
            await asyncio.to_thread(postgres.execute, f"ALTER DATABASE {name} RESET {setting}", "SELECT 1")
        await asyncio.to_thread(
            postgres.execute,
            "DROP TABLE IF EXISTS public.seen",
            "DROP FUNCTION IF EXISTS public.note CASCADE",
            "SELECT 1",
            url=url,
        )


async def test_a_server_that_may_lose_commits_is_warned_of(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The one of the tests runs so; each start says which setting it is."""
    await open_once(url, tmp_path)
    said = capsys.readouterr().out
    assert said.count("database_not_durable") == 2
    assert "set fsync = on in the server's postgresql.conf" in said


async def test_a_daemon_with_other_keys_is_refused(url: str, tmp_path: Path):
    """Its rows would be worth nothing to the others; an empty database takes any keys."""
    database = database_in(tmp_path, url)
    other = Chain(Keyring.ephemeral())
    assert database.adopt(other) is None
    await open_once(url, tmp_path)
    assert database.adopt(CHAIN) is None
    with pytest.raises(StoreError, match=r"written with other keys than these\. .* restore a backup"):
        database.adopt(other)
