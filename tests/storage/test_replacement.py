"""The exchange of two states of a data directory: whoever ends it, one of them is there, whole."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.storage import replacement
from aliciacfg.storage.replacement import NEW, OLD, Plan

OLD_STATE = {"database": "old", "database-wal": "old log", "keys": "old keys"}
NEW_STATE = {"database": "new", "keys": "new keys"}
STEPS = ("rename", "mkdir", "unlink")


class Killed(BaseException):
    """Stands for the end of the process."""


def home_in(tmp_path: Path) -> Path:
    """A data directory with the old state, beside an environment file."""
    data = tmp_path / "data"
    data.mkdir()
    for name, text in OLD_STATE.items():
        (data / name).write_text(text)
    (tmp_path / "dev.yaml").write_text("old")
    return data


def exchange(home: Path) -> None:
    prepared = replacement.prepare(home)
    for name, text in NEW_STATE.items():
        (prepared / NEW / name).write_text(text)
    (prepared / OLD / "dev.yaml").write_text("old")
    (prepared / "file").write_text("new")
    other = home.parent / "base.yaml"
    other.write_text("gone")
    (prepared / "another").write_text("new")
    written = {"file": str(home.parent / "dev.yaml"), "another": str(home.parent / "schemas" / "lamp.yaml")}
    plan = Plan("before", list(OLD_STATE), written=written, removed=[str(other)])
    replacement.decide(home, plan)


def state(home: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in home.iterdir() if path.is_file()}


def kill(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Have the process end before its n-th change of a directory."""
    count = 0

    def counted(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                raise Killed
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    for name in STEPS:
        counted(Path, name)
    counted(shutil, "rmtree")
    counted(replacement, "replace_file")
    counted(replacement, "_sync")


def test_the_exchange_can_end_anywhere(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Before each step once, and the recovery before each of its own steps: old or new, and it is said which."""
    ends: set[str] = set()
    # There is no loss of power here, and there are a thousand of them.
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    for at in range(1, 100):
        home = home_in(tmp_path_factory.mktemp("home"))
        with pytest.MonkeyPatch.context() as patched:
            kill(patched, at)
            try:
                exchange(home)
            except Killed:
                pass
            else:
                break
        capsys.readouterr()
        # Killed again and again meanwhile.
        for again in range(1, 100):
            with pytest.MonkeyPatch.context() as patched:
                kill(patched, again)
                try:
                    replacement.recover(home)
                except Killed:
                    continue
                break
        found = state(home)
        assert found in (OLD_STATE, NEW_STATE), (at, found)
        if found == NEW_STATE:
            assert state(home / "before") == {**OLD_STATE, "dev.yaml": "old"}
            assert (home.parent / "dev.yaml").read_text() == "new"
            assert not (home.parent / "base.yaml").exists()
        else:
            assert (home.parent / "dev.yaml").read_text() == "old"
        assert not list(home.glob(".*")), at
        ends.add(found["database"])
        replacement.recover(home)
        assert state(home) == found
    else:
        pytest.fail("it has no end")
    assert ends == {"old", "new"}


def test_a_start_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Nothing if there was nothing; that a restore was given up, or completed."""
    home = home_in(tmp_path)
    replacement.recover(home)
    assert capsys.readouterr().out == ""
    replacement.prepare(home)
    replacement.recover(home)
    assert "restore_abandoned" in capsys.readouterr().out
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(replacement, "_complete", lambda _directory: None)
        exchange(home)
    replacement.recover(home)
    assert "restore_completed" in capsys.readouterr().out
    assert state(home) == NEW_STATE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_leaves_the_files_to_the_owner_of_the_directory(tmp_path: Path):
    """The daemon's user has to be able to write what root restored for it."""
    home = home_in(tmp_path)
    for path in (home, tmp_path):
        os.chown(path, 1234, 1235)
    exchange(home)
    new = [*(home / name for name in NEW_STATE), tmp_path / "schemas", tmp_path / "schemas" / "lamp.yaml"]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in new} == {(1234, 1235)}
