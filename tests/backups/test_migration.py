"""A home that moves between a file and a server: complete or not there, and what is refused."""

import asyncio
import dataclasses
import shutil
from pathlib import Path

import pytest

from aliciacfg.backups.archive import ArchiveError
from aliciacfg.backups.migration import Migrated, MigrationOptions, migrate
from aliciacfg.errors import DataDirectoryInUse, SettingsError
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.storage.backend import Place, parse_address
from aliciacfg.storage.data_directory import KEY_FILE, DataDirectory
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.database import SqliteDatabase
from aliciacfg.storage.verifier import Findings
from builders import environment_file
from inprocess import Home
from postgres import Postgres
from stored_rows import tamper

FILES = {"environments/dev.yaml": environment_file({"lamp": {"settings": {"level": 1}}, "bell": {}})}
STEPS: list[str] = []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a home with a history, which each test gets a copy of."""
    directory = tmp_path_factory.mktemp("made")

    async def make() -> None:
        async with Home(directory, FILES).core() as core:
            for level in (2, 3, 4):
                await core.ask("patch", "lamp", patch={"settings": {"level": level}})

    asyncio.run(make())
    return directory


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Home:
    shutil.copytree(made, tmp_path / "home")
    return Home(tmp_path / "home")


@pytest.fixture
def url(postgres: Postgres) -> str:
    """An empty database on a server."""
    return postgres.create()


def move(home: Home, source: Place, target: Place, *, force: bool = False, dry_run: bool = False) -> Migrated:
    STEPS.clear()
    options = MigrationOptions(home.settings(), [home.keys], from_server=False, force=force, dry_run=dry_run)
    return migrate(source, target, options, report=STEPS.append)


async def change(home: Home) -> None:
    async with home.core() as core:
        await core.ask("patch", "lamp", patch={"settings": {"level": 9}})


def file_of(home: Home) -> Place:
    return Place(home.database.parent)


def server_of(home: Home, url: str) -> Place:
    return Place(home.database.parent, url)


def test_a_home_moves_to_a_server_and_back(home: Home, url: str, tmp_path: Path):
    """History, audit log and order are the same, and each daemon goes on where the other one stopped."""
    there = move(home, file_of(home), server_of(home, url))
    assert (there.configurations, there.needs_keys, there.dropped) == (2, False, [])
    assert STEPS[-3:] == [
        f"copying: {there.confirmed} of {there.confirmed} rows",
        "verifying the copy",
        "copying the keys",
    ]

    async def go_on(**settings: str) -> tuple[object, object]:
        async with home.core(**settings) as core:
            history = (await core.ask("history", "lamp"))["revisions"]
            await core.ask("patch", "lamp", patch={"settings": {"level": 5}})
            position = core.parts.state.epoch, core.parts.state.sequence
            # Nothing went back, so nothing is raised and published anew.
            assert core.standing == {}
            assert not (await core.parts.store.verify()).broken
            return history, position

    history, position = asyncio.run(go_on(database_url=url))
    assert position == (there.epoch, there.sequence + 1)
    back = Place(tmp_path / "back")
    assert move(home, server_of(home, url), back).needs_keys
    shutil.copy(home.keys, back.directory)
    shutil.copytree(home.directory / "environments", tmp_path / "two" / "environments")
    history_back, position_back = asyncio.run(go_on(data_dir=str(back.directory)))
    assert position_back == (there.epoch, there.sequence + 1)
    assert isinstance(history_back, list)
    assert isinstance(history, list)
    assert history_back[1:] == history


def test_limits_of_the_role_do_not_count(home: Home, url: str, postgres: Postgres, tmp_path: Path):
    """Neither for how long a transaction rests, nor for a statement; a role has them for the sake of people."""
    limits = {"idle_in_transaction_session_timeout": "1ms", "standard_conforming_strings": "off", "search_path": "none"}
    limits |= {"default_transaction_isolation": "serializable", "bytea_output": "escape", "extra_float_digits": "-3"}
    name = url.partition("?")[0].rpartition("/")[2]
    try:
        postgres.execute(*(f"ALTER DATABASE {name} SET {limit} = '{value}'" for limit, value in limits.items()))
        there = move(home, file_of(home), server_of(home, url))
        back = move(home, server_of(home, url), Place(tmp_path / "back"))
    finally:
        postgres.execute(f"ALTER DATABASE {name} RESET ALL")
    assert (there.confirmed, there.sequence) == (back.confirmed, back.sequence)


async def test_the_old_database_notices_that_the_copy_went_on(home: Home, url: str):
    """A daemon that starts on it by mistake raises the epoch, and so does the right one afterwards."""
    await asyncio.to_thread(move, home, file_of(home), server_of(home, url))
    epochs: list[int] = []
    for settings in ({"database_url": url}, {}, {"database_url": url}):
        async with home.core(**settings) as core:
            epochs.append(core.parts.state.epoch)
            assert ("restored" in core.standing) == (epochs[-1] > 1)
            await core.ask("patch", "lamp", patch={"settings": {"level": 5 + len(epochs)}})
    assert epochs == [1, 2, 3]


def test_a_dry_run_copies_nothing(home: Home, url: str, tmp_path: Path):
    """Neither to a server nor to a directory, which it does not make."""
    for target in (server_of(home, url), Place(tmp_path / "new")):
        assert move(home, file_of(home), target, dry_run=True).confirmed > 5
        assert not target.database.exists()
    assert not (tmp_path / "new").exists()


def test_a_target_that_holds_a_home_is_refused(home: Home, url: str, tmp_path: Path):
    """It is named; so is what is left of an earlier one, and a directory with the keys of another home."""
    move(home, file_of(home), server_of(home, url))
    for place in (file_of(home), server_of(home, url)):
        with pytest.raises(ArchiveError, match="is both"):
            move(home, place, place)
    with pytest.raises(ArchiveError, match=r"^postgresql://.*/home\d+ holds this home already, with all that .*start"):
        move(home, file_of(home), server_of(home, url))
    asyncio.run(change(home))
    with pytest.raises(ArchiveError, match=r"^postgresql://.*/home\d+ holds a home already, with 2 configurations"):
        move(home, file_of(home), server_of(home, url))
    with pytest.raises(ArchiveError, match=r"data/aliciacfg.db holds a home already.*move aliciacfg.db.* out of"):
        move(home, server_of(home, url), file_of(home))
    home.database.rename(home.database.with_suffix(".db-wal"))
    with pytest.raises(ArchiveError, match=r"has aliciacfg.db-wal, .* of an earlier database"):
        move(home, server_of(home, url), file_of(home))
    other = tmp_path / "other"
    other.mkdir()
    KeyFile.load_or_create(other / KEY_FILE, now=1.0)
    with pytest.raises(ArchiveError, match=r"holds the keys of home [0-9a-f]+, and the rows are those of home"):
        move(home, server_of(home, url), Place(other))


def test_a_daemon_that_runs_is_an_error(home: Home, url: str):
    """On either side."""
    lock = DataDirectory(home.database.parent)
    with pytest.raises(DataDirectoryInUse, match="uses the data directory"):
        move(home, file_of(home), server_of(home, url))
    lock.release()
    move(home, file_of(home), server_of(home, url))

    async def beside() -> None:
        async with home.core(database_url=url) as core:
            shared = core.parts.store.shared
            assert shared is not None
            await asyncio.wait_for(shared.hints().wait(), 20)
            with pytest.raises(DataDirectoryInUse, match=r"daemons use postgresql://.*Stop all of them"):
                await asyncio.to_thread(move, home, server_of(home, url), Place(home.directory / "back"))

    asyncio.run(beside())
    assert not (home.directory / "back").exists()


def test_a_daemon_that_is_started_meanwhile_is_an_error(home: Home, url: str, postgres: Postgres):
    """What it writes would not be in the copy."""
    move(home, file_of(home), server_of(home, url))
    back = Place(home.directory / "back")

    def told(doing: str) -> None:
        if doing == "verifying the copy":
            postgres.execute(
                "INSERT INTO aliciacfg.lease (one, replica, until)"
                " VALUES (true, 'late', extract(epoch FROM clock_timestamp()) + 3) RETURNING one",
                url=url,
            )

    options = MigrationOptions(home.settings(), [home.keys], from_server=False, force=False, dry_run=False)
    with pytest.raises(DataDirectoryInUse, match=r"daemons use .*: late"):
        migrate(server_of(home, url), back, options, report=told)
    assert not back.database.exists()


def test_rows_that_are_not_what_was_written_are_copied_on_demand(home: Home, url: str):
    """With the same findings afterwards; a program in the database is left out, and said."""
    tamper(
        home.database,
        "UPDATE revisions SET author = 'luigi' WHERE service = 'lamp' AND revision = 2",
        "CREATE TRIGGER undo AFTER INSERT ON audit BEGIN SELECT 1; END",
    )
    with pytest.raises(ArchiveError, match=r"^2 rows of .* are not what was written, so it is not copied: .*--force"):
        move(home, file_of(home), server_of(home, url))
    assert not server_of(home, url).database.exists()
    result = move(home, file_of(home), server_of(home, url), force=True)
    assert result.dropped == ["trigger/undo"]
    assert result.broken[0].subject == "dev/lamp/2"


def test_a_copy_that_differs_is_not_kept(home: Home, url: str, monkeypatch: pytest.MonkeyPatch):
    """Such as one of a source that was written meanwhile."""
    found = SqliteDatabase.verify

    def fewer(database: SqliteDatabase, chain: Chain) -> Findings:
        findings = found(database, chain)
        return dataclasses.replace(findings, confirmed=findings.confirmed - 1)

    monkeypatch.setattr(SqliteDatabase, "verify", fewer)
    with pytest.raises(ArchiveError, match=r"^the copy is not what was copied: .*Nothing was kept of it"):
        move(home, file_of(home), server_of(home, url))
    assert not server_of(home, url).database.exists()


def test_without_its_keys_nothing_is_copied(home: Home, url: str):
    """It says where it looked for them."""
    home.keys.rename(home.directory / KEY_FILE)
    with pytest.raises(ArchiveError, match=r"there is no key file.*looked for .*data/keys.json.*--data-dir"):
        move(home, file_of(home), server_of(home, url))


def test_a_source_without_a_home_is_refused(home: Home, url: str, tmp_path: Path):
    """No directory is made for it."""
    with pytest.raises(ArchiveError, match=r"there is no database in .*nowhere"):
        move(home, Place(tmp_path / "nowhere"), server_of(home, url))
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ArchiveError, match="holds no home"):
        move(home, server_of(home, url), Place(tmp_path / "new"))


def test_an_address_says_where_a_database_is(tmp_path: Path):
    """The scheme alone stands for the settings' database; a wrong one is not quoted, because of its password."""
    at = {"directory": tmp_path, "url": "postgresql://db/home"}
    assert parse_address("sqlite:", **at) == Place(tmp_path)
    assert parse_address("sqlite:/a/data", **at) == parse_address("sqlite:/a/data/aliciacfg.db", **at)
    assert parse_address("postgresql:", **at) == Place(tmp_path, "postgresql://db/home")
    assert parse_address("postgres://x/y", **at) == Place(tmp_path, "postgres://x/y")
    for wrong in ("mysql://mario:geheim@db/x", "postgresql://mario:geheim@db", "sqlite://geheim", "geheim"):
        with pytest.raises(SettingsError, match="expected") as error:
            parse_address(wrong, **at)
        assert "geheim" not in str(error.value)
    with pytest.raises(SettingsError, match="ALICIACFG_DATABASE_URL, which is not set"):
        parse_address("postgresql:", directory=tmp_path, url=None)
