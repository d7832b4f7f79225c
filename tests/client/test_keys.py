"""The file of a service's private key."""

from pathlib import Path

import pytest

from aliciacfg.client.keys import KeyFile
from aliciacfg.errors import SettingsError
from aliciacfg.sealing.boxes import PrivateKey


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        ("", 0o600, "holds no key; `aliciacfg recipient new` makes one"),
        ("# nothing\n", 0o600, "holds no key"),
        ("not base64!\n", 0o600, "found no base64"),
        ("AAAA\n", 0o600, "expected an X25519 private key"),
        (PrivateKey.generate().reveal(), 0o644, "chmod 600"),
    ],
    ids=["empty", "comment", "text", "short", "readable"],
)
def test_a_file_that_is_no_secret_or_no_key_is_refused(tmp_path: Path, content: str, mode: int, problem: str):
    """With the variable, the file and the remedy, and without what it holds."""
    path = tmp_path / "bell.key"
    path.touch(0o600)
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(SettingsError, match=f"ALICIACFG_KEY_FILE: .*{problem}") as caught:
        KeyFile(path).load()
    assert not content.strip() or content.strip() not in str(caught.value).replace("# nothing", "")


def test_a_directory_is_refused(tmp_path: Path):
    """And says so."""
    tmp_path.chmod(0o700)
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        KeyFile(tmp_path).load()
