"""Carries out transactions under the lock on the row of the home, and finds out whether one in doubt was made."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aliciacfg.errors import Superseded, Unavailable, Unconfirmed, WentBack
from aliciacfg.model.records import Write
from aliciacfg.storage.batch import Batch, combine
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.postgres import queries
from aliciacfg.storage.postgres.connections import Connections
from aliciacfg.storage.postgres.driver import Link, ServerError
from aliciacfg.storage.postgres.failures import DUPLICATE, unwritable
from aliciacfg.storage.postgres.following import Basis, Following
from aliciacfg.storage.postgres.home_lock import HomeLock
from aliciacfg.storage.postgres.queries import Change
from aliciacfg.storage.postgres.tasks import Tasks
from aliciacfg.storage.postgres.transaction import (
    COMMIT,
    Held,
    Written,
    move_forged,
    read_home,
    reseal_written,
    was_made,
    write_batch,
)

T = TypeVar("T")

_PROBE = Write(meta=(("probe", ""),))


class Commits:
    """Writes to the database."""

    def __init__(
        self, connections: Connections, chain: Chain, lock: HomeLock, following: Following, tasks: Tasks
    ) -> None:
        self._connections = connections
        self._chain = chain
        self._lock = lock
        self._following = following
        self._tasks = tasks

    async def commit(self, writes: Sequence[Write]) -> None:
        """Apply writes in one transaction; ``Store.commit`` says what it raises."""

        async def planned(_: Link) -> tuple[Sequence[Write], None]:
            return writes, None

        following = self._following
        basis = Basis(following.epoch)
        following.bases.append(basis)
        try:
            await self.transact(planned, basis, settles=True)
        finally:
            following.bases.remove(basis)
        position = next((write.position for write in reversed(writes) if write.position is not None), None)
        if position is not None:
            following.raise_position(position)

    async def transact(
        self,
        plan: Callable[[Link], Awaitable[tuple[Sequence[Write], T] | None]],
        basis: Basis | None = None,
        *,
        background: bool = False,
        settles: bool = False,
        notify: bool = False,
    ) -> T | None:
        """Have a function plan writes under the lock, and commit them; return what else it returned.

        If it returns None, nothing is written. A caller that is cancelled does not end the transaction.

        Args:
            plan: Returns the writes and something else.
            basis: What memory was notified of since the writes were planned; None if they build on nothing.
            background: Whether it waits until no caller holds the home, instead of being what the hold is for.
            settles: Whether a caller that is not cancelled asks ``settle`` after Unconfirmed.
            notify: Whether memory is notified of it as of what others change, so that it supersedes plans of this
                store, too.

        Raises:
            Unavailable: Nothing was written; or ``Superseded``, ``WentBack``, ``OtherFormat``, ``Unconfirmed``.
        """
        following = self._following
        task = self._tasks.start(self._in_turn(plan, basis or Basis(None), background=background))
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            # Memory does not follow; it is notified like the others.
            task.add_done_callback(self._forget_abandoned)
            raise
        except Unconfirmed:
            if not settles:
                following.forget_doubt()
            raise
        if result is None:
            return None
        written, found = result
        if not notify:
            following.follow(written)
        following.forget_mine()
        return found

    def _forget_abandoned(self, task: "asyncio.Task[object]") -> None:
        """End the waiting for a transaction that ended after its caller was cancelled."""
        if not task.cancelled() and isinstance(task.exception(), Unconfirmed):
            self._following.forget_doubt()
        else:
            self._following.forget_mine()

    async def _in_turn(
        self, plan: Callable[[Link], Awaitable[tuple[Sequence[Write], T] | None]], basis: Basis, *, background: bool
    ) -> tuple[Written, T] | None:
        """Carry out a transaction when it is its turn; return what it wrote and what the plan returned."""
        lock, following = self._lock, self._following
        hold = None if background else lock.take_over()
        if hold is None:
            await lock.turn.acquire()
        try:
            link = None if hold is None else await hold.end()
            try:
                if following.lost is not None:
                    raise WentBack(following.lost.message)
                await following.wait_mine()
            except Unavailable:
                if link is not None:
                    await lock.roll_back(link)
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
            lock.turn.release()

    async def _attempt(
        self,
        plan: Callable[[Link], Awaitable[tuple[Sequence[Write], T] | None]],
        basis: Basis,
        link: Link | None,
        *,
        moving: bool = False,
    ) -> tuple[Written, T] | None:
        """Carry out a transaction.

        Args:
            plan: As for ``transact``.
            basis: As for ``transact``.
            link: Has the lock already; None to take it.
            moving: Whether forged rows are moved away from the places of new ones.

        Raises:
            ServerError: Nothing was written.
            Unavailable: The same; or ``Unconfirmed``.
        """
        link = link or await self._lock.take()
        try:
            planned = await plan(link)
            if planned is None:
                await self._lock.roll_back(link)
                return None
            writes, found = planned
            batch = combine(writes)
            held, change = await self._look(link, writes, batch, basis)
            if moving:
                await move_forged(link, self._chain, batch)
            written = await write_batch(link, self._chain, writes, batch, held)
            await reseal_written(link, self._chain, writes, written.commit)
        except BaseException:
            await self._lock.roll_back(link)
            raise
        await self._end(link, written, change)
        return written, found

    async def _look(
        self, link: Link, writes: Sequence[Write], batch: Batch, basis: Basis
    ) -> tuple[Held, Change | None]:
        """Read what is replaced, and what others changed since memory followed.

        Raises:
            Superseded: They changed what a write was planned on; memory was notified.
            WentBack: Memory follows transactions that are lost.
            OtherFormat: The home has a format that this program does not work with.
        """
        answers = [(answer.requester, answer.request_id) for write in writes for answer in write.answers]
        held = await read_home(link, batch, answers)
        change: Change | None = None
        superseded = held.answered or basis.is_superseded(writes)
        followed, seen = self._following.commit, self._following.end
        if followed is not None and (held.commit, held.end) != (followed, seen):
            change = await queries.load_since(link, self._chain, followed, seen, self._following.format)
            # An end that no key made is forged; it does not mean another history.
            is_other = held.commit == followed and self._chain.confirmed_end(held.end) is not None
            if change.is_lost or is_other:
                raise self._following.went_back(held.position)
            superseded = superseded or basis.contradicts(writes, change)
        # Memory may have been notified of another change meanwhile.
        if superseded or basis.is_superseded(writes):
            await self._lock.roll_back(link)
            if change is not None:
                self._following.notify(change)
            raise Superseded("The store cannot write: another daemon changed what this was planned on.")
        return held, change

    async def _end(self, link: Link, written: Written, change: Change | None) -> None:
        """Notify memory of what others changed, and commit."""
        following = self._following
        if change is not None:
            following.notify(change)
        following.begin_mine(written)
        link.forget_warnings()
        try:
            status = await link.run(COMMIT)
        except ServerError as error:
            self._connections.drop_writer()
            if error.sqlstate and not error.lost:
                following.forget_mine()
                raise
            raise self._doubt(written, str(error)) from error
        if link.warned:
            raise self._doubt(written, "the server did not wait for its standby")
        if status != COMMIT:
            following.forget_mine()
            raise Unavailable("The store cannot write: the server took the transaction back.")
        self._lock.unwritable = None

    def _doubt(self, written: Written, why: str) -> Unavailable:
        """Return the error about a transaction of which it is not known whether it was made."""
        if not written.matters:
            # Nothing that memory follows; the next commit takes its place in any case.
            self._following.forget_mine()
            return Unavailable(f"The store cannot write: {why}.")
        self._following.doubt(written)
        return Unconfirmed(f"The store failed while it wrote: {why}.")

    async def settle(self) -> bool:
        """Return whether the last commit in doubt was made; the lock shows that it is over.

        Raises:
            Unavailable: The database cannot be reached.
        """
        following = self._following
        written = following.in_doubt
        if written is None:
            return False
        async with self._lock.turn:
            self._connections.drop_writer()
            try:
                link = await self._lock.take()
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
        following.forget_doubt()
        if made:
            following.follow(probe if probe.commit == written.commit + 1 else written)
        return made
