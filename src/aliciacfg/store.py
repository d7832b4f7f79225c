"""The embedded store: SQLite in WAL mode, written by one task, read on a connection of its own.

The only module that imports ``aiosqlite`` and ``sqlite3``. Writes wait in a queue; the writer takes all that
wait into one transaction, so that one flush of the disk (``synchronous=FULL``) pays for all of them, and
calls back in the order in which they were submitted.
"""

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import aiosqlite
import msgspec

from aliciacfg.errors import AliciacfgError, Busy, Unavailable
from aliciacfg.records import Announcement, Overlay, Record, StoredState, Write

T = TypeVar("T")

_MAX_WAITING = 4096
_MAX_BATCH = 256
_PROBE_SECONDS = 1.0

# Applied in order; PRAGMA user_version counts how many a database has.
_MIGRATIONS = (
    """
    CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE revisions (
        environment TEXT NOT NULL,
        service TEXT NOT NULL,
        revision INTEGER NOT NULL,
        version TEXT NOT NULL,
        timestamp REAL NOT NULL,
        author TEXT NOT NULL,
        cause TEXT NOT NULL,
        checksum TEXT NOT NULL,
        config BLOB NOT NULL,
        changed BLOB NOT NULL,
        restart_required BLOB NOT NULL,
        breaking INTEGER NOT NULL,
        comment TEXT,
        deleted INTEGER NOT NULL,
        PRIMARY KEY (environment, service, revision)
    );
    CREATE TABLE overlays (
        environment TEXT NOT NULL,
        service TEXT NOT NULL,
        patch BLOB NOT NULL,
        PRIMARY KEY (environment, service)
    ) WITHOUT ROWID;
    CREATE TABLE outbox (
        subject TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL,
        payload BLOB NOT NULL,
        pending INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
)

_COLUMNS = (
    "environment, service, revision, version, timestamp, author, cause, checksum, config, changed,"
    " restart_required, breaking, comment, deleted"
)
_INSERT_RECORD = f"INSERT INTO revisions ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - constant
_UPSERT_OVERLAY = "INSERT OR REPLACE INTO overlays (environment, service, patch) VALUES (?,?,?)"
_DELETE_OVERLAY = "DELETE FROM overlays WHERE environment = ? AND service = ?"
_UPSERT_OUTBOX = "INSERT OR REPLACE INTO outbox (subject, sequence, payload, pending) VALUES (?,?,?,?)"
_CONFIRM_OUTBOX = "UPDATE outbox SET pending = 0 WHERE subject = ? AND sequence = ?"
_UPSERT_META = "INSERT OR REPLACE INTO meta (name, value) VALUES (?,?)"
_SELECT_NEWEST = f"""
    SELECT {_COLUMNS} FROM revisions JOIN (
        SELECT environment AS e, service AS s, max(revision) AS r FROM revisions GROUP BY environment, service
    ) ON environment = e AND service = s AND revision = r
"""  # noqa: S608 - constant
_SELECT_ONE = f"SELECT {_COLUMNS} FROM revisions WHERE environment = ? AND service = ? AND revision = ?"  # noqa: S608

_Row = tuple[str, str, int, str, float, str, str, str, bytes, bytes, bytes, int, str | None, int]


class StoreError(AliciacfgError):
    """The database cannot be used as it is."""


class _Connection(aiosqlite.Connection):
    """aiosqlite with whole functions run in its thread: a transaction is one hop instead of ten."""

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._conn
        # A protected method, as public as aiosqlite has one for this.
        return await self._execute(lambda: function(connection))  # pyright: ignore[reportUnknownMemberType]

    async def ended(self) -> None:
        """Wait until the thread is gone, also after a connection that failed: it answers the event loop."""
        await asyncio.to_thread(self._thread.join)


class _Waiting(msgspec.Struct):
    write: Write
    on_commit: Callable[[], None]
    done: asyncio.Future[None]


class Store:
    """Revisions, overlays and outbox of one data directory.

    Use ``open``; run ``write_forever`` as a task; ``close`` at the end.
    """

    def __init__(self, writer: _Connection, reader: _Connection) -> None:
        self._writer = writer
        self._reader = reader
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self.healthy = True
        self.on_abort: Callable[[Exception], None] = lambda _error: None

    @classmethod
    async def open(cls, path: Path) -> "Store":
        """Open or create the database and bring its schema up to date.

        Raises:
            StoreError: It is damaged, or of a newer aliciacfg.
        """
        writer = _Connection(lambda: _connect(path), 64)
        try:
            await writer
            await writer.run(_migrate)
            reader = _Connection(lambda: _connect(path), 64)
            await reader
        except BaseException as error:
            await writer.close()
            await writer.ended()
            if isinstance(error, sqlite3.DatabaseError):
                raise StoreError(f"{path} cannot be used: {error}; restore it from a backup") from error
            raise
        return cls(writer, reader)

    async def load(self) -> StoredState:
        """Everything a start needs to know."""
        return await self._reader.run(_load)

    async def record(self, environment: str, service: str, revision: int) -> Record | None:
        """One revision, or None if there never was one.

        Raises:
            Unavailable: The database cannot be read.
        """

        def select(connection: sqlite3.Connection) -> Record | None:
            row = connection.execute(_SELECT_ONE, (environment, service, revision)).fetchone()
            return None if row is None else _record(row)

        try:
            return await self._reader.run(select)
        except (sqlite3.Error, OverflowError) as error:
            raise Unavailable(f"The store cannot be read: {error}.") from error

    @property
    def waiting(self) -> int:
        """How many writes wait for the disk."""
        return len(self._queue)

    def submit(self, write: Write, on_commit: Callable[[], None]) -> asyncio.Future[None]:
        """Queue a write.

        Args:
            write: Goes into one transaction, with others or alone.
            on_commit: Called in the event loop when it is durable, in the order of submission, whether or not
                anybody still waits for the result.

        Returns:
            A future that is done when it is durable, or fails with Unavailable. When one write fails, all that
            wait behind it fail too, since they were planned on top of it; ``on_abort`` is called once.

        Raises:
            Busy: Too many writes wait.
            Unavailable: The store is closing.
        """
        if self._closing:
            raise Unavailable("The daemon is stopping; send the request again to the next one.")
        if len(self._queue) >= _MAX_WAITING:
            raise Busy(f"{_MAX_WAITING} writes wait for the disk; try again in a second.")
        done = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(write, on_commit, done))
        self._wake.set()
        return done

    async def write_forever(self) -> None:
        """Commit what is submitted until ``close``; never cancelled in the middle of a transaction."""
        while not self._closing or self._queue:
            if not self._queue:
                self._wake.clear()
                await self._wait_for_work()
                continue
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _MAX_BATCH))]
            await asyncio.shield(asyncio.create_task(self._commit(batch), name="commit"))

    async def close(self) -> None:
        """Refuse new writes, commit those that wait, close the database. Safe to call twice."""
        self._closing = True
        self._wake.set()

    async def release(self) -> None:
        """Close the connections; ``write_forever`` must have ended."""
        with contextlib.suppress(ValueError):
            await self._reader.close()
        with contextlib.suppress(ValueError):
            await self._writer.close()

    async def _wait_for_work(self) -> None:
        try:
            async with asyncio.timeout(None if self.healthy else _PROBE_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            # A full disk is noticed by a write; that there is room again must not need one by a user.
            await self._probe()

    async def _commit(self, batch: list[_Waiting]) -> None:
        try:
            await self._writer.run(lambda connection: _apply(connection, [item.write for item in batch]))
        except Exception as error:  # noqa: BLE001 - the supervisor of all writes: whatever failed, nothing was written
            self._abort(batch, error)
            return
        self.healthy = True
        for item in batch:
            item.on_commit()
            if not item.done.done():
                item.done.set_result(None)

    def _abort(self, batch: list[_Waiting], error: Exception) -> None:
        self.healthy = False
        failed = [*batch, *self._queue]
        self._queue.clear()
        self.on_abort(error)
        for item in failed:
            if not item.done.done():
                item.done.set_exception(Unavailable(f"The store cannot write: {error}. Nothing was changed."))
                # Nobody may be waiting any more; then the exception was logged by the abort already.
                item.done.exception()

    async def _probe(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            await self._writer.run(lambda connection: _apply(connection, [Write(meta=(("probe", ""),))]))
            self.healthy = True


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA busy_timeout=5000")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done > len(_MIGRATIONS):
        raise sqlite3.DatabaseError(
            f"its schema has version {done}, this aliciacfg knows {len(_MIGRATIONS)}: run the newer aliciacfg"
        )
    for number, script in enumerate(_MIGRATIONS[done:], start=done + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")


def _load(connection: sqlite3.Connection) -> StoredState:
    return StoredState(
        [_record(row) for row in connection.execute(_SELECT_NEWEST)],
        [Overlay(*row) for row in connection.execute("SELECT environment, service, patch FROM overlays")],
        [
            Announcement(subject, sequence, payload, bool(pending))
            for subject, sequence, payload, pending in connection.execute(
                "SELECT subject, sequence, payload, pending FROM outbox"
            )
        ],
        dict(connection.execute("SELECT name, value FROM meta")),
    )


def _apply(connection: sqlite3.Connection, writes: list[Write]) -> None:
    """One transaction. Rolled back whole on any error: later writes were planned on top of earlier ones."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for write in writes:
            for record in write.records:
                connection.execute(_INSERT_RECORD, _row(record))
            for overlay in write.overlays:
                if overlay.patch is None:
                    connection.execute(_DELETE_OVERLAY, (overlay.environment, overlay.service))
                else:
                    connection.execute(_UPSERT_OVERLAY, (overlay.environment, overlay.service, overlay.patch))
            for item in write.announcements:
                connection.execute(_UPSERT_OUTBOX, (item.subject, item.sequence, item.payload, item.pending))
            for item in write.confirmed:
                connection.execute(_CONFIRM_OUTBOX, (item.subject, item.sequence))
            for name, value in write.meta:
                connection.execute(_UPSERT_META, (name, value))
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _row(record: Record) -> _Row:
    return (
        record.environment,
        record.service,
        record.revision,
        record.version,
        record.timestamp,
        record.author,
        record.cause,
        record.checksum,
        record.config,
        msgspec.json.encode(record.changed),
        msgspec.json.encode(record.restart_required),
        record.breaking,
        record.comment,
        record.deleted,
    )


def _record(row: _Row) -> Record:
    names = [name.strip() for name in _COLUMNS.split(",")]
    values: dict[str, object] = dict(zip(names, row, strict=True))
    values["changed"] = msgspec.json.decode(row[9])
    values["restart_required"] = msgspec.json.decode(row[10])
    values["breaking"] = bool(row[11])
    values["deleted"] = bool(row[13])
    return msgspec.convert(values, Record)
