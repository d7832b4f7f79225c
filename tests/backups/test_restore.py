"""A backup and its restore: in the same home, on another machine, with and without keys, and what is refused."""

import asyncio
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.backups import files
from aliciacfg.backups.archive import Archive, ArchiveError
from aliciacfg.backups.backup import BackupOptions, write_backup
from aliciacfg.backups.restore import Restored, RestoreOptions, restore
from aliciacfg.errors import DataDirectoryInUse, KeyFileError
from aliciacfg.sealing import passphrase
from aliciacfg.storage.data_directory import DataDirectory
from builders import environment_file
from inprocess import Core, Home

PASSPHRASE = "correct horse battery"
FILES = {"environments/dev.yaml": environment_file({"lamp": {"settings": {"level": 1}}, "bell": {}})}


async def set_level(core: Core, level: int, service: str = "lamp") -> dict[str, Any]:
    return await core.ask("patch", service, patch={"settings": {"level": level}})


async def take(core: Core, target: Path, *, keys: bool = True) -> Path:
    """A backup of a running core, as the command makes it."""
    data = core.home.database.parent
    snapshot = data / (await core.ask("backup"))["snapshot"]
    options = BackupOptions(PASSPHRASE if keys else None, files=True, replace=False)
    write_backup(target, snapshot, core.home.settings(), options, now=1.0)
    for file in snapshot.iterdir():
        file.unlink()
    snapshot.rmdir()
    return target


async def put_back(
    home: Home, archive: Path, *, keys: bool = True, force: bool = False, replaced: bool = False, dry_run: bool = False
) -> Restored:
    options = RestoreOptions(PASSPHRASE if keys else None, force=force, files=replaced, dry_run=dry_run)
    with Archive(archive) as opened:
        return await restore(opened, home.settings(), options, now=2.0)


@dataclass
class Taken:
    """A home that went on after a backup: revision 2 of the lamp is in the backup, 3 and 4 came later."""

    home: Home
    archive: Path


@pytest.fixture(autouse=True)
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase that is quickly tried."""
    monkeypatch.setattr(passphrase, "_PASSES", 1)
    monkeypatch.setattr(passphrase, "_MEMORY_BYTES", 2**16)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the home and its backup, which each test gets a copy of."""
    directory = tmp_path_factory.mktemp("made")

    async def make() -> None:
        home = Home(directory / "home", FILES)
        async with home.core() as core:
            await set_level(core, 2)
            await take(core, directory / "backup.zip")
            for level in (3, 4):
                await set_level(core, level)
            await core.ask("set", "siren", config={**FILES["environments/dev.yaml"]["defaults"]})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(passphrase, "_PASSES", 1)
        patched.setattr(passphrase, "_MEMORY_BYTES", 2**16)
        asyncio.run(make())
    return directory


@pytest.fixture
def taken(made: Path, tmp_path: Path) -> Taken:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Taken(Home(tmp_path / "home"), tmp_path / "backup.zip")


def content(directory: Path) -> dict[str, bytes]:
    """Every file below a directory but the lock, which holds nothing."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "lock"
    }


async def test_a_restored_home_is_as_it_was_and_ahead_of_everything(taken: Taken):
    """The content of the backup under new numbers, in a higher epoch; what came later is gone; the chain is whole."""
    result = await put_back(taken.home, taken.archive)
    assert {(change.service, change.kind, change.before, change.after) for change in result.changes} == {
        ("lamp", "changed", 4, 5),
        ("siren", "gone", 1, 2),
    }
    async with taken.home.core() as core:
        answer = await core.ask("get", "lamp")
        assert (answer["config"]["settings"]["level"], answer["revision"], answer["epoch"]) == (2, 5, 2)
        newest = (await core.ask("history", "lamp"))["revisions"][0]
        assert (newest["cause"], newest["revision"]) == ("restore", 5)
        findings = await core.parts.store.verify()
        assert not findings.broken
        assert not findings.damage
        entries = (await core.ask("audit", limit=50))["entries"]
        assert [entry["detail"] for entry in entries if entry["operation"] == "restore"] == [
            "epoch 2: restored the backup of 1970-01-01 00:00:01 UTC"
        ]
        # The order was put right by the restore; the start finds nothing to complain about.
        assert core.standing == {}
        assert (await set_level(core, 9))["revision"] == 6


async def test_the_state_before_is_kept(taken: Taken):
    """It can be put back by hand: nothing of it was changed."""
    before = content(taken.home.database.parent)
    result = await put_back(taken.home, taken.archive)
    kept = content(Path(result.kept_in))
    assert kept == {name: found for name, found in before.items() if name != "instance"}
    assert Path(result.kept_in).name == "before-restore-19700101T000002Z"
    assert (await put_back(taken.home, taken.archive)).kept_in.endswith("Z-2")


async def test_a_dry_run_changes_nothing(taken: Taken, tmp_path: Path):
    """Neither in the home nor where there is none."""
    before = content(taken.home.database.parent)
    result = await put_back(taken.home, taken.archive, dry_run=True)
    assert [change.service for change in result.changes] == ["lamp", "siren"]
    assert content(taken.home.database.parent) == before
    other = Home(tmp_path / "other")
    assert len((await put_back(other, taken.archive, dry_run=True)).changes) == 2
    assert not other.database.parent.exists()


async def test_an_empty_machine_needs_nothing_but_the_backup(taken: Taken, tmp_path: Path):
    """Keys, database and files are there: the first start serves what was served, with the same checksums."""
    async with taken.home.core() as core:
        expected = (await core.ask("get", "bell"))["checksum"]
    other = Home(tmp_path / "other")
    result = await put_back(other, taken.archive)
    assert (result.kept_in, result.undecryptable, result.written) == ("", [], ["environments/dev.yaml"])
    file = (other.directory / "environments" / "dev.yaml").read_text()
    assert "from-the-files" not in file
    async with other.core() as core:
        answer = await core.ask("get", "bell")
        assert (answer["checksum"], answer["config"]["mqtt_config"]["password"]) == (expected, "***")
        assert (await core.ask("get", "lamp"))["config"]["settings"]["level"] == 2
        assert core.standing == {}


async def test_without_the_keys_everything_but_the_secrets_is_there(taken: Taken, tmp_path: Path):
    """It says which secrets do not open; the home's own key file, put in place before, opens them."""
    other = Home(tmp_path / "other")
    result = await put_back(other, taken.archive, keys=False)
    assert result.undecryptable == ["bell in dev: /mqtt_config/password", "lamp in dev: /mqtt_config/password"]
    assert result.keys.startswith("new keys")
    async with other.core() as core:
        assert (await core.ask("get", "lamp"))["config"]["settings"]["level"] == 2
        assert "undecryptable" in {kind.partition(":")[0] for kind in core.standing}
    third = Home(tmp_path / "third")
    third.keys.parent.mkdir(mode=0o700)
    third.keys.write_bytes(taken.home.keys.read_bytes())
    third.keys.chmod(0o600)
    assert (await put_back(third, taken.archive, keys=False)).undecryptable == []


async def test_another_home_is_not_replaced_by_mistake(taken: Taken, tmp_path: Path):
    """With the option it is, and is kept aside."""
    other = Home(tmp_path / "other", {"environments/dev.yaml": environment_file({"door": {}})})
    async with other.core():
        pass
    before = content(other.database.parent)
    with pytest.raises(ArchiveError, match=r"here is home [0-9a-f]{8}, with 1 configuration.*--force"):
        await put_back(other, taken.archive)
    assert content(other.database.parent) == before
    result = await put_back(other, taken.archive, force=True)
    assert result.left == ["environments/dev.yaml"]
    assert (Path(result.kept_in) / "keys.json").read_bytes() == before["keys.json"]


async def test_files_are_replaced_only_if_asked(taken: Taken):
    """One that differs, and one that the backup does not have; the old ones are kept."""
    changed = environment_file({"lamp": {"settings": {"level": 7}}})
    taken.home.write("environments/dev.yaml", changed)
    taken.home.write("environments/prod.yaml", "defaults: {}\n")
    result = await put_back(taken.home, taken.archive)
    assert result.left == ["environments/dev.yaml", "environments/prod.yaml"]
    result = await put_back(taken.home, taken.archive, replaced=True)
    assert (result.written, result.removed) == (["environments/dev.yaml"], ["environments/prod.yaml"])
    assert not (taken.home.directory / "environments" / "prod.yaml").exists()
    kept = Path(result.kept_in) / "environments"
    assert json.loads((kept / "dev.yaml").read_text()) == changed
    async with taken.home.core() as core:
        assert (await core.ask("get", "lamp"))["config"]["settings"]["level"] == 2


async def test_files_that_cannot_be_written_do_not_stop_a_restore_half_way(
    taken: Taken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As where they are mounted read-only: it is said before anything is replaced."""
    monkeypatch.setattr(files, "is_writable", lambda _path: False)
    other = Home(tmp_path / "other")
    with pytest.raises(ArchiveError, match="cannot be written; make it writable, or restore without --files"):
        await put_back(other, taken.archive, replaced=True)
    assert not other.database.exists()
    result = await put_back(other, taken.archive)
    assert (result.written, result.left) == ([], ["environments/dev.yaml"])
    assert "has to be copied from the backup by hand" in result.notes[0]
    assert other.database.exists()


async def test_a_file_that_no_environment_is_made_of_is_not_replaced_by_mistake(taken: Taken, tmp_path: Path):
    """It differs from the one in the backup, so it stays."""
    add_file(taken.archive, "environments/notes.txt", b"theirs")
    other = Home(tmp_path / "other")
    other.write("environments/notes.txt", "mine")
    result = await put_back(other, taken.archive, keys=False)
    assert result.left == ["environments/notes.txt"]
    assert (other.directory / "environments" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("names", [["schemas/" + "a" * 250 + ".yaml"], ["schemas/a", "schemas/a/b.yaml"]])
async def test_files_that_cannot_be_are_noticed_before_anything_is_replaced(
    taken: Taken, tmp_path: Path, names: list[str]
):
    """Afterwards the restore could never be completed, and no daemon would start any more."""
    for name in names:
        add_file(taken.archive, name, b"{}\n")
    other = Home(tmp_path / "other")
    with pytest.raises(ArchiveError, match=r"schemas/.* cannot be used: (File name too long|Is a directory)"):
        await put_back(other, taken.archive, keys=False)
    assert not other.database.exists()
    assert not (other.directory / "schemas" / "a").exists()
    DataDirectory(other.database.parent).release()


async def test_a_running_daemon_is_not_disturbed(taken: Taken):
    """Restoring beside it is refused."""
    async with taken.home.core() as core:
        with pytest.raises(DataDirectoryInUse):
            await put_back(taken.home, taken.archive)
        assert (await core.ask("get", "lamp"))["revision"] == 4


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def damage_the_manifest(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("manifest.json").header_offset + 60
    content = bytearray(path.read_bytes())
    content[place : place + 9] = b"\xff" * 9
    path.write_bytes(content)


def repack(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, found in members.items():
            archive.writestr(name, found)


def add_file(path: Path, name: str, content: bytes) -> None:
    def change(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        manifest["members"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        members[name] = content
        members["manifest.json"] = json.dumps(manifest).encode()

    repack(path, change)


def add_rules(path: Path) -> None:
    """Somebody who holds the file gives themselves every right."""
    add_file(path, "environments/access.yaml", b"admins: [mallory]\n")


def lead_elsewhere(path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["manifest.json"] = members["manifest.json"].replace(b"environments/dev.yaml", b"environments/../x.yaml")

    repack(path, change)


def compress_as_no_backup_is(path: Path) -> None:
    """The library raises errors of its own for each method."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, found in members.items():
            archive.writestr(name, found)
    flip_a_byte(path)


def be_newer(path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["manifest.json"] = members["manifest.json"].replace(b'"format": 1', b'"format": 99')

    repack(path, change)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, "its end is missing"),
        (flip_a_byte, "is not what was written"),
        (damage_the_manifest, "its manifest.json cannot be read"),
        (add_rules, "was changed after it was made"),
        (compress_as_no_backup_is, "its manifest.json cannot be read"),
        (lead_elsewhere, "names what no backup holds"),
        (be_newer, "in a newer form"),
        (lambda path: path.write_bytes(b""), "is not a backup"),
        (lambda path: path.unlink(), "cannot be read"),
    ],
)
async def test_a_backup_that_is_not_what_was_written_changes_nothing(
    taken: Taken, damage: Callable[[Path], None], message: str
):
    """It is refused before anything is replaced, and says why."""
    damage(taken.archive)
    before = content(taken.home.database.parent)
    with pytest.raises(ArchiveError, match=message):
        await put_back(taken.home, taken.archive)
    assert content(taken.home.database.parent) == before


async def test_a_wrong_passphrase_is_told_as_such(taken: Taken):
    """Nothing is changed."""
    options = RestoreOptions("another horse battery", force=False, files=False, dry_run=False)
    with Archive(taken.archive) as opened, pytest.raises(ArchiveError, match="do not open: the passphrase"):
        await restore(opened, taken.home.settings(), options, now=2.0)


async def test_what_is_broken_is_what_one_restores(taken: Taken):
    """A key file and a database that nobody can read any more: the backup has both; what was there is kept."""
    taken.home.keys.write_bytes(b"\0" * 100)
    taken.home.database.write_bytes(b"\0" * 10_000)
    with pytest.raises(KeyFileError, match="is not a key file"):
        await put_back(taken.home, taken.archive, keys=False)
    result = await put_back(taken.home, taken.archive)
    assert (Path(result.kept_in) / "keys.json").read_bytes() == b"\0" * 100
    async with taken.home.core() as core:
        answer = await core.ask("get", "lamp")
        assert (answer["config"]["settings"]["level"], answer["epoch"]) == (2, 2)
        assert core.standing == {}


async def test_the_witness_tells_how_far_a_lost_database_was(taken: Taken):
    """Somebody removed it; a subscriber may hold what it published in a higher epoch than the backup knows."""
    await put_back(taken.home, taken.archive)
    await put_back(taken.home, taken.archive)
    taken.home.database.unlink()
    assert (await put_back(taken.home, taken.archive)).epoch == 4


async def test_a_stale_log_does_no_harm(taken: Taken):
    """A database was killed: its write-ahead log stays beside, of other pages than those of the backup."""
    async with taken.home.core() as core:
        await set_level(core, 5)
        files = content(taken.home.database.parent)
    for name, found in files.items():
        (taken.home.database.parent / name).write_bytes(found)
    assert taken.home.database.with_name("aliciacfg.db-wal").stat().st_size > 0
    await put_back(taken.home, taken.archive)
    async with taken.home.core() as core:
        answer = await core.ask("get", "lamp")
        assert (answer["config"]["settings"]["level"], answer["revision"]) == (2, 6)
        assert not (await core.parts.store.verify()).broken


async def test_a_copy_beside_a_log_of_another_state_is_told_and_put_right(taken: Taken):
    """Somebody put an older file in place and left the log: SQLite mixes the two, and cannot know."""
    older = taken.home.database.read_bytes()
    async with taken.home.core() as core:
        for level in range(5, 45):
            await core.ask("patch", "lamp", patch={"settings": {"level": level, "text": "x" * 1500}})
            if level == 25:
                assert await core.parts.store.scrub()
        files = content(taken.home.database.parent)
    for name, found in files.items():
        (taken.home.database.parent / name).write_bytes(found)
    taken.home.database.write_bytes(older)
    async with taken.home.core() as core:
        await core.parts.drift_checks.verify()
        assert {"store:damage", "store:rows"} & core.standing.keys()
    result = await put_back(taken.home, taken.archive)
    async with taken.home.core() as core:
        answer = await core.ask("get", "lamp")
        assert (answer["config"]["settings"]["level"], answer["epoch"]) == (2, result.epoch)
        await core.parts.drift_checks.verify()
        assert core.standing == {}


async def test_the_snapshot_of_a_whole_machine_is_noticed_once(taken: Taken):
    """Its witness went back too; it is told at one start, by what was noted outside, and at no later one."""
    data = taken.home.database.parent
    older = content(data)
    async with taken.home.core() as core:
        await set_level(core, 5)
    witness = (data / "witness").read_bytes()
    for name, found in older.items():
        (data / name).write_bytes(found)
    async with taken.home.core() as core:
        # The machine's memory of itself is of that time: only the broker's would tell.
        assert core.standing == {}
    for name, found in older.items():
        (data / name).write_bytes(found)
    (data / "witness").write_bytes(witness)
    async with taken.home.core() as core:
        assert set(core.standing) == {"restored"}
        assert core.parts.state.epoch == 2
        core.parts.order.settled()
    async with taken.home.core() as core:
        assert core.standing == {}
        assert core.parts.state.epoch == 2
