"""A store in one SQLite file.

The file is in WAL mode with ``synchronous=FULL``: a commit returns when the write-ahead log is on the disk. One
connection writes and one reads, each in a thread of its own, so that reads do not wait for a commit.
"""

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiosqlite
import structlog

from aliciacfg.errors import Blocked, Damaged, Unavailable, Unconfirmed
from aliciacfg.file_errors import unreadable
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
from aliciacfg.storage.hash_chain import Chain, End
from aliciacfg.storage.sqlite import queries
from aliciacfg.storage.sqlite.chain_tail import KnownTail
from aliciacfg.storage.sqlite.copies import copy_file
from aliciacfg.storage.sqlite.damage import (
    RESTORE,
    is_damage,
    is_locked,
    may_pass,
    not_created,
    not_upgraded,
    translated_damage,
    unusable,
)
from aliciacfg.storage.sqlite.maintenance import (
    connect,
    connect_to_rest,
    probe,
    probe_file,
    select_key_ids,
    truncate_log,
    verify_file,
)
from aliciacfg.storage.sqlite.retention import free_some, outdated_in_file, remove_some
from aliciacfg.storage.sqlite.schema import is_readable, migrate, version
from aliciacfg.storage.sqlite.transaction import CommitInDoubt, apply, check_writable, reseal_rows, settle
from aliciacfg.storage.store import Kept, Outdated, Removed, Reseal, StoreError
from aliciacfg.storage.verifier import Findings
from aliciacfg.storage.witness import FILE_NAME, Witness

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_LOCKED_SECONDS = 1.0
# How soon after a commit its position is in the witness file: that took 40 µs of every commit, before its answers.
_NOTED_SECONDS = 0.02
# What SQLite appends to the name of a database for its write-ahead log.
_WAL = "-wal"

# A verification rests for this long after each two milliseconds of work, so that requests hardly notice it.
_PAUSE_SECONDS = 0.005


class SqliteStore:
    """Implements ``storage.store.Store``, which says what each method promises."""

    def __init__(self, path: Path, chain: Chain, connections: contextlib.AsyncExitStack) -> None:
        self._path = path
        self._witness = Witness(path.with_name(FILE_NAME), chain)
        self._chain = chain
        # Closes the connections.
        self._connections = connections
        self._paths = (str(path), str(path) + _WAL)
        # What the files of the database were when it was opened to be written.
        self._files: list[tuple[int, int] | None] = []
        self._reader: _Connection
        # None while the database can only be read.
        self._writer: _Connection | None = None
        # What the writer knows of the chain from its last commit.
        self._known = KnownTail()
        # The end of the chain that a commit of unknown result would have made.
        self._in_doubt: End | None = None
        # The position that the witness file is to have soon, and when.
        self._position: Position | None = None
        self._noting: asyncio.TimerHandle | None = None
        self._read_listeners: list[Callable[[str | None], None]] = []
        self.unwritable: Unavailable | None = None
        # Set if something could not be loaded, so that nothing may be written on top of it.
        self._damaged: Damaged | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, path: Path, chain: Chain) -> AsyncGenerator["SqliteStore"]:
        """Open or create a database file, and bring its tables up to date; close it when the block is left.

        Args:
            path: The database file.
            chain: Computes the MACs.

        Raises:
            StoreError: The database cannot be read, or its rows are not trusted, or it was written by a newer
                aliciacfg.
        """
        async with contextlib.AsyncExitStack() as connections:
            store = cls(path, chain, connections)
            while not await store._opened():
                _log.warning("database_locked", path=str(path), remedy="end the program that has locked it")
                await asyncio.sleep(_LOCKED_SECONDS)
            try:
                yield store
            finally:
                # Closing the connection waits for it.
                store._note_position()

    async def _opened(self) -> bool:
        """Open the database to write, or else to read; return False if another program's lock allows neither.

        Raises:
            StoreError: As ``open``.
        """
        try:
            await self._open_to_write()
        except sqlite3.Error as error:
            if not may_pass(error):
                raise unusable(self._path, error) from error
            why = error
        else:
            return True
        try:
            await self._open_to_read(why)
        except sqlite3.Error as error:
            if is_locked(error):
                return False
            raise unusable(self._path, why if may_pass(error) else error) from error
        except OSError as error:
            raise StoreError(unreadable(self._path, error)) from error
        return True

    async def _open_to_write(self) -> None:
        """Open both connections, in place of one that can only read if there is one.

        Raises:
            sqlite3.Error: The database cannot be written.
            StoreError: Its rows are not trusted.
        """
        async with contextlib.AsyncExitStack() as opened:
            writer = await opened.enter_async_context(_connected(lambda: connect(self._path)))
            await writer.run(lambda connection: migrate(connection, self._chain))
            await writer.run(check_writable)
            reader = await opened.enter_async_context(_connected(lambda: connect(self._path)))
            self._files = self._files_in_place()
            before = self._connections.pop_all()
            self._connections.push_async_exit(opened.pop_all())
        self._writer, self._reader, self.unwritable = writer, reader, None
        self._known = KnownTail()
        await before.aclose()

    async def _open_to_read(self, why: sqlite3.Error) -> None:
        """Open a database that cannot be written now, for reading.

        Args:
            why: Why it cannot be written.

        Raises:
            StoreError: There is none, or it has to be upgraded before it can be read.
            sqlite3.Error: It cannot be read either; if another program has locked it, at present.
            OSError: It cannot be read either.
        """
        async with contextlib.AsyncExitStack() as opened:
            # With a lock on it, the file itself is read.
            open_reader = partial(connect if is_locked(why) else connect_to_rest, self._path)
            reader = await opened.enter_async_context(_connected(open_reader))
            if not await reader.run(is_readable):
                if is_locked(why):
                    # When the lock is gone, it is created or upgraded.
                    raise why
                missing = await reader.run(version) == 0
                raise not_created(self._path, why) if missing else not_upgraded(self._path, why)
            self._connections.push_async_exit(opened.pop_all())
        self._reader = reader
        self.unwritable = _unwritable(why)

    def listen_reads(self, listener: Callable[[str | None], None]) -> None:
        """Have a function called after every read."""
        self._read_listeners.append(listener)

    @property
    def shared(self) -> None:
        """Nothing: one daemon has the file for itself."""
        return

    def listen_others(self, listener: Callable[[StoredState], None]) -> None:
        """Do nothing: there are no other daemons."""

    async def catch_up(self) -> None:
        """Do nothing: there are no other daemons."""

    @property
    def followed(self) -> int:
        """Nothing: transactions of a single daemon have no numbers."""
        return 0

    async def load_since(self, commit: int) -> StoredState:
        """Return nothing: transactions of a single daemon have no numbers."""
        return StoredState(commit=commit)

    @contextlib.asynccontextmanager
    async def holding(self) -> AsyncGenerator[None]:
        """Do nothing: no other process writes."""
        yield

    async def probe(self) -> None:
        """Read the end of the chain on a connection of its own, whose cache is empty."""
        try:
            if self._writer is None:
                await self._reader.run(probe)
            else:
                await asyncio.to_thread(probe_file, self._path)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        self._notify_read_listeners(None)

    async def load(self) -> StoredState:
        """Return what a start needs."""
        try:
            state = await self._reader.run(lambda connection: queries.load(connection, self._chain))
        except sqlite3.Error as error:
            raise Unavailable(f"The store cannot be read: {error}.") from error
        if state.damaged:
            self._note_damage(*state.damaged)
        return state

    def _note_damage(self, *what: str) -> None:
        """Write nothing any more: a number that an unreadable revision has could be given again."""
        self._damaged = Damaged(
            f"The database is damaged, and this cannot be read: {'; '.join(what)}. To write, {RESTORE}."
        )
        self.unwritable = self._damaged
        _log.error("database_damaged", path=str(self._path), unreadable=list(what), remedy=RESTORE)

    async def commit(self, writes: Sequence[Write]) -> None:
        """Apply writes in one transaction: one call in the database's thread."""
        await self._write(lambda connection: apply(connection, self._chain, writes, self._known))
        position = next((write.position for write in reversed(writes) if write.position is not None), None)
        if position is not None:
            self._position = position
            if self._noting is None:
                self._noting = asyncio.get_running_loop().call_later(_NOTED_SECONDS, self._note_position)

    def _note_position(self) -> None:
        """Have the writer's thread write the position of the last commit to the witness file, if it is not there yet.

        Only that thread writes the file, so that an older position never replaces a newer one.
        """
        if self._noting is not None:
            self._noting.cancel()
            self._noting = None
        if self._writer is not None and self._position is not None:
            self._writer.post(partial(self._witness.write, self._position))
            self._position = None

    async def witnessed(self) -> Position | None:
        """Return the position in the witness file."""
        if self._writer is None:
            return await asyncio.to_thread(self._witness.read)
        self._note_position()
        # Behind what was posted.
        return await self._writer.run(lambda _: self._witness.read())

    async def settle(self) -> bool:
        """Return whether the last commit in doubt was made."""
        made = await self._write(lambda connection: settle(connection, self._chain, self._in_doubt, self._known))
        self._in_doubt = None
        return made

    async def record(self, environment: str, service: str, revision: int) -> Record | None:
        """Return one revision, or None."""
        return await self._read(
            lambda connection: queries.record(connection, self._chain, environment, service, revision)
        )

    async def history(self, environment: str, service: str, *, before: int | None, limit: int) -> list[RecordHead]:
        """Return revisions of one configuration without their content, newest first."""
        return await self._read(
            lambda connection: queries.history(
                connection, self._chain, environment, service, before=before, limit=limit
            )
        )

    async def audit(self, *, before: int | None, limit: int, service: str | None) -> list[Audited]:
        """Return audit entries, newest first."""
        return await self._read(
            lambda connection: queries.audit(connection, self._chain, before=before, limit=limit, service=service)
        )

    async def revisions(self, service: str) -> AsyncIterator[Record]:
        """Yield every revision of a service."""
        for row in await self._read(lambda connection: queries.revision_rows(connection, service)):
            found = await self._read(partial(queries.revision_in, chain=self._chain, row=row))
            if found is not None:
                yield found

    async def overlays(self) -> list[Overlay]:
        """Return every overlay as it is stored."""
        return await self._read(lambda connection: queries.overlays(connection, self._chain))

    async def tokens(self) -> list[Token]:
        """Return every token."""
        return await self._read_sound(lambda connection: queries.tokens(connection, self._chain), "tokens")

    async def recipients(self) -> list[Recipient]:
        """Return the public keys of services."""
        return await self._read_sound(
            lambda connection: queries.recipients(connection, self._chain), "recipients' keys"
        )

    async def applied(self) -> list[Applied]:
        """Return the last reports of running copies of services."""
        return await self._read_sound(
            lambda connection: queries.applied(connection, self._chain), "reports of services"
        )

    async def reseal(self, reseal: Reseal) -> None:
        """Reseal every stored configuration and overlay."""
        await self._write(lambda connection: reseal_rows(connection, self._chain, reseal, self._known))

    async def key_ids(self) -> set[str]:
        """Return the ids of the keys that any value is sealed with."""
        return await self._read(select_key_ids)

    async def scrub(self) -> bool:
        """Truncate the write-ahead log, in which pages from before a change stay readable."""
        return await self._write(truncate_log)

    async def first_kept(self, environment: str, service: str) -> int | None:
        """Return the number of the oldest revision, if older ones may have been removed."""
        return await self._read(lambda connection: queries.first_kept(connection, self._chain, environment, service))

    async def remove_old(self, kept: Kept, *, pause: Callable[[], Awaitable[None]]) -> Removed:
        """Find what is outdated on a connection of its own; remove it in small transactions of the writer."""
        if self.unwritable is not None:
            raise self.unwritable
        removed = Removed()
        for outdated in await self._find_outdated(kept):
            more = True
            while more:
                count, more = await self._write(partial(self._remove_some, outdated))
                setattr(removed, outdated.table, getattr(removed, outdated.table) + count)
                await pause()
        while await self._write(free_some):
            await pause()
        return removed

    async def _find_outdated(self, kept: Kept) -> list[Outdated]:
        try:
            return await asyncio.to_thread(outdated_in_file, self._path, kept)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _remove_some(self, outdated: Outdated, connection: sqlite3.Connection) -> tuple[int, bool]:
        return remove_some(connection, self._chain, outdated, self._known)

    async def backup(self, directory: Path) -> None:
        """Copy the database, on a connection and in a thread of its own."""
        with _ended_at_exit() as ended:
            await asyncio.to_thread(
                copy_file,
                self._path,
                directory / self._path.name,
                at_rest=False,
                ended=ended.is_set,
            )

    async def verify(self) -> Findings:
        """Compare every row with the chain, on a connection and in a thread of its own."""
        with _ended_at_exit() as ended:

            def pause() -> None:
                if ended.wait(_PAUSE_SECONDS):
                    raise Unavailable("The daemon is stopping.")

            return await asyncio.to_thread(
                verify_file,
                self._path,
                self._chain,
                between=pause,
                ended=ended.is_set,
                copied=self._writer is None,
            )

    async def _read_sound(self, select: Callable[[sqlite3.Connection], list[T]], what: str) -> list[T]:
        """Read; return nothing, and note that, if a damaged database does not let these rows be read."""
        try:
            return await self._reader.run(select)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise self._unreadable(error) from error
            self._note_damage(f"{what} ({error})")
            return []

    async def _read(self, select: Callable[[sqlite3.Connection], T]) -> T:
        try:
            found = await self._reader.run(select)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        except OverflowError as error:
            raise Unavailable(f"The store cannot be read: {error}.") from error
        self._notify_read_listeners(None)
        return found

    def _in_place(self, connection: sqlite3.Connection, change: Callable[[sqlite3.Connection], T]) -> T:
        """Change the database, unless its path leads elsewhere by now: the change would be lost.

        Raises:
            Blocked: A file was removed, moved or replaced. SQLite would go on writing to the one that it has open.
        """
        if self._files_in_place() != self._files:
            raise Blocked(
                f"The store cannot write: {self._path} or {_WAL} beside it was removed, moved or replaced while the "
                "daemon runs. Restart the daemon to use what is there now, or put the files back."
            )
        return change(connection)

    def _files_in_place(self) -> list[tuple[int, int] | None]:
        """Return which files are the database at its path now."""
        return [_identity(path) for path in self._paths]

    def _unreadable(self, error: sqlite3.Error) -> Unavailable:
        message = f"The store cannot be read: {error}."
        self._notify_read_listeners(message)
        return Unavailable(message)

    def _notify_read_listeners(self, failure: str | None) -> None:
        for listener in self._read_listeners:
            listener(failure)

    async def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        if self._damaged is not None:
            raise Damaged(self._damaged.message)
        try:
            if self._writer is None:
                await self._open_to_write()
            writer = self._writer
            if writer is None:
                raise Unavailable("The store cannot write.")
            return await writer.run(lambda connection: self._in_place(connection, change))
        except CommitInDoubt as error:
            if error.end is None:
                # Nothing that memory follows; the next commit takes its place in any case.
                raise Unavailable(f"The store cannot write: {error}.") from error
            self._in_doubt = error.end
            raise Unconfirmed(f"The store failed while it wrote: {error}.") from error
        except sqlite3.Error as error:
            raise _unwritable(error) from error
        except OverflowError as error:
            raise Unavailable(f"The store cannot write: {error}.") from error


@contextlib.contextmanager
def _ended_at_exit() -> Generator[threading.Event]:
    """Yield an event that is set at the end of the block."""
    ended = threading.Event()
    try:
        yield ended
    finally:
        # After a cancellation the thread would go on, and keep the process from ending.
        ended.set()


def _identity(path: str) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none, or the disk fails."""
    try:
        found = os.stat(path)  # noqa: PTH116 - before each commit, at a third of the time
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _unwritable(error: sqlite3.Error) -> Unavailable:
    """Return the error that says why nothing can be written, and what to do where that is known."""
    if is_damage(error):
        return Damaged(f"The database is damaged ({error}): {RESTORE}.")
    if is_locked(error):
        return Blocked("The store cannot write: another program has locked the database; end that program.")
    return Unavailable(f"The store cannot write: {error}.")


class _Connection(aiosqlite.Connection):
    """An aiosqlite connection that runs whole functions in its thread: one hop for a transaction instead of ten."""

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._conn

        def call() -> T:
            with translated_damage():
                return function(connection)

        # aiosqlite has no public method for this.
        return await self._execute(call)  # pyright: ignore[reportUnknownMemberType]

    def post(self, function: Callable[[], object]) -> None:
        """Call a function in the thread, without waiting for it; it must not raise."""
        # As above.
        self._tx.put_nowait((None, function))  # pyright: ignore[reportUnknownMemberType]

    async def wait_ended(self) -> None:
        """Wait until the thread of a connection that failed has ended: it still calls into the event loop."""
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)


@contextlib.asynccontextmanager
async def _connected(connect: Callable[[], sqlite3.Connection]) -> AsyncGenerator[_Connection]:
    """Open a connection; close it when the block is left.

    Raises:
        sqlite3.Error: The file is not a database, or cannot be opened.
        OSError: As ``connect``.
    """
    connection = _Connection(connect, 64)
    try:
        await connection
    except BaseException:
        # aiosqlite does so itself unless the error came while the thread was starting; then it would wait for ever.
        connection.stop()  # pyright: ignore[reportUnknownMemberType]
        await connection.wait_ended()
        raise
    try:
        yield connection
    finally:
        await connection.close()
