"""Trials of a daemon under load: a fault, what it lost, and how long it took to recover.

A trial is a test with the fixture ``trial``::

    @ROUNDS
    def test_the_broker_is_killed(trial: Trial, rounds: int):
        \"\"\"Its memory goes with it.\"\"\"
        for _ in trial.rounds("the broker is killed", rounds):
            trial.broker.kill()
            trial.keep_writing()
            trial.broker.start()

Each round begins under load. After it the trial waits until the daemon has recovered, and compares what was
acknowledged with what is there, and what is there with what the broker holds.
"""

import asyncio
import contextlib
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from brokers import Broker
from daemons import Daemon
from machine import wait_until
from mqtt_clients import client

SERVICES = ["voice_router", "stt_service", "tts_service"]
RECOVERY_SECONDS = 60.0
# A few rounds, as in every run of the tests, are to show that nothing is lost: for that the writers need not use all of
# the processor, which others want meanwhile.
_FEW, _PAUSE_SECONDS = 2, 0.02


@dataclass
class Trial:
    """A daemon with three services on a broker of its own, and one writer for each service."""

    daemon: Daemon
    broker: Broker
    acknowledged: dict[str, int] = field(default_factory=dict)
    writes: int = 0
    lost: int = 0
    recoveries: list[float] = field(default_factory=list)
    _pause_seconds: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _numbers: dict[str, int] = field(default_factory=dict)

    def rounds(self, name: str, count: int) -> Iterator[int]:
        """Begin each round under load; after it let the daemon recover, and check that nothing is lost."""
        self._pause_seconds = _PAUSE_SECONDS if count <= _FEW else 0.0
        if self.daemon.process is None:
            self.daemon.start()
        for number in range(count):
            with self._load():
                self.keep_writing()
                yield number
                began = time.monotonic()
                self._recover()
                self.recoveries.append(time.monotonic() - began)
            self._check()
        self.report(name, count)

    def keep_writing(self, seconds: float = 0.15) -> None:
        """Let the writers go on for a while."""
        threading.Event().wait(seconds)

    def restart(self) -> None:
        """Start the daemon that was killed; the writers go on with it."""
        self.daemon.start()

    @contextlib.contextmanager
    def _load(self) -> Iterator[None]:
        self._stop.clear()
        writers = [threading.Thread(target=self._write, args=(service,)) for service in SERVICES]
        for writer in writers:
            writer.start()
        try:
            yield
        finally:
            self._stop.set()
            for writer in writers:
                writer.join()

    def _write(self, service: str) -> None:
        """Count one number up; remember the last one that was acknowledged."""
        while not self._stop.is_set():
            number = self._numbers[service] = self._numbers.get(service, 0) + 1
            try:
                answer = self.daemon.http("PATCH", f"/config/{service}", {"limits": {"counter": number}})
            except Exception:  # noqa: BLE001 - a connection that a fault ends raises one of many kinds
                self._stop.wait(0.02)
                continue
            if answer.status == 200:
                self.acknowledged[service] = number
                self.writes += 1
                self._stop.wait(self._pause_seconds)
            else:
                self._stop.wait(0.02)

    def _recover(self) -> None:
        def recovered() -> bool:
            with contextlib.suppress(Exception):
                return self.daemon.http("GET", "/ready").status == 200 and bool(self._health()["mqtt_connected"])
            return False

        wait_until(recovered, seconds=RECOVERY_SECONDS, why="the daemon has recovered")

    def _health(self) -> dict[str, Any]:
        return self.daemon.http("GET", "/health").json

    def _check(self) -> None:
        """Compare what was acknowledged, what the store holds, and what the broker holds."""
        for service, number in self.acknowledged.items():
            found = self.daemon.config(service)["config"].get("limits", {}).get("counter", 0)
            self.lost += max(0, number - found)
            answer = self.daemon.http("GET", f"/config/{service}/history?limit=5").json
            revisions = [item["revision"] for item in answer["revisions"]]
            assert revisions == list(range(revisions[0], revisions[0] - len(revisions), -1)), revisions
        assert self.lost == 0, f"{self.lost} acknowledged writes are missing"
        # Files that a round put back may be loaded meanwhile.
        wait_until(
            lambda: self._health()["outbox_pending"] == 0 and self._announced(),
            seconds=RECOVERY_SECONDS,
            why="all is announced",
        )

    def _announced(self) -> bool:
        """Whether the broker holds what the daemon serves."""
        retained = asyncio.run(self._retained())
        pairs = [(self.daemon.config(service), retained[f"alicia/config/update/{service}"]) for service in SERVICES]
        return all((now["revision"], now["config"]) == (held["revision"], held["config"]) for now, held in pairs)

    async def _retained(self) -> dict[str, Any]:
        async with client(self.broker.port) as mqtt:
            return {topic: message.json for topic, message in (await mqtt.retained("alicia/config/update/#")).items()}

    def report(self, name: str, rounds: int) -> None:
        """Add a line for docs/reliability.md to the file that ALICIACFG_TRIALS names."""
        file = os.environ.get("ALICIACFG_TRIALS")
        if file:
            line = {
                "fault": name,
                "rounds": rounds,
                "writes": self.writes,
                "lost": self.lost,
                "median_seconds": statistics.median(self.recoveries),
                "longest_seconds": max(self.recoveries),
            }
            with open(file, "a", encoding="utf-8") as out:  # noqa: PTH123 - a name from the environment
                out.write(json.dumps(line) + "\n")
