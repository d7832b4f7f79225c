"""Which of several daemons leads, by the lease that each was granted."""

import asyncio

import pytest

from aliciacfg.replicas.leadership import Leadership
from inprocess import eventually


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Work:
    """What must happen once.

    Attributes:
        began: How often it began.
        running: Whether it runs.
    """

    def __init__(self) -> None:
        self.began = 0
        self.running = False

    async def __call__(self) -> None:
        self.began += 1
        self.running = True
        try:
            await asyncio.Event().wait()
        finally:
            self.running = False


async def test_a_daemon_alone_always_leads():
    """Its work runs without a task of its own, and ends when it returns."""
    leadership = Leadership.single()
    tasks: list[object] = []

    async def work() -> None:
        tasks.append(asyncio.current_task())

    assert (leadership.leading, leadership.term) == (True, 1)
    await leadership.while_leading(work)
    assert tasks == [asyncio.current_task()]


async def test_a_lease_is_over_when_its_time_is_though_nothing_says_so():
    """A process that was stopped meanwhile knows it at the first look, before any timer has run."""
    clock = Clock()
    leadership = Leadership(clock=clock)
    assert not leadership.leading
    leadership.hold(3.0, asked=leadership.now())
    assert leadership.leading
    clock.now += 3.0
    assert not leadership.leading


async def test_a_lease_counts_from_before_it_was_asked_for():
    """The answer to the renewal may have taken as long as the lease itself."""
    clock = Clock()
    leadership = Leadership(clock=clock)
    asked = leadership.now()
    clock.now += 3.5
    leadership.hold(3.0, asked=asked)
    assert (leadership.leading, leadership.term) == (False, 0)


async def test_work_runs_from_each_beginning_of_a_term_to_its_end():
    """It stops when leadership is lost, and begins anew with the next term; a renewal changes nothing."""
    leadership, work = Leadership(), Work()
    running = asyncio.create_task(leadership.while_leading(work))
    for term in (1, 2):
        leadership.hold(60.0, asked=leadership.now())
        await eventually(lambda: work.running)
        leadership.hold(60.0, asked=leadership.now())
        await asyncio.sleep(0)
        assert (leadership.term, work.began, work.running) == (term, term, True)
        leadership.lose()
        await eventually(lambda: not work.running)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_term_ends_by_itself_without_a_renewal():
    """As when the database does not answer."""
    leadership, work = Leadership(), Work()
    running = asyncio.create_task(leadership.while_leading(work))
    leadership.hold(0.05, asked=leadership.now())
    await eventually(lambda: work.running)
    await leadership.changed(leading=False)
    await eventually(lambda: not work.running)
    running.cancel()
    await asyncio.wait({running})


async def test_a_renewal_after_the_end_of_the_lease_begins_a_new_term():
    """Another daemon may have led in between, so what runs begins anew."""
    clock = Clock()
    leadership, work = Leadership(clock=clock), Work()
    running = asyncio.create_task(leadership.while_leading(work))
    leadership.hold(60.0, asked=leadership.now())
    await eventually(lambda: work.running)
    clock.now += 61.0
    leadership.hold(60.0, asked=leadership.now())
    await eventually(lambda: work.began == 2)
    assert (leadership.leading, leadership.term) == (True, 2)
    running.cancel()
    await asyncio.wait({running})


async def test_the_error_of_the_work_is_raised():
    """Its supervisor decides what becomes of it."""
    leadership = Leadership()
    leadership.hold(60.0, asked=leadership.now())

    async def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await leadership.while_leading(fail)


async def test_work_that_returns_is_done_for_its_term():
    """It runs again in the next one."""
    leadership = Leadership()
    done: list[int] = []

    async def work() -> None:
        done.append(leadership.term)

    running = asyncio.create_task(leadership.while_leading(work))
    for term in (1, 2):
        leadership.hold(60.0, asked=leadership.now())
        await eventually(lambda term=term: done == list(range(1, term + 1)))
        leadership.lose()
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
