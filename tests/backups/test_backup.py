"""What a backup holds, and which older ones it makes superfluous."""

import shutil
from pathlib import Path

import msgspec
import pytest

from aliciacfg.backups.archive import Archive, ArchiveError, Manifest
from aliciacfg.backups.backup import BackupOptions, name_of, remove_older, write_backup
from aliciacfg.sealing import passphrase
from aliciacfg.sealing.boxes import Keyring, seal_for
from aliciacfg.sealing.key_file import KeyFile
from builders import environment_file
from inprocess import Home


@pytest.fixture
async def home(tmp_path: Path) -> Home:
    """A home that was served once; its database is at rest."""
    home = Home(tmp_path / "home", {"environments/dev.yaml": environment_file({"lamp": {}})})
    async with home.core():
        pass
    return home


def home_keyring(home: Home) -> Keyring:
    return KeyFile.load(home.database.parent / "keys.json").make_keyring()


def write(home: Home, target: Path, *, keys: bool = False, now: float = 1.0, replace: bool = False) -> Path:
    options = BackupOptions("correct horse battery" if keys else None, files=True, replace=replace)
    write_backup(target, home.database.parent, home.settings(), options, now=now)
    return target


async def test_the_oldest_backups_go(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of the same home and without keys; nothing else in the directory, whatever its name is."""
    monkeypatch.setattr(passphrase, "_PASSES", 1)
    monkeypatch.setattr(passphrase, "_MEMORY_BYTES", 2**16)
    directory = tmp_path / "backups"
    directory.mkdir()
    made = [write(home, directory / name_of(now), now=now) for now in (1e9, 2e9, 3e9)]
    write(home, directory / name_of(5e8), keys=True)
    shutil.copy(made[0], directory / "aliciacfg-mine.zip")
    (directory / name_of(4e8)).write_bytes(b"something else")
    with Archive(made[-1]) as archive:
        name = archive.manifest.home
    assert remove_older(made[-1], "another0", keep=1) == []
    assert remove_older(made[-1], name, keep=2) == [made[0]]
    assert {path.name for path in directory.iterdir()} == {
        made[1].name, made[2].name, name_of(5e8), name_of(4e8), "aliciacfg-mine.zip",
    }  # fmt: skip
    # A clock that went back.
    late = write(home, directory / name_of(1e8), now=1e8)
    assert remove_older(late, name, keep=2) == [made[1]]


def test_no_file_is_replaced_by_mistake(home: Home, tmp_path: Path):
    """It stays as it is, and nothing is left of the new one."""
    target = tmp_path / "b.zip"
    target.write_bytes(b"mine")
    with pytest.raises(ArchiveError, match="it exists already"):
        write(home, target)
    assert target.read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"home", "b.zip"}
    write(home, target, replace=True)
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ArchiveError, match="there is no directory"):
        write(home, tmp_path / "nowhere" / "b.zip")


async def test_a_damaged_database_is_not_backed_up(home: Home, tmp_path: Path):
    """The backups from before would seem older than one that cannot be restored."""
    found = bytearray(home.database.read_bytes())
    found[4096 * 3 : 4096 * 8] = bytes(4096 * 5)
    home.database.write_bytes(found)
    with pytest.raises(ArchiveError, match="the database is damaged, so nothing was backed up"):
        write(home, tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()


async def test_a_default_of_a_variable_that_stays_in_plain_text_is_named(home: Home, tmp_path: Path):
    """Its file is needed all the same; what is empty, sealed or only a variable needs no word."""
    box = seal_for(home_keyring(home).public_key, "x", service="lamp", environment="prod", pointer="/settings/d_key")
    settings = {"a_key": "${A:-planted}", "b_key": "planted-${B}", "c_key": "${C:-}", "d_key": f"${{D:-{box}}}"}
    home.write("environments/prod.yaml", {"services": {"lamp": {"settings": {**settings, "e_key": "${E}"}}}})
    with Archive(write(home, tmp_path / "b.zip")) as archive:
        assert archive.manifest.in_plain_text == [
            "environments/prod.yaml: /services/lamp/settings/a_key",
            "environments/prod.yaml: /services/lamp/settings/b_key",
        ]
        assert "environments/prod.yaml" in archive.manifest.files


async def test_what_a_later_version_adds_to_the_manifest_does_not_change_its_code(home: Home, tmp_path: Path):
    """Or no earlier backup could be restored any more."""
    keyring = home_keyring(home)
    with Archive(write(home, tmp_path / "b.zip")) as archive:
        later = msgspec.defstruct("Later", [("added", list[str], [])], bases=(Manifest,), kw_only=True, frozen=True)
        as_later = msgspec.convert(msgspec.to_builtins(archive.manifest), later)
        assert isinstance(as_later, Manifest)
        assert as_later.is_confirmed(keyring)
        assert not msgspec.structs.replace(as_later, added=["x"]).is_confirmed(keyring)


async def test_a_file_with_a_secret_that_cannot_be_sealed_is_left_out_and_named(home: Home, tmp_path: Path):
    """So is one that is not valid; the rest is there, and no secret is in plain text."""
    chime = "{type: string, x-sensitive: true}"
    schema = f"properties: {{settings: {{type: object, properties: {{chime: {chime}}}}}}}"
    home.write("schemas/bell.yaml", f"version: 1.0.0\n{schema}\n")
    home.write("environments/prod.yaml", "defaults: {settings: {chime: open-sesame}}\n")
    home.write("environments/test.yaml", "services: [")
    home.write("environments/notes.json", {"password": "open-sesame"})
    home.write("environments/access.yaml", "admins: [admin]\n")
    with Archive(write(home, tmp_path / "b.zip")) as archive:
        assert archive.manifest.files == ["environments/access.yaml", "environments/dev.yaml", "schemas/bell.yaml"]
        assert [line.partition(":")[0] for line in archive.manifest.left_out] == [
            "environments/prod.yaml",
            "environments/test.yaml",
        ]
        assert b"from-the-files" not in archive.read("environments/dev.yaml")
