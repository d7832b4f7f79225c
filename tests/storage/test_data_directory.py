"""The data directory: whose it is, and what may be in it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aliciacfg.bootstrap.protection import admin_token
from aliciacfg.errors import SettingsError
from aliciacfg.storage.data_directory import DataDirectory, read_instance

NOBODY = 65534


def by_root(path: Path, change: Callable[[Path], None]) -> None:
    """Change a file as another user would have; only root can."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    change(path)


def test_a_directory_of_this_user_is_used_again(tmp_path: Path):
    """It is made for this user alone; an ordinary one that was there is used as well."""
    for path in (tmp_path / "new", tmp_path):
        first = DataDirectory(path)
        first.release()
        again = DataDirectory(path)
        again.release()
        assert again.instance == first.instance
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_home_that_several_daemons_share_has_one_name(tmp_path: Path):
    """It stands beside the name of the directory, until that is a home of its own again."""
    assert read_instance(tmp_path) is None
    data = DataDirectory(tmp_path)
    assert read_instance(tmp_path) == data.instance
    for name in ("0123456789abcdef", "0123456789abcdef", "fedcba9876543210"):
        data.name_home(name)
        assert read_instance(tmp_path) == name
    data.name_home(None)
    assert read_instance(tmp_path) == data.instance
    data.release()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int):
    """Before anything is read or made in it."""
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(SettingsError, match=r"ALICIACFG_DATA_DIR: .*chmod go-w"):
        DataDirectory(path)
    assert list(path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["keys.json", "aliciacfg.db", "aliciacfg.db-wal", "aliciacfg.db-shm", "instance", "home", "lock"]
)
@pytest.mark.parametrize("how", ["link", "writable", "another owner"])
def test_a_file_that_others_put_there_is_refused(tmp_path: Path, name: str, how: str):
    """A link, a file that others can write, and one of another user."""
    path, elsewhere = tmp_path / "data" / name, tmp_path / "elsewhere"
    path.parent.mkdir(0o700)
    if how == "link":
        elsewhere.touch()
        path.symlink_to(elsewhere)
    else:
        path.touch(0o600)
        if how == "writable":
            path.chmod(0o622)
        else:
            by_root(path, lambda path: os.chown(path, NOBODY, NOBODY))
    with pytest.raises(SettingsError, match=f"ALICIACFG_DATA_DIR: .*{name}"):
        DataDirectory(path.parent)
    assert how != "link" or elsewhere.read_bytes() == b""


@pytest.mark.parametrize("how", ["readable", "writable", "another owner", "link to nothing"])
def test_a_planted_token_is_refused(tmp_path: Path, how: str):
    """Whoever planted it would be an administrator; who can read it, too."""
    path = tmp_path / "admin.token"
    if how == "link to nothing":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("acfg_planted\n")
        path.chmod({"readable": 0o644, "writable": 0o602}.get(how, 0o600))
    if how == "another owner":
        by_root(path, lambda path: os.chown(path, NOBODY, NOBODY))
    with pytest.raises(SettingsError, match="ALICIACFG_ADMIN_TOKEN_FILE"):
        admin_token(path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_token_of_this_user_is_used(tmp_path: Path):
    """It is made for this user alone, and found again, also through a link."""
    path = tmp_path / "admin.token"
    made = admin_token(path)
    assert admin_token(path) == made
    link = tmp_path / "link"
    link.symlink_to(path)
    assert admin_token(link) == made
