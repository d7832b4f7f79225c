"""Readers of changes: each at its own pace, latest state only, and applied when all are done."""

import asyncio
import gc
from typing import Any

from aliciacfg.client.current import Current, Trust
from aliciacfg.client.errors import Rejected
from aliciacfg.client.hub import Hub
from aliciacfg.client.messages import Update

Told = list[tuple[int, str, str | None]]


def update(number: int, **members: Any) -> Update:
    return Update(
        service="bell",
        environment="dev",
        version="1.0.0",
        revision=number,
        epoch=1,
        sequence=number,
        checksum=f"c{number}",
        config={"settings": {"volume": number}, "version": f"1.0.{number}", **members},
        restart_required=["/settings/volume"],
    )


class Bell:
    """A hub, and what it told."""

    def __init__(self, *, by_hand: bool = False) -> None:
        self.told: Told = []
        self.came: list[int] = []
        self.trust = Trust()
        self.hub: Hub[Any] = Hub(self.trust, self._settled, by_hand=self._note if by_hand else None)
        self.put(1)

    def _settled(self, what: Update, status: str, error: str | None) -> None:
        self.told.append((what.revision, status, error))

    def _note(self, what: Update) -> None:
        self.came.append(what.revision)

    def put(self, number: int, **members: Any) -> None:
        what = update(number, **members)
        self.hub.note_restarts(what.restart_required)
        self.hub.put(self.record(what), what)

    def record(self, what: Update) -> Current[Any]:
        return Current(
            settings=what.config["settings"],
            config=what.config,
            environment="dev",
            revision=what.revision,
            sequence=what.sequence,
            epoch=what.epoch,
            source="live",
            received_at=0.0,
            trust=self.trust,
        )


async def test_a_slow_reader_gets_one_change_to_the_latest_state():
    """And delays no other; the configuration is applied when both have come back."""
    bell = Bell()
    quick, slow = bell.hub.watch(), bell.hub.watch()
    bell.put(2)
    assert (await anext(quick)).revision == (await anext(slow)).revision == 2
    bell.put(3)
    assert (await anext(quick)).revision == 3
    bell.put(4)
    assert (await anext(quick)).revision == 4
    waiting = asyncio.ensure_future(anext(quick))
    await asyncio.sleep(0)
    assert bell.told == [(1, "applied", None)]
    change = await anext(slow)
    assert (change.revision, change.changed, change.restart_required) == (
        4,
        ("/settings/volume",),
        ("/settings/volume",),
    )
    bell.hub.close()
    assert await anext(slow, None) is None
    assert await anext(waiting_result(waiting), None) is None
    assert bell.told == [(1, "applied", None), (4, "applied", None)]


async def waiting_result(task: Any):
    """Yield what a task that may end its iterator returns."""
    try:
        yield await task
    except StopAsyncIteration:
        return


async def test_a_state_that_differs_in_nothing_is_no_change_and_is_applied():
    """The version is no difference: it follows from the others."""
    bell = Bell()
    watch = bell.hub.watch()
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    same = update(2, settings={"volume": 1}, version="9.9.9")
    bell.hub.put(bell.record(same), same)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert bell.told[-1] == (2, "applied", None)
    waiting.cancel()


async def test_a_reader_that_breaks_off_is_not_waited_for_and_did_not_apply():
    """The next configuration does not depend on it."""
    bell = Bell()
    bell.put(2)
    async for change in bell.hub.watch():
        assert change.revision == 2
        break
    gc.collect()
    await asyncio.sleep(0)
    # The one at the start, and the second before anybody watched.
    assert bell.told == [(1, "applied", None), (2, "applied", None)]
    watch = bell.hub.watch(since=bell.record(update(1)))
    bell.put(3)
    assert (await anext(watch)).revision == 3
    del watch
    gc.collect()
    await asyncio.sleep(0)
    assert (3, "applied", None) not in bell.told
    bell.put(4)
    assert bell.told[-1] == (4, "applied", None)


async def test_the_first_watch_misses_nothing_and_later_ones_begin_now():
    """What changed between the start and the first loop is a change of that loop."""
    bell = Bell()
    bell.put(2)
    first, second = bell.hub.watch(), bell.hub.watch()
    assert (await anext(first)).revision == 2
    bell.put(3)
    assert (await anext(second)).revision == 3


async def test_a_failure_or_a_mark_counts_for_its_configuration_only():
    """A reader that failed comes back for the next one."""
    bell = Bell()
    watch = bell.hub.watch()
    bell.put(2)
    await anext(watch)
    watch.fail("no such device")
    bell.put(3)
    assert (await anext(watch)).revision == 3
    bell.hub.mark("restart_pending")
    bell.put(4)
    await anext(watch)
    bell.hub.end("the program ended")
    assert bell.told[1:] == [(4, "rejected", "the program ended")]
    bell.hub.settle()
    assert len(bell.told) == 2


async def test_failed_and_marked_configurations_are_told():
    """When the reader asks for the next one."""
    bell = Bell()
    watch = bell.hub.watch()
    for number, what in ((2, "fail"), (3, "mark")):
        bell.put(number)
        await anext(watch)
        if what == "fail":
            watch.fail("no such device")
        else:
            bell.hub.mark("restart_pending")
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        waiting.cancel()
    assert bell.told[1:] == [(2, "rejected", "no such device"), (3, "restart_pending", None)]


async def test_a_confirmed_state_is_told_again_and_a_rejection_makes_it_stale():
    """The daemon may have missed the report; a newer one that does not fit leaves the old in place, in doubt."""
    bell = Bell()
    assert not bell.hub.state.record.stale
    bell.hub.lose()
    assert bell.hub.state.record.stale
    bell.hub.confirm()
    assert not bell.hub.state.record.stale
    assert bell.told == [(1, "applied", None)] * 2
    error = Rejected("does not fit", environment="dev", revision=2)
    bell.hub.reject(update(2), error)
    assert (bell.hub.rejection, bell.hub.state.record.revision) == (error, 1)
    assert bell.hub.state.record.stale
    assert bell.told[-1] == (2, "rejected", "does not fit")
    bell.put(3)
    assert bell.hub.rejection is None


async def test_the_program_tells_by_hand_what_became_of_a_configuration():
    """Only what does not fit is told without it; what has come is said, and what has come again."""
    bell = Bell(by_hand=True)
    bell.put(2)
    bell.hub.confirm()
    assert (bell.told, bell.came) == ([], [1, 2, 2])
    bell.hub.reject(update(3), Rejected("no", environment="dev", revision=3))
    assert bell.told == [(3, "rejected", "no")]
