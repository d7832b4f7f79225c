"""Keys that another daemon of the home changed."""

import asyncio
import threading
from pathlib import Path

from aliciacfg.core.key_reloads import KeyReloads
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.sealing.key_store import FileKeyStore


class SlowStore(FileKeyStore):
    """A key file each of whose reads ends when the test says so; by then what it found may be older."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.begun = threading.Semaphore(0)
        self.ends: list[threading.Event] = []

    def load(self) -> bytes | None:
        found = super().load()
        end = threading.Event()
        self.ends.append(end)
        self.begun.release()
        end.wait(10)
        return found


async def test_a_look_that_was_slower_hides_no_newer_keys(tmp_path: Path):
    """The one of each minute, say, beside the one that a change asks for."""
    path = tmp_path / "keys.json"
    made = KeyFile.create(path, now=1.5)
    store = SlowStore(path)
    keyring = made.make_keyring()
    reloads = KeyReloads(KeyFile(store, made.content), keyring, Alerts(lambda: 1.5))
    first = asyncio.create_task(reloads.reload())
    assert await asyncio.to_thread(store.begun.acquire, timeout=10)
    rotated = KeyFile.load(path).rotate(now=2.5)
    second = asyncio.create_task(reloads.reload())
    has_begun = await asyncio.to_thread(store.begun.acquire, timeout=0.3)
    store.ends[0].set()
    assert await first
    assert has_begun or await asyncio.to_thread(store.begun.acquire, timeout=10)
    store.ends[1].set()
    assert await second
    assert keyring.current == rotated
