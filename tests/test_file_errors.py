"""Why a file cannot be used, with the remedy that fits the error."""

import errno
import os
import pwd
from pathlib import Path

import pytest

from aliciacfg.atomic_files import LinkRefused, replace_file
from aliciacfg.errors import SourceError
from aliciacfg.file_errors import reason, unreadable, unwritable
from aliciacfg.text_files import read_text

DENIED = PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "mount it for writing"),
        (errno.EIO, "dmesg"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "fs.file-max"),
        (errno.EFBIG, "ulimit -f"),
        (errno.ENAMETOOLONG, "a shorter name"),
    ],
)
def test_the_remedy_fits_the_error(tmp_path: Path, number: int, remedy: str):
    """Advice on rights helps against none of these, so it is not given."""
    path = tmp_path / "file"
    for said in (reason(error(number), denied="chown it"), unwritable(path, error(number))):
        assert os.strerror(number) in said
        assert remedy in said
        assert "chown" not in said
        assert "chmod" not in said
    assert remedy in unreadable(path, error(number))


def test_a_link_that_leads_back_to_itself_is_the_reason(tmp_path: Path):
    """And not an error of its own while the reason is worded."""
    path = tmp_path / "loop"
    path.symlink_to(path)
    with pytest.raises(LinkRefused) as refused:
        replace_file(path, b"", follow_links=False)
    assert unwritable(path, refused.value) == f"{path} cannot be written: it is a link; remove it"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_missing_right_has_the_advice_of_the_caller(number: int):
    """Only it knows the place; and an error without advice is its text alone."""
    assert reason(error(number), denied="chown it") == f"{os.strerror(number)}; chown it"
    assert reason(error(errno.EBUSY), denied="chown it") == os.strerror(errno.EBUSY)
    assert reason(OSError("odd")) == "odd"


def test_why_a_file_cannot_be_written_says_who_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The directory decides, as files are replaced."""
    path = tmp_path / "base.yaml"
    begin = f"{path} cannot be written: "
    assert "immutable" in unwritable(path, DENIED)
    tmp_path.chmod(0o555)
    assert unwritable(path, DENIED) == f"{begin}Permission denied; {tmp_path} has mode 0555: chmod u+w {tmp_path}"
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    user = pwd.getpwuid(os.getuid()).pw_name
    assert unwritable(path, DENIED) == f"{begin}Permission denied; {tmp_path} belongs to {user}: run it as that user"
    gone = tmp_path / "gone"
    missing = unwritable(gone / "file", error(errno.ENOENT))
    assert missing == f"{gone / 'file'} cannot be written: there is no directory {gone}; make it first"


def test_a_private_file_of_another_user_says_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A key that root has made, for example, and the daemon is to read."""
    path = tmp_path / "file"
    path.touch()
    assert unreadable(path, DENIED) == f"{path} cannot be read: Permission denied"
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    user = pwd.getpwuid(os.getuid()).pw_name
    assert unreadable(path, DENIED) == (
        f"{path} cannot be read: Permission denied; it belongs to {user}: chown 12345 {path}"
    )
    assert "may not enter its directory" in unreadable(tmp_path / "gone" / "file", DENIED)


def test_a_file_of_the_home_that_may_not_be_read_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By the name that it has in problems."""
    path = tmp_path / "dev.yaml"
    path.touch()
    path.chmod(0o200)

    def refuse(*_: object) -> int:
        raise DENIED

    monkeypatch.setattr(os, "open", refuse)
    said: list[str] = []
    for user in (os.getuid(), 12345):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        with pytest.raises(SourceError) as refused:
            read_text(path, "environments/dev.yaml")
        said += [problem.message for problem in refused.value.problems]
    owner = pwd.getpwuid(os.getuid()).pw_name
    assert said == [
        "cannot be read: Permission denied; chmod u+rX environments/dev.yaml",
        f"cannot be read: Permission denied; it belongs to {owner}: chown 12345 environments/dev.yaml",
    ]
