"""The lease of the leader, on a real PostgreSQL server."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from aliciacfg.cancellation import end_task
from aliciacfg.replicas.leadership import Leadership
from aliciacfg.replicas.lease import Lease
from aliciacfg.storage.store import SharedHome
from cutting_socket import cutting_socket
from inprocess import eventually
from postgres import Postgres
from shared_homes import OpenHome, shared_homes

# A busy machine holds a test up for less than this; waiting costs it nothing.
SECONDS = 1.5
RENEWAL_SECONDS = 0.1


@pytest.fixture
def url(postgres: Postgres) -> str:
    """An empty database."""
    return postgres.create()


@pytest.fixture
async def open_home(tmp_path: Path, postgres: Postgres, url: str) -> AsyncGenerator[OpenHome]:
    async with shared_homes(tmp_path, postgres, url) as made:
        yield made


class Daemon:
    """The lease of one daemon, and what it knows of it."""

    def __init__(
        self,
        shared: SharedHome,
        replica: str,
        *,
        may_lead: Callable[[bool], bool] = lambda _: True,
        seconds: float = SECONDS,
    ) -> None:
        self.leadership = Leadership()
        self.lease = Lease(
            shared,
            self.leadership,
            replica=replica,
            may_lead=may_lead,
            seconds=seconds,
            renewal_seconds=RENEWAL_SECONDS,
        )
        self.task = asyncio.create_task(self.lease.run())

    @property
    def leading(self) -> bool:
        return self.leadership.leading


async def test_one_leads_and_goes_on_to(open_home: OpenHome):
    """For longer than a lease lasts; the other one does not take it."""
    first = Daemon(await open_home("a"), "a")
    await eventually(lambda: first.leading)
    second = Daemon(await open_home("b"), "b")
    ended = asyncio.create_task(first.leadership.changed(leading=False))
    await asyncio.wait({ended}, timeout=2.5 * SECONDS)
    assert first.leading
    assert first.leadership.term == 1
    assert (second.leading, second.leadership.term) == (False, 0)
    for task in (ended, first.task, second.task):
        await end_task(task)


async def test_another_one_takes_over_when_a_leader_is_silent(open_home: OpenHome):
    """Not before the first one knows that it does not lead any more."""
    first = Daemon(await open_home("a"), "a")
    await eventually(lambda: first.leading)
    second = Daemon(await open_home("b"), "b")
    # As a process that was killed, or hangs.
    await end_task(first.task)
    silent = time.monotonic()
    await second.leadership.changed(leading=True)
    assert not first.leading
    assert time.monotonic() - silent < SECONDS + 15
    await end_task(second.task)


async def test_a_leader_that_stops_in_order_lets_another_one_lead_at_once(open_home: OpenHome):
    """The lease has an hour left."""
    shared = await open_home("a")
    assert await shared.renew_lease("a", 3600)
    first = Daemon(shared, "a")
    await eventually(lambda: first.leading)
    second = Daemon(await open_home("b"), "b")
    await end_task(first.task)
    assert await shared.renew_lease("a", 3600)
    await first.lease.release()
    assert not first.leading
    await second.leadership.changed(leading=True)
    await end_task(second.task)


async def test_a_leader_without_the_database_leads_until_its_lease_ends(open_home: OpenHome, postgres: Postgres):
    """Then another one does; when the first one reaches the database again, it does not take the lead back."""
    async with cutting_socket(postgres.directory) as way:
        first = Daemon(await open_home("a", way.directory), "a")
        await eventually(lambda: first.leading)
        second = Daemon(await open_home("b"), "b")
        await way.shut()
        await first.leadership.changed(leading=False)
        await second.leadership.changed(leading=True)
        assert not first.leading
        way.reopen()
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * SECONDS):
                await first.leadership.changed(leading=True)
        assert (first.leading, second.leading) == (False, True)
        await end_task(first.task)
        await end_task(second.task)


async def test_everyone_without_the_database_means_no_leader(open_home: OpenHome, postgres: Postgres):
    """And one of them leads as soon as it is there again."""
    async with cutting_socket(postgres.directory) as way:
        daemons = [Daemon(await open_home(name, way.directory), name) for name in ("a", "b")]
        await eventually(lambda: any(daemon.leading for daemon in daemons))
        await way.shut()
        await eventually(lambda: not any(daemon.leading for daemon in daemons))
        way.reopen()
        await eventually(lambda: any(daemon.leading for daemon in daemons))
        assert sum(daemon.leading for daemon in daemons) == 1
        for daemon in daemons:
            await end_task(daemon.task)


async def test_a_daemon_that_may_not_lead_does_not_and_gives_the_lead_up(open_home: OpenHome):
    """Another one takes it without waiting for the end of the lease."""
    allowed = {"a": True}
    first = Daemon(await open_home("a"), "a", may_lead=lambda _: allowed["a"])
    await eventually(lambda: first.leading)
    second = Daemon(await open_home("b"), "b")
    allowed["a"] = False
    await second.leadership.changed(leading=True)
    assert not first.leading
    assert first.leadership.term == 1
    for daemon in (first, second):
        await end_task(daemon.task)


async def test_the_clocks_of_the_daemons_do_not_matter(open_home: OpenHome, monkeypatch: pytest.MonkeyPatch):
    """The wall clock of all of them jumps by an hour, forth and back: the leader stays the same."""
    real = time.time
    # A lease that does not end here on a busy machine either.
    first, second = [Daemon(await open_home(name), name, seconds=60) for name in ("a", "b")]
    await eventually(lambda: first.leading or second.leading)
    leader, other = (first, second) if first.leading else (second, first)
    for shift in (3600.0, -3600.0):
        monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift)
        changed = asyncio.create_task(leader.leadership.changed(leading=False))
        # Both ask for the lease several times.
        await asyncio.wait({changed}, timeout=6 * RENEWAL_SECONDS)
        await end_task(changed)
    assert (leader.leading, other.leading, leader.leadership.term) == (True, False, 1)
    for daemon in (first, second):
        await end_task(daemon.task)
