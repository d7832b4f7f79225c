"""A store in a PostgreSQL database, which several daemons may share.

The row of the home (``statements``) is lock, fence and clock: each commit locks it, compares its number with the one
that memory follows, reads what others changed if it differs, and writes the next number. ``NOTIFY`` informs the others
that there is something to read; they also look by themselves.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import structlog

from aliciacfg.errors import Unavailable
from aliciacfg.model.records import (
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
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.postgres import queries
from aliciacfg.storage.postgres.calls import Calls
from aliciacfg.storage.postgres.commits import Commits
from aliciacfg.storage.postgres.connections import Connections
from aliciacfg.storage.postgres.copying import back_up
from aliciacfg.storage.postgres.driver import Link, ServerError
from aliciacfg.storage.postgres.failures import STANDBY, may_pass, remedy, unreadable, unusable
from aliciacfg.storage.postgres.following import MAX_READ_SECONDS, ChangeReader, Following
from aliciacfg.storage.postgres.hints import listen_hints
from aliciacfg.storage.postgres.home_lock import HomeLock
from aliciacfg.storage.postgres.kept_answers import KeptAnswers
from aliciacfg.storage.postgres.maintenance import key_ids_of, reseal_rows, rewrite_tables
from aliciacfg.storage.postgres.reached import Reached
from aliciacfg.storage.postgres.retention import find_outdated, remove_some
from aliciacfg.storage.postgres.schema import check, prepare
from aliciacfg.storage.postgres.shared import PostgresSharedHome
from aliciacfg.storage.postgres.statements import SELECT_COMMIT
from aliciacfg.storage.postgres.tasks import Tasks
from aliciacfg.storage.postgres.verification import verify_database
from aliciacfg.storage.store import CopyTarget, Kept, Outdated, Removed, Reseal, StoreError
from aliciacfg.storage.threads import run_in_thread
from aliciacfg.storage.verifier import Findings
from aliciacfg.storage.witness import FILE_NAME, Witness

_log = structlog.get_logger(__name__)

_UNREACHABLE_SECONDS = 1.0
_HINTS = "database-hints"
# A verification rests for this long after each two milliseconds of work, so that requests hardly notice it.
_PAUSE_SECONDS = 0.005


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
        self._tasks = Tasks()
        self._reached = Reached(Witness(directory / FILE_NAME, chain))
        self._calls = Calls(self._connections)
        self._following = Following(name, self._reached)
        self._change_reader = ChangeReader(self._calls, chain, self._following, self._tasks)
        self._lock = HomeLock(self._connections, chain, self._following, self._tasks)
        self._commits = Commits(self._connections, chain, self._lock, self._following, self._tasks)
        self._shared = PostgresSharedHome(
            self._calls.read,
            self._calls.change,
            partial(self._commits.transact, background=True, notify=True),
            lambda: self._following.format,
            KeptAnswers(self._calls, self._chain, self._tasks),
        )

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
            store._tasks.start(listen_hints(store._connections, store._following, store._shared.hints()), _HINTS)
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
                self._lock.note_read_only()
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
        await self._tasks.end(_HINTS)
        await self._reached.close()
        await self._connections.close()

    @property
    def unwritable(self) -> Unavailable | None:
        """Why the database can only be read at present."""
        return self._lock.unwritable

    @property
    def shared(self) -> PostgresSharedHome:
        """What the daemons know of each other."""
        return self._shared

    def listen_others(self, listener: Callable[[StoredState], None]) -> None:
        """Have a function called with what other daemons changed."""
        self._following.listen(listener)

    def listen_reads(self, listener: Callable[[str | None], None]) -> None:
        """Have a function called after every read."""
        self._calls.listen_reads(listener)

    async def probe(self) -> None:
        """Read the number of the last commit."""
        await self._calls.read(lambda link: link.rows(SELECT_COMMIT))

    async def load(self) -> StoredState:
        """Return what a start needs; memory follows what comes after it."""
        try:
            state, end, number = await self._calls.select(partial(queries.load, chain=self._chain), snapshot=True)
        except ServerError as error:
            raise unreadable(error) from error
        self._following.begin(state, end, number)
        return state

    @property
    def followed(self) -> int:
        """The number of the last transaction that memory follows."""
        return self._following.commit or 0

    async def load_since(self, commit: int) -> StoredState:
        """Return what was changed after a commit."""
        change = await self._calls.read(partial(queries.load_since, chain=self._chain, commit=commit))
        return change.state

    async def catch_up(self) -> None:
        """Read what others changed and notify the listeners; callers that ask before a read has begun share it."""
        await self._change_reader.catch_up()

    async def commit(self, writes: Sequence[Write]) -> None:
        """Apply writes in one transaction."""
        await self._commits.commit(writes)

    async def settle(self) -> bool:
        """Return whether the last commit in doubt was made."""
        return await self._commits.settle()

    def holding(self) -> AbstractAsyncContextManager[None]:
        """Lock the home, catch up, and let the block plan."""
        return self._lock.holding()

    async def witnessed(self) -> Position | None:
        """Return the position in the witness file."""
        return await self._reached.read()

    async def record(self, environment: str, service: str, revision: int) -> Record | None:
        """Return one revision, or None."""
        return await self._calls.read(lambda link: queries.record(link, self._chain, environment, service, revision))

    async def history(self, environment: str, service: str, *, before: int | None, limit: int) -> list[RecordHead]:
        """Return revisions of one configuration without their content, newest first."""
        return await self._calls.read(
            lambda link: queries.history(link, self._chain, environment, service, before=before, limit=limit)
        )

    async def audit(self, *, before: int | None, limit: int, service: str | None) -> list[Audited]:
        """Return audit entries, newest first."""
        return await self._calls.read(
            lambda link: queries.audit(link, self._chain, before=before, limit=limit, service=service)
        )

    async def revisions(self, service: str) -> AsyncIterator[Record]:
        """Yield every revision of a service."""
        for environment, revision in await self._calls.read(lambda link: queries.places(link, service)):
            found = await self._calls.read(
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
        return await self._calls.read(lambda link: queries.overlays(link, self._chain))

    async def tokens(self) -> list[Token]:
        """Return every token."""
        return await self._calls.read(lambda link: queries.tokens(link, self._chain))

    async def recipients(self) -> list[Recipient]:
        """Return the public keys of services."""
        return await self._calls.read(lambda link: queries.recipients(link, self._chain))

    async def applied(self) -> list[Applied]:
        """Return the last reports of running copies of services."""
        return await self._calls.read(lambda link: queries.applied(link, self._chain))

    async def reseal(self, reseal: Reseal) -> None:
        """Reseal every stored configuration and overlay."""

        async def planned(link: Link) -> tuple[Sequence[Write], None]:
            return await reseal_rows(link, self._chain, reseal), None

        await self._commits.transact(planned)

    async def key_ids(self) -> set[str]:
        """Return the ids of the keys that any value is sealed with."""
        return await self._calls.read(key_ids_of, snapshot=True)

    async def scrub(self) -> bool:
        """Write the tables anew in which rows from before a resealing are left."""
        return await self._calls.change(rewrite_tables)

    async def first_kept(self, environment: str, service: str) -> int | None:
        """Return the number of the oldest revision, if older ones may have been removed."""
        return await self._calls.read(lambda link: queries.first_kept(link, self._chain, environment, service))

    async def remove_old(self, kept: Kept, *, pause: Callable[[], Awaitable[None]]) -> Removed:
        """Find what is outdated; remove it in small transactions. The server gives the room away again (autovacuum)."""
        if self.unwritable is not None:
            raise self.unwritable
        removed = Removed()
        for outdated in await self._calls.read(lambda link: find_outdated(link, kept), patience=MAX_READ_SECONDS):
            more = True
            while more:

                async def planned(
                    link: Link, outdated: Outdated = outdated
                ) -> tuple[list[Write], tuple[int, bool]] | None:
                    found = await remove_some(link, self._chain, outdated)
                    return None if found is None else (found[0], found[1:])

                count, more = await self._commits.transact(planned, background=True) or (0, False)
                setattr(removed, outdated.table, getattr(removed, outdated.table) + count)
                await pause()
        return removed

    async def backup(self, directory: Path) -> None:
        """Copy the database into a file, on a connection and in a thread of its own."""
        await run_in_thread(lambda: back_up(self._url, self._chain, lambda: self._copy_target(directory)))

    async def verify(self) -> Findings:
        """Compare every row with the chain, on a connection and in a thread of its own."""
        return await run_in_thread(lambda: verify_database(self._url, self._chain, pause_seconds=_PAUSE_SECONDS))
