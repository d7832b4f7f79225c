"""The key-encryption key: a file for its owner alone, and what it wraps opens with it only."""

import concurrent.futures
import contextlib
import stat
from pathlib import Path

import pytest

from aliciacfg.errors import KeyFileError
from aliciacfg.sealing.key_encryption import KeyEncryptionKey

HOME = "0123456789abcdef"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key-encryption.key"


def test_a_key_is_made_once_and_opens_what_it_wrapped(path: Path):
    """The file is this user's alone; it is the same key after the next start, and never replaced."""
    made = KeyEncryptionKey.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    wrapped = made.wrap(b"planted", HOME, 7)
    assert b"planted" not in wrapped
    again = KeyEncryptionKey.load(path)
    assert (again.key_id, again.unwrap(wrapped, HOME, 7)) == (made.key_id, b"planted")
    with pytest.raises(KeyFileError, match="exists already"):
        KeyEncryptionKey.create(path)


def test_nothing_else_opens(path: Path, tmp_path: Path):
    """Neither with another key, nor for another home, nor when a byte differs or is missing."""
    key = KeyEncryptionKey.create(path)
    wrapped = key.wrap(b"planted", HOME, 7)
    assert KeyEncryptionKey.create(tmp_path / "other").unwrap(wrapped, HOME, 7) is None
    assert key.unwrap(wrapped, HOME, 8) is None
    assert key.unwrap(wrapped, "fedcba9876543210", 7) is None
    assert key.unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]), HOME, 7) is None
    assert key.unwrap(wrapped[:10], HOME, 7) is None


@pytest.mark.parametrize("content", ["", "?", "AAAA", "planted-secret"])
def test_another_file_is_refused_and_not_quoted(path: Path, content: str):
    """It says what was expected."""
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="expected 32 bytes in base64") as told:
        KeyEncryptionKey.load(path)
    assert "planted" not in str(told.value)


def test_a_file_that_others_can_read_is_refused(path: Path):
    """With the command that mends it."""
    KeyEncryptionKey.create(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="run: chmod 600"):
        KeyEncryptionKey.load(path)


def test_of_two_that_make_a_key_at_once_one_does(tmp_path: Path):
    """The other one is refused, so that each names the key that is in the file."""
    made: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for begun in [pool.submit(KeyEncryptionKey.create, tmp_path / "kek") for _ in range(8)]:
            with contextlib.suppress(KeyFileError):
                made.append(begun.result().key_id)
    assert made == [KeyEncryptionKey.load(tmp_path / "kek").key_id]
    assert [path.name for path in tmp_path.iterdir()] == ["kek"]


def test_a_link_to_nowhere_is_said_to_be_one(tmp_path: Path):
    """And is not replaced."""
    (tmp_path / "kek").symlink_to(tmp_path / "gone")
    with pytest.raises(KeyFileError, match="is a link to a file that is missing"):
        KeyEncryptionKey.create(tmp_path / "kek")
