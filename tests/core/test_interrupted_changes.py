"""Whatever fails or is cancelled while changes overlap, memory, store and announcements agree afterwards."""

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import pytest

from aliciacfg.core.restore import restore
from aliciacfg.errors import OperationError, SourceError, Unavailable, Unconfirmed
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Announcement, Position, Write
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.storage.write_queue import Unfinished
from builders import environment_file
from inprocess import Core, Home, eventually

SERVICES = [f"service_{number}" for number in range(4)]
CHANGES = 60


class FaultyDisk:
    """In place of a store's commit: some fail, and of some it is not known for a while whether they were made."""

    def __init__(self, core: Core, dice: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
        store = core.parts.store
        self._commit, self._dice = store.commit, dice
        self._made = False
        self.repaired = False
        monkeypatch.setattr(store, "commit", self.commit)
        monkeypatch.setattr(store, "settle", self.settle)
        monkeypatch.setattr(core.parts.queue, "_probe_seconds", 0.01)

    async def commit(self, writes: Sequence[Write]) -> None:
        chance = 1.0 if self.repaired else self._dice.random()
        await asyncio.sleep(self._dice.choice([0, 0, 0.001, 0.003]))
        if chance < 0.02:
            raise Unavailable("The disk is full.")
        self._made = chance >= 0.03
        if self._made:
            await self._commit(writes)
        if chance < 0.05:
            raise Unconfirmed("The disk failed.")

    async def settle(self) -> bool:
        if not self.repaired and self._dice.random() < 0.3:
            raise Unavailable("The disk still fails.")
        return self._made


def follow(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that what is announced of a subject is always newer than what was announced of it before."""
    add = core.parts.outbox.add
    last: dict[str, tuple[int, int]] = {}

    def add_newer(announcements: Iterable[Announcement]) -> None:
        for item in (listed := list(announcements)):
            epoch = json.loads(item.payload)["epoch"] if item.payload else core.parts.state.epoch
            assert (epoch, item.sequence) > last.get(item.subject, (0, 0))
            last[item.subject] = (epoch, item.sequence)
        add(listed)

    monkeypatch.setattr(core.parts.outbox, "add", add_newer)


def changes(core: Core, dice: random.Random) -> list[Callable[[], Awaitable[object]]]:
    """Return every way to change what readers are told."""
    state, order = core.parts.state, core.parts.order

    async def edit_a_file() -> None:
        core.write("environments/prod.yaml", {"defaults": {"settings": {"size": dice.randrange(100)}}})
        await core.ask("reload")

    async def go_back() -> None:
        await order.start(Position(state.epoch + dice.randrange(2), state.sequence + 5))

    def patch(service: str) -> Awaitable[object]:
        return core.ask("patch", service, patch={"settings": {"number": dice.randrange(1000)}})

    updates = [{"service": service, "patch": {"settings": {"text": "x"}}} for service in SERVICES[:2]]
    return [
        lambda: patch(dice.choice(SERVICES)),
        lambda: patch(dice.choice(SERVICES)),
        lambda: core.ask("delete", dice.choice(SERVICES)),
        lambda: core.ask("rollback", dice.choice(SERVICES), revision=1),
        lambda: core.ask("batch", updates=updates, atomic=dice.random() < 0.5),
        lambda: core.ask("activate", dice.choice(["dev", "prod"])),
        lambda: order.overtake(f"service/{dice.choice(SERVICES)}", Position(state.epoch, state.sequence + 3)),
        edit_a_file,
        go_back,
    ]


async def change_at_random(core: Core, dice: random.Random) -> None:
    """Make changes that overlap, and cancel some of them at any moment."""
    ways = changes(core, dice)

    async def change() -> None:
        with contextlib.suppress(OperationError, SourceError):
            await dice.choice(ways)()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(CHANGES):
        tasks.append(asyncio.create_task(change()))
        if dice.random() < 0.3:
            asyncio.get_running_loop().call_later(dice.random() * 0.01, tasks[-1].cancel)
        await asyncio.sleep(dice.choice([0, 0, 0.002]))
    for found in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(found, Exception):
            raise found


async def check(core: Core) -> None:
    """Compare memory with the store, and what is announced with both."""
    parts, state = core.parts, core.parts.state
    keyring = KeyFile.load(core.home.keys).make_keyring()
    stored = await restore(parts.store, keyring, requested_environment="dev")
    heads = state.all_heads()
    assert stored.entries.keys() == heads.keys()
    for config_id, entry in stored.entries.items():
        assert not state.is_pending(config_id)
        assert (entry.record, entry.overlay) == (heads[config_id].record, heads[config_id].overlay)
    assert (stored.active, stored.position.epoch) == (state.active, state.epoch)
    announced = {item.subject: item.payload for item in stored.announcements}
    assert announced == {item.subject: item.payload for item in parts.outbox.current.values()}
    for service in SERVICES:
        record = state.committed(ConfigId(state.active, service)).live
        assert record is not None
        told = json.loads(announced[f"service/{service}"])
        places = (told["environment"], told["revision"], told["epoch"], told["sequence"])
        assert places == (state.active, record.revision, state.epoch, record.home_sequence)
    assert (await parts.store.verify()).broken == []


async def try_seed(directory: Path, seed: int) -> None:
    dice = random.Random(seed)
    base = environment_file({service: {} for service in SERVICES})
    home = Home(directory, {"environments/base.yaml": base, "environments/dev.yaml": {}, "environments/prod.yaml": {}})
    async with home.core() as core:
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk = FaultyDisk(core, dice, monkeypatch)
            follow(core, monkeypatch)
            await change_at_random(core, dice)
            disk.repaired = True
            await eventually(lambda: core.parts.queue.unfinished == Unfinished(unknown=0, lost=0))
            await core.parts.commits.flush()
            await check(core)


@pytest.mark.parametrize("seed", range(4))
async def test_changes_that_are_interrupted_leave_memory_and_store_agreed(tmp_path: Path, seed: int):
    """Sixty changes of every kind at once, with failing commits and cancelled callers."""
    await try_seed(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_changes_that_are_interrupted_again_and_again(tmp_path: Path):
    """Five hundred seeds."""
    for seed in range(1000, 1500):
        await try_seed(tmp_path / str(seed), seed)
