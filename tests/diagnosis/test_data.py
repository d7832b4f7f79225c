"""What is wrong with a data directory."""

import asyncio
import os
from pathlib import Path

import pytest

from aliciacfg.diagnosis.data import look_at_data
from builders import environment_file
from inprocess import Home


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory that a daemon has written, and let go."""
    home = Home(tmp_path, {"environments/base.yaml": environment_file({"bell": {}}), "environments/dev.yaml": ""})

    async def start() -> None:
        async with home.core():
            pass

    asyncio.run(start())
    return home.directory / "data"


def found(data: Path) -> dict[str, str]:
    """The level of what was looked at; the worst one counts."""
    order = ["ok", "warn", "fail"]
    levels: dict[str, str] = {}
    for finding in look_at_data(data):
        levels[finding.about] = max(levels.get(finding.about, "ok"), finding.level, key=order.index)
    return levels


def remedies(data: Path) -> str:
    return " ".join(finding.remedy for finding in look_at_data(data))


def test_all_is_well(data: Path):
    """Owner, keys, database and disk; a directory that is not there yet is no problem either."""
    levels = found(data)
    assert {levels[about] for about in ("data", "keys", "database")} == {"ok"}
    assert found(data.parent / "none") == {"data": "ok"}


def test_keys_that_are_missing_readable_or_broken(data: Path):
    """Each is told with what to do; a first start without any is well."""
    keys = data / "keys.json"
    content = keys.read_bytes()
    keys.chmod(0o640)
    assert found(data)["keys"] == "fail"
    assert f"chmod 600 {keys}" in remedies(data)
    keys.unlink()
    assert found(data)["keys"] == "fail"
    assert "aliciacfg restore" in remedies(data)
    keys.touch(0o600)
    keys.write_bytes(content[:-20])
    assert found(data)["keys"] == "fail"
    assert repr(content[20:60]) not in remedies(data)
    for path in data.iterdir():
        path.unlink()
    assert found(data)["keys"] == "ok"


def test_a_directory_that_others_can_write(data: Path):
    """They could put keys there; that they can look into it is a warning."""
    data.chmod(0o777)
    assert found(data)["data"] == "fail"
    assert f"chmod go-w {data}" in remedies(data)
    data.chmod(0o755)
    assert found(data)["data"] == "warn"


def test_what_is_left_over(data: Path):
    """Of a restore or a backup that was interrupted; and earlier states, with the command that removes them."""
    (data / "before-restore-1").mkdir()
    (data / ".replacement-decided").mkdir()
    (data / ".snapshot-0a1b").mkdir()
    messages = " ".join(finding.message for finding in look_at_data(data) if finding.about == "leftovers")
    assert ".replacement-decided" in messages
    assert ".snapshot-0a1b" in messages
    assert f"rm -r {data / 'before-restore-1'}" in remedies(data)


def test_a_clock_that_is_behind(data: Path):
    """A file of the daemon was written in this machine's future."""
    later = (data / "keys.json").stat().st_mtime + 86_400
    os.utime(data / "keys.json", (later, later))
    assert found(data)["clock"] == "fail"


def test_a_row_that_was_changed_is_found(data: Path):
    """The database is verified as check does it."""
    wal = next(data.glob("aliciacfg.db*"))
    wal.write_bytes(wal.read_bytes()[:100])
    assert found(data)["database"] == "fail"
