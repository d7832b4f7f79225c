"""The embedded store: SQLite in WAL mode, written by one task, read on a connection of its own.

The only module that imports ``aiosqlite`` and ``sqlite3``. Writes wait in a queue; the writer takes all that
wait into one transaction, so that one flush of the disk (``synchronous=FULL``) pays for all of them, and
calls back in the order in which they were submitted.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import aiosqlite
import msgspec

from aliciacfg.errors import Unavailable
from aliciacfg.model.records import (
    AdoptedSchema,
    Announcement,
    Applied,
    Audited,
    Recipient,
    Record,
    RecordHead,
    StoredState,
    Token,
    Write,
)
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.maintenance import connect, key_ids_in, verify_file
from aliciacfg.storage.sqlite.rows import (
    APPLIED_COLUMNS,
    COLUMNS,
    HEAD_COLUMNS,
    SELECT_OVERLAYS,
    TOKEN_FIELDS,
    coded_rows,
    newest_record,
    parse_head,
    parse_record,
    parse_records,
    stored_overlay,
)
from aliciacfg.storage.sqlite.schema import migrate
from aliciacfg.storage.sqlite.transaction import apply, reseal_rows
from aliciacfg.storage.store import Reseal, StoreError
from aliciacfg.storage.verifier import Findings

T = TypeVar("T")


_PAUSE_SECONDS = 0.005
_SELECT_AUDIT = """
    SELECT audit.*, b.checksum AS before_checksum, a.checksum AS after_checksum FROM audit
    LEFT JOIN revisions b ON (b.environment, b.service, b.revision) = (audit.environment, audit.service, audit.before)
    LEFT JOIN revisions a ON (a.environment, a.service, a.revision) = (audit.environment, audit.service, audit.after)
    WHERE audit.sequence < ? AND (? IS NULL OR audit.service = ?) ORDER BY audit.sequence DESC LIMIT ?
"""
_SELECT_NEWEST = f"""
    SELECT {COLUMNS} FROM revisions JOIN (
        SELECT environment AS e, service AS s, max(revision) AS r FROM revisions GROUP BY environment, service
    ) ON environment = e AND service = s AND revision = r
"""  # noqa: S608 - constant
_SELECT_ONE = f"SELECT {COLUMNS} FROM revisions WHERE environment = ? AND service = ? AND revision = ?"  # noqa: S608
_SELECT_HISTORY = (
    f"SELECT {HEAD_COLUMNS} FROM revisions WHERE environment = ? AND service = ? AND revision < ?"  # noqa: S608 - constant
    " ORDER BY revision DESC LIMIT ?"
)
_SELECT_ALL = f"SELECT {COLUMNS} FROM revisions WHERE service = ?"  # noqa: S608 - constant
_MAX_REVISION = 2**63 - 1


class _Connection(aiosqlite.Connection):
    """aiosqlite with whole functions run in its thread: a transaction is one hop instead of ten."""

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._conn
        # A protected method, as public as aiosqlite has one for this.
        return await self._execute(lambda: function(connection))  # pyright: ignore[reportUnknownMemberType]

    async def ended(self) -> None:
        """Wait until the thread is gone, also after a connection that failed: it answers the event loop."""
        await asyncio.to_thread(self._thread.join)


class SqliteStore:
    """A ``storage.store.Store`` in one SQLite file."""

    def __init__(self, path: Path, chain: Chain, writer: _Connection, reader: _Connection) -> None:
        self._path = path
        self._chain = chain
        self._writer = writer
        self._reader = reader

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, path: Path, chain: Chain, *, adopt: bool = False) -> AsyncGenerator["SqliteStore", None]:
        """Open or create the database, and bring its schema up to date; close it when the block is left.

        Args:
            path: The SQLite file.
            chain: Computes the codes of what is written.
            adopt: Believe the rows of a database from before rows had codes, and compute their codes.

        Raises:
            StoreError: The database is damaged, or was written by a newer aliciacfg.
        """
        async with contextlib.AsyncExitStack() as stack:
            try:
                writer = await stack.enter_async_context(_connection(path))
                await writer.run(lambda connection: migrate(connection, chain, adopt=adopt))
                reader = await stack.enter_async_context(_connection(path))
            except sqlite3.DatabaseError as error:
                raise StoreError(f"{path} cannot be used: {error}; restore it from a backup") from error
            yield cls(path, chain, writer, reader)

    async def load(self) -> StoredState:
        """Everything a start needs to know.

        Of a newest revision whose content is not what was written the number counts and the content does not: its
        checksum is empty, so that what files and changes say is recorded anew.

        Raises:
            StoreError: Not even which configuration a row is of is formed like any that was written.
        """
        try:
            return await self._reader.run(lambda connection: _load(connection, self._chain))
        except sqlite3.Error as error:
            raise Unavailable(f"The store cannot be read: {error}.") from error
        except msgspec.MsgspecError as error:
            raise StoreError(
                f"{self._path} holds a row that was never written so ({error}); `aliciacfg check` says which: restore "
                "the database from a backup"
            ) from error

    async def commit(self, writes: Sequence[Write]) -> None:
        """Apply writes in one transaction, in the database's thread; see ``Store.commit``."""
        try:
            await self._writer.run(lambda connection: apply(connection, self._chain, writes))
        except (sqlite3.Error, OverflowError) as error:
            raise Unavailable(f"The store cannot write: {error}.") from error

    async def record(self, environment: str, service: str, revision: int) -> Record | None:
        """One revision, or None if there never was one.

        Raises:
            Unavailable: The database cannot be read.
        """

        def select(connection: sqlite3.Connection) -> Record | None:
            row = connection.execute(_SELECT_ONE, (environment, service, revision)).fetchone()
            return None if row is None else parse_record(row)

        return await self._read(select)

    async def history(self, environment: str, service: str, *, before: int | None, limit: int) -> list[RecordHead]:
        """Revisions without their content, newest first.

        Args:
            environment: Where.
            service: Whose.
            before: Only revisions below this one; None for all.
            limit: At most so many.

        Raises:
            Unavailable: The database cannot be read.
        """
        parameters = (environment, service, _MAX_REVISION if before is None else before, limit)
        return await self._read(
            lambda connection: [parse_head(row) for row in connection.execute(_SELECT_HISTORY, parameters)]
        )

    async def audit(self, *, before: int | None, limit: int, service: str | None) -> list[Audited]:
        """What was done and refused, newest first.

        Args:
            before: Only entries whose sequence is below this one; None for all.
            limit: At most so many.
            service: Only what is about this service; None for everything.

        Raises:
            Unavailable: The database cannot be read.
        """
        wanted = (_MAX_REVISION if before is None else before, service, service, limit)
        return await self._read(lambda connection: _load_audit(connection, wanted))

    async def reseal(self, reseal: Reseal) -> None:
        """Seal every stored configuration and overlay anew, all or none.

        The chain confirms the rows as before: it covers their secrets in the open.

        Args:
            reseal: Makes the new document from the stored one, its environment and its service.

        Raises:
            Unavailable: The database cannot be written; nothing changed.
        """
        try:
            await self._writer.run(lambda connection: reseal_rows(connection, self._chain, reseal))
        except sqlite3.Error as error:
            raise Unavailable(f"The store cannot be written: {error}.") from error

    async def key_ids(self) -> set[str]:
        """The ids of the keys that anything in the database is sealed with.

        Raises:
            Unavailable: The database cannot be read.
        """
        return await self._read(key_ids_in)

    async def scrub(self) -> None:
        """Empty the write-ahead log, in which pages from before a change stay readable.

        Raises:
            Unavailable: The database cannot be written.
        """
        try:
            await self._writer.run(lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
        except sqlite3.Error as error:
            raise Unavailable(f"The store cannot be written: {error}.") from error

    async def applied(self) -> list[Applied]:
        """What running copies of services last reported."""
        return await self._read(_load_applied)

    async def recipients(self) -> list[Recipient]:
        """The keys that services' secrets are sealed to; of a row that was tampered with there is none."""
        return await self._read(lambda connection: _load_recipients(connection, self._chain))

    async def revisions(self, service: str) -> list[Record]:
        """Every revision of a service, in all environments; without those that nobody ever wrote so.

        Raises:
            Unavailable: The database cannot be read.
        """
        return await self._read(lambda connection: list(parse_records(connection.execute(_SELECT_ALL, (service,)))))

    async def tokens(self) -> list[Token]:
        """Every token that was ever made, and those that somebody put into the database."""
        return await self._read(lambda connection: _load_tokens(connection, self._chain))

    async def verify(self) -> Findings:
        """Compare every row with the keyed chain, on a connection of its own; other work goes on meanwhile.

        Cancelled, it ends after the next few rows.

        Raises:
            Unavailable: The database cannot be read.
        """
        ended = threading.Event()

        def pause() -> None:
            if ended.wait(_PAUSE_SECONDS):
                raise Unavailable("The daemon is stopping.")

        try:
            return await asyncio.to_thread(verify_file, self._path, self._chain, between=pause)
        finally:
            # Cancelled, the thread would go on, and keep the process from ending.
            ended.set()

    async def _read(self, select: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._reader.run(select)
        except (sqlite3.Error, OverflowError, msgspec.MsgspecError) as error:
            raise Unavailable(f"The store cannot be read: {error}.") from error


@contextlib.asynccontextmanager
async def _connection(path: Path) -> AsyncGenerator[_Connection, None]:
    connection = _Connection(lambda: connect(path), 64)
    try:
        await connection
        yield connection
    finally:
        await connection.close()
        await connection.ended()


def _load(connection: sqlite3.Connection, chain: Chain) -> StoredState:
    return StoredState(
        [newest_record(row, chain) for row in connection.execute(_SELECT_NEWEST)],
        [stored_overlay(row, chain) for row in connection.execute(SELECT_OVERLAYS)],
        [
            Announcement(subject, sequence, payload, bool(pending))
            for subject, sequence, payload, pending in connection.execute(
                "SELECT subject, sequence, payload, pending FROM outbox"
            )
        ],
        [AdoptedSchema(*row) for row in connection.execute("SELECT service, document FROM schemas")],
        dict(connection.execute("SELECT name, value FROM meta")),
    )


def _load_audit(connection: sqlite3.Connection, wanted: tuple[int, str | None, str | None, int]) -> list[Audited]:
    cursor = connection.execute(_SELECT_AUDIT, wanted)
    names = [column[0] for column in cursor.description]
    return [msgspec.convert(dict(zip(names, row, strict=True)), Audited) for row in cursor]


def _load_tokens(connection: sqlite3.Connection, chain: Chain) -> list[Token]:
    tokens: list[Token] = []
    for row, code in coded_rows(connection, "tokens"):
        confirmed = chain.confirms_row("tokens", row, code)
        with contextlib.suppress(msgspec.MsgspecError):
            values = {**dict(zip(TOKEN_FIELDS, row, strict=True)), "confirmed": confirmed}
            tokens.append(msgspec.convert(values, Token))
    return tokens


def _load_recipients(connection: sqlite3.Connection, chain: Chain) -> list[Recipient]:
    return [
        msgspec.convert(dict(zip(Recipient.__struct_fields__, row, strict=True)), Recipient)
        for row, code in coded_rows(connection, "recipients")
        if chain.confirms_row("recipients", row, code)
    ]


def _load_applied(connection: sqlite3.Connection) -> list[Applied]:
    rows = connection.execute(f"SELECT {APPLIED_COLUMNS} FROM applied")  # noqa: S608 - constant
    return [msgspec.convert(dict(zip(Applied.__struct_fields__, row, strict=True)), Applied) for row in rows]
