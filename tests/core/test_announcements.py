"""What the store knows of the messages that the bus holds."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from aliciacfg.core import announcements
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
