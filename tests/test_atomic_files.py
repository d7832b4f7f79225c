"""Files are replaced atomically, keep their mode, and are not readable by other users meanwhile."""

import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest

from aliciacfg import atomic_files
from aliciacfg.atomic_files import FilesTogether, LinkRefused, open_or_create, remove_leftovers, replace_file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("before", [0o600, 0o640, 0o644, 0o664])
def test_a_file_keeps_its_mode_and_a_new_one_is_private(tmp_path: Path, before: int):
    """Whatever the umask; a mode that is asked for counts instead."""
    path = tmp_path / "file"
    replace_file(path, b"first")
    assert mode(path) == 0o600
    path.chmod(before)
    replace_file(path, b"second")
    assert (mode(path), path.read_bytes()) == (before, b"second")
    replace_file(path, b"third", mode=0o600)
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_nobody_else_reads_what_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Until it is complete it lies in a file of mode 0600, though the file that it replaces is open to all."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    seen: list[tuple[int, bytes]] = []
    real = os.fchmod

    def watch(descriptor: int, wanted: int) -> None:
        (temporary,) = (other for other in tmp_path.iterdir() if other != path)
        seen.append((mode(temporary), temporary.read_bytes()))
        real(descriptor, wanted)

    monkeypatch.setattr("os.fchmod", watch)
    replace_file(path, b"new")
    assert seen == [(0o600, b"new")]


@pytest.mark.parametrize("call", ["os.fsync", "os.fchmod", "pathlib.Path.rename"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str):
    """A full disk at any step is an OSError, and there is no half of anything."""
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(call, fail)
        with pytest.raises(OSError, match="No space left"):
            replace_file(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_behind_a_symbolic_link_the_file_is_replaced(tmp_path: Path):
    """The link stays, as with files that a deployment links into their place."""
    real = tmp_path / "elsewhere"
    real.mkdir()
    (real / "file").write_text("old")
    link = tmp_path / "link"
    link.symlink_to(real / "file")
    replace_file(link, b"new")
    assert link.is_symlink()
    assert (real / "file").read_bytes() == b"new"


def test_only_leftovers_of_this_very_file_are_removed(tmp_path: Path):
    """Neither the file, nor what belongs to another one with a similar name."""
    names = [".a.json.k3.new", ".a.json.new", ".b.a.json.k3.new", "a.json", ".a.json.k3.old"]
    for name in names:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "a.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


@pytest.mark.parametrize("kind", ["file", "nothing", "directory"])
def test_links_are_not_followed_where_others_may_write(tmp_path: Path, kind: str):
    """What a link leads to stays as it is; without one the file is written."""
    target, path = tmp_path / "target", tmp_path / "dir" / "file"
    path.parent.mkdir()
    if kind == "file":
        target.write_text("old")
    elif kind == "directory":
        target.mkdir()
    path.symlink_to(target)
    with pytest.raises(LinkRefused, match="it is a link"):
        replace_file(path, b"new", follow_links=False)
    assert kind != "file" or target.read_text() == "old"
    assert kind != "nothing" or not target.exists()
    assert list(path.parent.iterdir()) == [path]
    path.unlink()
    replace_file(path, b"new", follow_links=False)
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_what_root_makes_belongs_to_the_owner_of_the_directory(tmp_path: Path):
    """So that the daemon's user can read it; a file that is there keeps its owner."""
    os.chown(tmp_path, 12345, 12346)
    replace_file(tmp_path / "replaced", b"new")
    os.close(open_or_create(tmp_path / "opened", os.O_RDWR, 0o600))
    for name in ("replaced", "opened"):
        status = (tmp_path / name).stat()
        assert (status.st_uid, status.st_gid, mode(tmp_path / name)) == (12345, 12346, 0o600)
    (tmp_path / "own").write_text("root's")
    os.close(open_or_create(tmp_path / "own", os.O_RDWR, 0o600))
    replace_file(tmp_path / "own", b"root's still")
    assert (tmp_path / "own").stat().st_uid == 0
    (tmp_path / "link").symlink_to(tmp_path / "own")
    with pytest.raises(OSError, match="symbolic links"):
        open_or_create(tmp_path / "link", os.O_RDWR, 0o600)


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whose name is random."""
    path = tmp_path / "base.yaml"

    def refuse(**_: object) -> tuple[int, str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/home/.base.yaml.xyz.new")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(PermissionError) as refused:
        replace_file(path, b"")
    assert refused.value.filename == str(path.resolve())


def test_files_that_are_changed_together_are_as_before_if_one_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With their modes, also one whose directory does not get to the disk after the rename; links stay links."""
    kept, removed, failing, new = (tmp_path / name for name in ("kept", "removed", "failing", "new"))
    for path in (kept, removed, failing):
        path.write_text(f"old {path.name}")
        path.chmod(0o644)
    (tmp_path / "link").symlink_to(new)
    (tmp_path / "removed link").symlink_to("kept")
    synced: list[bytes] = []
    real = atomic_files.sync

    def fail(directory: Path) -> None:
        synced.append(failing.read_bytes())
        if synced.count(b"changed") == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(directory))
        real(directory)

    monkeypatch.setattr(atomic_files, "sync", fail)

    def change() -> None:
        with FilesTogether() as files:
            files.replace(kept, b"changed", mode=0o600)
            files.remove(removed)
            files.remove(tmp_path / "removed link")
            files.replace(tmp_path / "link", b"changed")
            files.replace(failing, b"changed")

    with pytest.raises(OSError, match="Input/output error"):
        change()
    assert b"changed" in synced
    for path in (kept, removed, failing):
        assert (path.read_text(), mode(path)) == (f"old {path.name}", 0o644)
    assert (new.exists(), (tmp_path / "link").is_symlink()) == (False, True)
    assert (tmp_path / "removed link").readlink() == Path("kept")
