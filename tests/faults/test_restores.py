"""Backups under load and restores, the daemon and both commands killed at random moments; `make soak` repeats them."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

import forking
from brokers import Broker
from commands import aliciacfg
from daemons import Daemon, wait_nothing_pending
from mqtt_clients import client
from trials import Trial

SERVICES = ("voice_router", "stt_service")
_ROUNDS = 30


class Load:
    """Counts one number up in each service, and notes what was answered."""

    def __init__(self, daemon: Daemon, numbers: dict[str, int]) -> None:
        self.answered = dict(numbers)
        self.sent = dict(numbers)
        self._daemon = daemon
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(name,)) for name in SERVICES]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _write(self, name: str) -> None:
        while not self._ended.is_set():
            self.sent[name] += 1
            try:
                answer = self._daemon.http("PATCH", f"/config/{name}", {"limits": {"counter": self.sent[name]}})
            except Exception:  # noqa: BLE001 - a daemon that is killed ends its connections in one of many ways
                return
            if answer.status == 200:
                self.answered[name] = self.sent[name]


def counters(daemon: Daemon) -> dict[str, int]:
    return {name: int(daemon.config(name)["config"]["limits"].get("counter", 0)) for name in SERVICES}


def run_for(daemon: Daemon, seconds: float, *arguments: str) -> None:
    """Run a command, and kill it if it takes longer."""
    with (daemon.directory / "command.log").open("a") as log:
        process = forking.start(list(arguments), directory=daemon.directory, environ=daemon.environment(), stderr=log)
        try:
            process.wait(seconds)
        except forking.subprocess.TimeoutExpired:
            process.send_signal(9)
            process.wait(20)
    if process.stdout is not None:
        process.stdout.close()


async def retained(broker: Broker) -> dict[str, Any]:
    async with client(broker.port) as mqtt:
        found = await mqtt.retained("alicia/config/update/#")
        return {name: found[f"alicia/config/update/{name}"].json for name in SERVICES}


@pytest.mark.soak
def test_whatever_is_killed_a_state_that_existed_is_served(
    make_daemon: Callable[..., Daemon], broker: Broker, tmp_path: Path
):
    """The one before or the one of the backup, whole; its chain is whole, and services follow it."""
    daemon = make_daemon(asyncio_debug=False).keep_services(*SERVICES).start()
    trial = Trial(daemon, broker)
    dice = random.Random(7)
    numbers = counters(daemon)
    backups: list[tuple[Path, dict[str, int], dict[str, int]]] = []
    seen = {"before": 0, "restored": 0, "backups killed": 0}
    for number in range(_ROUNDS):
        with Load(daemon, numbers) as load:
            threading.Event().wait(dice.uniform(0, 0.2))
            archive, least = tmp_path / f"{number}.zip", dict(load.answered)
            run_for(daemon, dice.choice([0.2, 0.5, 30.0]), "backup", str(archive))
            if archive.exists():
                backups.append((archive, least, dict(load.sent)))
            else:
                seen["backups killed"] += 1
            threading.Event().wait(dice.uniform(0, 0.1))
            if dice.random() < 0.5:
                daemon.kill()
        held = asyncio.run(retained(broker))
        daemon.stop()
        before = load.answered, load.sent
        archive, *window = dice.choice(backups[-3:]) if backups else (None, {}, {})
        if archive is not None:
            run_for(daemon, dice.choice([0.1, 0.3, 0.5, 0.7, 1.0, 30.0]), "restore", str(archive))
        trial.writes += sum(load.answered.values()) - sum(numbers.values())
        began = time.monotonic()
        daemon.start()
        trial.recoveries.append(time.monotonic() - began)
        numbers = counters(daemon)
        states = {"before": before, "restored": tuple(window)} if archive is not None else {"before": before}
        found = [
            name
            for name, (low, high) in states.items()
            if all(low[service] <= numbers[service] <= high[service] for service in SERVICES)
        ]
        assert found, (numbers, states)
        seen[found[-1]] += 1
        wait_nothing_pending(daemon)
        now = asyncio.run(retained(broker))
        for service in SERVICES:
            update, config = now[service], daemon.config(service)
            assert (update["epoch"], update["sequence"]) >= (held[service]["epoch"], held[service]["sequence"])
            assert (update["revision"], update["config"]) == (config["revision"], config["config"])
        store = json.loads(aliciacfg(daemon, "check", "-e", "dev").stdout)["store"]
        assert (store["problem"], store["broken"]) == (None, [])
        assert not [path for path in daemon.data.iterdir() if path.name.startswith((".replacement", ".snapshot"))]
    assert min(seen.values()) > 0
    trial.report("the daemon, backups and restores are killed (`kill -9`)", _ROUNDS)
