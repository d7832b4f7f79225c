"""What the daemons of a home report of themselves, on a real PostgreSQL server."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from aliciacfg.errors import Unavailable
from aliciacfg.model.records import Replica
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.replicas.registry import Registry
from inprocess import eventually
from postgres import Postgres
from shared_homes import OpenHome, shared_homes


@pytest.fixture
def url(postgres: Postgres) -> str:
    """An empty database."""
    return postgres.create()


@pytest.fixture
async def open_home(tmp_path: Path, postgres: Postgres, url: str) -> AsyncGenerator[OpenHome]:
    async with shared_homes(tmp_path, postgres, url) as made:
        yield made


def report(replica: str, **fields: object) -> Replica:
    name = replica.partition(".")[0]
    row = Replica(replica=replica, name=name, version="1", url="http://x", started=1.5, format=1, files="f")
    return msgspec.structs.replace(row, **fields)


class Reports:
    """What a database would return: the reports that the test gives it."""

    format = 1

    def __init__(self) -> None:
        self.rows: list[Replica] = []
        self.away = False
        self.reported: list[Replica] = []
        self.forgotten: list[str] = []

    async def report(self, row: Replica) -> None:
        if self.away:
            raise Unavailable("The database is away.")
        self.reported.append(row)

    async def replicas(self, *, within_seconds: float) -> list[Replica]:
        assert within_seconds > 0
        return self.rows

    async def forget(self, replica: str) -> None:
        self.forgotten.append(replica)


@dataclass
class Case:
    """A registry over reports of the test's own, with a clock that goes on when it is told to."""

    reports: Reports = field(default_factory=Reports)
    now: float = 100.0
    leading: bool = True
    own: Replica = field(default_factory=lambda: report("a.1"))

    def __post_init__(self) -> None:
        self.alerts = Alerts(lambda: 0.0)
        self.registry = Registry(
            self.reports,  # pyright: ignore[reportArgumentType]
            lambda: self.own,
            replica="a.1",
            alerts=self.alerts,
            leading=lambda: self.leading,
            clock=lambda: self.now,
        )

    async def look(self, *rows: Replica, after: float = 1.0) -> None:
        """Exchange reports once more, after so many seconds, and find these."""
        self.now += after
        self.reports.rows = list(rows)
        await self.registry.look()


async def test_each_sees_all_with_their_roles(open_home: OpenHome):
    """Two on one database: names, versions, who leads."""
    homes = [await open_home("a"), await open_home("b")]
    registries = [
        Registry(
            home, lambda name=name: report(f"{name}.1", commit=0), replica=f"{name}.1", alerts=Alerts(lambda: 0.0),
            leading=lambda: False,
        )
        for name, home in zip("ab", homes, strict=True)
    ]  # fmt: skip
    await homes[1].renew_lease("b.1", 60)
    tasks = [asyncio.create_task(registry.run()) for registry in registries]
    await eventually(lambda: all(len(registry.live) == 2 and registry.leader for registry in registries))
    for registry in registries:
        assert [(row.name, row.leads, registry.state(row)) for row in registry.rows] == [
            ("a", False, "ready"),
            ("b", True, "ready"),
        ]
        assert registry.leader_changes == 1
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await registries[0].leave()
    assert [row.replica for row in await homes[1].replicas(within_seconds=60)] == ["b.1"]


async def test_what_the_server_says_of_a_report(open_home: OpenHome):
    """How long it is silent, by the server's clock; everything else comes back as it was."""
    home = await open_home("a")
    row = report("a.1", lag=0.25, problem="it is slow\x00", connected=False, commit=0, url="")
    await home.report(row)
    (found,) = await home.replicas(within_seconds=60)
    assert 0 <= found.silent < 5
    assert found == msgspec.structs.replace(row, seen=found.seen, silent=found.silent)
    await home.forget("b.1")
    assert len(await home.replicas(within_seconds=60)) == 1
    await home.forget("a.1")
    assert await home.replicas(within_seconds=60) == []


async def test_one_that_is_silent_is_gone_and_the_leader_tells():
    """After five seconds; a daemon that follows lists it and raises no alert of its own."""
    case = Case()
    lost = report("b.1")
    await case.look(report("a.1", leads=True), lost)
    assert case.registry.gone == []
    for second in range(1, 8):
        await case.look(report("a.1", leads=True), report("b.1", silent=float(second)))
    assert [row.name for row in case.registry.gone] == ["b"]
    assert [row.name for row in case.registry.live] == ["a"]
    assert "The daemon b (http://x) of this home has not reported" in case.alerts.active["replica_gone:b"]
    case.leading = False
    await case.look(report("a.1"), report("b.1", silent=9.0, leads=True))
    assert case.alerts.active == {}
    case.leading = True
    await case.look(report("a.1", leads=True), report("b.1", silent=9.0))
    assert case.alerts.active
    await case.look(report("a.1", leads=True), report("b.1"))
    assert (case.registry.gone, case.alerts.active) == ([], {})


async def test_nobody_is_gone_because_the_database_was_away():
    """Nobody could report meanwhile; all get the time to do so."""
    case = Case()
    for _ in range(10):
        await case.look(report("a.1", leads=True), report("b.1"))
    case.reports.away = True
    for _ in range(10):
        await case.look(report("a.1", leads=True), report("b.1"))
    case.reports.away = False
    await case.look(report("a.1"), report("b.1", silent=11.0))
    assert case.registry.gone == []
    assert case.alerts.active == {}
    for _ in range(7):
        await case.look(report("a.1", leads=True), report("b.1", silent=18.0))
    assert [row.name for row in case.registry.gone] == ["b"]


async def test_nobody_is_gone_because_this_process_was_stopped():
    """It does not know what happened meanwhile."""
    case = Case()
    for _ in range(10):
        await case.look(report("a.1", leads=True), report("b.1"))
    await case.look(report("a.1", leads=True), report("b.1", silent=6.0), after=60.0)
    assert case.registry.gone == []


async def test_a_home_without_a_leader_is_told_by_all():
    """Not while one takes over."""
    case = Case(leading=False)
    await case.look(report("a.1"), report("b.1"))
    assert not case.registry.leaderless
    for _ in range(5):
        await case.look(report("a.1"), report("b.1"))
    assert case.alerts.active == {}
    await case.look(report("a.1"), report("b.1"), after=2)
    assert case.registry.leaderless
    assert "No daemon of this home leads" in case.alerts.active["no_leader"]
    await case.look(report("a.1"), report("b.1", leads=True))
    assert case.alerts.active == {}
    assert not case.registry.leaderless


async def test_each_change_of_the_leader_counts_once():
    """However often it is read, and though nobody leads for a moment in between."""
    case = Case()
    for leader in ("a", "a", "", "a", "b", "b", "", "a"):
        await case.look(report("a.1", leads=leader == "a"), report("b.1", leads=leader == "b"))
    assert case.registry.leader_changes == 3


@pytest.mark.parametrize(
    ("own", "other", "takes", "keeps"),
    [
        ({}, {}, True, True),
        ({"connected": False}, {}, False, False),
        ({"connected": False}, {"connected": False}, True, True),
        ({"connected": False}, {"problem": "slow"}, True, True),
        ({"problem": "slow"}, {"problem": "slow"}, False, True),
        ({"problem": "slow"}, {}, False, False),
        ({"problem": "slow"}, {"silent": 9.0}, False, True),
    ],
)
async def test_who_may_lead(own: dict[str, object], other: dict[str, object], *, takes: bool, keeps: bool):
    """One that is ready and reaches the broker; if there is none, one that is ready; a leader has some seconds."""
    case = Case(own=report("a.1", **own))
    for _ in range(7):
        await case.look(report("a.1", **own), report("b.1", **other))
    assert case.registry.may_lead(False) is takes
    assert case.registry.may_lead(True)
    case.now += 2.9
    assert case.registry.may_lead(True)
    case.now += 0.2
    assert case.registry.may_lead(True) is keeps
    case.own = report("a.1")
    assert case.registry.may_lead(True)
    assert case.registry.may_lead(False)


async def test_the_list_costs_the_database_nothing():
    """It is that of the last exchange, however long ago; there is none while the database is away."""
    case = Case()
    with pytest.raises(Unavailable, match="not known how the daemons"):
        case.registry.read()
    await case.look(report("a.1", leads=True), report("b.1", silent=0.5))
    case.reports.rows = []
    case.now += 0.75
    assert [(row.replica, row.silent) for row in case.registry.read()] == [("a.1", 0.75), ("b.1", 1.25)]
    case.reports.away = True
    await case.look()
    with pytest.raises(Unavailable):
        case.registry.read()


async def test_an_earlier_run_on_the_same_data_directory_is_forgotten():
    """Its process is dead: this one has its lock. One with the same name and another directory is not."""
    case = Case()
    case.reports.rows = [report("a.0", silent=2.0), report("a.1"), report("b.1", name="a")]
    task = asyncio.create_task(case.registry.run())
    await eventually(lambda: case.reports.forgotten)
    task.cancel()
    await asyncio.wait({task})
    assert case.reports.forgotten == ["a.0"]
