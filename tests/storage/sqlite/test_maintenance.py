"""Work on a database file beside the store that has it open."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from aliciacfg.errors import Unavailable
from aliciacfg.storage.sqlite import maintenance
from aliciacfg.storage.sqlite.store import SqliteStore
from stored_rows import CHAIN


async def test_a_file_that_is_open_to_write_is_never_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Closing any descriptor of it would drop the locks of SQLite, and another program could remove its log."""

    def cannot_open(_path: Path, *, more: str = "") -> sqlite3.Connection:
        error = sqlite3.OperationalError(f"unable to open database file{more}")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    async with SqliteStore.open(tmp_path / "aliciacfg.db", CHAIN) as store:
        monkeypatch.setattr(maintenance, "connect_to_read", cannot_open)
        monkeypatch.setattr(shutil, "copyfile", lambda *_: pytest.fail("copied"))
        with pytest.raises(Unavailable, match="unable to open"):
            await store.verify()
