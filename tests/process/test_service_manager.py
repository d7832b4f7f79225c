"""Messages to the service manager, received on real sockets."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import pytest

from aliciacfg.process.service_manager import ServiceManager
from inprocess import eventually
from manager_socket import ManagerSocket


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ManagerSocket]:
    made = ManagerSocket(str(tmp_path / "notify"))
    yield made
    made.close()


@contextlib.asynccontextmanager
async def reporting(
    manager: ServiceManager, *, status: Callable[[], str] = lambda: "fine", alive: bool = True
) -> AsyncGenerator[None, None]:
    async def is_alive() -> bool:
        return alive

    task = asyncio.create_task(manager.report_forever(status, is_alive))
    yield
    task.cancel()
    manager.close()


def test_the_variables_are_taken_once():
    """They are removed, so that a child, such as the broker of --dev, does not speak in the daemon's name."""
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "7", "HOME": "/root"}
    manager = ServiceManager.from_environment(environ, pid=7)
    assert environ == {"HOME": "/root"}
    assert manager.present
    manager.close()


async def test_without_a_service_manager_nothing_happens():
    """Every call returns, and no task goes on."""
    manager = ServiceManager.from_environment({}, pid=1)
    async with manager.starting():
        manager.ready()
    with manager.reloading():
        manager.stopping()

    async def never() -> bool:
        raise AssertionError

    await manager.report_forever(lambda: "fine", never)
    assert not manager.present


@pytest.mark.parametrize("abstract", [False, True])
async def test_messages_arrive_at_both_kinds_of_socket(tmp_path: Path, abstract: bool):
    """A path, and a name in the abstract namespace."""
    address = f"@aliciacfg{tmp_path}" if abstract else str(tmp_path / "socket")
    receiver = ManagerSocket(address)
    manager = ServiceManager(address)
    manager.ready()
    manager.stopping()
    assert receiver.received() == ["READY=1", "STOPPING=1"]
    manager.close()
    receiver.close()


async def test_signs_of_life_come_while_the_daemon_works(receiver: ManagerSocket):
    """At half the time that the manager allows; none if the daemon finds that it hangs."""
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": receiver.address, "WATCHDOG_USEC": "20000"}, pid=1)
    seen: list[str] = []
    async with reporting(manager):
        await eventually(lambda: seen.extend(receiver.received()) or seen.count("WATCHDOG=1") >= 3)
    hanging = ServiceManager.from_environment({"NOTIFY_SOCKET": receiver.address, "WATCHDOG_USEC": "20000"}, pid=1)
    receiver.received()
    states = iter(f"state {number}" for number in range(1000))
    async with reporting(hanging, status=lambda: next(states), alive=False):
        await eventually(lambda: seen.extend(receiver.received()) or "STATUS=state 3" in seen)
    assert "WATCHDOG=1" not in seen[seen.index("STATUS=state 0") :]


@pytest.mark.parametrize("others", [{"WATCHDOG_PID": "2"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}])
async def test_no_sign_of_life_where_none_is_expected(receiver: ManagerSocket, others: dict[str, str]):
    """The variables are for another process, or switch the watchdog off."""
    environ = {"NOTIFY_SOCKET": receiver.address, "WATCHDOG_USEC": "20000", **others}
    manager = ServiceManager.from_environment(environ, pid=1)
    manager.ready()
    seen: list[str] = []
    async with reporting(manager):
        await eventually(lambda: seen.extend(receiver.received()) or "STATUS=fine" in seen)
    assert seen == ["READY=1", "STATUS=fine"]


async def test_the_start_is_extended_until_the_daemon_is_ready(receiver: ManagerSocket):
    """While it loads, and while only the broker is missing; then, after a time, it counts as started all the same."""
    manager = ServiceManager(receiver.address, patience_seconds=0.0)
    async with manager.starting():
        await eventually(lambda: receiver.received() == ["EXTEND_TIMEOUT_USEC=60000000"])
    with manager.reloading():
        assert receiver.received() == []
    seen: list[str] = []
    async with reporting(manager, status=lambda: "degraded: no connection\nto the broker"):
        await eventually(lambda: seen.extend(receiver.received()) or "READY=1" in seen)
    assert seen == ["STATUS=degraded: no connection to the broker", "EXTEND_TIMEOUT_USEC=60000000", "READY=1"]


async def test_a_reload_is_told_with_its_time(receiver: ManagerSocket):
    """RELOADING with the monotonic time, as Type=notify-reload expects it, and READY at the end, whatever happened."""
    manager = ServiceManager(receiver.address)
    manager.ready()
    with pytest.raises(KeyError), manager.reloading():
        raise KeyError
    _, reloading, ready = receiver.received()
    name, _, time = reloading.partition("\nMONOTONIC_USEC=")
    assert (name, ready) == ("RELOADING=1", "READY=1")
    assert int(time) > 0
    manager.close()


async def test_what_finds_no_room_is_sent_later(receiver: ManagerSocket):
    """The manager is busy and its socket full: no state is lost, and nothing waits."""
    manager = ServiceManager(receiver.address)
    told = [f"STATUS={number}" for number in range(600)]
    filled = next(count for count, message in enumerate(told) if not manager._send(message))
    manager.ready()
    manager.stopping()
    assert receiver.received() == told[:filled]
    async with reporting(manager):
        await eventually(lambda: receiver.received()[:2] == ["READY=1", "STOPPING=1"])


async def test_a_blocked_event_loop_sends_no_sign_of_life(receiver: ManagerSocket):
    """No thread sends them in its place."""
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": receiver.address, "WATCHDOG_USEC": "20000"}, pid=1)
    async with reporting(manager):
        await eventually(lambda: "WATCHDOG=1" in receiver.received())
        receiver.received()
        threading.Event().wait(0.1)
        assert receiver.received() == []
        await eventually(lambda: "WATCHDOG=1" in receiver.received())
