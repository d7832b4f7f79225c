"""The only way to change a configuration: one plan at a time, durable in order, all or nothing."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest

from aliciacfg.core.commits import Commits
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.state import Entry, State
from aliciacfg.errors import InvalidRequest, Unavailable
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Position, Record, Write
from aliciacfg.monitoring.alerts import Alert, Alerts
from aliciacfg.monitoring.store_condition import StoreCondition
from aliciacfg.storage.write_queue import WriteQueue

if TYPE_CHECKING:
    from aliciacfg.storage.store import Store

BELL, SIREN = ConfigId("dev", "bell"), ConfigId("dev", "siren")
CONTEXT = ChangeContext("tester", "api")


class FakeStore:
    """Commits when its gate is open, or fails; the part of ``Store`` that a queue uses."""

    def __init__(self) -> None:
        self.revisions: list[int] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def commit(self, writes: Sequence[Write]) -> None:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.revisions += [record.revision for write in writes for record in write.records]


@dataclass
class Home:
    store: FakeStore
    state: State
    commits: Commits
    heard: list[Plan] = field(default_factory=list[Plan])
    alerts: list[Alert] = field(default_factory=list[Alert])
    condition: StoreCondition = field(default_factory=lambda: StoreCondition(Alerts(lambda: 0.0)))

    async def change(self, config_id: ConfigId = BELL, *, exclusive: bool = False) -> int:
        """Append a revision; returns its number."""
        return await self.commits.change(CONTEXT, adding(config_id), exclusive=exclusive)

    def begin(self, config_id: ConfigId = BELL, *, exclusive: bool = False) -> asyncio.Task[int]:
        return asyncio.create_task(self.change(config_id, exclusive=exclusive))


def add_revision(plan: Plan, config_id: ConfigId = BELL) -> int:
    """Plan a revision on the head of a configuration."""
    number = plan.head(config_id).revision + 1
    record = Record(
        environment=config_id.environment, service=config_id.service, revision=number, version="1.0.0",
        timestamp=float(number), author="tester", cause="api", checksum=str(number), digest="", changed=[],
        restart_required=[], config=b"{}",
    )  # fmt: skip
    plan.records.append(record)
    plan.entries[config_id] = Entry(record)
    return number


def adding(config_id: ConfigId = BELL) -> Callable[[Plan], Awaitable[int]]:
    """Return what plans a revision."""

    async def make(plan: Plan) -> int:
        return add_revision(plan, config_id)

    return make


async def turns() -> None:
    """Run the event loop until all tasks wait."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def home() -> AsyncGenerator[Home]:
    store, state = FakeStore(), State(active="dev")
    alerts = Alerts(lambda: 0.0)
    condition = StoreCondition(alerts)
    async with WriteQueue(cast("Store", store), condition, probe_seconds=3600) as queue:
        made = Home(store, state, Commits(state=state, queue=queue), condition=condition)
        alerts.listen(made.alerts.append)
        made.commits.listen(made.heard.append)
        yield made
        store.failure = None
        store.gate.set()


async def test_a_change_is_visible_to_readers_when_it_is_durable(home: Home):
    """Readers see a write only after it is durable; the next plan builds on it at once."""
    home.store.gate.clear()
    change = home.begin()
    await turns()
    assert (home.state.committed(BELL).revision, home.state.head(BELL).revision) == (0, 1)
    assert not change.done()
    home.store.gate.set()
    assert await change == 1
    assert home.state.committed(BELL).revision == 1


async def test_changes_that_overlap_build_on_each_other(home: Home):
    """Fifty writers of one configuration make fifty revisions, written in order, without a wait for the disk each."""
    home.store.gate.clear()
    changes = [home.begin() for _ in range(50)]
    await turns()
    assert home.state.head(BELL).revision == 50
    home.store.gate.set()
    assert await asyncio.gather(*changes) == list(range(1, 51))
    assert home.store.revisions == list(range(1, 51))


async def test_an_exclusive_change_lets_none_begin_before_it_is_durable(home: Home):
    """No other change is planned while an exclusive one is pending."""
    home.store.gate.clear()
    first = home.begin(exclusive=True)
    await turns()
    second = home.begin(SIREN)
    await turns()
    assert home.state.head(SIREN).revision == 0
    home.store.gate.set()
    assert await asyncio.gather(first, second) == [1, 1]


async def test_an_exclusive_change_that_is_cancelled_still_lets_none_begin_before_it_is_durable(home: Home):
    """A connection to the broker that breaks cancels the change that raises the epoch; a later plan has that epoch."""
    home.store.gate.clear()

    async def raise_epoch(plan: Plan) -> None:
        plan.raise_epoch(Position(4, 0))
        plan.activates = "prod"

    first = asyncio.create_task(home.commits.change(CONTEXT, raise_epoch, exclusive=True))
    await turns()
    first.cancel()
    second = home.begin(ConfigId("prod", "bell"))
    await asyncio.wait({first})
    await turns()
    assert home.heard == []
    home.store.gate.set()
    assert await second == 1
    assert [(plan.epoch, plan.announces(ConfigId("prod", "bell"))) for plan in home.heard] == [(5, True), (5, True)]


async def test_a_change_is_refused_at_once_while_an_exclusive_one_hangs(home: Home):
    """It does not wait for a disk that does not answer."""
    home.store.gate.clear()
    hanging = home.begin(exclusive=True)
    await turns()
    home.condition.report("hung", "A write hangs.")
    with pytest.raises(Unavailable, match="hangs"):
        async with asyncio.timeout(40):
            await home.change(SIREN)
    home.store.gate.set()
    assert await hanging == 1


async def test_a_block_that_raises_changes_nothing_and_lets_the_next_one_begin(home: Home):
    """A failed change drops its plan and releases the lock."""

    async def refused(plan: Plan) -> None:
        add_revision(plan)
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        await home.commits.change(CONTEXT, refused)
    assert home.state.head(BELL).revision == 0
    assert home.heard == []
    assert await home.change() == 1


async def test_a_dry_run_changes_nothing(home: Home):
    """Its plan is there to be looked at afterwards."""

    async def make(plan: Plan) -> Plan:
        add_revision(plan)
        plan.on_commit.append(lambda: pytest.fail("a dry run is never durable"))
        return plan

    plan = await home.commits.change(CONTEXT, make, dry_run=True)
    assert plan.head(BELL).revision == 1
    assert home.state.head(BELL).revision == 0
    assert (home.store.revisions, home.heard) == ([], [])


async def test_callbacks_and_listeners_run_before_the_change_goes_on(home: Home):
    """After a commit, the state, the callbacks of the plan, the listeners and the author run in this order."""
    order: list[str] = []
    home.commits.listen(lambda _plan: order.append(f"listener sees {home.state.committed(BELL).revision}"))

    async def make(plan: Plan) -> None:
        add_revision(plan)
        plan.activates = "prod"
        plan.on_commit.append(lambda: order.append(f"callback sees {home.state.active}"))
        order.append("planned")

    await home.commits.change(CONTEXT, make)
    order.append("done")
    assert order == ["planned", "callback sees prod", "listener sees 1", "done"]


async def test_a_failed_commit_drops_all_heads_and_is_alerted(home: Home):
    """The plan that failed and the one behind it are refused; the next one builds on what is durable."""
    assert await home.change() == 1
    home.store.gate.clear()
    home.store.failure = Unavailable("The store cannot write: disk full.")
    changes = [home.begin(), home.begin(SIREN)]
    await turns()
    home.store.gate.set()
    assert [type(error) for error in await asyncio.gather(*changes, return_exceptions=True)] == [Unavailable] * 2
    assert (home.state.head(BELL).revision, home.state.head(SIREN).revision) == (1, 0)
    assert [alert.kind for alert in home.alerts] == ["store"]
    home.store.failure = None
    assert await home.change() == 2


async def test_a_plan_that_outlived_a_failure_is_refused(home: Home):
    """A plan is refused if it was built on a head that failed to commit."""
    home.store.gate.clear()
    home.store.failure = Unavailable("The store cannot write: disk full.")
    failing = home.begin()
    await turns()

    async def outlive(plan: Plan) -> None:
        add_revision(plan, SIREN)
        home.store.gate.set()
        await asyncio.gather(failing, return_exceptions=True)

    with pytest.raises(Unavailable, match="Nothing was changed"):
        await home.commits.change(CONTEXT, outlive)
    assert home.state.head(SIREN).revision == 0


async def test_unchanged_is_said_only_when_what_made_it_so_is_durable(home: Home):
    """An empty plan waits for the pending write that it found nothing to change in, and for no other."""
    home.store.gate.clear()
    pending = home.begin()
    await turns()

    async def nothing(config_id: ConfigId) -> None:
        async def make(plan: Plan) -> None:
            plan.entries[config_id] = plan.head(config_id)

        await home.commits.change(CONTEXT, make)

    behind, beside = asyncio.create_task(nothing(BELL)), asyncio.create_task(nothing(SIREN))
    await turns()
    assert (behind.done(), beside.done()) == (False, True)
    home.store.gate.set()
    await asyncio.gather(pending, behind)
    assert len(home.heard) == 1


async def test_the_callbacks_of_an_empty_plan_run(home: Home):
    """A plan without revisions still runs its callbacks."""
    called: list[bool] = []

    async def make(plan: Plan) -> None:
        plan.on_commit.append(lambda: called.append(True))

    await home.commits.change(CONTEXT, make, exclusive=True)
    assert called == [True]


async def test_a_change_whose_author_is_gone_is_committed_all_the_same(home: Home):
    """A cancelled wait for the disk takes nothing back, in memory or in the store."""
    home.store.gate.clear()
    change = home.begin()
    await turns()
    change.cancel()
    await asyncio.gather(change, return_exceptions=True)
    home.store.gate.set()
    assert await home.change() == 2
    assert home.store.revisions == [1, 2]
    assert [plan.records[0].revision for plan in home.heard] == [1, 2]


async def test_flush_waits_for_everything_before(home: Home):
    """``flush`` also waits for writes of other callers."""
    home.store.gate.clear()
    change = home.begin()
    await turns()
    flushed = asyncio.create_task(home.commits.flush())
    await turns()
    assert not flushed.done()
    home.store.gate.set()
    await flushed
    assert home.state.committed(BELL).revision == 1
    await change


async def test_revisions_are_counted_by_cause(home: Home):
    """And the newest one's time is known."""
    assert (home.commits.last_update, dict(home.commits.revisions)) == (None, {})
    await home.change()
    await home.change()
    assert (home.commits.last_update, dict(home.commits.revisions)) == (2.0, {"api": 2})
