"""Which files and directories of other users are refused, and what orchestrators mount that is not."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from aliciacfg.errors import SettingsError
from aliciacfg.private_files import check_directory, check_kept_file, check_secret_file

ME, OTHER, GROUP = 1234, 4321, 777


@pytest.fixture(autouse=True)
def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not root, whoever runs the tests; a member of a pod's group."""
    monkeypatch.setattr("os.geteuid", lambda: ME)
    monkeypatch.setattr("os.getegid", lambda: ME)
    monkeypatch.setattr("os.getgroups", lambda: [GROUP])


def owned(monkeypatch: pytest.MonkeyPatch, path: Path, *, user: int, group: int = ME) -> Path:
    """Let a file belong to a user, as only root could."""
    real = {name: getattr(Path, name) for name in ("stat", "lstat")}

    def seen(name: str):
        def call(self: Path, **how: bool) -> object:
            found = real[name](self, **how)
            if self != path:
                return found
            kept = {key: getattr(found, key) for key in ("st_mode", "st_nlink")}
            return SimpleNamespace(**kept, st_uid=user, st_gid=group)

        return call

    for name in real:
        monkeypatch.setattr(Path, name, seen(name))
    return path


@pytest.mark.parametrize(
    ("mode", "user", "group", "refused"),
    [
        (0o700, ME, ME, None),
        (0o755, ME, ME, None),
        (0o777, ME, ME, "chmod go-w"),
        (0o1777, ME, ME, "chmod go-w"),
        (0o770, ME, ME, "chmod go-w"),
        (0o770, ME, GROUP, "chmod go-w"),
        (0o700, OTHER, ME, "chown 1234"),
        (0o755, 0, 0, None),
        # A volume of Kubernetes with fsGroup; the same for another group, or for all.
        (0o2775, 0, GROUP, None),
        (0o2775, 0, 778, "chmod go-w"),
        (0o2777, 0, GROUP, "chmod go-w"),
    ],
)
def test_a_directory_into_which_others_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, user: int, group: int, refused: str | None
):
    """The error says what to do."""
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(mode)
    owned(monkeypatch, path, user=user, group=group)
    if refused is None:
        check_directory(path, "ALICIACFG_DATA_DIR")
    else:
        with pytest.raises(SettingsError, match=f"ALICIACFG_DATA_DIR: .*{refused}"):
            check_directory(path, "ALICIACFG_DATA_DIR")


def test_root_may_use_a_directory_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In a container it is given one of the host; the files in it are of that user, or of root, and of no third one."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    check_directory(owned(monkeypatch, tmp_path, user=OTHER), "ALICIACFG_DATA_DIR")
    file = tmp_path / "keys.json"
    file.touch(0o600)
    for user in (0, OTHER):
        check_kept_file(owned(monkeypatch, file, user=user), "ALICIACFG_DATA_DIR", directory_owner=OTHER)
    with pytest.raises(SettingsError, match="belongs to user 99"):
        check_kept_file(owned(monkeypatch, file, user=99), "ALICIACFG_DATA_DIR", directory_owner=OTHER)


@pytest.mark.parametrize(
    ("mode", "user", "refused"),
    [
        (0o600, ME, None),
        (0o644, ME, None),
        (0o660, ME, "chmod go-w"),
        (0o602, ME, "chmod go-w"),
        (0o600, OTHER, "belongs to user 4321"),
        (0o600, 0, None),
    ],
)
def test_a_kept_file_that_others_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, user: int, refused: str | None
):
    """Another user's, or one that others can write."""
    path = tmp_path / "keys.json"
    check_kept_file(path, "ALICIACFG_DATA_DIR", directory_owner=ME)
    path.touch()
    path.chmod(mode)
    owned(monkeypatch, path, user=user)
    if refused is None:
        check_kept_file(path, "ALICIACFG_DATA_DIR", directory_owner=ME)
    else:
        with pytest.raises(SettingsError, match=refused):
            check_kept_file(path, "ALICIACFG_DATA_DIR", directory_owner=ME)


@pytest.mark.parametrize("what", ["link", "link to nothing", "directory", "pipe"])
def test_a_kept_file_is_a_file(tmp_path: Path, what: str):
    """A link would lead keys and database elsewhere."""
    path = tmp_path / "keys.json"
    if what == "directory":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        (tmp_path / "elsewhere").touch()
        path.symlink_to(tmp_path / ("elsewhere" if what == "link" else "nowhere"))
    with pytest.raises(SettingsError, match=str(path)):
        check_kept_file(path, "ALICIACFG_DATA_DIR", directory_owner=ME)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("mode", "user", "finding"),
    [
        (0o600, ME, None),
        (0o400, 0, None),
        # Root's, for a group of this user.
        (0o640, 0, None),
        (0o640, ME, "readable"),
        (0o644, ME, "readable"),
        (0o644, 0, "readable"),
        (0o600, OTHER, "belongs to user 4321"),
        (0o644, OTHER, "belongs to user 4321"),
        (0o602, ME, "chmod go-w"),
        (0o620, ME, "chmod go-w"),
    ],
)
def test_a_secret_that_others_know_or_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, user: int, finding: str | None, strict: bool
):
    """One that others can only read is refused where that is strict, else a warning."""
    path = tmp_path / "token"
    path.touch()
    path.chmod(mode)
    owned(monkeypatch, path, user=user)
    if finding is None or (finding == "readable" and not strict):
        remedy = check_secret_file(path, "MQTT_PASSWORD_FILE", strict=strict)
        assert (remedy is not None and "chmod 600" in remedy) == (finding == "readable")
    else:
        expected = "chmod 600" if finding == "readable" else finding
        with pytest.raises(SettingsError, match=f"MQTT_PASSWORD_FILE: .*{expected}"):
            check_secret_file(path, "MQTT_PASSWORD_FILE", strict=strict)


def test_a_mounted_secret_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Kubernetes mounts it read-only, owned by root, with mode 0644, behind links."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "token").write_text("t")
    (tmp_path / "..data").symlink_to("..2026")
    path = tmp_path / "token"
    path.symlink_to("..data/token")
    owned(monkeypatch, path, user=0)
    monkeypatch.setattr("os.statvfs", lambda _path: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert check_secret_file(path, "ALICIACFG_ADMIN_TOKEN_FILE", strict=True) is None
