"""What the daemon says about itself: its status in a line, and whether a restart would help."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from aliciacfg.monitoring import condition
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.condition import Liveness, status_line
from aliciacfg.monitoring.store_condition import StoreCondition
from builders import environment_file
from inprocess import core


async def test_the_status_names_what_is_wrong(tmp_path: Path):
    """Environment, configurations and broker; then alerts by their names."""
    async with core(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}})}) as made:
        health = made.parts.service.health
        health.bus_connected = True
        fine = status_line(health.now(), "mqtt://127.0.0.1:1883")
        assert fine == "healthy: environment dev, 1 configuration, mqtt://127.0.0.1:1883"
        health.bus_connected = False
        made.parts.alerts.raise_("open_access", "who may")
        told = status_line(health.now(), "mqtt://127.0.0.1:1883")
        assert told.startswith("degraded: environment dev, ")
        assert told.endswith("no connection to mqtt://127.0.0.1:1883; alerts: open_access")


async def test_a_store_that_hangs_on_a_working_disk_is_not_alive(tmp_path: Path):
    """Then a restart helps; the probe leaves nothing behind."""
    store = StoreCondition(Alerts(time.time))
    liveness = Liveness(store, tmp_path)
    store.report("write", "disk full")
    assert await liveness.alive()
    store.report("hung", "a write hangs")
    assert not await liveness.alive()
    assert not await asyncio.to_thread((tmp_path / ".probe").exists)
    store.clear("hung")
    assert await liveness.alive()


async def test_a_hanging_disk_is_no_reason_for_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Reads go on; the daemon looks again, with one write at a time."""
    store = StoreCondition(Alerts(time.time))
    store.report("hung", "a write hangs")
    assert await Liveness(store, tmp_path / "missing").alive()
    begun, release = [], threading.Event()

    def hang(file: Path) -> bool:
        begun.append(file)
        return release.wait(10)

    monkeypatch.setattr(condition, "_write", hang)
    monkeypatch.setattr(condition, "_DISK_SECONDS", 0.01)
    liveness = Liveness(store, tmp_path)
    assert await liveness.alive()
    assert await liveness.alive()
    assert len(begun) == 1
    release.set()
    monkeypatch.setattr(condition, "_DISK_SECONDS", 10.0)
    assert not await liveness.alive()
