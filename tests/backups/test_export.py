"""A home as plain files, and the same home made of them again."""

import asyncio
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from aliciacfg import atomic_files
from aliciacfg.backups.archive import ArchiveError
from aliciacfg.backups.export import Exported, export
from aliciacfg.backups.import_home import Imported, import_home
from aliciacfg.documents import yaml_reader
from aliciacfg.errors import SourceError
from aliciacfg.sealing.key_file import KeyFile
from builders import environment_file, valid_config
from inprocess import Core, Home

SCHEMA = "version: 1.0.0\nproperties: {settings: {properties: {level: {type: integer, default: 5}}}}\n"
FILES = {
    "environments/base.yaml": environment_file({"lamp": {"settings": {"level": 1, "color": "red"}}, "bell": {}}),
    "environments/dev.yaml": "services: {lamp: {settings: {pin_token: '1234'}}}\n",
    "environments/prod.yaml": "services: {lamp: {settings: {level: 9}}}\n",
    "schemas/lamp.yaml": SCHEMA,
}
KEY = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="


async def export_home(home: Home, directory: Path) -> Exported:
    """An export while no daemon runs, of a copy of its database."""
    copy = home.database.parent.with_name("copy")
    shutil.copytree(home.database.parent, copy)
    try:
        return await export(directory, copy, home.settings())
    finally:
        shutil.rmtree(copy)


async def import_into(home: Home, directory: Path, *, dry_run: bool = False) -> Imported:
    return await import_home(directory, home.settings(), dry_run=dry_run)


async def everything(core: Core) -> dict[tuple[str, str], Any]:
    """Every configuration with its checksum, as a reader sees it."""
    found = {}
    for environment in ("dev", "prod"):
        for item in (await core.ask("list", environment=environment))["configs"]:
            answer = await core.ask("get", item["service"], environment=environment)
            found[environment, item["service"]] = (answer["checksum"], {**answer["config"], "version": ""})
    return found


async def documents(core: Core) -> dict[tuple[str, str], Any]:
    """Every configuration but for the password of the bell, which is sealed to its key."""
    found = {place: config for place, (_, config) in (await everything(core)).items()}
    for place in (("dev", "bell"), ("prod", "bell")):
        del found[place]["mqtt_config"]["password"]
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run-time changes of many kinds: a value, a removal, a secret, a service of no file, another environment."""
    home = Home(tmp_path_factory.mktemp("made"), FILES)

    async def make() -> None:
        async with home.core() as core:
            patch = {"settings": {"level": 3, "color": None, "api_key": "open-sesame"}}
            await core.ask("patch", "lamp", patch=patch, allow_breaking=True)
            await core.ask("patch", "lamp", environment="prod", patch={"settings": {"level": 10}})
            await core.ask("set", "siren", config=valid_config(settings={"volume": 11}))
            await core.ask("recipient", "bell", public_key=KEY)
            await core.ask("activate", "prod")

    asyncio.run(make())
    return home.directory


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Home:
    """A home of the test's own."""
    shutil.copytree(made, tmp_path / "home")
    return Home(tmp_path / "home")


def tree(directory: Path) -> dict[str, str]:
    return {path.relative_to(directory).as_posix(): path.read_text() for path in directory.rglob("*") if path.is_file()}


async def test_the_same_home_is_made_of_its_export(home: Home, tmp_path: Path):
    """With the key file the checksums are the same; the environment stays active, the recipient its key."""
    directory = tmp_path / "export"
    result = await export_home(home, directory)
    assert (result.environment, result.overlays, result.files) == ("prod", 3, 4)
    assert sorted(tree(directory)) == [
        "environments/base.yaml", "environments/dev.yaml", "environments/prod.yaml", "home.yaml",
        "overlays/dev/lamp.yaml", "overlays/dev/siren.yaml", "overlays/prod/lamp.yaml", "schemas/lamp.yaml",
    ]  # fmt: skip
    text = "".join(tree(directory).values())
    assert not [secret for secret in ("open-sesame", "1234'", "from-the-files") if secret in text]
    overlay: Any = yaml_reader.load((directory / "overlays/dev/lamp.yaml").read_text(), file="lamp.yaml").value
    assert {**overlay["settings"], "api_key": ""} == {"level": 3, "color": None, "api_key": ""}
    async with home.core() as core:
        expected = await everything(core)
    other = Home(tmp_path / "other")
    other.keys.parent.mkdir(mode=0o700)
    shutil.copy(home.keys, other.keys)
    tried = await import_into(other, directory, dry_run=True)
    assert not other.database.exists()
    imported = await import_into(other, directory)
    assert tried == imported
    assert (imported.environment, imported.configurations, imported.undecryptable) == ("prod", 5, [])
    async with other.core() as core:
        assert await everything(core) == expected
        assert core.parts.state.active == "prod"
        assert (await core.parts.store.recipients())[0].public_key == KEY
        assert not (await core.parts.store.verify()).broken
        assert core.standing == {}


async def test_without_the_keys_it_says_which_secrets_are_missing(home: Home, tmp_path: Path):
    """When the keys are found and added later, the home is the same."""
    directory = tmp_path / "export"
    await export_home(home, directory)
    other = Home(tmp_path / "other")
    imported = await import_into(other, directory)
    assert {"lamp in dev: /settings/api_key", "bell in prod: /mqtt_config/password"} <= set(imported.undecryptable)
    async with home.core() as core:
        expected = await documents(core)
    KeyFile.load(other.keys).add(KeyFile.load(home.keys).held)
    async with other.core() as core:
        assert await documents(core) == expected


async def test_an_export_changes_only_what_changed(home: Home, tmp_path: Path):
    """So that git shows it: sealed values stay as they are, what is gone is removed, other files stay."""
    directory = tmp_path / "export"
    await export_home(home, directory)
    (directory / ".git").mkdir()
    (directory / ".git" / "HEAD").write_text("x")
    (directory / "environments" / "README.md").write_text("mine")
    before = tree(directory)
    assert (await export_home(home, directory)).written == []
    assert tree(directory) == before
    async with home.core() as core:
        await core.ask("patch", "lamp", environment="dev", patch={"settings": {"level": 4}})
        await core.ask("delete", "siren", environment="dev")
    home.write("environments/dev.yaml", "services: {lamp: {settings: {pin_token: '4321'}}}\n")
    result = await export_home(home, directory)
    assert result.written == ["environments/dev.yaml", "overlays/dev/lamp.yaml"]
    assert result.removed == ["overlays/dev/siren.yaml"]
    kept = [line for line in before["overlays/dev/lamp.yaml"].splitlines() if "api_key" in line]
    assert kept == [line for line in tree(directory)["overlays/dev/lamp.yaml"].splitlines() if "api_key" in line]


async def test_an_export_that_runs_out_of_disk_leaves_the_directory_as_it_was(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A new one is not there, and the next export makes it; of an earlier one no file is changed, none is removed."""
    directory = tmp_path / "in" / "export"
    written = atomic_files.replace_file

    def full(path: Path, content: bytes, *, mode: int | None = None) -> None:
        if path.name == "lamp.yaml" and path.parent.name == "dev":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written(path, content, mode=mode)

    with monkeypatch.context() as disk:
        disk.setattr(atomic_files, "replace_file", full)
        with pytest.raises(ArchiveError, match=r"overlays/dev/lamp\.yaml cannot be written: No space left"):
            await export_home(home, directory)
    assert not directory.parent.exists()
    await export_home(home, directory)
    before = tree(directory)
    async with home.core() as core:
        await core.ask("patch", "lamp", environment="dev", patch={"settings": {"level": 4}})
        await core.ask("delete", "siren", environment="dev")
    home.write("environments/dev.yaml", "services: {lamp: {settings: {pin_token: '4321'}}}\n")
    with monkeypatch.context() as disk:
        disk.setattr(atomic_files, "replace_file", full)
        with pytest.raises(ArchiveError, match="No space left"):
            await export_home(home, directory)
    assert tree(directory) == before


async def test_only_an_empty_home_is_imported_into(home: Home, tmp_path: Path):
    """Nothing is overwritten: neither configurations nor files."""
    directory = tmp_path / "export"
    await export_home(home, directory)
    with pytest.raises(ArchiveError, match="has 5 configurations"):
        await import_into(home, directory)
    other = Home(tmp_path / "other", {"environments/dev.yaml": "defaults: {}\n"})
    with pytest.raises(ArchiveError, match=r"other files in the home: environments/dev\.yaml; move them away"):
        await import_into(other, directory)
    assert (other.directory / "environments" / "dev.yaml").read_text() == "defaults: {}\n"
    assert not list((other.directory / "data").glob("aliciacfg.db*"))


async def test_an_export_that_may_not_be_entered_says_so(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of another user's directory nothing is known, not even that it is no export."""

    def denied(path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "is_file", denied)
    with pytest.raises(ArchiveError, match=r"home\.yaml cannot be read: Permission denied"):
        await import_into(home, tmp_path / "export")


async def test_an_invalid_home_changes_nothing(home: Home, tmp_path: Path):
    """It says what is wrong, and where."""
    directory = tmp_path / "export"
    await export_home(home, directory)
    (directory / "environments" / "prod.yaml").write_text("services: {lamp: {settings: {level: high}}}\n")
    (directory / "overlays" / "prod" / "lamp.yaml").unlink()
    other = Home(tmp_path / "other")
    other.keys.parent.mkdir(mode=0o700)
    shutil.copy(home.keys, other.keys)
    with pytest.raises(SourceError, match=r"lamp.*level|level.*integer"):
        await import_into(other, directory)
    assert tree(other.directory / "environments") == {}
    assert not other.database.exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("home.yaml", None, "is no export"),
        ("home.yaml", "format: 99\nenvironment: dev\n", "found format 99"),
        ("home.yaml", "[", "is not valid"),
        ("home.yaml", "format: 1\nenvironment: dev\nrecipients: {bell: short}\n", "recipients: bell"),
        ("overlays/dev/lamp.yaml", "- 1\n", "expected a mapping"),
        ("overlays/lamp.yaml", "a: 1\n", "is no file of an export"),
    ],
)
async def test_what_no_export_writes_is_refused(
    home: Home, tmp_path: Path, file: str, content: str | None, message: str
):
    """Before anything is written."""
    directory = tmp_path / "export"
    await export_home(home, directory)
    (directory / file).unlink(missing_ok=True)
    if content is not None:
        (directory / file).write_text(content)
    other = Home(tmp_path / "other")
    with pytest.raises(ArchiveError, match=message):
        await import_into(other, directory)
    assert not other.database.exists()


async def test_a_directory_of_something_else_is_left_alone(home: Home, tmp_path: Path):
    """An export into it is refused."""
    directory = tmp_path / "other"
    directory.mkdir()
    (directory / "letter.txt").write_text(json.dumps("dear"))
    with pytest.raises(ArchiveError, match="is no export"):
        await export_home(home, directory)
    assert sorted(tree(directory)) == ["letter.txt"]
