"""Signs of life to the service manager while a disk hangs: a restart would help only if the store itself hangs."""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from daemons import Daemon
from failing_disk import FailingDisk
from machine import wait_until
from manager_socket import ManagerSocket


def write(daemon: Daemon) -> None:
    """Write something; the answer may come too late."""
    with contextlib.suppress(TimeoutError):
        daemon.http("PATCH", "/config/voice_router", {"limits": {"counter": 1}})


@pytest.mark.soak
@pytest.mark.parametrize(("files", "alive"), [("/home/data/aliciacfg.db", False), ("/home/data/", True)])
def test_signs_of_life_end_if_a_restart_would_help(
    make_daemon: Callable[..., Daemon], tmp_path: Path, files: str, *, alive: bool
):
    """The database alone hangs: none, until it goes on. The whole disk hangs: they go on, and reads too."""
    disk = FailingDisk(tmp_path / "disk", files)
    manager = ManagerSocket(str(tmp_path / "notify"))
    watched = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"}
    daemon = make_daemon(environ={**disk.environ, **watched}).keep_services("voice_router").start()
    with disk.failing("sync_hangs"):
        writer = threading.Thread(target=write, args=(daemon,))
        writer.start()
        wait_until(lambda: "store:hung" in daemon.http("GET", "/health").json["alerts"], seconds=30)
        # Some may have been on their way.
        manager.received()
        for _ in range(5):
            manager.receive(1.0)
        manager.received()
        signs = [manager.receive(3.0) for _ in range(3)]
        assert signs == [alive] * 3
        assert daemon.http("GET", "/config/voice_router").status == 200
    writer.join()
    manager.wait_for("WATCHDOG=1")
    manager.close()
