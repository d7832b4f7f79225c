"""The list of a home's daemons, and what health says of them."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aliciacfg.access.caller import Caller
from aliciacfg.api.answers.health import HealthAnswer
from aliciacfg.errors import Forbidden, Problem
from aliciacfg.model.records import Replica
from builders import environment_file
from inprocess import Core, core
from machine import SECONDS

FILES = {"environments/dev.yaml": environment_file({"bell": {}})}


async def health(made: Core) -> HealthAnswer:
    return made.parts.service.health.now()


async def test_a_daemon_alone_lists_itself(tmp_path: Path):
    """As its leader; and its health does not speak of daemons."""
    async with core(tmp_path, FILES, replica="kitchen") as made:
        made.parts.service.health.bus_connected = True
        made.parts.presence.url = "http://127.0.0.1:8026"
        answer = await made.ask("replicas")
        (item,) = answer["replicas"]
        assert answer["leader"] == item["name"] == "kitchen"
        assert (item["role"], item["state"], item["url"]) == ("leader", "ready", "http://127.0.0.1:8026")
        assert (item["lag_seconds"], item["lag_commits"], item["silent_seconds"]) == (0, 0, 0)
        assert item["replica"].startswith(f"{made.parts.service.health.instance}.")
        assert not {"problem", "files_differ"} & item.keys()
        assert not {"replica", "replicas"} & (await made.ask("health")).keys()
        assert made.parts.membership is None


async def test_a_name_is_made_of_the_host_and_the_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So two daemons of one host have different names."""
    monkeypatch.setattr("platform.node", lambda: "attic")
    found = set[str]()
    for name in ("a", "b"):
        async with core(tmp_path / name, FILES) as made:
            found.add(made.parts.presence.name)
    assert len(found) == 2
    assert all(name.startswith("attic-") for name in found)


async def test_metrics_are_read_while_all_threads_are_taken(tmp_path: Path):
    """By a disk that hangs, for example; only the first time takes one."""
    release = threading.Event()
    async with core(tmp_path, FILES) as made:
        metrics = made.parts.service.health
        await metrics.exposition("")
        pool = ThreadPoolExecutor(1)
        asyncio.get_running_loop().set_default_executor(pool)
        pool.submit(release.wait)
        try:
            text, _ = await asyncio.wait_for(metrics.exposition(""), SECONDS)
        finally:
            release.set()
    assert b"aliciacfg_build_info" in text


class Registry:
    """What a registry knows, as the test gives it."""

    def __init__(self, *rows: Replica) -> None:
        self.rows = list(rows)
        self.leaderless = False
        self.leader_changes = 3
        self.gone: list[Replica] = []
        self.own = rows[0]

    def state(self, row: Replica) -> str:
        return "gone" if row in self.gone else "not_ready" if row.problem else "ready"

    @property
    def live(self) -> list[Replica]:
        return [row for row in self.rows if row not in self.gone]

    def read(self) -> list[Replica]:
        return self.rows


def row(name: str, **fields: Any) -> Replica:
    found = Replica(replica=f"{name}.1", name=name, version="1", url="", started=1.5, format=1, files="f")
    return msgspec.structs.replace(found, **fields)


class Files:
    """What is on the disk of a daemon that serves what another one has."""

    own_digest = "f"
    digest = "g"
    edited = False
    differing = ()
    composes = True
    refused = False


async def test_health_tells_of_this_daemon_and_of_all(tmp_path: Path):
    """It is degraded while one is gone or none leads; metrics count them."""
    async with core(tmp_path, FILES, replica="a") as made:
        made.parts.service.health.bus_connected = True
        others = [row("b", problem="it is slow", silent=0.26, lag=3.01234), row("c", leads=True, files="g")]
        known = Registry(row("a", behind=7), *others)
        made.parts.presence.registry = known  # pyright: ignore[reportAttributeAccessIssue]
        made.parts.leadership.lose()
        made.parts.presence.files = Files()
        found = await made.ask("health")
        assert found["replica"] == {"name": "a", "role": "follower", "ready": True, "lag_seconds": 0, "leader": "c"}
        assert [(item["name"], item["role"], item["state"]) for item in found["replicas"]] == [
            ("a", "follower", "ready"),
            ("b", "follower", "not_ready"),
            ("c", "leader", "ready"),
        ]
        assert found["status"] == "healthy"
        items = {item["name"]: item for item in (await made.ask("replicas"))["replicas"]}
        assert (items["b"]["problem"], items["b"]["lag_seconds"], items["b"]["silent_seconds"]) == (
            "it is slow",
            3.012,
            0.3,
        )
        assert [name for name, item in items.items() if item.get("files_differ")] == ["a", "b"]
        text = (await made.parts.service.health.exposition(""))[0].decode()
        assert 'aliciacfg_replicas{state="not_ready"} 1.0' in text
        assert "aliciacfg_replica_lag_commits 7.0" in text
        assert "aliciacfg_lease_held 0.0" in text
        assert "aliciacfg_lease_changes_total 3.0" in text
        known.gone = [known.rows[1]]
        assert (await health(made)).status == "degraded"
        known.gone, known.leaderless = [], True
        assert (await health(made)).status == "degraded"
        known.leaderless = False
        assert (await health(made)).status == "healthy"


async def test_the_broker_is_away_only_if_no_daemon_of_the_home_reaches_it(tmp_path: Path):
    """As far as the reports say; one that is gone reaches nothing."""
    async with core(tmp_path, FILES) as made:
        found = made.parts.service.health
        assert found.broker_away
        found.bus_connected = True
        assert not found.broker_away
        found.bus_connected = False
        own = row("own", replica=made.parts.presence.replica)
        known = Registry(own, row("b", connected=False), row("c"))
        made.parts.presence.registry = known  # pyright: ignore[reportAttributeAccessIssue]
        assert not found.broker_away
        known.gone = [known.rows[2]]
        assert found.broker_away


async def test_one_that_lags_is_not_ready_and_says_why(tmp_path: Path):
    """At once, not when it is looked at next."""
    async with core(tmp_path, FILES) as made:
        found, presence = made.parts.service.health, made.parts.presence
        assert found.not_ready == "the broker is not connected"
        found.bus_connected = True
        assert (found.ready, found.not_ready) == (True, "")
        presence.behind_seconds = lambda: 2.1
        assert not found.ready
        assert "more than 2 s behind the database" in found.not_ready
        presence.behind_seconds = lambda: 2.0
        assert found.ready
        presence.readiness.set(False, "for a test")
        assert found.not_ready == "for a test"


async def test_administrators_see_the_details_of_alerts(tmp_path: Path):
    """Since when, about which service, and each problem; a condition that is told anew keeps its beginning."""
    async with core(tmp_path, FILES) as made:
        alerts = made.parts.alerts
        alerts.raise_("drill", "An exercise.", of="one", service="bell", shown="Somewhere.")
        (before,) = (await made.ask("alerts"))["alerts"]
        alerts.raise_("drill", "A longer exercise.", of="one", service="bell", problems=[Problem("/x", "is wrong")])
        (found,) = (await made.ask("alerts"))["alerts"]
        assert found == {
            "name": "drill:one",
            "kind": "drill",
            "message": "A longer exercise.",
            "since": before["since"],
            "service": "bell",
            "problems": [{"pointer": "/x", "message": "is wrong"}],
        }
        made.parts.service.authorizer.close()
        with pytest.raises(Forbidden):
            await made.ask_as(Caller("viewer", "test", proven=True, role="reader"), "alerts")
        alerts.clear("drill", of="one")
        assert (await made.ask("alerts"))["alerts"] == []
