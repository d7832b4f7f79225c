"""The client of a file, in place of a daemon: callbacks, loops, reports by hand, and the blocking form."""

import asyncio
import json
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aliciacfg.client import BlockingConfigClient, Change, Closed, ConfigClient, Rejected, Unavailable
from inprocess import eventually
from machine import wait_until


class Bell(msgspec.Struct):
    volume: int


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bell.json"
    path.write_text('{"volume": 1}')
    return path


def put(file: Path, text: str) -> None:
    file.write_text(text)


def write(file: Path, volume: object) -> None:
    put(file, json.dumps({"service_name": "bell", "settings": {"volume": volume}}))


async def test_a_test_of_a_program_needs_a_file_only(file: Path):
    """Settings alone, a whole document, or the answer to a get; a change is read at ``refresh``."""
    async with ConfigClient.from_file(file, Bell) as config:
        assert (config.current.settings, config.current.source, config.current.stale) == (Bell(1), "live", False)
        changes = config.changes()
        write(file, 2)
        assert (await config.refresh()).settings.volume == 2
        assert "/settings/volume" in (await anext(changes)).changed
        put(file, '{"config": {"settings": {"volume": 3}}, "revision": 9, "status": "success"}')
        assert (await config.refresh()).settings.volume == 3
        write(file, "loud")
        with pytest.raises(Rejected):
            await config.refresh()
        assert (config.current.settings.volume, config.current.stale) == (3, True)
        put(file, "no JSON")
        with pytest.raises(Unavailable, match=f"{file}: .*not JSON"):
            await config.refresh()


async def test_a_callback_that_blocks_or_fails_delays_nobody(file: Path, caplog: pytest.LogCaptureFixture):
    """A plain function runs in a thread; the one that failed gets the next change; each gets the latest."""
    released = threading.Event()
    blocked: list[int] = []
    quick: list[int] = []
    failing: list[int] = []

    def block(change: Change[Bell]) -> None:
        blocked.append(change.settings.volume)
        assert released.wait(20)

    async def take(change: Change[Bell]) -> None:
        quick.append(change.settings.volume)

    async def fail(change: Change[Bell]) -> None:
        failing.append(change.settings.volume)
        raise OSError(f"cannot play at {change.settings.volume}")

    async with ConfigClient.from_file(file, Bell) as config:
        config.on_change(block)
        stop = config.on_change(take)
        # Later watches begin now; the loop has not run in between.
        config.on_change(fail)
        for volume in (2, 3, 4):
            write(file, volume)
            await config.refresh()
            await eventually(lambda: quick[-1:] == failing[-1:] == [config.current.settings.volume])
        assert (blocked, quick, failing) == ([2], [2, 3, 4], [2, 3, 4])
        stop()
        released.set()
        await eventually(lambda: blocked == [2, 4])
        write(file, 5)
        await config.refresh()
        await eventually(lambda: failing[-1] == 5)
        assert quick == [2, 3, 4]
    assert "a callback of bell failed at revision 2" in caplog.text
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_a_callback_that_waited_for_something_cancelled_gets_the_next_change(file: Path):
    """That is no cancellation of the callback itself."""
    heard: list[int] = []

    async def wait_in_vain(change: Change[Bell]) -> None:
        heard.append(change.settings.volume)
        vain: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        vain.cancel()
        await vain

    async with ConfigClient.from_file(file, Bell) as config:
        config.on_change(wait_in_vain)
        for volume in (2, 3):
            write(file, volume)
            await config.refresh()
            await eventually(lambda volume=volume: heard[-1:] == [volume])
        await eventually(lambda: config._reports._newest is not None and config._reports._newest.status == "rejected")


async def test_a_client_is_used_while_it_is_entered(file: Path):
    """Before and after it says so."""
    config = ConfigClient.from_file(file, Bell)
    with pytest.raises(Closed, match="async with"):
        _ = config.current
    with pytest.raises(Closed):
        await config.refresh()
    async with config:
        changes = config.changes()
    with pytest.raises(Closed):
        await config.refresh()
    with pytest.raises(Closed, match="entered once"):
        await config.__aenter__()
    assert [change async for change in changes] == []
    # What it had last can still be read.
    assert config.current.settings.volume == 1


def test_a_program_on_threads_waits_for_changes(file: Path):
    """The time that is over gives None, and loses nothing; closing wakes who waits."""
    with BlockingConfigClient(ConfigClient.from_file(file, Bell)) as config:
        assert (config.current.settings, config.deleted, config.rejection) == (Bell(1), False, None)
        assert config.wait_for_change(0.01) is None
        write(file, 2)
        assert config.refresh().settings.volume == 2
        change = config.wait_for_change(20)
        assert change is not None
        assert change.settings.volume == 2
        heard: list[Any] = []
        stop = config.on_change(heard.append)
        write(file, 3)
        config.refresh()
        change = config.wait_for_change()
        while not heard:
            threading.Event().wait(0.001)
        assert heard[0].settings.volume == 3
        stop()
        config.report("restart_pending")
        last: list[object] = []
        waiting = threading.Thread(target=lambda: last.append(config.wait_for_change()))
        waiting.start()
        name = f"configuration of {file.stem}"
        assert name in {thread.name for thread in threading.enumerate()}
    waiting.join(20)
    assert last == [None]
    assert name not in {thread.name for thread in threading.enumerate()}
    config.close()
    with pytest.raises(Closed):
        config.refresh()
    with pytest.raises(Closed):
        config.wait_for_change(0)


def test_a_callback_on_a_thread_may_close_the_client_and_cannot_end_the_program(file: Path):
    """``sys.exit`` there is a failure like any other; whoever waits for a change gets None at the end."""
    heard: list[int] = []

    def take(change: Change[Bell]) -> None:
        heard.append(change.settings.volume)
        if change.settings.volume == 2:
            sys.exit(3)
        config.close()
        heard.append(0)

    config = BlockingConfigClient(ConfigClient.from_file(file, Bell)).open()
    config.on_change(take)
    write(file, 2)
    config.refresh()
    while not heard:
        threading.Event().wait(0.001)
    write(file, 3)
    config.refresh()
    wait_until(lambda: f"configuration of {file.stem}" not in {thread.name for thread in threading.enumerate()})
    assert heard == [2, 3, 0]
    config.close()


def test_a_program_on_threads_learns_why_it_cannot_start(tmp_path: Path):
    """And no thread stays."""
    threads = threading.active_count()
    with (
        pytest.raises(Unavailable, match="cannot be read"),
        BlockingConfigClient(ConfigClient.from_file(tmp_path / "none.json")),
    ):
        pass
    assert threading.active_count() == threads


async def test_a_report_about_a_configuration_that_passed_is_none(file: Path):
    """Another one came while the program was busy with it; that one is another matter."""
    async with ConfigClient.from_file(file, Bell) as config:
        changes = config.changes()
        write(file, 2)
        await config.refresh()
        change = await anext(changes)
        write(file, 3)
        await config.refresh()
        await config.report("rejected", "too loud", of=change)
        following = await anext(changes)
        await config.report("restart_pending", of=following)
        assert config._reports._newest is not None
        assert (config._reports._newest.revision, config._reports._newest.status) == (1, "applied")
        # One that came, and went before the program looked, leaves an equal one.
        for volume in (4, 3):
            write(file, volume)
            await config.refresh()
        await config.report("restart_pending", of=following)
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        assert (config._reports._newest.revision, config._reports._newest.status) == (5, "restart_pending")
        waiting.cancel()
