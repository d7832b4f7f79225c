"""A long trial: whatever happens to broker and daemon, the client ends where the daemon is."""

import asyncio
import json
import os
import random
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.client import Broker, ConfigClient
from brokers import Broker as Mosquitto
from commands import aliciacfg
from daemons import Daemon
from inprocess import eventually
from mqtt_clients import client

SERVICE = "voice_router"
UPDATE = f"alicia/config/update/{SERVICE}"
STEPS = int(os.environ.get("ALICIACFG_STEPS", "150"))


class Home:
    """A broker, a daemon, and what may happen to them."""

    def __init__(self, broker: Mosquitto, daemon: Daemon, directory: Path, dice: random.Random) -> None:
        self.broker = broker
        self.daemon = daemon
        self.directory = directory
        self.dice = dice
        self.key_file = directory / "voice.key"
        self.events: list[Callable[[], Awaitable[object]]] = [
            *[self.patch] * 4, *[self.activate] * 2, self.forge, self.clear, self.restart_daemon, self.kill_daemon,
            self.restart_broker, self.wipe_broker, self.back_up, self.restore, self.new_key, self.take_key,
        ]  # fmt: skip

    async def patch(self) -> None:
        await self.ask(f"patch/{SERVICE}", {"patch": {"settings": {"max_sessions": self.dice.randint(1, 1000)}}})

    async def activate(self) -> None:
        await self.ask(f"activate/{self.dice.choice(['dev', 'lab'])}", {})

    async def ask(self, request: str, fields: dict[str, Any]) -> None:
        async with client(self.broker.port) as asking:
            answer = (await asking.ask(f"alicia/config/{request}", fields)).json
        assert answer["status"] == "success", answer

    async def forge(self) -> None:
        """Numbers that are lower, or higher than any of the daemon's."""
        sequence = self.dice.choice([0, 1, 2**40])
        forged = {"service": SERVICE, "environment": "dev", "version": "1.0.0", "revision": 1, "checksum": "x"}
        config = {"settings": {"max_sessions": -1}, "api_config": {}}
        payload = {**forged, "epoch": self.dice.choice([1, 2**50]), "sequence": sequence, "config": config}
        async with client(self.broker.port) as forger:
            await forger.publish(UPDATE, json.dumps(payload), retain=True)

    async def clear(self) -> None:
        async with client(self.broker.port) as other:
            await other.publish(UPDATE, b"", retain=True)

    async def restart_daemon(self) -> None:
        await asyncio.to_thread(self.daemon.stop)
        await asyncio.to_thread(self.daemon.start)

    async def kill_daemon(self) -> None:
        await asyncio.to_thread(self.daemon.kill)
        await asyncio.to_thread(self.daemon.start)

    async def restart_broker(self) -> None:
        await asyncio.to_thread(self.broker.stop)
        await asyncio.to_thread(self.broker.start)

    async def wipe_broker(self) -> None:
        await asyncio.to_thread(self.broker.kill)
        self.broker.wipe()
        await asyncio.to_thread(self.broker.start)

    async def back_up(self) -> None:
        await asyncio.to_thread(self.daemon.stop)
        shutil.rmtree(self.directory / "backup", ignore_errors=True)
        shutil.copytree(self.daemon.data, self.directory / "backup", ignore=shutil.ignore_patterns("*.sock"))
        await asyncio.to_thread(self.daemon.start)

    async def restore(self) -> None:
        if (self.directory / "backup").exists():
            await asyncio.to_thread(self.daemon.stop)
            shutil.rmtree(self.daemon.data)
            shutil.copytree(self.directory / "backup", self.daemon.data)
            await asyncio.to_thread(self.daemon.start)

    async def new_key(self) -> None:
        add = ["--add"] if self.key_file.exists() else []
        command = ["recipient", "new", SERVICE, "--key-file", str(self.key_file), *add]
        assert (await asyncio.to_thread(aliciacfg, self.daemon, *command)).returncode == 0

    async def take_key(self) -> None:
        await asyncio.to_thread(aliciacfg, self.daemon, "recipient", "unset", SERVICE)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
async def test_the_client_ends_where_the_daemon_is(
    broker: Mosquitto, make_daemon: Callable[..., Daemon], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
):
    """After each of many events, in whatever order: the same environment, revision and values; no task is lost."""
    monkeypatch.setattr("aliciacfg.client.link._LONGEST_DELAY_SECONDS", 1.0)
    daemon = make_daemon().keep_services(SERVICE)
    shutil.copy(daemon.environments / "dev.yaml", daemon.environments / "lab.yaml")
    daemon.start()
    home = Home(broker, daemon, tmp_path, random.Random(seed))
    happened: list[str] = []
    told: list[int] = []
    options: dict[str, Any] = {
        "key_file": home.key_file,
        "snapshot_dir": tmp_path / "state",
        "spread_seconds": seed / 10,
    }
    async with ConfigClient(SERVICE, broker=Broker(port=broker.port), **options) as config:
        config.on_change(lambda change: told.append(change.settings["max_sessions"]))
        for _ in range(STEPS):
            event = home.dice.choice(home.events)
            happened.append(event.__name__)
            await event()

            def follows() -> bool:
                wanted, current = daemon.config(SERVICE), config.current
                same = all(wanted[name] == getattr(current, name) for name in ("environment", "revision", "checksum"))
                # The values are compared too: a forged message has any checksum.
                return same and wanted["config"]["settings"] == current.config["settings"] and not current.stale

            try:
                await eventually(lambda: daemon.process is not None and follows(), seconds=60)
                await eventually(lambda: told[-1:] in ([], [config.current.settings["max_sessions"]]))
            except TimeoutError:
                raise AssertionError((happened[-10:], config.current, daemon.config(SERVICE), told[-3:])) from None
