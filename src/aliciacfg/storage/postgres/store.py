"""A store in a PostgreSQL database, which several daemons may share.

The row of the home (``statements``) is lock, fence and clock: each commit locks it, compares its number with the one
that memory follows, reads what others changed if it differs, and writes the next number. ``NOTIFY`` tells the others
that there is something to read; they also look by themselves.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from aliciacfg.errors import Superseded, Unavailable, Unconfirmed, WentBack
from aliciacfg.model.records import (
    START,
    Applied,
    Audited,
    Overlay,
    Position,
    Recipient,
    Record,
    RecordHead,
    StoredState,
    Token,
    Write,
)
from aliciacfg.storage.batch import Batch, combine
from aliciacfg.storage.conflicts import is_superseded
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.postgres import queries
from aliciacfg.storage.postgres.connections import FOLLOWING, Connections
from aliciacfg.storage.postgres.driver import Link, ServerError, Values
from aliciacfg.storage.postgres.failures import DUPLICATE, STANDBY, may_pass, remedy, unreadable, unusable, unwritable
from aliciacfg.storage.postgres.maintenance import (
    copy_database,
    key_ids_of,
    reseal_rows,
    rewrite_tables,
    verify_database,
)
from aliciacfg.storage.postgres.queries import Change
from aliciacfg.storage.postgres.retention import find_outdated, remove_some
from aliciacfg.storage.postgres.schema import check, prepare
from aliciacfg.storage.postgres.shared import PostgresSharedHome
from aliciacfg.storage.postgres.statements import CHANNEL, SELECT_COMMIT
from aliciacfg.storage.postgres.transaction import (
    BEGIN,
    COMMIT,
    ROLLBACK,
    Held,
    Written,
    move_forged,
    read_home,
    reseal_written,
    was_made,
    write_batch,
)
from aliciacfg.storage.store import CopyTarget, Kept, Outdated, Removed, Reseal, StoreError
from aliciacfg.storage.threads import run_in_thread
from aliciacfg.storage.verifier import Findings
from aliciacfg.storage.witness import FILE_NAME, Witness

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_UNREACHABLE_SECONDS = 1.0
_NOTED_SECONDS = 0.02
KEPT_SECONDS = 3.0
# A read waits this long for an answer: somebody holds a lock on a table (VACUUM FULL), or the server hangs. One that
# follows others may have much to read: after each that got no answer the next one waits twice as long.
READ_SECONDS = 10.0
_MAX_READ_SECONDS = 160.0
_HINT_PAUSE_SECONDS = 1.0
_HINTS = "database-hints"
# A verification rests for this long after each two milliseconds of work, so that requests hardly notice it.
_PAUSE_SECONDS = 0.005
_PROBE = Write(meta=(("probe", ""),))
_RESTART = (
    "The database went back: transactions that this daemon has seen are not in it, after a failover or a restore. "
    "Restart the daemon; it raises the epoch and publishes everything again."
)


@dataclass(slots=True)
class _Basis:
    """What memory has been told since writes were handed over: they were planned without it.

    Attributes:
        epoch: The epoch of memory at that time.
        changes: What others changed.
    """

    epoch: int | None
    changes: list[Change] = field(default_factory=list[Change])

    def is_superseded(self, writes: Sequence[Write]) -> bool:
        """Return whether writes were planned on what has changed since."""
        return any(self.contradicts(writes, change) for change in self.changes)

    def contradicts(self, writes: Sequence[Write], change: Change) -> bool:
        """Return whether writes were planned on what a change changed."""
        return is_superseded(writes, change.state, change.created, epoch=self.epoch)


@dataclass(slots=True)
class _Hold:
    """A transaction that holds the lock while somebody plans.

    Attributes:
        link: Has begun it.
        over: Is set when something else is to be done with it.
        kept: Lets the server hear of it until then.
    """

    link: Link
    over: asyncio.Event
    kept: "asyncio.Task[None]"

    async def end(self) -> Link:
        """Return the connection, on which nothing goes on any more."""
        self.over.set()
        await asyncio.wait({self.kept})
        return self.link


async def _keep(link: Link, over: asyncio.Event) -> None:
    """Let the server hear of a transaction: it takes the lock back from a process that hangs."""
    with contextlib.suppress(ServerError):
        while not over.is_set():
            try:
                await asyncio.wait_for(over.wait(), KEPT_SECONDS)
            except TimeoutError:
                await link.run("SELECT 1")


class PostgresStore:
    """Implements ``storage.store.Store``, which says what each method promises."""

    def __init__(self, url: str, name: str, directory: Path, chain: Chain, copy_target: CopyTarget) -> None:
        self._url = url
        self._name = name
        self._chain = chain
        self._copy_target = copy_target
        self._connections = Connections(url)
        # Why there was no server when it was looked for last, at the start.
        self._unreachable = ""
        self._shared = PostgresSharedHome(self._read, self._change)
        self._witness = Witness(directory / FILE_NAME, chain)
        # Writes the witness file, so that an older position never replaces a newer one.
        self._notes = ThreadPoolExecutor(1, "witness")
        # The position that the witness file is to have soon, and the last one of all.
        self._position: Position | None = None
        self._reached = START
        self._noting: asyncio.TimerHandle | None = None
        self._read_listeners: list[Callable[[str | None], None]] = []
        self._listeners: list[Callable[[StoredState], None]] = []
        self.unwritable: Unavailable | None = None
        # The number of the transaction that memory follows, and its epoch; None before ``load``.
        self._followed: int | None = None
        self._epoch: int | None = None
        # The end of the chain after that transaction.
        self._followed_end: Values | None = None
        # Set once the database lacks what memory follows.
        self._lost: WentBack | None = None
        # The number of a transaction of this store that memory does not follow yet, although it may be there.
        self._mine: int | None = None
        self._followed_mine = asyncio.Event()
        self._followed_mine.set()
        self._in_doubt: Written | None = None
        # Of every commit that has not ended.
        self._bases: list[_Basis] = []
        # Whose turn it is on the connection that writes.
        self._turn = asyncio.Lock()
        self._hold: _Hold | None = None
        # The look at what others changed that goes on, and the one behind it.
        self._looking: asyncio.Task[None] | None = None
        self._next_look: asyncio.Task[None] | None = None
        self._patience = READ_SECONDS
        self._tasks: set[asyncio.Task[object]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, url: str, name: str, directory: Path, chain: Chain, copy_target: CopyTarget
    ) -> AsyncGenerator["PostgresStore"]:
        """Connect, create the tables if there are none, and disconnect when the block is left.

        Waits as long as there is no server.

        Args:
            url: Where the database is.
            name: The same for messages, without a password.
            directory: Holds the witness file.
            chain: Computes the MACs.
            copy_target: Makes the target of a backup in a directory.

        Raises:
            StoreError: The database cannot be used.
        """
        store = cls(url, name, directory, chain, copy_target)
        try:
            while True:
                if await store._opened():
                    break
                await asyncio.sleep(_UNREACHABLE_SECONDS)
            store._start(store._listen_hints(), _HINTS)
            yield store
        finally:
            await store._close()

    async def _opened(self) -> bool:
        """Connect; return False if there is no server at present.

        Raises:
            StoreError: As ``open``.
        """
        try:
            link = await self._connections.writer()
            if not link.read_only:
                await prepare(link, self._chain)
            elif not await check(link):
                raise StoreError(f"{self._name} cannot be used: there are no tables, and {STANDBY}")
            else:
                self.unwritable = Unavailable(f"The store cannot write: {STANDBY}.")
        except ServerError as error:
            self._connections.drop_writer()
            if not may_pass(error):
                raise unusable(self._name, error) from error
            if str(error) != self._unreachable:
                self._unreachable = str(error)
                _log.warning("database_unreachable", database=self._name, reason=str(error), remedy=remedy(error))
            return False
        except StoreError as error:
            raise StoreError(f"{self._name} cannot be used: {error}") from error
        return True

    async def _close(self) -> None:
        """Let commits under way end, and disconnect."""
        for task in self._tasks:
            if task.get_name() == _HINTS:
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._note_position()
        # Behind what was submitted.
        await asyncio.wrap_future(self._notes.submit(self._notes.shutdown, wait=False))
        await self._connections.close()

    def _start(self, work: Coroutine[object, object, T], name: str | None = None) -> "asyncio.Task[T]":
        """Start a task that a cancelled caller does not end."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def shared(self) -> PostgresSharedHome:
        """What the daemons know of each other."""
        return self._shared

    def listen_others(self, listener: Callable[[StoredState], None]) -> None:
        """Have a function called with what other daemons changed."""
        self._listeners.append(listener)

    def listen_reads(self, listener: Callable[[str | None], None]) -> None:
        """Have a function called after every read."""
        self._read_listeners.append(listener)

    async def probe(self) -> None:
        """Read the number of the last commit."""
        await self._read(lambda link: link.rows(SELECT_COMMIT))

    async def load(self) -> StoredState:
        """Return what a start needs; memory follows what comes after it."""
        try:
            state, end = await self._select(partial(queries.load, chain=self._chain), snapshot=True)
        except ServerError as error:
            raise unreadable(error) from error
        self._followed_end = end
        self._followed, self._epoch = state.commit, state.position.epoch
        self._reached = max(state.position, self._reached)
        return state

    @property
    def followed(self) -> int:
        """The number of the last transaction that memory follows."""
        return self._followed or 0

    async def load_since(self, commit: int) -> StoredState:
        """Return what was changed after a commit."""
        change = await self._read(partial(queries.load_since, chain=self._chain, commit=commit))
        return change.state

    async def catch_up(self) -> None:
        """Read and tell what others changed; whoever asks before a read has begun shares it."""
        if self._next_look is None:
            self._next_look = self._start(self._look_after(self._looking))
            # Of a failure that nobody waits for any more, too.
            self._next_look.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._next_look)

    async def _look_after(self, looking: "asyncio.Task[None] | None") -> None:
        """Catch up when a look that has begun is over."""
        if looking is not None:
            await asyncio.wait({looking})
        self._looking, self._next_look = self._next_look, None
        await self._follow()

    async def _follow(self) -> None:
        while (since := self._followed) is not None:
            seen = self._followed_end
            patience, self._patience = self._patience, min(2 * self._patience, _MAX_READ_SECONDS)
            load_since = partial(queries.load_since, chain=self._chain, commit=since, seen=seen)
            change = await self._read(load_since, purpose=FOLLOWING, patience=patience)
            self._patience = READ_SECONDS
            if self._mine is not None and change.state.commit >= self._mine:
                # It tells of a write of this store, which memory learns of in another way.
                await self._wait_followed()
            elif self._followed == since:
                if change.is_lost:
                    raise self._went_back(change.state.position)
                self._tell(change)
                return

    def _tell(self, change: Change) -> None:
        """Have memory follow what others changed, if they changed anything."""
        state = change.state
        if self._followed is None or state.commit <= self._followed:
            return
        self._followed, self._epoch, self._followed_end = state.commit, state.position.epoch, change.end
        self._note_soon(state.position)
        for basis in self._bases:
            basis.changes.append(change)
        for listener in self._listeners:
            listener(state)

    def _went_back(self, stored: Position) -> WentBack:
        """Return the error about lost transactions, and have the next start find that something is lost."""
        if self._lost is None:
            _log.error("database_went_back", database=self._name, remedy="restart the daemon")
            self._lost = WentBack(_RESTART)
            # Higher than what is stored, also where others wrote in the place of what is lost.
            known = self._reached
            epoch, sequence = max(stored.epoch, known.epoch), max(stored.sequence, known.sequence)
            self._reached = self._position = Position(epoch, sequence + 1)
            self._note_position()
        return WentBack(self._lost.message)

    async def commit(self, writes: Sequence[Write]) -> None:
        """Apply writes in one transaction."""

        async def planned(_: Link) -> tuple[Sequence[Write], None]:
            return writes, None

        basis = _Basis(self._epoch)
        self._bases.append(basis)
        try:
            await self._transact(planned, basis, settles=True)
        finally:
            self._bases.remove(basis)
        position = next((write.position for write in reversed(writes) if write.position is not None), None)
        if position is not None:
            self._epoch = max(position.epoch, self._epoch or 0)
            self._note_soon(position)

    async def _transact(
        self,
        plan: Callable[[Link], Awaitable[tuple[Sequence[Write], T] | None]],
        basis: _Basis | None = None,
        *,
        background: bool = False,
        settles: bool = False,
    ) -> T | None:
        """Have a function plan writes under the lock, and commit them; return what else it returned.

        If it returns None, nothing is written. A caller that is cancelled does not end the transaction.

        Args:
            plan: Returns the writes and something else.
            basis: What memory has been told since the writes were planned; None if they build on nothing.
            background: Whether it waits until nobody holds the home, instead of being what the hold is for.
            settles: Whether a caller that is not cancelled asks ``settle`` after Unconfirmed.
        """
        task = self._start(self._in_turn(plan, basis or _Basis(None), background=background))
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            # Memory does not follow; it is told like the others.
            task.add_done_callback(self._forget_abandoned)
            raise
        except Unconfirmed:
            if not settles:
                self._forget_doubt()
            raise
        if result is None:
            return None
        written, found = result
        if self._followed is not None:
            self._followed, self._followed_end = written.commit, written.end
        self._forget_mine()
        return found

    def _forget_mine(self) -> None:
        self._mine = None
        self._followed_mine.set()

    def _forget_doubt(self) -> None:
        """Have memory told of a transaction like the others, if it was made: nobody waits to know that.

        The next transaction has the lock only when that one is over.
        """
        self._in_doubt = None
        self._forget_mine()

    def _forget_abandoned(self, task: "asyncio.Task[object]") -> None:
        """Do what nobody does for a transaction that ended, because its caller was cancelled."""
        if not task.cancelled() and isinstance(task.exception(), Unconfirmed):
            self._forget_doubt()
        else:
            self._forget_mine()

    async def _wait_followed(self) -> None:
        """Wait until whoever made the transaction before has gone on.

        Raises:
            Unavailable: It is not known whether that transaction was made.
        """
        if self._in_doubt is None:
            await self._followed_mine.wait()
        if self._in_doubt is not None:
            raise Unavailable("The store cannot write: it finds out whether it made the write before this one.")

    async def _in_turn(
        self, plan: Callable[[Link], Awaitable[tuple[Sequence[Write], T] | None]], basis: _Basis, *, background: bool
    ) -> tuple[Written, T] | None:
        """Carry out a transaction when it is its turn; return what it wrote and what the plan returned."""
        hold = None
        if not background:
            hold, self._hold = self._hold, None
        if hold is None:
            await self._turn.acquire()
        try:
            link = None if hold is None else await hold.end()
            try:
                if self._lost is not None:
                    raise WentBack(self._lost.message)
                await self._wait_followed()
            except Unavailable:
                if link is not None:
                    await self._roll_back(link)
                raise
            try:
                return await self._attempt(plan, basis, link)
            except ServerError as error:
                if error.sqlstate != DUPLICATE:
                    raise unwritable(error) from error
            try:
                return await self._attempt(plan, basis, None, moving=True)
            except ServerError as error:
                raise unwritable(error) from error
        finally:
            self._turn.release()

    async def _attempt(
        self,
        plan: Callable[[Link], Awaitable[tuple[Sequence[Write], T] | None]],
        basis: _Basis,
        link: Link | None,
        *,
        moving: bool = False,
    ) -> tuple[Written, T] | None:
        """Carry out a transaction.

        Args:
            plan: As for ``_transact``.
            basis: As for ``_transact``.
            link: Has the lock already; None to take it.
            moving: Whether rows are moved away that somebody put in the place of new ones.

        Raises:
            ServerError: Nothing was written.
            Unavailable: The same; or ``Unconfirmed``.
        """
        link = link or await self._lock()
        try:
            planned = await plan(link)
            if planned is None:
                await self._roll_back(link)
                return None
            writes, found = planned
            batch = combine(writes)
            held, change = await self._look(link, writes, batch, basis)
            if moving:
                await move_forged(link, self._chain, batch)
            written = await write_batch(link, self._chain, writes, batch, held)
            await reseal_written(link, self._chain, writes, written.commit)
        except BaseException:
            await self._roll_back(link)
            raise
        await self._end(link, written, change)
        return written, found

    async def _lock(self) -> Link:
        """Begin a transaction that holds the lock."""
        for fresh in (False, True):
            link = await self._connections.writer()
            if link.read_only:
                self.unwritable = Unavailable(f"The store cannot write: {STANDBY}.")
                raise self.unwritable
            try:
                await link.run(BEGIN)
            except ServerError as error:
                if not error.lost:
                    await self._roll_back(link)
                self._connections.drop_writer()
                if fresh or not error.lost:
                    raise
            else:
                return link
        raise AssertionError

    async def _look(
        self, link: Link, writes: Sequence[Write], batch: Batch, basis: _Basis
    ) -> tuple[Held, Change | None]:
        """Read what is replaced, and what others changed since memory followed.

        Raises:
            Superseded: They changed what a write was planned on; memory was told.
            WentBack: Memory follows transactions that are lost.
        """
        answers = [(answer.requester, answer.request_id) for write in writes for answer in write.answers]
        held = await read_home(link, batch, answers)
        change: Change | None = None
        superseded = held.answered or basis.is_superseded(writes)
        followed, seen = self._followed, self._followed_end
        if followed is not None and (held.commit, held.end) != (followed, seen):
            change = await queries.load_since(link, self._chain, followed, seen)
            # An end that no key made is somebody's work, and no other history.
            is_other = held.commit == followed and self._chain.confirmed_end(held.end) is not None
            if change.is_lost or is_other:
                raise self._went_back(held.position)
            superseded = superseded or basis.contradicts(writes, change)
        # Memory may have been told of another change meanwhile.
        if superseded or basis.is_superseded(writes):
            await self._roll_back(link)
            if change is not None:
                self._tell(change)
            raise Superseded("The store cannot write: another daemon changed what this was planned on.")
        return held, change

    async def _roll_back(self, link: Link) -> None:
        """End a transaction without a trace; a connection that does not answer is dropped, which does the same."""
        try:
            if not link.closed:
                await link.run(ROLLBACK)
                return
        except ServerError:
            pass
        self._connections.drop_writer()

    async def _end(self, link: Link, written: Written, change: Change | None) -> None:
        """Tell memory what others changed, and commit."""
        if change is not None:
            self._tell(change)
        self._mine = written.commit
        self._followed_mine.clear()
        link.forget_warnings()
        try:
            status = await link.run(COMMIT)
        except ServerError as error:
            self._connections.drop_writer()
            if error.sqlstate and not error.lost:
                self._forget_mine()
                raise
            raise self._doubt(written, str(error)) from error
        if link.warned:
            raise self._doubt(written, "the server did not wait for its standby")
        if status != COMMIT:
            self._forget_mine()
            raise Unavailable("The store cannot write: the server took the transaction back.")
        self.unwritable = None

    def _doubt(self, written: Written, why: str) -> Unavailable:
        """Return the error about a transaction of which it is not known whether it was made."""
        if not written.matters:
            # Nothing that memory follows; the next commit takes its place in any case.
            self._forget_mine()
            return Unavailable(f"The store cannot write: {why}.")
        self._in_doubt = written
        self._followed_mine.set()
        return Unconfirmed(f"The store failed while it wrote: {why}.")

    async def settle(self) -> bool:
        """Return whether the last commit in doubt was made; the lock shows that it is over."""
        written = self._in_doubt
        if written is None:
            return False
        async with self._turn:
            self._connections.drop_writer()
            try:
                link = await self._lock()
                made = await was_made(link, written)
                batch = combine([_PROBE])
                held = await read_home(link, batch, ())
                probe = await write_batch(link, self._chain, [_PROBE], batch, held)
                link.forget_warnings()
                if await link.run(COMMIT) != COMMIT or link.warned:
                    # Only what is on the standby as well is durable.
                    raise Unavailable("The store cannot write: the server did not confirm a transaction.")
            except ServerError as error:
                self._connections.drop_writer()
                raise unwritable(error) from error
        self._in_doubt = None
        self._forget_mine()
        if made and self._followed is not None:
            follows = probe if probe.commit == written.commit + 1 else written
            self._followed, self._followed_end = follows.commit, follows.end
        return made

    @contextlib.asynccontextmanager
    async def holding(self) -> AsyncGenerator[None]:
        """Lock the home, catch up, and let the block plan."""
        await self._turn.acquire()
        try:
            hold = self._hold = await self._held()
        except BaseException as error:
            self._turn.release()
            if isinstance(error, ServerError):
                raise unwritable(error) from error
            raise
        try:
            yield
        finally:
            if self._hold is hold:
                # Nothing was committed in the block.
                self._hold = None
                try:
                    await self._roll_back(await hold.end())
                finally:
                    self._turn.release()

    async def _held(self) -> _Hold:
        """Lock the home, and have memory follow what others changed."""
        await self._wait_followed()
        link = await self._lock()
        try:
            if self._followed is not None:
                change = await queries.load_since(link, self._chain, self._followed, self._followed_end)
                if change.is_lost:
                    raise self._went_back(change.state.position)
                self._tell(change)
        except BaseException:
            await self._roll_back(link)
            raise
        over = asyncio.Event()
        return _Hold(link, over, self._start(_keep(link, over)))

    def _note_soon(self, position: Position) -> None:
        self._reached = self._position = max(position, self._reached)
        if self._noting is None:
            self._noting = asyncio.get_running_loop().call_later(_NOTED_SECONDS, self._note_position)

    def _note_position(self) -> None:
        """Have the position of the last commit written to the witness file, if it is not there yet."""
        if self._noting is not None:
            self._noting.cancel()
            self._noting = None
        if self._position is not None:
            self._notes.submit(self._witness.write, self._position)
            self._position = None

    async def witnessed(self) -> Position | None:
        """Return the position in the witness file."""
        self._note_position()
        # Behind what was submitted.
        return await asyncio.get_running_loop().run_in_executor(self._notes, self._witness.read)

    async def record(self, environment: str, service: str, revision: int) -> Record | None:
        """Return one revision, or None."""
        return await self._read(lambda link: queries.record(link, self._chain, environment, service, revision))

    async def history(self, environment: str, service: str, *, before: int | None, limit: int) -> list[RecordHead]:
        """Return revisions of one configuration without their content, newest first."""
        return await self._read(
            lambda link: queries.history(link, self._chain, environment, service, before=before, limit=limit)
        )

    async def audit(self, *, before: int | None, limit: int, service: str | None) -> list[Audited]:
        """Return audit entries, newest first."""
        return await self._read(
            lambda link: queries.audit(link, self._chain, before=before, limit=limit, service=service)
        )

    async def revisions(self, service: str) -> AsyncIterator[Record]:
        """Yield every revision of a service."""
        for environment, revision in await self._read(lambda link: queries.places(link, service)):
            found = await self._read(
                partial(
                    queries.revision_at,
                    chain=self._chain,
                    environment=environment,
                    service=service,
                    revision=revision,
                )
            )
            if found is not None:
                yield found

    async def overlays(self) -> list[Overlay]:
        """Return every overlay as it is stored."""
        return await self._read(lambda link: queries.overlays(link, self._chain))

    async def tokens(self) -> list[Token]:
        """Return every token."""
        return await self._read(lambda link: queries.tokens(link, self._chain))

    async def recipients(self) -> list[Recipient]:
        """Return the public keys of services."""
        return await self._read(lambda link: queries.recipients(link, self._chain))

    async def applied(self) -> list[Applied]:
        """Return the last reports of running copies of services."""
        return await self._read(lambda link: queries.applied(link, self._chain))

    async def reseal(self, reseal: Reseal) -> None:
        """Reseal every stored configuration and overlay."""

        async def planned(link: Link) -> tuple[Sequence[Write], None]:
            return await reseal_rows(link, self._chain, reseal), None

        await self._transact(planned)

    async def key_ids(self) -> set[str]:
        """Return the ids of the keys that any value is sealed with."""
        return await self._read(key_ids_of, snapshot=True)

    async def scrub(self) -> bool:
        """Write the tables anew in which rows from before a resealing are left."""
        return await self._change(rewrite_tables)

    async def first_kept(self, environment: str, service: str) -> int | None:
        """Return the number of the oldest revision, if older ones may have been removed."""
        return await self._read(lambda link: queries.first_kept(link, self._chain, environment, service))

    async def remove_old(self, kept: Kept, *, pause: Callable[[], Awaitable[None]]) -> Removed:
        """Find what is outdated; remove it in small transactions. The server gives the room away again (autovacuum)."""
        if self.unwritable is not None:
            raise self.unwritable
        removed = Removed()
        for outdated in await self._read(lambda link: find_outdated(link, kept), patience=_MAX_READ_SECONDS):
            more = True
            while more:

                async def planned(
                    link: Link, outdated: Outdated = outdated
                ) -> tuple[list[Write], tuple[int, bool]] | None:
                    found = await remove_some(link, self._chain, outdated)
                    return None if found is None else (found[0], found[1:])

                count, more = await self._transact(planned, background=True) or (0, False)
                setattr(removed, outdated.table, getattr(removed, outdated.table) + count)
                await pause()
        return removed

    async def backup(self, directory: Path) -> None:
        """Copy the database into a file, on a connection and in a thread of its own."""

        async def copy() -> None:
            with self._copy_target(directory) as filling:
                await copy_database(self._url, filling.add)

        await run_in_thread(copy)

    async def verify(self) -> Findings:
        """Compare every row with the chain, on a connection and in a thread of its own."""
        return await run_in_thread(lambda: verify_database(self._url, self._chain, pause_seconds=_PAUSE_SECONDS))

    async def _select(
        self,
        select: Callable[[Link], Awaitable[T]],
        *,
        snapshot: bool = False,
        purpose: str = "",
        patience: float | None = None,
    ) -> T:
        """Read on a connection; once more on a new one if an idle one turns out to be broken.

        Raises:
            ServerError: The database cannot be read.
        """
        reading = partial(self._connections.reading, snapshot=snapshot, purpose=purpose, patience=patience)
        try:
            async with reading() as link:
                return await select(link)
        except ServerError as error:
            if not error.lost or error.late:
                raise
        self._connections.drop_idle()
        async with reading() as link:
            return await select(link)

    async def _read(
        self,
        select: Callable[[Link], Awaitable[T]],
        *,
        snapshot: bool = False,
        purpose: str = "",
        patience: float | None = None,
    ) -> T:
        """Read; a snapshot of everything takes as long as it takes, other reads ``READ_SECONDS`` unless it is said."""
        if patience is None and not snapshot:
            patience = READ_SECONDS
        try:
            found = await self._select(select, snapshot=snapshot, purpose=purpose, patience=patience)
        except ServerError as error:
            failure = unreadable(error)
            for listener in self._read_listeners:
                listener(failure.message)
            raise failure from error
        for listener in self._read_listeners:
            listener(None)
        return found

    async def _change(self, change: Callable[[Link], Awaitable[T]], *, purpose: str = "") -> T:
        """Change what is not covered by the lock, on a connection that reads otherwise."""
        try:
            # What has a connection of its own has to be done at once; anything else takes as long as it takes.
            return await self._select(change, purpose=purpose, patience=READ_SECONDS if purpose else None)
        except ServerError as error:
            raise unwritable(error) from error

    async def _listen_hints(self) -> None:
        """Set the event of ``SharedHome.hints`` at each notification of another daemon, as long as there is a server.

        Some poolers let nothing be listened to; then only the daemon's own looks find out.
        """
        while True:
            with contextlib.suppress(ServerError):
                link = await self._connections.connect()
                try:
                    await link.listen(CHANNEL, self._heard)
                    # What came before it listened.
                    self._shared.hints().set()
                    await link.ended.wait()
                finally:
                    link.terminate()
            await asyncio.sleep(_HINT_PAUSE_SECONDS)

    def _heard(self, process: int) -> None:
        if process != self._connections.writer_process:
            self._shared.hints().set()
