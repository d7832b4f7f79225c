"""What the daemon says about itself to the service manager: one line for people, and whether a restart would help."""

import asyncio
import contextlib
import os
from pathlib import Path

from aliciacfg.api.answers.health import HealthAnswer
from aliciacfg.counted import counted
from aliciacfg.monitoring.store_condition import StoreCondition

_DISK_SECONDS = 2.0
_PROBE_FILE = ".probe"


def status_line(health: HealthAnswer, broker_url: str) -> str:
    """Return environment, number of configurations, broker, and what is wrong."""
    broker = broker_url if health.mqtt_connected else f"no connection to {broker_url}"
    managed = counted(health.configs_managed, "configuration")
    parts = [f"{health.status}: environment {health.environment}, {managed}, {broker}"]
    if health.alerts:
        parts.append(f"alerts: {', '.join(sorted(health.alerts))}")
    if health.drift:
        parts.append(f"drift: {health.drift}")
    return "; ".join(parts)


class Liveness:
    """Whether the daemon works, or hangs in a way that a restart would mend.

    A write that hangs because its disk does is no reason for a restart: reads go on meanwhile, and after a restart they
    would not. If the disk takes other writes, the store itself hangs.
    """

    def __init__(self, condition: StoreCondition, data_directory: Path) -> None:
        self._condition = condition
        self._file = data_directory / _PROBE_FILE
        # A probe that hangs.
        self._probing: asyncio.Task[bool] | None = None

    async def alive(self) -> bool:
        """Return False if the store hangs though its disk works."""
        return not self._condition.has("hung") or not await self._disk_works()

    async def _disk_works(self) -> bool:
        # One at a time: a write that hangs occupies a thread.
        probing = self._probing or asyncio.create_task(asyncio.to_thread(_write, self._file), name="probe of the disk")
        self._probing = None
        await asyncio.wait({probing}, timeout=_DISK_SECONDS)
        if not probing.done():
            self._probing = probing
            return False
        return probing.result()


def _write(file: Path) -> bool:
    """Write a file through to the disk; return whether that was possible."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"probe\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    with contextlib.suppress(OSError):
        file.unlink()
    return True
