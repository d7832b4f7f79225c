"""The snapshot on disk: written whole, for nobody else to read, and never a reason not to start."""

import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from aliciacfg.client.messages import Update
from aliciacfg.client.snapshot import Snapshot


def update(number: int) -> Update:
    return Update(
        service="bell",
        environment="dev",
        version="1.0.0",
        revision=number,
        epoch=1,
        sequence=number,
        checksum="c",
        config={"settings": {"volume": number}},
    )


@pytest.fixture
async def saved(tmp_path: Path) -> Path:
    """A snapshot of revision 1."""
    snapshot = Snapshot(tmp_path / "new" / "state", "bell")
    snapshot.save(update(1))
    await snapshot.finish()
    return tmp_path / "new" / "state" / "aliciacfg-bell.json"


async def test_the_newest_is_saved_for_its_owner_alone(saved: Path):
    """The directory too; the one that is wanted last wins, and nothing temporary stays."""
    assert [os.stat(path).st_mode & 0o777 for path in (saved, saved.parent)] == [0o600, 0o700]  # noqa: PTH116
    snapshot = Snapshot(saved.parent, "bell")
    for number in range(2, 9):
        snapshot.save(update(number))
    await snapshot.finish()
    found = Snapshot(saved.parent, "bell").load()
    assert found is not None
    assert found.update == update(8)
    assert os.listdir(saved.parent) == [saved.name]  # noqa: PTH208
    # The last wish counts, in whatever order they come.
    snapshot.remove()
    snapshot.save(update(8))
    await snapshot.finish()
    assert Snapshot(saved.parent, "bell").load() is not None
    snapshot.save(update(9))
    snapshot.remove()
    await snapshot.finish()
    assert Snapshot(saved.parent, "bell").load() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
async def test_root_reads_what_it_wrote_into_the_directory_of_another_user(tmp_path: Path):
    """As in a container that is given one of the host; a file there that a third one owns is not used."""
    os.chown(tmp_path, 1000, 1000)
    snapshot = Snapshot(tmp_path, "bell")
    snapshot.save(update(1))
    await snapshot.finish()
    assert snapshot.load() is not None
    os.chown(tmp_path / "aliciacfg-bell.json", 1001, 1001)
    assert snapshot.load() is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    """One digit, which leaves valid JSON."""
    path.write_text(path.read_text().replace('"volume":1', '"volume":2'))


def other_service(path: Path) -> None:
    path.write_text(path.read_text().replace('"service":"bell","saved', '"service":"lamp","saved'))


def other_format(path: Path) -> None:
    path.write_text(path.read_text().replace("snapshot 1", "snapshot 9"))


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def no_time(path: Path) -> None:
    """A time that no calendar has."""
    path.write_text(re.sub(r'("saved_at":)[^,]*', r"\g<1>1e300", path.read_text()))


def no_update(path: Path) -> None:
    content = json.loads(path.read_text())
    content["message"] = []
    content["sha256"] = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "damaged"),
        (flip, "its checksum differs"),
        (other_service, "it is about 'lamp'"),
        (other_format, "another version"),
        (link, "Too many levels of symbolic links"),
        (directory, "Is a directory"),
        (pipe, "not a file"),
        (no_update, "damaged"),
        (no_time, "saved_at"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(b"\xff" * 100), "damaged"),
        (lambda path: path.write_bytes(b"[" * 100_000), "damaged"),
        (lambda path: path.write_bytes(b" " * 4_000_000), "more than"),
        (lambda path: path.chmod(0o666), "another user"),
    ],
)
def test_one_that_cannot_be_used_is_a_warning(
    saved: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], reason: str
):
    """Whatever is there; nothing blocks, nothing is raised."""
    damage(saved)
    assert Snapshot(saved.parent, "bell").load() is None
    (record,) = caplog.records
    assert (record.levelno, reason in record.getMessage()) == (logging.WARNING, True), record.getMessage()


async def test_one_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A file is where its directory should be."""
    (tmp_path / "state").touch()
    snapshot = Snapshot(tmp_path / "state", "bell")
    snapshot.save(update(1))
    await snapshot.finish()
    (record,) = caplog.records
    assert (record.levelno, "cannot be written" in record.getMessage()) == (logging.WARNING, True)


async def test_without_a_directory_there_is_none():
    """For a program that wants none, or a user without a home."""
    snapshot = Snapshot(None, "bell")
    snapshot.save(update(1))
    snapshot.remove()
    await snapshot.finish()
    assert snapshot.load() is None
