"""Several stores on one database: each follows what the others write, and none writes on what others have changed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from aliciacfg.errors import Damaged, Superseded, Unavailable, Unconfirmed, WentBack
from aliciacfg.model.records import (
    Announcement,
    Answer,
    Applied,
    Basis,
    Overlay,
    Position,
    Recipient,
    Renewal,
    Replica,
    ServingSchema,
    StoredState,
    Token,
    Write,
)
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.store_condition import StoreCondition
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.postgres import calls, following, home_lock
from aliciacfg.storage.postgres.transaction import BEGIN
from aliciacfg.storage.store import Kept, SharedHome, Store
from aliciacfg.storage.verifier import Findings
from aliciacfg.storage.write_queue import WriteQueue
from cutting_socket import CuttingSocket, cutting_socket
from inprocess import eventually
from postgres import END_OTHERS, Postgres
from soak import each_in_turn
from stored_rows import CHAIN, entry, revision, tombstone


class Follower:
    """A store with what its listener was told, as a daemon has it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.told: list[StoredState] = []
        store.listen_others(self.told.append)

    @property
    def shared(self) -> SharedHome:
        shared = self.store.shared
        assert shared is not None
        return shared

    async def commit(self, *writes: Write) -> None:
        await self.store.commit(writes)

    async def learned(self) -> list[StoredState]:
        """What it was told since this was asked last, after it has caught up."""
        await self.store.catch_up()
        found, self.told[:] = list(self.told), []
        return found


Follow = Callable[..., Awaitable[Follower]]


@pytest.fixture
def url(postgres: Postgres) -> str:
    """An empty database."""
    return postgres.create()


@pytest.fixture
async def follow(postgres: Postgres, url: str, tmp_path: Path) -> AsyncGenerator[Follow]:
    """Open stores on one database, each with a data directory of its own."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_one(name: str, host: Path | None = None) -> Follower:
            (tmp_path / name).mkdir()
            to = url if host is None else url.replace(str(postgres.directory), str(host))
            store = await stack.enter_async_context(database_in(tmp_path / name, to).open(CHAIN))
            await store.load()
            return Follower(store)

        yield open_one


@pytest.fixture
async def one(follow: Follow) -> Follower:
    return await follow("one")


@pytest.fixture
async def other(follow: Follow, one: Follower) -> Follower:
    assert one
    return await follow("other")


def change(service: str, number: int, *, basis: Basis | None = None) -> Write:
    """What a daemon writes when a configuration is set."""
    return Write(
        records=(revision(service, number, {"size": number}),),
        audit=(entry(service, number),),
        overlays=(Overlay("dev", service, b'{"size":%d}' % number, {"/size": number}),),
        announcements=(Announcement(f"service/{service}", number, b"x"),),
        position=Position(1, number),
        basis=basis,
    )


async def test_everything_that_one_writes_the_other_is_told(one: Follower, other: Follower):
    """Each kind of row, once; a store is never told of its own writes."""
    token = Token(token_id="0" * 12, digest="d", name="panel", role="reader", created=1)
    write = Write(
        records=(revision("one", 1, {"size": 1}),),
        audit=(entry("one", 1),),
        overlays=(Overlay("dev", "one", b'{"size":1}', {"/size": 1}),),
        announcements=(Announcement("service/one", 7, b"x"),),
        schemas=(ServingSchema("one", b"{}"),),
        applied=(Applied("one", "a", "dev", 1, "c", "rejected", "why", 1.5, 2.0),),
        tokens=(token,),
        recipients=(Recipient("one", "a" * 43),),
        renewals=(Renewal("dev", "one", 7),),
        meta=(("active_environment", "dev"),),
        position=Position(2, 8),
    )
    await one.commit(write)
    (told,) = await other.learned()
    assert told == StoredState(
        records=list(write.records), overlays=list(write.overlays), announcements=list(write.announcements),
        schemas=list(write.schemas), renewals=list(write.renewals), meta=dict(write.meta), position=Position(2, 8),
        commit=1, tokens=[token], recipients=list(write.recipients), applied=list(write.applied), audited=True,
    )  # fmt: skip
    assert await other.learned() == []
    assert await one.learned() == []
    assert await other.store.load_since(0) == told


async def test_reports_that_were_deleted_are_told(one: Follower, other: Follower, connection: Any):
    """Until thousands of commits later; one that is made anew is there again."""
    first, second = (Applied("one", name, "dev", 1, "c", "applied", None, 1.5, 2.0) for name in ("a", "b"))
    await one.commit(Write(applied=(first, second)))
    await other.learned()
    await one.commit(Write(forgotten=(first,)))
    (told,) = await other.learned()
    assert (told.forgotten, told.applied) == ([("one", "a")], [])
    await one.commit(Write(applied=(first,)))
    (told,) = await other.learned()
    assert (told.forgotten, told.applied) == ([], [first])
    assert len(await other.store.applied()) == 2
    # Whoever follows from before is told of both; what was deleted comes first.
    told = await other.store.load_since(1)
    assert (told.forgotten, told.applied) == ([("one", "a")], [first])
    await connection.execute("UPDATE aliciacfg.home SET commit = commit + 20000")
    await one.commit(Write(forgotten=(second,)))
    assert (await other.store.load_since(0)).forgotten == [("one", "b")]


async def test_what_changed_is_told_in_order_and_as_it_is_last(one: Follower, other: Follower):
    """Of several commits in between the newest revision of each configuration; then those that follow."""
    await one.commit(change("one", 1))
    await one.commit(change("one", 2), change("two", 1))
    (told,) = await other.learned()
    assert {(record.service, record.revision) for record in told.records} == {("one", 2), ("two", 1)}
    assert told.commit == 2
    await one.commit(Write(confirmed=(Announcement("service/two", 1, b"x"),)))
    await one.commit(change("two", 2))
    (told,) = await other.learned()
    assert [(record.service, record.revision) for record in told.records] == [("two", 2)]
    assert [(item.subject, item.sequence, item.pending) for item in told.announcements] == [("service/two", 2, True)]


async def test_a_dropped_overlay_is_told(one: Follower, other: Follower):
    """It leaves a row that neither a start nor a verification counts; set again, it is as new."""
    await one.commit(change("one", 1))
    await other.learned()
    await one.commit(Write(overlays=(Overlay("dev", "one", None),)))
    (told,) = await other.learned()
    assert told.overlays == [Overlay("dev", "one", None)]
    assert (await other.store.load()).overlays == []
    assert await other.store.overlays() == []
    assert (await one.store.verify()).broken == []
    await one.commit(Write(overlays=(Overlay("dev", "one", b"{}"),)))
    (told,) = await other.learned()
    assert told.overlays == [Overlay("dev", "one", b"{}")]
    assert (await one.store.verify()).broken == []


async def test_a_commit_tells_what_others_wrote_before_it_returns(one: Follower, other: Follower):
    """Memory has followed them when it follows the own write."""
    await one.commit(change("one", 1))
    await other.commit(change("two", 1, basis=Basis(services=frozenset({"two"}))))
    (told,) = other.told
    assert [record.service for record in told.records] == ["one"]
    assert [record.service for state in await one.learned() for record in state.records] == ["two"]
    assert (await one.store.verify()).broken == []


@pytest.mark.parametrize(
    ("theirs", "basis", "superseded"),
    [
        (change("one", 1), Basis(services=frozenset({"one"})), True),
        (change("two", 1), Basis(services=frozenset({"one"})), False),
        (change("one", 1), None, False),
        (change("two", 1), Basis(creates=frozenset({"dev"})), True),
        (change("two", 1), Basis(creates=frozenset({"prod"})), False),
        (change("zero", 2), Basis(creates=frozenset({"dev"})), False),
        (Write(records=(tombstone("zero", 2),)), Basis(creates=frozenset({"dev"})), False),
    ],
)
async def test_a_write_on_what_others_changed_is_superseded(
    one: Follower, other: Follower, theirs: Write, basis: Basis | None, superseded: bool
):
    """None of the writes with it counts, and memory follows the change; a write on anything else goes through."""
    await one.commit(change("zero", 1))
    await other.learned()
    await one.commit(theirs)
    mine = Write(audit=(entry("mine"),), meta=(("mine", "1"),), basis=basis)
    if superseded:
        with pytest.raises(Superseded):
            await other.commit(Write(audit=(entry("with-it"),)), mine)
        assert len(other.told) == 1
        assert "mine" not in (await one.store.load()).meta
        assert len(await one.store.audit(before=None, limit=9, service="with-it")) == 0
        # Planned again, on memory that follows.
        await other.commit(mine)
    else:
        await other.commit(mine)
        assert len(other.told) == 1
    assert (await one.store.load()).meta["mine"] == "1"
    assert (await one.store.verify()).broken == []


async def test_a_write_is_judged_by_what_was_told_while_it_waited(one: Follower, other: Follower):
    """Memory followed only after it was planned: it is superseded all the same."""
    async with one.store.holding():
        waiting = asyncio.create_task(other.commit(change("one", 1, basis=Basis(services=frozenset({"one"})))))
        bystander = asyncio.create_task(other.commit(Write(meta=(("bystander", ""),))))
        await asyncio.sleep(0)
        await one.commit(change("one", 1))
        await other.store.catch_up()
        assert len(other.told) == 1
    with pytest.raises(Superseded):
        await waiting
    await bystander
    assert len(other.told) == 1
    await other.commit(change("one", 2, basis=Basis(services=frozenset({"one"}))))
    assert (await one.store.verify()).broken == []


async def test_catching_up_waits_for_ones_own_commit(one: Follower, other: Follower):
    """Else it would tell of it, or not tell of what others wrote behind it."""

    async def write(number: int) -> None:
        await one.commit(change("one", number))
        await other.commit(change("two", number))
        await one.store.catch_up()
        told = [record.revision for state in one.told for record in state.records]
        assert told[-1] == number

    for number in range(1, 9):
        await asyncio.gather(write(number), *(one.store.catch_up() for _ in range(3)))
    assert {record.service for state in one.told for record in state.records} == {"two"}
    assert {record.service for state in await other.learned() for record in state.records} == {"one"}


async def test_a_number_that_another_daemon_gave_is_given_again(one: Follower, other: Follower):
    """A write that says nothing of its basis is planned again, too."""
    await one.commit(change("one", 1))
    with pytest.raises(Superseded):
        await other.commit(change("one", 1))
    await other.commit(change("one", 2))
    assert (await one.store.verify()).broken == []


async def test_the_position_never_goes_back(one: Follower, other: Follower):
    """The higher one of what is stored and what a write has."""
    await one.commit(Write(position=Position(1, 9)))
    await other.commit(Write(position=Position(1, 7)))
    assert (await one.store.load()).position == Position(1, 9)
    await other.commit(Write(position=Position(2, 1)))
    await one.commit(Write(position=Position(1, 20)))
    assert (await one.store.load()).position == Position(2, 1)
    assert (await one.store.verify()).broken == []


async def test_writers_do_not_lose_each_others_writes(one: Follower, other: Follower):
    """Many at once, from two stores: every revision is there once, and the chain is whole."""

    async def write(follower: Follower, service: str) -> None:
        for number in range(1, 26):
            await follower.commit(change(service, number))

    await asyncio.gather(*(write(who, f"{name}{n}") for who, name in ((one, "a"), (other, "b")) for n in range(3)))
    await one.store.catch_up()
    await other.store.catch_up()
    assert await one.store.verify() == Findings(confirmed=6 * 25 * 2 + 6 + 6 + 2)
    for follower, theirs in ((one, "b"), (other, "a")):
        # The number of the last revision that it was told of each configuration of the other.
        last = {record.service: record.revision for state in follower.told for record in state.records}
        assert last == {f"{theirs}{n}": 25 for n in range(3)}
        commits = [state.commit for state in follower.told]
        assert commits == sorted(set(commits))


async def test_who_holds_the_home_plans_on_the_latest(one: Follower, other: Follower):
    """Nobody else writes meanwhile; the commit in the block belongs to it, and others go on behind it."""
    await one.commit(change("one", 1))
    async with other.store.holding():
        assert [record.revision for record in other.told[-1].records] == [1]
        behind = asyncio.create_task(one.commit(Write(meta=(("behind", ""),))))
        await other.commit(change("one", 2, basis=Basis(everything=True)))
    await behind
    assert [record.revision for state in one.told for record in state.records] == [2]
    assert (await one.store.verify()).broken == []


async def test_who_holds_the_home_and_writes_nothing_lets_it_go(one: Follower, other: Follower):
    """Also where the block fails; a commit behind the first one in a block is one of its own."""
    async with other.store.holding():
        pass
    await one.commit(change("one", 1))
    with pytest.raises(ZeroDivisionError):
        async with other.store.holding():
            raise ZeroDivisionError
    await one.commit(change("one", 2))
    async with other.store.holding():
        await other.commit(change("two", 1))
        await other.commit(change("two", 2))
    async with one.store.holding():
        assert [record.revision for state in one.told for record in state.records] == [2]
    assert (await one.store.verify()).broken == []


async def test_who_plans_for_long_keeps_the_home(one: Follower, connection: Any, monkeypatch: pytest.MonkeyPatch):
    """The server takes the lock from a process that it hears nothing of, not from one that works."""
    monkeypatch.setattr(home_lock, "BEGIN", BEGIN.replace("'10s'", "'1500ms'"))
    monkeypatch.setattr(home_lock, "KEPT_SECONDS", 0.02)
    held = (
        "SELECT clock_timestamp() - min(xact_start) > '2s' FROM pg_sleep(0.1), pg_stat_activity "
        "WHERE datname = current_database()"
    )
    for write in (change("one", 1), None):
        async with one.store.holding(), asyncio.timeout(40):
            while not await connection.fetchval(f"{held} AND pid <> pg_backend_pid()"):
                pass
            if write is not None:
                await one.commit(write)
    await one.commit(change("one", 2))
    assert (await one.store.verify()).broken == []


async def test_a_home_whose_row_somebody_removed_is_damaged(one: Follower, connection: Any):
    """Whoever follows, and whoever plans in a hold, is told so like one who writes."""
    await connection.execute("DELETE FROM aliciacfg.home")
    with pytest.raises(Damaged, match="the row of the home is gone"):
        await one.store.catch_up()
    with pytest.raises(Damaged):
        async with one.store.holding():
            pass
    with pytest.raises(Damaged):
        await one.commit(Write(audit=(entry("set"),)))


async def test_retention_does_not_use_up_what_somebody_holds(one: Follower, other: Follower):
    """It waits; the commit in the block is the one that nobody came before."""
    for number in range(1, 4):
        await one.commit(change("one", number))

    async def pause() -> None:
        pass

    async with one.store.holding():
        removal = asyncio.create_task(one.store.remove_old(Kept(revisions=1), pause=pause))
        theirs = asyncio.create_task(other.commit(change("two", 1)))
        # Long enough for both to reach the lock.
        await other.store.history("dev", "one", before=None, limit=1)
        await one.store.history("dev", "one", before=None, limit=1)
        assert not removal.done()
        await one.commit(change("one", 4, basis=Basis(everything=True)))
    await theirs
    assert (await removal).revisions >= 2
    assert (await one.store.verify()).broken == []


async def test_an_answer_is_kept_once(one: Follower, other: Follower):
    """A repetition that another daemon carries out meanwhile is superseded, and finds the answer."""
    await one.commit(Write(answers=(Answer("panel", "7", b"done"), Answer("panel", "8", b"x\x00y"))))
    assert await other.shared.answer("panel", "8") == b"x\x00y"
    assert await other.shared.answer("panel", "9") is None
    again = Write(audit=(entry("one"),), answers=(Answer("panel", "7", b"again"),))
    with pytest.raises(Superseded):
        await other.commit(again)
    assert await other.shared.answer("panel", "7") == b"done"
    assert await one.store.audit(before=None, limit=9, service=None) == []
    await one.shared.remove_answers(older_than_seconds=60)
    assert await other.shared.answer("panel", "7") == b"done"
    await one.shared.remove_answers(older_than_seconds=0)
    assert await other.shared.answer("panel", "7") is None


async def test_an_answer_that_no_daemon_kept_is_none(one: Follower, other: Follower, connection: Any):
    """Whoever can write to the database tells no requester what was done, not even with the answer to another one."""
    await one.commit(Write(answers=tuple(Answer("panel", number, b"done") for number in "789")))
    await connection.execute(
        """
        UPDATE aliciacfg.answers SET content = 'forged' WHERE request_id = '7';
        UPDATE aliciacfg.answers SET requester = 'bridge' WHERE request_id = '8';
        """
    )
    asked = [("panel", "7"), ("panel", "8"), ("bridge", "8"), ("panel", "9")]
    assert [await other.shared.answer(*key) for key in asked] == [None, None, None, b"done"]


async def test_one_of_them_leads(one: Follower, other: Follower):
    """Until it lets go, or its time is over by the database's clock."""
    assert await one.shared.renew_lease("a", 60)
    assert not await other.shared.renew_lease("b", 60)
    assert await one.shared.renew_lease("a", 60)
    await other.shared.release_lease("b")
    assert not await other.shared.renew_lease("b", 60)
    await one.shared.release_lease("a")
    assert await other.shared.renew_lease("b", 0)
    assert await one.shared.renew_lease("a", 60)


def replica(name: str, commit: int) -> Replica:
    return Replica(
        replica=name, name=f"{name}\x00", version="1", url="http://x", started=1.5, format=1, files="f", commit=commit
    )


async def test_each_sees_the_others(one: Follower, other: Follower):
    """With what they follow, and who of them leads."""
    await one.commit(change("one", 1))
    await one.shared.report(replica("a", 1))
    await other.shared.report(replica("b", 0))
    await one.shared.renew_lease("b", 60)
    first, second = await other.shared.replicas(within_seconds=60)
    assert (first.replica, first.name, first.commit, first.behind, first.leads) == ("a", "a\x00", 1, 0, False)
    assert (second.replica, second.behind, second.leads) == ("b", 1, True)
    assert first.seen > 1e9
    await other.shared.report(replica("b", 1))
    assert [found.behind for found in await one.shared.replicas(within_seconds=60)] == [0, 0]
    assert await one.shared.replicas(within_seconds=-1) == []


async def test_a_clock_of_the_database_that_goes_back_keeps_nobody_from_leading(
    one: Follower, other: Follower, url: str, postgres: Postgres
):
    """A failover to a server whose clock is an hour behind: leases and reports from its future are over soon."""
    assert await one.shared.renew_lease("a", 60)
    await one.shared.report(replica("a", 0))
    await asyncio.to_thread(
        postgres.execute,
        "UPDATE aliciacfg.lease SET until = until + 3600",
        "UPDATE aliciacfg.replicas SET seen = seen + 3600",
        "SELECT 1",
        url=url,
    )
    assert await one.shared.replicas(within_seconds=60) == []
    # Whoever has it may be there, and has it as long as it was given last.
    assert not await other.shared.renew_lease("b", 60)
    assert await one.shared.renew_lease("a", 60)
    assert not await other.shared.renew_lease("b", 60)
    await asyncio.to_thread(postgres.execute, "UPDATE aliciacfg.lease SET until = until + 3600", "SELECT 1", url=url)
    assert not await other.shared.renew_lease("b", 0)
    assert await other.shared.renew_lease("b", 60)
    assert not await one.shared.renew_lease("a", 60)


@pytest.fixture
async def connection(url: str) -> AsyncGenerator[Any]:
    """Another connection to the database."""
    made = await asyncpg.connect(url)
    yield made
    await made.close()


_WAITING = (
    "FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


async def until_waiting(connection: Any, count: int) -> None:
    """Wait until so many other connections wait for a lock."""
    while await connection.fetchval(f"SELECT count(*) {_WAITING}") < count:  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.001)


async def test_slow_reads_keep_no_daemon_from_leading_and_following(one: Follower, other: Follower, connection: Any):
    """However many wait: the lease, the report of a daemon and what others wrote have connections of their own."""
    await connection.execute("BEGIN; LOCK TABLE aliciacfg.answers")
    reads = [asyncio.create_task(one.shared.remove_answers(older_than_seconds=60)) for _ in range(20)]
    async with asyncio.timeout(40):
        await until_waiting(connection, 4)
        await other.commit(change("one", 1))
        assert [record.service for state in await one.learned() for record in state.records] == ["one"]
        assert await one.shared.renew_lease("a", 60)
        await one.shared.report(replica("a", 1))
        assert [found.replica for found in await one.shared.replicas(within_seconds=60)] == ["a"]
        assert not any(read.done() for read in reads)
        await connection.execute("ROLLBACK")
        assert set(await asyncio.gather(*reads)) == {None}


async def test_kept_answers_are_read_together(one: Follower, connection: Any):
    """Those that are asked for while a read goes on, with one more; who goes away does not matter."""
    kept = [Answer("panel", str(number), b"%d" % number) for number in range(9)]
    await one.commit(Write(answers=tuple(kept)))
    await connection.execute("BEGIN; LOCK TABLE aliciacfg.answers")
    async with asyncio.timeout(40):
        first = asyncio.create_task(one.shared.answer("panel", "0"))
        await until_waiting(connection, 1)
        reads = [asyncio.create_task(one.shared.answer("panel", str(number))) for number in range(10)]
        gone = asyncio.create_task(one.shared.answer("panel", "7"))
        await asyncio.sleep(0)
        gone.cancel()
        await one.store.history("dev", "one", before=None, limit=1)
        assert await connection.fetchval(f"SELECT count(*) {_WAITING}") == 1
        await connection.execute("ROLLBACK")
        assert await asyncio.gather(first, *reads) == [b"0", *(answer.content for answer in kept), None]


async def test_a_read_does_not_wait_for_ever(
    url: str, tmp_path: Path, connection: Any, monkeypatch: pytest.MonkeyPatch
):
    """For a table that somebody else holds, or a free connection; afterwards everything goes on."""
    for module in (calls, following):
        monkeypatch.setattr(module, "READ_SECONDS", 0.1)
    async with database_in(tmp_path, url).open(CHAIN) as store:
        await store.load()
        await store.commit([change("one", 1)])
        # As VACUUM FULL does.
        await connection.execute("BEGIN; LOCK TABLE aliciacfg.revisions")
        async with asyncio.timeout(20):
            reads = [store.history("dev", "one", before=None, limit=1) for _ in range(20)]
            for failure in await asyncio.gather(*reads, store.catch_up(), return_exceptions=True):
                assert isinstance(failure, Unavailable)
                assert "no answer within" in failure.message
            await connection.execute("ROLLBACK")
            await in_the_end(store.catch_up)
            await in_the_end(lambda: store.history("dev", "one", before=None, limit=1))


async def test_who_asks_at_the_same_time_what_others_wrote_shares_the_answer(
    one: Follower, other: Follower, connection: Any
):
    """It is of a read that began after they asked; who goes away ends it for nobody else."""
    await other.commit(change("one", 1))
    await connection.execute("BEGIN; LOCK TABLE aliciacfg.schemas")
    first = [asyncio.create_task(one.store.catch_up()) for _ in range(9)]
    async with asyncio.timeout(40):
        await until_waiting(connection, 1)
        later = [asyncio.create_task(one.store.catch_up()) for _ in range(9)]
        later[0].cancel()
        await one.store.history("dev", "one", before=None, limit=1)
        assert await connection.fetchval(f"SELECT count(*) {_WAITING}") == 1
        await connection.execute("ROLLBACK")
        assert not any(await asyncio.gather(*first, *later[1:]))
    assert [record.service for state in one.told for record in state.records] == ["one"]


async def test_a_commit_is_hinted_at(one: Follower, other: Follower):
    """To the others; those who look at the hints need not wait for their next look."""
    await eventually(lambda: one.shared.hints().is_set() and other.shared.hints().is_set())
    one.shared.hints().clear()
    other.shared.hints().clear()
    await one.commit(change("one", 1))
    await eventually(lambda: other.shared.hints().is_set())
    assert not one.shared.hints().is_set()


async def test_any_other_notification_is_a_hint(one: Follower, connection: Any):
    """Whoever may connect to the database may send one, with whatever is in it."""
    for content in ("", "x", "9" * 5000, "٣", "-1"):
        await eventually(lambda: one.shared.hints().is_set())
        one.shared.hints().clear()
        await connection.fetch("SELECT pg_notify('aliciacfg', $1)", content)
    await eventually(lambda: one.shared.hints().is_set())


async def test_what_memory_follows_is_hinted_at_no_more(one: Follower, other: Follower, url: str):
    """A daemon whose own commit has read what others changed need not look again."""
    await eventually(lambda: one.shared.hints().is_set())
    await other.commit(change("other", 1))
    await one.learned()
    one.shared.hints().clear()
    connection = await asyncpg.connect(url)
    try:
        # Notifications come in order.
        await connection.execute(f"SELECT pg_notify('aliciacfg', '{one.store.followed}')")
        await connection.execute("SELECT pg_notify('aliciacfg', '')")
        await eventually(lambda: one.shared.hints().is_set())
        one.shared.hints().clear()
        await connection.execute(f"SELECT pg_notify('aliciacfg', '{one.store.followed}')")
        await one.commit(change("one", 1))
        await eventually(lambda: other.shared.hints().is_set())
    finally:
        await connection.close()
    assert not one.shared.hints().is_set()


async def test_retention_and_resealing_are_told_as_little_as_they_are(one: Follower, other: Follower):
    """Removed history concerns nobody's memory; what was sealed anew is told with the same revision."""
    for number in range(1, 5):
        await one.commit(change("one", number))
    await other.learned()

    async def pause() -> None:
        await other.commit(Write(audit=(entry("two"),)))

    removed = await one.store.remove_old(Kept(revisions=1, audit=1), pause=pause)
    assert (removed.revisions, removed.audit) == (3, 3)
    assert not any(state.records for state in await other.learned())
    assert await other.store.first_kept("dev", "one") == 4
    await one.store.reseal(lambda document, _environment, _service: document)
    assert (await other.store.verify()).broken == []


async def test_a_plan_for_the_home_never_takes_a_message_back_to_an_earlier_place(one: Follower, follow: Follow):
    """One daemon overtakes a forged message of the environment; another one activates without knowing of it."""

    def environment(name: str, sequence: int) -> Write:
        announcement = Announcement("environment", sequence, name.encode())
        return Write(
            announcements=(announcement,),
            position=Position(1, sequence),
            meta=(("active_environment", name),) if name != "dev" else (),
            basis=Basis(everything=True),
        )

    await one.commit(environment("dev", 5))
    other = await follow("other")
    await one.commit(environment("dev", 5001))
    with pytest.raises(Superseded):
        await other.commit(environment("prod", 6))
    # Neither a message of a service nor one that was published contradicts the home's plan.
    published = Announcement("environment", 5001, b"dev")
    await one.commit(Write(announcements=(Announcement("service/a", 5002, b"a"),), confirmed=(published,)))
    await other.commit(environment("prod", 5003))


@pytest.fixture
async def way(postgres: Postgres) -> AsyncGenerator[CuttingSocket]:
    """A way to the server on which answers get lost."""
    async with cutting_socket(postgres.directory) as made:
        yield made


async def cut_off(follow: Follow, way: CuttingSocket) -> Follower:
    return await follow("cut", way.directory)


@pytest.mark.parametrize(
    ("write", "when"),
    each_in_turn(
        [change("one", 1), Write(meta=(("a", "1"),)), Write(overlays=(Overlay("dev", "one", None),))],
        ["before", "after"],
    ),
)
async def test_a_lost_answer_to_a_commit_is_looked_up(
    follow: Follow, one: Follower, way: CuttingSocket, when: str, write: Write
):
    """It was made, or it was not; whatever others write behind it. Then everything goes on."""
    cut = await cut_off(follow, way)
    await cut.commit(change("zero", 1))
    way.cut_commit(when)
    with pytest.raises(Unconfirmed):
        await cut.commit(write)
    assert way.cuts == 1
    await one.commit(change("two", 1))
    # As long as it is not known, nothing is told and nothing is written.
    for call in (cut.store.catch_up, cut.store.holding().__aenter__):
        with pytest.raises(Unavailable, match="finds out"):
            await call()
    assert cut.told == []
    with pytest.raises(Unavailable, match="finds out"):
        await cut.commit(Write(meta=(("b", "1"),)))
    assert await cut.store.settle() == (when == "after")
    await cut.store.catch_up()
    assert [record.service for state in cut.told for record in state.records] == ["two"]
    state = await one.store.load()
    there = "one" in {record.service for record in state.records} or "a" in state.meta
    assert there == (when == "after" and bool(write.records or write.meta))
    await cut.commit(change("three", 1))
    assert (await one.store.verify()).broken == []


async def test_it_is_not_known_until_the_server_is_there(follow: Follow, one: Follower, way: CuttingSocket):
    """Asked before, it says so; the requester's write is never made twice."""
    cut = await cut_off(follow, way)
    way.cut_commit("after")
    with pytest.raises(Unconfirmed):
        await cut.commit(change("one", 1))
    await way.shut()
    with pytest.raises(Unavailable):
        await cut.store.settle()
    way.reopen()
    assert await in_the_end(cut.store.settle)
    assert [head.revision for head in await one.store.history("dev", "one", before=None, limit=9)] == [1]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_answer_that_nobody_asks_about_stops_nothing(
    follow: Follow, one: Follower, way: CuttingSocket, when: str
):
    """Of a removal, of a resealing, and of a commit whose caller is gone; what was made is told."""
    cut = await cut_off(follow, way)

    async def pause() -> None:
        pass

    async def write_cancelled() -> None:
        async with one.store.holding():
            commit = asyncio.create_task(cut.commit(change("one", 4)))
            await asyncio.sleep(0)
            commit.cancel()
            with pytest.raises(asyncio.CancelledError):
                await commit
        await eventually(lambda: way.cuts == 3)

    for number in range(1, 4):
        await cut.commit(change("one", number))
    way.cut_commit(when)
    with pytest.raises(Unconfirmed):
        await cut.store.remove_old(Kept(revisions=1, audit=1), pause=pause)
    await cut.commit(change("two", 1))
    way.cut_commit(when)
    with pytest.raises(Unconfirmed):
        await cut.store.reseal(lambda document, _environment, _service: document)
    await cut.commit(change("two", 2))
    cut.told.clear()
    way.cut_commit(when)
    await write_cancelled()
    await in_the_end(cut.store.catch_up)
    await in_the_end(lambda: cut.commit(change("two", 3)))
    assert way.cuts == 3
    made = [record.revision for state in cut.told for record in state.records if record.service == "one"]
    assert made == ([4] if when == "after" else [])
    assert (await one.store.verify()).broken == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_answer_to_a_probe_is_looked_up(follow: Follow, one: Follower, way: CuttingSocket, when: str):
    """After a failure, the write queue finds out about its own probe as about any write."""
    cut = await cut_off(follow, way)
    async with WriteQueue(cut.store, StoreCondition(Alerts(lambda: 0.0)), probe_seconds=0.05) as queue:
        await queue.submit(change("one", 1))
        await way.shut()
        with pytest.raises(Unavailable):
            await queue.submit(change("one", 2))
        way.cut_commit(when)
        way.reopen()
        await eventually(lambda: way.cuts == 1, seconds=10)
        await eventually(lambda: queue.healthy, seconds=10)
        await queue.submit(change("one", 2))
    assert [record.revision for record in (await one.store.load()).records] == [2]


T = TypeVar("T")


async def in_the_end(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call until it is not unavailable."""
    async with asyncio.timeout(40):
        while True:
            with contextlib.suppress(Unavailable):
                return await call()
            await asyncio.sleep(0.01)


async def test_without_a_server_nothing_is_written_and_everything_goes_on_with_it(
    follow: Follow, one: Follower, way: CuttingSocket
):
    """Reads and commits say what is wrong and what to do; what others wrote meanwhile is told."""
    cut = await cut_off(follow, way)
    failures: list[str | None] = []
    cut.store.listen_reads(failures.append)
    await way.shut()
    for _ in range(2):
        with pytest.raises(Unavailable, match="see whether the server runs"):
            await cut.commit(change("one", 1))
        with pytest.raises(Unavailable, match="cannot be read"):
            await cut.store.catch_up()
    assert failures[-1] is not None
    await one.commit(change("two", 1))
    way.reopen()
    await in_the_end(cut.store.catch_up)
    assert failures[-1] is None
    await cut.commit(change("one", 1))
    assert [record.service for state in cut.told for record in state.records] == ["two"]
    assert (await one.store.verify()).broken == []


async def test_a_cancelled_commit_is_made_and_told(one: Follower, other: Follower):
    """Its caller is gone, so that memory is told of it like the others."""
    async with other.store.holding():
        commit = asyncio.create_task(one.commit(change("one", 1)))
        await asyncio.sleep(0)
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
    await one.commit(change("two", 1))
    assert [record.service for state in one.told for record in state.records] == ["one"]
    assert [r.service for state in await other.learned() for r in state.records] == ["one", "two"]


@pytest.mark.parametrize("theirs", [0, 1, 2])
async def test_a_database_that_went_back_is_not_written_on(
    follow: Follow, one: Follower, other: Follower, url: str, postgres: Postgres, theirs: int
):
    """Transactions that were seen are lost, whatever was written in their place: the next start finds that, too."""
    await one.commit(change("zero", 1))
    await asyncio.to_thread(postgres.execute, "CREATE TABLE saved AS SELECT * FROM aliciacfg.home", "SELECT 1", url=url)
    await one.commit(change("one", 1))
    await other.learned()
    # As after a failover to a standby that had not got the last one.
    await asyncio.to_thread(
        postgres.execute,
        *(f"DELETE FROM aliciacfg.{table} WHERE commit > 1" for table in ("revisions", "audit", "overlays", "outbox")),
        "DELETE FROM aliciacfg.home",
        "INSERT INTO aliciacfg.home SELECT * FROM saved",
        "SELECT 1",
        url=url,
    )
    third = await follow("third")
    for number in range(1, theirs + 1):
        await third.commit(change("three", number))
    for follower in (one, other):
        for call in (follower.commit(change("one", 2)), follower.store.catch_up(), follower.commit(Write())):
            with pytest.raises(WentBack, match="Restart the daemon"):
                await call
        assert [record.service for state in follower.told for record in state.records] == []
        witnessed = await follower.store.witnessed()
        assert witnessed is not None
        assert witnessed > (await third.store.load()).position
    assert (await third.store.verify()).broken == []


async def test_a_standby_that_is_behind_has_lost_nothing(one: Follower, url: str, postgres: Postgres):
    """What it lacks, it gets later; until then others' changes cannot be read."""
    await one.commit(change("one", 1))
    name = url.partition("@/")[2].partition("?")[0]
    # As if there were only a standby.
    await asyncio.to_thread(
        postgres.execute,
        "UPDATE aliciacfg.home SET commit = 0",
        f"ALTER DATABASE {name} SET default_transaction_read_only = on",
        END_OTHERS,
        url=url,
    )
    with pytest.raises(Unavailable, match="a standby that is behind"):
        await one.store.catch_up()
    await asyncio.to_thread(
        postgres.execute,
        "SET default_transaction_read_only = off",
        f"ALTER DATABASE {name} SET default_transaction_read_only = off",
        "UPDATE aliciacfg.home SET commit = 1",
        "SELECT 1",
        url=url,
    )
    await one.store.catch_up()
    await one.commit(change("one", 2))
    assert (await one.store.verify()).broken == []


async def set_standby(postgres: Postgres, name: str) -> None:
    """Have every commit of the server wait for a standby; for none, if the name is empty."""
    await asyncio.to_thread(
        postgres.execute,
        f"ALTER SYSTEM SET synchronous_standby_names = '{name}'",
        "SELECT pg_reload_conf()",
    )
    if name:
        await until_commits_wait(postgres)


async def until_commits_wait(postgres: Postgres) -> None:
    """Commit until one waits for a standby: the server reads its configuration when it comes to it."""
    connection = await asyncpg.connect(postgres.url())
    waiting = 0
    async with asyncio.timeout(40):
        while not waiting:
            commit = asyncio.create_task(connection.execute("SELECT pg_logical_emit_message(true, '', '')"))
            while not commit.done() and not waiting:
                waiting = await waiting_commits(postgres, "pg_cancel_backend(pid)")
            await commit
    await connection.close()


async def waiting_commits(postgres: Postgres, call: str) -> int:
    """Call a function of the server with each process that waits for a standby; return how many do."""
    found = await asyncio.to_thread(
        postgres.execute, f"SELECT {call} FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    )
    return len(found)


async def until_one_waits(postgres: Postgres) -> None:
    async with asyncio.timeout(40):
        while not await waiting_commits(postgres, "pid"):  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(0.01)


async def test_what_the_standby_may_not_have_is_not_known(one: Follower, other: Follower, postgres: Postgres):
    """An operator cancels the wait for it: the commit is made here, and counts when the standby has it."""
    await one.commit(change("zero", 1))
    await other.learned()
    await set_standby(postgres, "nobody")
    try:
        commit = asyncio.create_task(one.commit(change("one", 1)))
        await until_one_waits(postgres)
        assert not commit.done()
        assert await waiting_commits(postgres, "pg_cancel_backend(pid)") == 1
        with pytest.raises(Unconfirmed, match="did not wait for its standby"):
            await commit
        settle = asyncio.create_task(one.store.settle())
        await until_one_waits(postgres)
        assert not settle.done()
    finally:
        await set_standby(postgres, "")
    assert await settle
    assert [record.service for state in await other.learned() for record in state.records] == ["one"]
    await one.commit(change("one", 2))
    assert (await one.store.verify()).broken == []
