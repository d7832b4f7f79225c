"""A home whose database is on a server: backed up, restored, exported and imported."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aliciacfg.backups import restore as restoring
from aliciacfg.backups.archive import Archive, ArchiveError
from aliciacfg.backups.backup import BackupOptions, write_backup
from aliciacfg.backups.export import export
from aliciacfg.backups.import_home import import_home
from aliciacfg.backups.restore import Restored, RestoreOptions, restore
from aliciacfg.errors import DataDirectoryInUse
from aliciacfg.sealing.key_store import FileKeyStore
from aliciacfg.settings import Settings
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.home_keys import keys_of
from builders import environment_file
from inprocess import Core, Home
from postgres import Postgres

FILES = {"environments/dev.yaml": environment_file({"lamp": {"settings": {"level": 1}}})}
KEPT = "aliciacfg_before_restore_19700101t000002z"


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """An empty database on a server."""
    made = postgres.create()
    yield made
    postgres.execute(f"DROP SCHEMA IF EXISTS {KEPT} CASCADE", url=made)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", FILES)


async def set_level(core: Core, level: int) -> None:
    await core.ask("patch", "lamp", patch={"settings": {"level": level}})


def take(settings: Settings, target: Path) -> Path:
    """A backup of a home that does not run, as the command makes it."""
    snapshot = target.with_suffix(".snapshot")
    snapshot.mkdir()
    database_in(Path(settings.data_dir), settings.database_url).backup(snapshot)
    write_backup(target, snapshot, settings, BackupOptions(None, files=True, replace=False), now=1.0)
    return target


async def put_back(home: Home, archive: Path, url: str | None, *, dry_run: bool = False) -> Restored:
    options = RestoreOptions(None, force=False, files=False, dry_run=dry_run)
    settings = home.settings(**({} if url is None else {"database_url": url}))
    with Archive(archive) as opened:
        return await restore(opened, settings, options, now=2.0)


async def test_a_backup_is_restored_into_a_server(home: Home, url: str, postgres: Postgres, tmp_path: Path):
    """The state of the backup in a higher epoch, with no number twice; the tables before are kept beside it."""
    async with home.core(database_url=url) as core:
        await set_level(core, 2)
    archive = take(home.settings(database_url=url), tmp_path / "backup.zip")
    async with home.core(database_url=url) as core:
        await set_level(core, 3)
        with pytest.raises(DataDirectoryInUse):
            await put_back(home, archive, url)
    tried = await put_back(home, archive, url, dry_run=True)
    result = await put_back(home, archive, url)
    for found in (tried, result):
        assert [(change.service, change.before, change.after) for change in found.changes] == [("lamp", 3, 4)]
    assert (result.kept_tables, result.notes, home.database.exists()) == (KEPT, [], False)
    kept = await asyncio.to_thread(postgres.execute, f"SELECT count(*) FROM {KEPT}.revisions", url=url)
    assert kept[0][0] == 3
    async with home.core(database_url=url) as core:
        answer = await core.ask("get", "lamp")
        assert (answer["config"]["settings"]["level"], answer["revision"], answer["epoch"]) == (2, 4, 2)
        assert not (await core.parts.store.verify()).broken
        assert core.standing == {}


async def test_a_backup_of_a_server_is_restored_into_a_file(home: Home, url: str, tmp_path: Path):
    """And the other way round, on a machine that has its keys."""
    async with home.core(database_url=url) as core:
        await set_level(core, 2)
    archive = take(home.settings(database_url=url), tmp_path / "backup.zip")
    keys = keys_of(home.settings(database_url=url)).load()
    assert keys is not None
    FileKeyStore(home.keys).update(lambda _: keys)
    await put_back(home, archive, None)
    async with home.core() as core:
        assert (await core.settings("lamp"))["level"] == 2
        assert core.standing == {}


async def test_a_restore_that_fails_leaves_server_and_directory(
    home: Home, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Both as they were."""
    async with home.core(database_url=url) as core:
        await set_level(core, 2)
    settings = home.settings(database_url=url)
    archive = take(settings, tmp_path / "backup.zip")
    before = database_in(home.database.parent, url).describe()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "data")

    monkeypatch.setattr(restoring.replacement, "decide", fail)
    with pytest.raises(ArchiveError, match="No space left"):
        await put_back(home, archive, url)
    assert database_in(home.database.parent, url).describe() == before
    assert not list(home.database.parent.glob("before-*"))


async def test_a_daemon_that_is_started_meanwhile_is_noticed(
    home: Home, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It would go on with what it has read of the state before."""
    settings = home.settings(database_url=url)
    async with home.core(database_url=url):
        pass
    archive = take(settings, tmp_path / "backup.zip")
    before = database_in(home.database.parent, url).describe()
    # It looks at first, and then there is none yet.
    monkeypatch.setattr(restoring, "refuse_users", lambda _: None)
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    shutil.copy2(home.database.parent / "key-encryption.key", other)
    async with home.core(database_url=url, data_dir=str(other)) as core:
        shared = core.parts.store.shared
        assert shared is not None
        await asyncio.wait_for(shared.hints().wait(), 20)
        with pytest.raises(DataDirectoryInUse, match="Stop all of them"):
            await put_back(home, archive, url)
        assert database_in(other, url).describe() == before


async def test_an_exported_home_is_imported_into_a_server(home: Home, url: str, tmp_path: Path):
    """Into an empty database, with the run-time changes; one that has configurations is refused."""
    async with home.core() as core:
        await set_level(core, 2)
    tree, snapshot = tmp_path / "tree", tmp_path / "snapshot"
    snapshot.mkdir()
    await asyncio.to_thread(database_in(home.database.parent).backup, snapshot)
    await export(tree, snapshot, home.settings())
    other = Home(tmp_path / "other")
    other.keys.parent.mkdir(mode=0o700)
    shutil.copy(home.keys, other.keys)
    settings = other.settings(database_url=url)
    assert (await import_home(tree, settings, dry_run=True)).overlays == 1
    assert not database_in(other.keys.parent, url).exists()
    assert (await import_home(tree, settings, dry_run=False)).overlays == 1
    async with other.core(database_url=url) as core:
        assert (await core.settings("lamp"))["level"] == 2
    with pytest.raises(ArchiveError, match=r"^postgresql://.* is not empty: it has 1 configuration\."):
        await import_home(tree, settings, dry_run=False)
