"""Group commit: order, failures, recovery and the end of the queue, over a store in memory."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, cast

import pytest

from aliciacfg.errors import Busy, Superseded, Unavailable, Unconfirmed
from aliciacfg.model.records import Announcement, AuditEntry, Basis, Renewal, StoredState, Write
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.store_condition import StoreCondition
from aliciacfg.storage.write_queue import Unfinished, WriteQueue
from inprocess import eventually

if TYPE_CHECKING:
    from aliciacfg.storage.store import Store

MAX_WAITING = 4096
MAX_BATCH = 256


class FakeStore:
    """The part of ``Store`` that a queue uses; commits when it is let, or fails.

    Attributes:
        transactions: The names of the writes of each transaction.
        failure: What the next commits raise, once they are let.
        gate: Commits wait until it is set.
        entered: Set when a commit begins.
        made: What ``settle`` returns, unless commits fail.
        settled: How often it was asked.
        held: How often the store was held.
    """

    def __init__(self) -> None:
        self.transactions: list[list[str]] = []
        self.attempts: list[list[str]] = []
        self.failure: BaseException | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.made = False
        self.settled = 0
        self.held = 0
        self.on_hold: Callable[[], None] | None = None
        self._lock = asyncio.Lock()
        self._holds = False

    @contextlib.asynccontextmanager
    async def holding(self) -> AsyncGenerator[None]:
        async with self._lock:
            self.held += 1
            self._holds = True
            if self.on_hold is not None:
                self.on_hold()
            try:
                yield
            finally:
                self._holds = False

    async def commit(self, writes: Sequence[Write]) -> None:
        # The one for which the store is held, or one between two holds.
        async with contextlib.nullcontext() if self._holds else self._lock:
            names = [name for write in writes for name, _ in write.meta]
            self.attempts.append(names)
            self.entered.set()
            await self.gate.wait()
            if self.failure is not None:
                raise self.failure
            self.transactions.append(names)

    async def settle(self) -> bool:
        self.settled += 1
        if self.failure is not None:
            raise self.failure
        return self.made


def queue_over(store: FakeStore, **seconds: float) -> WriteQueue:
    condition = StoreCondition(Alerts(lambda: 0.0))
    return WriteQueue(cast("Store", store), condition, **{"probe_seconds": 3600, **seconds})


def named(name: str | int) -> Write:
    return Write(meta=((str(name), ""),))


FULL = Unavailable("The store cannot write: disk full.")


@pytest.fixture
async def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
async def queue(store: FakeStore) -> AsyncGenerator[WriteQueue]:
    async with queue_over(store) as made:
        yield made


async def hold(store: FakeStore, queue: WriteQueue) -> asyncio.Future[None]:
    """Submit a write named ``first`` whose commit stays under way until the gate opens."""
    store.gate.clear()
    store.entered.clear()
    done = queue.submit(named("first"))
    await store.entered.wait()
    return done


async def test_a_write_is_durable_when_its_future_is_done(store: FakeStore, queue: WriteQueue):
    """The future is done after the commit, not before."""
    done = await hold(store, queue)
    assert not done.done()
    store.gate.set()
    await done
    assert store.transactions == [["first"]]


async def test_writes_that_wait_share_one_transaction_in_order(store: FakeStore, queue: WriteQueue):
    """All that were submitted during a commit make up the next one."""
    called: list[int] = []
    first = await hold(store, queue)
    rest = [queue.submit(named(number), lambda number=number: called.append(number)) for number in range(5)]
    assert queue.waiting == 5
    store.gate.set()
    await asyncio.gather(first, *rest)
    assert store.transactions == [["first"], ["0", "1", "2", "3", "4"]]
    assert called == [0, 1, 2, 3, 4]
    assert queue.waiting == 0


async def test_a_transaction_holds_a_bounded_number_of_writes(store: FakeStore, queue: WriteQueue):
    """Hundreds of writes make several transactions, still in order."""
    first = await hold(store, queue)
    rest = [queue.submit(named(number)) for number in range(MAX_BATCH + 1)]
    store.gate.set()
    await asyncio.gather(first, *rest)
    assert [len(names) for names in store.transactions] == [1, MAX_BATCH, 1]
    assert [name for names in store.transactions[1:] for name in names] == [str(n) for n in range(MAX_BATCH + 1)]


async def test_callbacks_run_before_the_futures_of_later_writes(queue: WriteQueue):
    """What a waiter sees after its write includes the effects of every earlier write."""
    seen: list[str] = []
    first = queue.submit(named("a"), lambda: seen.append("a committed"))
    second = queue.submit(named("b"), lambda: seen.append("b committed"))
    second.add_done_callback(lambda _: seen.append("b told"))
    await asyncio.gather(first, second)
    await asyncio.sleep(0)
    assert seen == ["a committed", "b committed", "b told"]


async def test_many_writes_of_one_transaction_go_on_in_several_turns(store: FakeStore, queue: WriteQueue):
    """So that what comes meanwhile waits for a few of them, not for all; in order, and none is unknown any more."""
    turns: list[int] = []
    told: list[int] = []
    waiting = [queue.submit(named(number), lambda number=number: told.append(number)) for number in range(30)]
    while not waiting[-1].done():
        if len(told) > sum(turns):
            turns.append(len(told) - sum(turns))
            assert queue.unfinished == Unfinished(30 - len(told), 0)
        await asyncio.sleep(0)
    assert told == list(range(30))
    assert max(turns) <= 8
    assert store.transactions == [[str(number) for number in range(30)]]


async def test_a_full_queue_refuses_more(store: FakeStore, queue: WriteQueue):
    """The writer is busy; what waits already is still committed."""
    first = await hold(store, queue)
    rest = [queue.submit(named(number)) for number in range(MAX_WAITING)]
    with pytest.raises(Busy, match="4096 writes wait"):
        queue.submit(named("one too many"))
    store.gate.set()
    await asyncio.gather(first, *rest)
    assert sum(len(names) for names in store.transactions) == 1 + MAX_WAITING


async def test_a_failed_commit_fails_all_that_wait_behind_it(store: FakeStore, queue: WriteQueue):
    """Later writes were planned on top of the failed one; listeners hear of it once, before the waiters."""
    heard: list[object] = []
    committed: list[str] = []
    queue.listen_abort(lambda: heard.append([future.done() for future in futures]))
    futures = [await hold(store, queue)]
    futures += [queue.submit(named(name), lambda name=name: committed.append(name)) for name in ("a", "b")]
    store.failure = FULL
    store.gate.set()
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [str(result) for result in results] == ["The store cannot write: disk full. Nothing was changed."] * 3
    assert all(isinstance(result, Unavailable) for result in results)
    assert heard == [[False, False, False]]
    assert (store.attempts, store.transactions, committed, queue.waiting) == ([["first"]], [], [], 0)
    assert not queue.healthy


async def test_the_next_write_after_a_failure_is_tried(store: FakeStore, queue: WriteQueue):
    """The queue goes on, and is healthy again when a write is committed."""
    store.failure = FULL
    with pytest.raises(Unavailable):
        await queue.submit(named("a"))
    store.failure = None
    await queue.submit(named("b"))
    # A write may find nothing to change; the probe that goes with it shows that the disk works.
    assert (store.transactions, queue.healthy) == ([["b", "probe"]], True)
    await queue.submit(named("c"))
    assert store.transactions[-1] == ["c"]


async def test_an_unexpected_error_of_the_store_is_unavailable_too(store: FakeStore, queue: WriteQueue):
    """The transaction was rolled back, whatever went wrong; the daemon goes on. The text may quote a value."""
    store.failure = TypeError("cannot store 'hunter2'")
    with pytest.raises(Unavailable, match=r"^The store cannot write: unexpected TypeError, see the log\. Nothing was"):
        await queue.submit(named("a"))
    store.failure = None
    await queue.submit(named("b"))


async def test_a_probe_finds_that_the_store_can_write_again(store: FakeStore):
    """While the queue is unhealthy, nobody has to submit anything for it to become healthy."""
    async with queue_over(store, probe_seconds=0) as queue:
        store.failure = FULL
        heard: list[str] = []
        queue.listen_abort(lambda: heard.append("aborted"))
        with pytest.raises(Unavailable):
            await queue.submit(named("a"))
        while len(store.attempts) < 3:
            store.entered.clear()
            await store.entered.wait()
        assert not queue.healthy
        store.failure = None
        while not store.transactions:
            store.entered.clear()
            await store.entered.wait()
        await asyncio.sleep(0)
        assert queue.healthy
        assert store.transactions == [["probe"]]
        # A probe that fails changes nothing, so that nothing is aborted.
        assert len(heard) == 1
        await queue.submit(named("b"))


async def test_a_healthy_queue_writes_no_probes(store: FakeStore):
    """Nothing is written that nobody submitted."""
    async with queue_over(store, probe_seconds=0) as queue:
        await queue.submit(named("a"))
        for _ in range(10):
            await asyncio.sleep(0)
    assert store.attempts == [["a"]]


async def test_flush_waits_for_everything_before_and_writes_nothing(store: FakeStore, queue: WriteQueue):
    """Its place in the order is that of a write, without a transaction of its own."""
    first = await hold(store, queue)
    second = queue.submit(named("second"))
    flushed = queue.flush()
    store.gate.set()
    await flushed
    assert first.done()
    assert second.done()
    await queue.flush()
    assert store.attempts == [["first"], ["second"]]


async def test_writes_with_entries_for_the_audit_log_are_counted(store: FakeStore, queue: WriteQueue):
    """Once they are durable, and those of other daemons too."""
    audited = Write(audit=(AuditEntry(timestamp=0, who="a", where="http", operation="get", outcome="refused"),))
    await queue.submit(audited)
    await queue.submit(named("unaudited"))
    assert queue.audited == 1
    queue.note_others(StoredState(audited=True))
    queue.note_others(StoredState())
    assert queue.audited == 2
    store.failure = FULL
    with pytest.raises(Unavailable):
        await queue.submit(audited)
    assert queue.audited == 2


async def test_a_write_of_nothing_only_takes_its_turn(store: FakeStore, queue: WriteQueue):
    """Its callback runs behind those of the writes before, and the store is not asked."""
    called: list[str] = []
    await hold(store, queue)
    queue.submit(named("second"), lambda: called.append("second"))
    last = queue.submit(Write(), lambda: called.append("nothing"))
    store.gate.set()
    await last
    assert called == ["second", "nothing"]
    assert store.attempts == [["first"], ["second"]]


async def test_flush_fails_with_what_it_waits_for(store: FakeStore, queue: WriteQueue):
    """A write that waited for the disk was not made."""
    first = await hold(store, queue)
    flushed = queue.flush()
    store.failure = FULL
    store.gate.set()
    assert [isinstance(done, Unavailable) for done in await asyncio.gather(first, flushed, return_exceptions=True)] == [
        True,
        True,
    ]
    assert not queue.healthy
    await queue.flush()
    # That nothing had to be written says nothing about the disk.
    assert not queue.healthy


async def test_a_waiter_that_gives_up_does_not_stop_its_write(store: FakeStore, queue: WriteQueue):
    """Neither while the write waits nor while it is committed; memory follows the disk all the same."""
    called: list[str] = []
    store.gate.clear()

    async def write(name: str) -> None:
        await queue.submit(named(name), lambda: called.append(name))

    committing = asyncio.create_task(write("committing"))
    await store.entered.wait()
    waiting = asyncio.create_task(write("waiting"))
    await asyncio.sleep(0)
    for task in (committing, waiting):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    store.gate.set()
    await queue.flush()
    assert store.transactions == [["committing"], ["waiting"]]
    assert called == ["committing", "waiting"]


async def test_a_waiter_that_gives_up_is_not_missed_when_its_write_fails(store: FakeStore, queue: WriteQueue):
    """A cancelled future is left alone."""
    done = await hold(store, queue)
    done.cancel()
    store.failure = FULL
    store.gate.set()
    with pytest.raises(Unavailable):
        await queue.flush()


async def test_leaving_commits_what_waits(store: FakeStore):
    """Callbacks run as well; nothing that was submitted is lost."""
    called: list[str] = []
    async with queue_over(store) as queue:
        first = await hold(store, queue)
        second = queue.submit(named("second"), lambda: called.append("second"))
        asyncio.get_running_loop().call_soon(store.gate.set)
    assert (first.done(), second.done(), called) == (True, True, ["second"])
    assert store.transactions == [["first"], ["second"]]


async def test_leaving_refuses_new_writes(store: FakeStore):
    """From the moment of leaving on, also while what waits is committed; and it leaves no task behind."""
    refused: list[str] = []

    def submit_late() -> None:
        with pytest.raises(Unavailable, match="The daemon is stopping") as caught:
            queue.submit(named("late"))
        refused.append(caught.value.message)
        store.gate.set()

    before = asyncio.all_tasks()
    async with queue_over(store) as queue:
        await hold(store, queue)
        asyncio.get_running_loop().call_soon(submit_late)
    assert len(refused) == 1
    with pytest.raises(Unavailable, match="The daemon is stopping"):
        queue.flush()
    assert store.transactions == [["first"]]
    assert asyncio.all_tasks() == before


async def test_leaving_fails_what_cannot_be_committed(store: FakeStore):
    """A disk that is full at the end neither blocks the end nor raises."""
    async with queue_over(store) as queue:
        store.failure = FULL
        done = queue.submit(named("a"))
    with pytest.raises(Unavailable):
        await done


async def test_an_error_of_the_block_goes_on_after_what_waits_is_committed(store: FakeStore):
    """The queue changes nothing about it."""

    async def own() -> None:
        async with queue_over(store) as queue:
            queue.submit(named("a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await own()
    assert store.transactions == [["a"]]


def fail() -> None:
    raise ZeroDivisionError("memory does not follow")


async def test_a_failing_callback_ends_the_block_with_its_error(store: FakeStore):
    """Memory and database differ, so that nothing may go on; the block's task is not cancelled afterwards."""
    ends: list[str] = []
    futures: list[asyncio.Future[None]] = []
    task = asyncio.current_task()
    assert task is not None

    async def own() -> None:
        async with queue_over(store) as queue:
            futures.extend([queue.submit(named("a"), fail), queue.submit(named("b"))])
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise

    with pytest.raises(ZeroDivisionError, match="memory does not follow"):
        await own()
    assert ends == ["cancelled"]
    assert task.cancelling() == 0
    for future in futures:
        with pytest.raises(Unavailable, match="does not know whether"):
            await future


async def test_a_failing_callback_cancels_what_the_block_waits_for(store: FakeStore):
    """As in the daemon: the tasks of a group inside the block end, and the error comes out alone."""
    ended: list[str] = []

    async def serve() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("serve")

    async def own() -> None:
        async with queue_over(store) as queue, asyncio.TaskGroup() as group:
            group.create_task(serve())
            await asyncio.sleep(0)
            queue.submit(named("a"), fail)

    with pytest.raises(ZeroDivisionError):
        await own()
    assert ended == ["serve"]


async def test_after_a_failing_callback_nothing_is_written(store: FakeStore):
    """What waited behind is refused, and so is what comes."""

    def submit_more(queue: WriteQueue) -> None:
        for _ in range(2):
            with pytest.raises(Unavailable):
                queue.submit(named("late"))

    async def own() -> None:
        async with queue_over(store) as queue:
            await hold(store, queue)
            queue.submit(named("a"), fail)
            store.gate.set()
            try:
                await asyncio.Event().wait()
            finally:
                submit_more(queue)

    with pytest.raises(ZeroDivisionError):
        await own()
    assert store.transactions == [["first"], ["a"]]


async def test_a_callback_that_fails_while_the_block_is_left_is_raised(store: FakeStore):
    """There is nothing left to cancel."""
    with pytest.raises(ZeroDivisionError):
        async with queue_over(store) as queue:
            queue.submit(named("a"), fail)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_failing_callback_takes_no_cancellation_from_elsewhere_back(store: FakeStore):
    """The error comes out all the same; whoever cancelled the task still finds it cancelled."""
    counts: list[int] = []

    async def own() -> None:
        try:
            async with queue_over(store) as queue:
                queue.submit(named("a"), fail)
                try:
                    await asyncio.Event().wait()
                finally:
                    task.cancel()
        finally:
            counts.append(task.cancelling())

    task = asyncio.create_task(own())
    with pytest.raises(ZeroDivisionError):
        await task
    assert counts == [1]


async def test_a_block_that_is_cancelled_commits_what_waits(store: FakeStore):
    """As when it is left."""
    submitted = asyncio.Event()

    async def own() -> None:
        async with queue_over(store) as queue:
            queue.submit(named("a"))
            submitted.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(own())
    await submitted.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.transactions == [["a"]]


@pytest.mark.parametrize("leave", [True, False])
async def test_no_task_outlives_a_block_whose_end_is_cancelled(store: FakeStore, leave: bool):
    """A store that does not answer does not keep the daemon from ending when it is told a second time."""
    before = asyncio.all_tasks()
    futures: list[asyncio.Future[None]] = []

    async def own() -> None:
        async with queue_over(store) as queue:
            futures.append(await hold(store, queue))
            if not leave:
                await asyncio.Event().wait()

    task = asyncio.create_task(own())
    await store.entered.wait()
    for _ in range(1 if leave else 2):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    with pytest.raises(Unavailable, match="does not know whether"):
        await futures[0]


async def test_a_writer_that_somebody_cancels_ends_the_block(store: FakeStore):
    """A queue that commits no more must not look as if it did."""

    async def own() -> None:
        async with queue_over(store):
            (writer,) = [task for task in asyncio.all_tasks() if task.get_name() == "write-queue"]
            await asyncio.sleep(0)
            writer.cancel()
            await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="was cancelled"):
        await own()


@pytest.mark.parametrize("method", [lambda queue: queue.submit(named("a")), WriteQueue.flush])
async def test_a_queue_is_used_inside_its_block(store: FakeStore, method: Callable[[WriteQueue], object]):
    """After the block it refuses."""
    async with queue_over(store) as queue:
        pass
    with pytest.raises(Unavailable):
        method(queue)


LOST = Unconfirmed("The store failed while it wrote: disk I/O error.")


@pytest.mark.parametrize("made", [True, False])
async def test_a_commit_of_unknown_result_is_told_as_such_and_found_out(store: FakeStore, made: bool):
    """Its writers hear at once that nothing is known; memory follows only what the store turns out to hold."""
    async with queue_over(store, probe_seconds=0) as queue:
        called: list[str] = []
        queue.listen_abort(lambda: called.append("dropped"))
        store.gate.clear()
        first = queue.submit(named("first"), lambda: called.append("first"))
        await store.entered.wait()
        behind = queue.submit(named("behind"), lambda: called.append("behind"))
        store.failure, store.made = LOST, made
        store.gate.set()
        with pytest.raises(Unconfirmed, match="not known whether this was written"):
            await first
        with pytest.raises(Unavailable, match="Nothing was changed") as refused:
            await behind
        assert type(refused.value) is Unavailable
        await eventually(lambda: store.settled >= 3)
        with pytest.raises(Unavailable, match="finding out"):
            queue.submit(named("more"))
        assert (called, queue.healthy) == ([], False)
        assert queue.unfinished == Unfinished(unknown=1, lost=0)
        store.failure = None
        await eventually(lambda: queue.healthy)
        assert called == (["first", "dropped"] if made else ["dropped"])
        await queue.submit(named("next"))
    assert store.transactions == [["next"]]


async def test_a_hold_that_begins_at_the_end_is_refused(store: FakeStore):
    """It does not wait for a task that has ended, or is about to."""
    async with queue_over(store) as queue:
        entering = asyncio.create_task(queue.holding().__aenter__())
    for entry in (entering, queue.holding().__aenter__()):
        with pytest.raises(Unavailable, match="stopping"):
            async with asyncio.timeout(40):
                await entry
    assert store.held == 0


async def test_leaving_does_not_wait_for_what_is_unknown(store: FakeStore):
    """The next start reads what the database holds."""
    async with queue_over(store) as queue:
        store.failure = LOST
        with pytest.raises(Unconfirmed):
            await queue.submit(named("a"))
    assert store.transactions == []


async def test_a_commit_that_hangs_is_degraded_then_unhealthy_and_refuses_more(store: FakeStore):
    """First it is slow, then new writes are refused; when the disk goes on, so does everything else."""
    condition = StoreCondition(alerts := Alerts(lambda: 0.0))
    queue = WriteQueue(cast("Store", store), condition, slow_seconds=0, hung_seconds=0.05)
    async with queue:
        done = await hold(store, queue)
        waiting = queue.submit(named("waiting"))
        await eventually(lambda: condition.has("slow"))
        assert (condition.level, condition.usable) == ("degraded", False)
        await eventually(lambda: condition.has("hung"))
        assert (condition.level, sorted(alerts.active)) == ("unhealthy", ["store:hung", "store:slow"])
        with pytest.raises(Unavailable, match="hangs at the disk"):
            queue.submit(named("more"))
        assert queue.unfinished == Unfinished(unknown=1, lost=1)
        store.gate.set()
        await asyncio.gather(done, waiting)
        assert (condition.level, alerts.active) == ("healthy", {})
    assert store.transactions == [["first"], ["waiting"]]


async def test_a_change_of_all_is_allowed_the_time_that_its_work_takes(store: FakeStore):
    """A disk that is slow with one message is not slow with a hundred thousand in the same time."""
    message = Announcement("service/one", 1, b"{}")
    store.gate.clear()
    conditions = [StoreCondition(Alerts(lambda: 0.0)) for _ in range(2)]
    large, small = (
        WriteQueue(cast("Store", store), condition, slow_seconds=0, hung_seconds=0) for condition in conditions
    )
    async with large, small:
        large.submit(Write(announcements=(message,) * 100_000))
        # Begun later.
        await store.entered.wait()
        small.submit(Write(announcements=(message,)))
        await eventually(lambda: conditions[1].has("slow") and conditions[1].has("hung"))
        assert not conditions[0].has("slow")
        assert not conditions[0].has("hung")
        store.gate.set()


BELL, SIREN = Basis(frozenset({"bell"})), Basis(frozenset({"siren"}))


def planned(name: str, basis: Basis) -> Write:
    return Write(meta=((name, ""),), basis=basis)


def changed(service: str) -> StoredState:
    """What another daemon changed."""
    return StoredState(renewals=[Renewal("dev", service, 1)])


async def test_what_was_planned_fails_as_superseded_and_the_rest_is_written(store: FakeStore, queue: WriteQueue):
    """Another daemon changed what one write was planned on: those without a basis go on, in order."""
    aborted: list[int] = []

    def abort() -> None:
        aborted.append(1)
        store.failure = None

    queue.listen_abort(abort)
    store.gate.clear()
    store.failure = Superseded("stale")
    futures = [
        queue.submit(write)
        for write in (named("first"), planned("bell", BELL), named("second"), planned("siren", SIREN), named("third"))
    ]
    flushed = queue.flush()
    await store.entered.wait()
    late = [queue.submit(named("fourth")), queue.submit(planned("lamp", BELL))]
    store.gate.set()
    written = (futures[0], futures[2], futures[4], late[0])
    await asyncio.gather(*written)
    assert [name for names in store.transactions for name in names] == ["first", "second", "third", "fourth"]
    results = await asyncio.gather(futures[1], futures[3], flushed, late[1], return_exceptions=True)
    assert [type(error) for error in results] == [Superseded] * 4
    assert aborted == [1]
    assert queue.healthy


async def test_a_write_that_waits_is_superseded_by_what_others_change(store: FakeStore, queue: WriteQueue):
    """Not the commit under way, which the store judges; and not what another service is about."""
    first = await hold(store, queue)
    waiting = queue.submit(planned("siren", SIREN))
    queue.note_others(changed("bell"))
    store.gate.set()
    await asyncio.gather(first, waiting)
    first = await hold(store, queue)
    waiting = [queue.submit(planned("bell", BELL)), queue.submit(named("audit"))]
    queue.note_others(changed("bell"))
    store.gate.set()
    await asyncio.gather(first, waiting[1])
    with pytest.raises(Superseded):
        await waiting[0]
    assert "bell" not in [name for names in store.transactions for name in names]


async def superseded_once(store: FakeStore, queue: WriteQueue) -> None:
    """Have one write superseded, which is not planned again."""
    first = await hold(store, queue)
    waiting = queue.submit(planned("bell", BELL))
    queue.note_others(changed("bell"))
    store.gate.set()
    await first
    with pytest.raises(Superseded):
        await waiting
    await queue.submit(named("behind it"))


async def test_who_is_superseded_plans_again_while_the_home_is_locked(store: FakeStore, queue: WriteQueue):
    """Together with others, and with what came meanwhile: no other daemon can change anything before the commit."""
    await superseded_once(store, queue)
    held = store.held

    async def write(name: str) -> None:
        try:
            await queue.submit(planned(name, BELL))
        except Superseded:
            await queue.submit(planned(f"{name} again", BELL))

    store.on_hold = lambda: queue.note_others(changed("bell"))

    async def note() -> None:
        await queue.submit(named("audit"))

    await asyncio.gather(write("one"), write("other"), note())
    assert store.transactions[-1] == ["audit", "one again", "other again"]
    assert store.held == held + 1


async def test_who_is_superseded_and_plans_no_more_delays_nobody_for_long(store: FakeStore, queue: WriteQueue):
    """Its caller may be gone."""
    await superseded_once(store, queue)
    store.on_hold = lambda: queue.note_others(changed("bell"))
    gone = queue.submit(planned("gone", BELL))
    await asyncio.wait_for(queue.submit(named("audit")), 5.0)
    assert isinstance(gone.exception(), Superseded)
    assert store.transactions[-1] == ["audit"]


async def test_a_home_that_cannot_be_locked_fails_what_waits(store: FakeStore, queue: WriteQueue):
    """As a commit that fails does."""
    await superseded_once(store, queue)

    def fail() -> None:
        raise FULL

    store.on_hold = fail
    with pytest.raises(Unavailable, match="Nothing was changed"):
        await queue.submit(planned("bell", BELL))
    assert not queue.healthy
    store.on_hold = None
    await queue.submit(planned("again", BELL))
    assert queue.healthy


async def test_an_unexpected_error_while_the_home_is_locked_is_unavailable_too(store: FakeStore, queue: WriteQueue):
    """As one in a commit is: the daemon goes on."""
    await superseded_once(store, queue)

    def fail() -> None:
        raise KeyError("home")

    store.on_hold = fail
    with pytest.raises(Unavailable, match="unexpected KeyError"):
        await queue.submit(planned("bell", BELL))
    store.on_hold = None
    await queue.submit(planned("again", BELL))
    assert queue.healthy


async def test_a_plan_is_made_in_a_hold_after_others_were_superseded(store: FakeStore, queue: WriteQueue):
    """The home is locked once, by the one who plans."""
    await superseded_once(store, queue)
    held = store.held
    async with asyncio.timeout(5.0), queue.holding():
        await queue.submit(planned("bell", BELL))
    assert (store.transactions[-1], store.held) == (["bell"], held + 1)


async def test_while_the_store_is_held_nothing_is_written_before_the_plan(store: FakeStore, queue: WriteQueue):
    """What others told at the beginning was known to the plan; what builds on nothing shares its transaction."""
    audit = None
    async with queue.holding():
        audit = queue.submit(named("audit"))
        queue.note_others(changed("bell"))
        async with asyncio.timeout(40):
            await queue.flush()
        for _ in range(10):
            await asyncio.sleep(0)
        assert (store.transactions, store.held) == ([], 1)
        await queue.submit(planned("bell", BELL))
    await audit
    assert store.transactions == [["audit", "bell"]]
    async with queue.holding():
        audit = queue.submit(named("later"))
    await audit
    assert store.transactions[-1] == ["later"]


async def test_memory_follows_a_commit_in_its_turn(queue: WriteQueue):
    """After what others committed before."""
    turns: list[str] = []

    async def in_turn(step: Callable[[], Awaitable[None]]) -> None:
        turns.append("others")
        await step()

    queue.follow(in_turn)
    await queue.submit(named("own"), lambda: turns.append("own"))
    assert turns == ["others", "own"]
