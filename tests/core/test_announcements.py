"""What the store knows of the messages that the bus holds."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from aliciacfg.core import announcements
from aliciacfg.model.records import Write
from builders import valid_config
from inprocess import Core, Home, eventually

FILES = {"environments/dev.yaml": {"services": {"bell": valid_config()}}}


def hold_all(core: Core) -> None:
    """The bus was seen to hold every message."""
    for item in core.parts.outbox.due():
        core.parts.outbox.confirm(item)


def stored_as_pending(home: Home) -> int:
    """The messages of which the store does not know that the bus holds them."""
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        return connection.execute("SELECT count(*) FROM outbox WHERE pending").fetchone()[0]


async def test_a_stop_stores_what_the_bus_holds(tmp_path: Path):
    """Nothing is published again after it, though it came before the second was over."""
    home = Home(tmp_path, FILES)
    async with home.core() as core:
        hold_all(core)
    async with home.core() as core:
        assert core.parts.outbox.pending == 0


async def test_what_the_bus_does_not_hold_stays_pending_over_a_stop(tmp_path: Path):
    """Also a message that replaced one that it was seen to hold."""
    home = Home(tmp_path, FILES)
    async with home.core() as core:
        hold_all(core)
        await core.ask("patch", "bell", patch={"settings": {"size": 1}})
    async with home.core() as core:
        assert [item.subject for item in core.parts.outbox.due()] == ["service/bell"]


async def test_many_confirmations_are_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Those of one pause; a write that comes in between waits for none of them."""
    monkeypatch.setattr(announcements, "_CONFIRMATION_SECONDS", 0)
    home = Home(tmp_path, FILES)
    async with home.core() as core:
        hold_all(core)
        assert stored_as_pending(home) > 1
        task = asyncio.create_task(core.parts.announcements.store_confirmations_forever())
        await asyncio.sleep(0)
        assert core.parts.queue.waiting == 0
        core.parts.announcements.note_drained()
        await eventually(lambda: stored_as_pending(home) == 0)
        task.cancel()


def watched_pieces(core: Core, monkeypatch: pytest.MonkeyPatch, number: int) -> tuple[list[int], asyncio.Event]:
    """The sizes of the pieces in which confirmations are stored, and an event once there are so many of them."""
    written = core.parts.queue.submit
    pieces: list[int] = []
    reached = asyncio.Event()

    def submit(write: Write, on_commit: Callable[[], None] | None = None) -> asyncio.Future[None]:
        if write.confirmed:
            pieces.append(len(write.confirmed))
            if len(pieces) == number:
                reached.set()
        return written(write, on_commit)

    monkeypatch.setattr(core.parts.queue, "submit", submit)
    return pieces, reached


async def test_confirmations_of_a_large_home_are_stored_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A write that comes meanwhile is durable before most of them are."""
    monkeypatch.setattr(announcements, "_CONFIRMATION_SECONDS", 0)
    monkeypatch.setattr(announcements, "_CONFIRMATIONS_AT_ONCE", 2)
    services = {f"lamp_{number}": valid_config() for number in range(20)}
    home = Home(tmp_path, {"environments/dev.yaml": {"services": services}})
    async with home.core() as core:
        hold_all(core)
        pieces, first = watched_pieces(core, monkeypatch, 1)
        task = asyncio.create_task(core.parts.announcements.store_confirmations_forever())
        core.parts.announcements.note_drained()
        await first.wait()
        await core.ask("patch", "lamp_0", patch={"settings": {"size": 1}})
        assert len(pieces) < 10
        await eventually(lambda: stored_as_pending(home) == 1)
        assert set(pieces) == {2}
        task.cancel()


async def test_a_stop_between_two_pieces_stores_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The daemon stops in order while half of the confirmations are stored: the next start publishes nothing again."""
    monkeypatch.setattr(announcements, "_CONFIRMATION_SECONDS", 0)
    monkeypatch.setattr(announcements, "_CONFIRMATIONS_AT_ONCE", 2)
    services = {f"lamp_{number}": valid_config() for number in range(20)}
    home = Home(tmp_path, {"environments/dev.yaml": {"services": services}})
    async with home.core() as core:
        hold_all(core)
        _, half = watched_pieces(core, monkeypatch, 5)
        task = asyncio.create_task(core.parts.announcements.store_confirmations_forever())
        core.parts.announcements.note_drained()
        await half.wait()
        task.cancel()
        assert 0 < stored_as_pending(home) < 20
    async with home.core() as core:
        assert core.parts.outbox.pending == 0
