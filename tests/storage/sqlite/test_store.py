"""The connections of the SQLite store, and their threads."""

import threading
from pathlib import Path

import pytest

from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.store import SqliteStore


@pytest.mark.parametrize("started", [True, False])
async def test_an_error_while_a_thread_starts_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: bool
):
    """An opening that fails before aliciacfg could ask the thread anything raises the error, and no thread waits."""
    start = threading.Thread.start
    threads: list[threading.Thread] = []

    def fail(thread: threading.Thread) -> None:
        if "connection_worker" not in thread.name:
            start(thread)
            return
        threads.append(thread)
        if started:
            start(thread)
        raise RuntimeError("no thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    chain = Chain(KeyFile.load_or_create(tmp_path / "keys.json", now=0.0).make_keyring())
    with pytest.raises(RuntimeError, match="no thread"):
        async with SqliteStore.open(tmp_path / "aliciacfg.db", chain):
            pass
    assert [thread.is_alive() for thread in threads] == [False]
