"""A load of the files that changes very many services: it is planned in slices, and others go on in between."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from aliciacfg.core import reloads
from aliciacfg.errors import SourceError, Unavailable
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Write
from builders import environment_file
from inprocess import Core, Home, eventually

SERVICES = [f"lamp_{number:02}" for number in range(40)]
DEV = "environments/dev.yaml"


def files(size: int) -> dict[str, object]:
    """A file in which every service has the same number in two places."""
    return environment_file({name: {} for name in SERVICES}, settings={"size": size, "copy": size})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(reloads, "_MANY_SERVICES", 10)
    return Home(tmp_path, {DEV: files(1)})


@pytest.fixture
async def core(home: Home) -> AsyncGenerator[Core]:
    async with home.core() as made:
        yield made


async def begin(core: Core, size: int) -> asyncio.Task[reloads.ReloadResult]:
    """Begin a load of a file that changes every service, and return when some services are planned."""
    core.write(DEV, files(size))
    load = asyncio.create_task(core.parts.reloads.reload())
    await eventually(core.parts.commits._planning.locked)  # pyright: ignore[reportPrivateUsage]
    for _ in range(10):
        await asyncio.sleep(0)
    assert not load.done()
    return load


async def served(core: Core) -> list[dict[str, int]]:
    return [await core.settings(service) for service in SERVICES]


async def test_reads_between_slices_see_the_old_or_the_new(core: Core):
    """Never a mixture of one configuration, and all are new at once, when the change is durable.

    That may be between two reads: all reads before see the old ones, all reads after it the new ones.
    """
    load = await begin(core, 2)
    seen: list[int] = []
    while not load.done():
        found = await served(core)
        assert all(settings["size"] == settings["copy"] for settings in found)
        seen += [settings["size"] for settings in found]
        await asyncio.sleep(0)
    assert seen == sorted(seen)
    assert seen[0] == 1
    assert {settings["size"] for settings in await served(core)} == {2}
    assert len((await load).changed) == len(SERVICES)


async def test_a_write_between_slices_builds_on_the_whole_change(core: Core):
    """It waits, and what readers are told of it comes after what they are told of the change."""
    load = await begin(core, 2)
    answers = await asyncio.gather(
        *(core.ask("patch", service, patch={"settings": {"own": 7}}) for service in (SERVICES[0], SERVICES[-1]))
    )
    await load
    highest = max([(await core.ask("get", service))["sequence"] for service in SERVICES[1:-1]])
    for service, answer in zip((SERVICES[0], SERVICES[-1]), answers, strict=True):
        found = await core.ask("get", service)
        assert found["config"]["settings"] == {"size": 2, "copy": 2, "own": 7}
        assert (found["revision"], answer["revision"]) == (3, 3)
        assert found["sequence"] > highest


async def test_another_load_between_slices_waits_and_wins(core: Core):
    """The files that were read later are in force in the end, and each load counts for one revision."""
    load = await begin(core, 2)
    core.write(DEV, files(3))
    await core.ask("reload")
    assert load.done()
    assert {settings["size"] for settings in await served(core)} == {3}
    assert (await core.ask("get", SERVICES[0]))["revision"] == 3


async def test_a_load_that_is_cancelled_between_slices_changes_nothing(core: Core):
    """Everything is as before, nothing is announced, nothing stays locked; the next load does it all."""
    for item in core.parts.outbox.due():
        core.parts.outbox.confirm(item)
    threshold = gc.get_threshold()
    load = await begin(core, 2)
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert {settings["size"] for settings in await served(core)} == {1}
    assert (core.parts.outbox.pending, gc.get_threshold()) == (0, threshold)
    assert len((await core.ask("reload"))["changed"]) == len(SERVICES)
    assert {settings["size"] for settings in await served(core)} == {2}


async def test_a_stop_between_slices_loses_nothing(home: Home):
    """The daemon stops in the middle of a load: the next one serves the new files, in one revision more."""
    async with home.core() as core:
        load = await begin(core, 2)
        load.cancel()
        await asyncio.wait({load})
    async with home.core() as core:
        assert {settings["size"] for settings in await served(core)} == {2}
        assert {(await core.ask("get", service))["revision"] for service in SERVICES} == {2}


async def test_a_store_that_fails_takes_nothing_of_a_change_of_all(core: Core, monkeypatch: pytest.MonkeyPatch):
    """All or nothing: after the failure everything is as before, and a later load is whole."""
    store = core.parts.store
    commit = store.commit

    async def fail(writes: Sequence[Write]) -> None:
        if any(write.records for write in writes):
            raise Unavailable("The disk is full.")
        await commit(writes)

    load = await begin(core, 2)
    monkeypatch.setattr(store, "commit", fail)
    with pytest.raises(Unavailable):
        await load
    assert {settings["size"] for settings in await served(core)} == {1}
    monkeypatch.setattr(store, "commit", commit)
    await core.ask("reload")
    assert {settings["size"] for settings in await served(core)} == {2}
    for service in SERVICES:
        assert core.parts.state.committed(ConfigId("dev", service)).revision == 2


async def test_a_refused_change_of_all_leaves_the_files_before_in_force(core: Core):
    """What was freed or put out of sight for a load that fails is still there: every value is explained."""
    broken = files(2)
    broken["services"] = {name: {"limits": {"x": "many"}} if name == SERVICES[-1] else {} for name in SERVICES}
    core.write(DEV, broken)
    with pytest.raises(SourceError):
        await core.parts.reloads.reload()
    for service in SERVICES:
        explained = await core.ask("explain", service)
        assert explained["values"]["/settings/size"]["value"] == 1
        assert explained["values"]["/settings/size"]["line"] is not None
    await core.ask("patch", SERVICES[-1], patch={"settings": {"own": 7}})
    assert await core.settings(SERVICES[-1]) == {"size": 1, "copy": 1, "own": 7}
