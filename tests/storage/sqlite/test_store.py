"""The connections of the SQLite store, their threads, and the witness file."""

import shutil
import threading
from pathlib import Path

import pytest

from aliciacfg.errors import Blocked
from aliciacfg.model.records import Overlay, Position, Write
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.database import SqliteDatabase
from aliciacfg.storage.sqlite.store import SqliteStore
from aliciacfg.storage.witness import FILE_NAME, Witness
from inprocess import eventually
from stored_rows import CHAIN


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


def at(sequence: int) -> Write:
    """A write that readers are told of."""
    return Write(position=Position(1, sequence))


async def test_the_witness_follows_the_commits(tmp_path: Path):
    """While the store is open, soon; when it is closed, at once; always the last of several commits."""
    witness = Witness(tmp_path / FILE_NAME, CHAIN)
    async with SqliteStore.open(tmp_path / "db", CHAIN) as store:
        for sequence in (1, 2, 3):
            await store.commit([at(sequence)])
        await eventually(lambda: witness.read() == Position(1, 3))
        await store.commit([at(4), at(5), Write()])
        assert await store.witnessed() == Position(1, 5)
        await store.commit([at(6)])
    assert witness.read() == Position(1, 6)


async def test_one_thread_writes_the_witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In the order of the commits, whatever asks for it: an older position never replaces a newer one."""
    written: list[tuple[int, int]] = []
    write = Witness.write

    def noting(witness: Witness, position: Position) -> None:
        written.append((position.sequence, threading.get_ident()))
        write(witness, position)

    monkeypatch.setattr(Witness, "write", noting)
    async with SqliteStore.open(tmp_path / "db", CHAIN) as store:
        await store.commit([at(1)])
        await eventually(lambda: len(written) == 1)
        await store.commit([at(2)])
        assert await store.witnessed() == Position(1, 2)
        await store.commit([at(3)])
    assert [sequence for sequence, _ in written] == [1, 2, 3]
    threads = {thread for _, thread in written}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("name", ["aliciacfg.db", "aliciacfg.db-wal", ""])
async def test_a_database_that_was_moved_is_not_written_on(tmp_path: Path, name: str):
    """A file or the directory is moved, another is there or not: no write gets lost in it; moved back, it goes on."""
    place, away = tmp_path / "data", tmp_path / "away"
    place.mkdir()
    async with SqliteDatabase(place).open(CHAIN) as store:
        await store.commit([Write(overlays=(Overlay("dev", "one", b"{}", {}),))])
        (place / name).rename(away)
        with pytest.raises(Blocked, match="was removed, moved or replaced while the daemon runs"):
            await store.commit([Write(overlays=(Overlay("dev", "two", b"{}", {}),))])
        if name:
            shutil.copy(away, place / name)
            with pytest.raises(Blocked):
                await store.commit([Write(overlays=(Overlay("dev", "three", b"{}", {}),))])
        else:
            assert not place.exists()
        away.rename(place / name)
        await store.commit([Write(overlays=(Overlay("dev", "four", b"{}", {}),))])
    async with SqliteDatabase(place).open(CHAIN) as store:
        assert {found.service for found in (await store.load()).overlays} == {"one", "four"}
