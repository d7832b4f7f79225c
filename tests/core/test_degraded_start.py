"""Access at a start whose files cannot be used: open only where the store says that there never were access rules."""

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from aliciacfg.access.caller import Caller
from aliciacfg.bootstrap import open_core
from aliciacfg.errors import SourceError, Unauthorized, Unavailable, ValidationFailed
from aliciacfg.storage.data_directory import DataDirectory
from builders import environment_file
from inprocess import Core, Home

ANONYMOUS = Caller(None, "http", address="127.0.0.1")
RULES = {"admins": ["operator"]}
ACCESS = "environments/access.yaml"
DEV = "environments/dev.yaml"


@pytest.fixture
async def home(tmp_path: Path) -> Home:
    """A home that ran once, without access rules."""
    made = Home(tmp_path, {"environments/base.yaml": environment_file(), DEV: {"services": {"bell": {}}}})
    async with made.core():
        pass
    return made


async def is_open(core: Core) -> bool:
    """Return whether an anonymous caller may read a configuration."""
    try:
        await core.ask_as(ANONYMOUS, "get", "bell")
    except Unauthorized:
        return False
    return True


async def is_open_when_degraded(home: Home) -> bool:
    """Return whether an anonymous caller may read a configuration after a start with broken files."""
    home.write(DEV, "services: [")
    async with home.core() as core:
        assert core.standing.keys() >= {"validation_failed"}
        found = await is_open(core)
        assert ("access_closed" in core.standing) == (not found)
        return found


async def test_a_home_that_never_had_rules_stays_open(home: Home):
    """Broken files in a home without rules do not close it, at the first such start and at the next."""
    assert await is_open_when_degraded(home)
    assert await is_open_when_degraded(home)


async def test_rules_that_a_dry_run_saw_first_are_remembered_by_the_reload_after_it(home: Home):
    """The reload that brings the rules stores that there are rules, regardless of dry runs and refused loads before."""
    async with home.core() as core:
        home.write(ACCESS, RULES)
        await core.ask("reload", dry_run=True)
        assert await is_open(core)
        await core.ask("reload")
        assert not await is_open(core)
    home.remove(ACCESS)
    assert not await is_open_when_degraded(home)


async def test_a_dry_run_alone_marks_nothing(home: Home):
    """Rules of a dry run leave the home open."""
    async with home.core() as core:
        home.write(ACCESS, RULES)
        await core.ask("reload", dry_run=True)
    home.remove(ACCESS)
    assert await is_open_when_degraded(home)


async def test_a_reload_that_is_refused_marks_nothing(home: Home):
    """Rules that came with a broken file were never in force."""
    async with home.core() as core:
        home.write(ACCESS, RULES)
        home.write(DEV, "services: [")
        with pytest.raises(ValidationFailed):
            await core.ask("reload")
    home.remove(ACCESS)
    assert await is_open_when_degraded(home)


@pytest.mark.parametrize(
    "place",
    [
        lambda path: path.write_text("admins: [operator]"),
        lambda path: path.write_text("admins: ["),
        lambda path: path.write_text(""),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to(path.name),
    ],
    ids=["valid", "broken", "empty", "not text", "a directory", "a dangling link", "a link to itself"],
)
async def test_any_rules_file_closes_the_home(home: Home, place: Callable[[Path], None]):
    """An ``access.yaml`` closes the home whether it is readable or not."""
    place(home.directory / ACCESS)
    assert not await is_open_when_degraded(home)


@pytest.mark.parametrize("change", ["DELETE FROM meta WHERE name LIKE '%rules%'", "UPDATE meta SET value = 'maybe'"])
async def test_a_store_that_does_not_say_that_there_never_were_rules_closes_the_home(home: Home, change: str):
    """A missing row or an unknown word in it means that the rules are unknown."""
    with closing(sqlite3.connect(home.database)) as database, database:
        database.execute(change + (" WHERE name LIKE '%rules%'" if change.startswith("UPDATE") else ""))
    assert not await is_open_when_degraded(home)


async def test_mended_files_open_a_home_without_rules_again(home: Home):
    """The home is closed only until a reload succeeds; then the rules of the files apply."""
    (home.directory / ACCESS).write_text("admins: [")
    home.write(DEV, "services: [")
    async with home.core() as core:
        assert not await is_open(core)
        home.remove(ACCESS)
        home.write(DEV, {"services": {"bell": {}}})
        await core.ask("reload")
        assert not await is_open(core), "rules that are gone stay in force until the next start"
    async with home.core() as core:
        assert await is_open(core)


@asynccontextmanager
async def before_its_start(home: Home) -> AsyncGenerator[Core]:
    """The core of a daemon that is asked to move to another environment, not started yet."""
    settings = home.settings("prod")
    data = DataDirectory(Path(settings.data_dir))
    try:
        async with open_core(settings, data) as parts:
            yield Core(home, parts, [])
    finally:
        data.release()


async def fail(*_: object) -> None:
    """Fail as a store does whose disk is full."""
    raise Unavailable("The store cannot write: disk full.")


async def test_a_start_that_is_repeated_and_refused_goes_on_with_the_environment_before(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    """ENVIRONMENT asks for another one, the disk is full, and when it has room again that environment is invalid."""
    home.write("environments/prod.yaml", {"services": {"bell": {}}})
    async with before_its_start(home) as core:
        with monkeypatch.context() as patched:
            patched.setattr(core.parts.store, "commit", fail)
            assert not await core.parts.start("prod")
        home.write("environments/prod.yaml", "services: [")
        with pytest.raises(SourceError, match="prod"):
            await core.parts.start("prod")
        assert (await core.ask("environments"))["active"] == "dev"
        assert "prod" in str(core.parts.reloads.degraded)


async def test_a_start_that_is_repeated_moves_the_home_once(home: Home, monkeypatch: pytest.MonkeyPatch):
    """ENVIRONMENT moved the home, an operator moved it back, and only then the store could write all of the start."""
    home.write("environments/prod.yaml", {"services": {"bell": {}}})
    async with before_its_start(home) as core:
        with monkeypatch.context() as patched:
            patched.setattr(core.parts.announcements, "reconcile", fail)
            assert not await core.parts.start("prod")
        assert (await core.ask("activate", "dev"))["previous"] == "prod"
        assert await core.parts.start("prod")
        assert (await core.ask("environments"))["active"] == "dev"
