"""The note on which port the broker of ``serve --dev`` is."""

from pathlib import Path

import pytest

from aliciacfg.mqtt.broker.dev_port import forget_port, noted_port, read_port


def test_the_port_is_noted_for_as_long_as_the_daemon_runs(tmp_path: Path):
    """Only its owner can read the note; a directory that cannot be written is no error."""
    with noted_port(tmp_path, 40123):
        assert read_port(tmp_path) == 40123
        (note,) = tmp_path.iterdir()
        assert note.stat().st_mode & 0o777 == 0o600
    assert read_port(tmp_path) is None
    with noted_port(tmp_path / "missing", 1):
        assert read_port(tmp_path / "missing") is None
    forget_port(tmp_path / "missing")


@pytest.mark.parametrize("text", ["", "x", "0", "65536", "1883 1884", "-1", "9" * 5000, "\xff"])
def test_what_is_no_port_is_not_used(tmp_path: Path, text: str):
    """Somebody else may have written it."""
    with noted_port(tmp_path, 1):
        (note,) = tmp_path.iterdir()
        note.write_bytes(text.encode("latin-1"))
        assert read_port(tmp_path) is None
