"""The embedded store: SQLite in WAL mode, written by one task, read on a connection of its own.

The only module that imports ``aiosqlite`` and ``sqlite3``. Writes wait in a queue; the writer takes all that
wait into one transaction, so that one flush of the disk (``synchronous=FULL``) pays for all of them, and
calls back in the order in which they were submitted.
"""

import asyncio
import contextlib
import heapq
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import aiosqlite
import msgspec

from aliciacfg import documents
from aliciacfg.errors import InvalidRequest, OperationError, Unavailable
from aliciacfg.model import versions
from aliciacfg.model.records import (
    AdoptedSchema,
    Announcement,
    Applied,
    Audited,
    AuditEntry,
    ChainedRow,
    Overlay,
    Recipient,
    Record,
    RecordHead,
    StoredState,
    Token,
    Write,
)
from aliciacfg.sealing.boxes import key_ids
from aliciacfg.storage.hash_chain import START, TORN, Chain, Misshapen, total
from aliciacfg.storage.store import Reseal, StoreError
from aliciacfg.storage.verifier import Findings, Verifier

T = TypeVar("T")

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
    # What is there already is taken into the chain by ``_adopt_rows``.
    """
    ALTER TABLE revisions ADD COLUMN sequence INTEGER;
    ALTER TABLE revisions ADD COLUMN digest TEXT NOT NULL DEFAULT '';
    ALTER TABLE revisions ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    UPDATE revisions SET sequence = rowid;
    CREATE UNIQUE INDEX revisions_sequence ON revisions (sequence);
    ALTER TABLE overlays ADD COLUMN origins BLOB NOT NULL DEFAULT '{}';
    ALTER TABLE overlays ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    CREATE TABLE chain (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        sequence INTEGER NOT NULL,
        mac BLOB NOT NULL,
        overlays BLOB NOT NULL,
        sealed BLOB NOT NULL
    );
    CREATE TABLE schemas (
        service TEXT PRIMARY KEY,
        document BLOB
    ) WITHOUT ROWID;
    CREATE TABLE applied (
        service TEXT NOT NULL,
        instance TEXT NOT NULL,
        environment TEXT NOT NULL,
        revision INTEGER NOT NULL,
        checksum TEXT NOT NULL,
        status TEXT NOT NULL,
        error TEXT,
        since REAL NOT NULL,
        last_seen REAL NOT NULL,
        PRIMARY KEY (service, instance)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE audit (
        sequence INTEGER PRIMARY KEY,
        timestamp REAL NOT NULL,
        who TEXT NOT NULL,
        "where" TEXT NOT NULL,
        operation TEXT NOT NULL,
        outcome TEXT NOT NULL,
        environment TEXT,
        service TEXT,
        before INTEGER,
        after INTEGER,
        detail TEXT,
        count INTEGER NOT NULL,
        mac BLOB NOT NULL
    );
    CREATE TABLE tokens (
        token_id TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        name TEXT NOT NULL,
        role TEXT NOT NULL,
        created REAL NOT NULL,
        expires REAL,
        revoked REAL
    ) WITHOUT ROWID;
    CREATE TABLE recipients (
        service TEXT PRIMARY KEY,
        public_key TEXT
    ) WITHOUT ROWID;
    """,
    # What is there already is taken in by ``_adopt_standing``.
    """
    ALTER TABLE meta ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE schemas ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE tokens ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE recipients ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE chain RENAME COLUMN overlays TO standing;
    """,
)

# The one that makes the chain, and the one that gives other rows than overlays codes of their own.
_CHAINED = 2
_STANDING = 4

_HEAD_COLUMNS = (
    "environment, service, revision, version, timestamp, author, cause, checksum, digest, changed,"
    " restart_required, breaking, comment, deleted"
)
_COLUMNS = f"{_HEAD_COLUMNS}, config"
_INSERT_RECORD = f"INSERT INTO revisions ({_COLUMNS}, sequence, mac) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - constant
_SELECT_CHAIN = f"SELECT sequence, mac, {_COLUMNS} FROM revisions"  # noqa: S608 - constant
_AUDIT_FIELDS = AuditEntry.__struct_fields__
_AUDIT_COLUMNS = ", ".join(f'"{name}"' for name in _AUDIT_FIELDS)
_INSERT_AUDIT = f"INSERT INTO audit (sequence, mac, {_AUDIT_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - constant
_SELECT_AUDIT_CHAIN = f"SELECT sequence, mac, {_AUDIT_COLUMNS} FROM audit"  # noqa: S608 - constant
# The last one of the next rows, if there are so many.
_SELECT_PIECE_END = """
    SELECT sequence FROM revisions WHERE sequence > ? UNION ALL SELECT sequence FROM audit WHERE sequence > ?
    ORDER BY sequence LIMIT 1 OFFSET ?
"""
# Two milliseconds of work, five of rest: a read waits no longer than for any other thread.
_VERIFIED_AT_ONCE = 20
_PAUSE_SECONDS = 0.005
_SELECT_AUDIT = """
    SELECT audit.*, b.checksum AS before_checksum, a.checksum AS after_checksum FROM audit
    LEFT JOIN revisions b ON (b.environment, b.service, b.revision) = (audit.environment, audit.service, audit.before)
    LEFT JOIN revisions a ON (a.environment, a.service, a.revision) = (audit.environment, audit.service, audit.after)
    WHERE audit.sequence < ? AND (? IS NULL OR audit.service = ?) ORDER BY audit.sequence DESC LIMIT ?
"""
_SELECT_CHAIN_END = "SELECT sequence, mac, standing, sealed FROM chain"
# By place: the third column has another name while ``_adopt_rows`` writes it.
_UPSERT_CHAIN_END = "INSERT OR REPLACE INTO chain VALUES (1,?,?,?,?)"
# SQLite lets text and much too large numbers stand in the place of a sequence.
_MAX_SEQUENCE = 2**62
_MIN_SEQUENCE = -(2**63)
_SELECT_LAST = f"""
    SELECT max(coalesce((SELECT max(sequence) FROM revisions WHERE sequence <= {_MAX_SEQUENCE}), 0),
               coalesce((SELECT max(sequence) FROM audit WHERE sequence <= {_MAX_SEQUENCE}), 0))
"""  # noqa: S608 - constant
_SELECT_OVERLAYS = "SELECT environment, service, patch, origins, mac FROM overlays"
_SELECT_OVERLAY_CODE = "SELECT mac FROM overlays WHERE environment = ? AND service = ?"
_UPSERT_OVERLAY = "INSERT OR REPLACE INTO overlays (environment, service, patch, origins, mac) VALUES (?,?,?,?,?)"
_DELETE_OVERLAY = "DELETE FROM overlays WHERE environment = ? AND service = ?"
_UPSERT_OUTBOX = "INSERT OR REPLACE INTO outbox (subject, sequence, payload, pending) VALUES (?,?,?,?)"
_CONFIRM_OUTBOX = "UPDATE outbox SET pending = 0 WHERE subject = ? AND sequence = ?"
_APPLIED_COLUMNS = "service, instance, environment, revision, checksum, status, error, since, last_seen"
_UPSERT_APPLIED = f"INSERT OR REPLACE INTO applied ({_APPLIED_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)"  # noqa: S608 - constant
_TOKEN_FIELDS = tuple(name for name in Token.__struct_fields__ if name != "confirmed")
# Columns of the tables whose rows are replaced and have a code each, the key first.
_STANDING_COLUMNS = {
    "meta": ("name", "value"),
    "schemas": ("service", "document"),
    "tokens": _TOKEN_FIELDS,
    "recipients": ("service", "public_key"),
}
_UPDATE_RECORD = "UPDATE revisions SET config = ?, checksum = ? WHERE environment = ? AND service = ? AND revision = ?"
_DELETE_APPLIED = "DELETE FROM applied WHERE service = ? AND instance = ?"
_SELECT_NEWEST = f"""
    SELECT {_COLUMNS} FROM revisions JOIN (
        SELECT environment AS e, service AS s, max(revision) AS r FROM revisions GROUP BY environment, service
    ) ON environment = e AND service = s AND revision = r
"""  # noqa: S608 - constant
_SELECT_ONE = f"SELECT {_COLUMNS} FROM revisions WHERE environment = ? AND service = ? AND revision = ?"  # noqa: S608
_SELECT_HISTORY = (
    f"SELECT {_HEAD_COLUMNS} FROM revisions WHERE environment = ? AND service = ? AND revision < ?"  # noqa: S608 - constant
    " ORDER BY revision DESC LIMIT ?"
)
_SELECT_SEALED = "SELECT rowid FROM revisions WHERE instr(config, CAST('sealed:v1:' AS BLOB)) > 0"
_SELECT_CONTENT = "SELECT environment, service, config FROM revisions WHERE rowid = ?"
_UPDATE_CONTENT = "UPDATE revisions SET config = ? WHERE rowid = ?"
_SELECT_ALL = f"SELECT {_COLUMNS} FROM revisions WHERE service = ?"  # noqa: S608 - constant
_MAX_REVISION = 2**63 - 1
_FIELDS = tuple(name.strip() for name in _COLUMNS.split(","))
_LISTS = frozenset({"changed", "restart_required"})
_FLAGS = frozenset({"breaking", "deleted"})

_Row = tuple[str | int | float | bytes | None, ...]


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
                await writer.run(lambda connection: _migrate(connection, chain, adopt=adopt))
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
            await self._writer.run(lambda connection: _apply(connection, self._chain, writes))
        except (sqlite3.Error, OverflowError) as error:
            raise Unavailable(f"The store cannot write: {error}.") from error

    async def record(self, environment: str, service: str, revision: int) -> Record | None:
        """One revision, or None if there never was one.

        Raises:
            Unavailable: The database cannot be read.
        """

        def select(connection: sqlite3.Connection) -> Record | None:
            row = connection.execute(_SELECT_ONE, (environment, service, revision)).fetchone()
            return None if row is None else _record(row)

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
            lambda connection: [_head(row) for row in connection.execute(_SELECT_HISTORY, parameters)]
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
            await self._writer.run(lambda connection: _reseal(connection, self._chain, reseal))
        except sqlite3.Error as error:
            raise Unavailable(f"The store cannot be written: {error}.") from error

    async def key_ids(self) -> set[str]:
        """The ids of the keys that anything in the database is sealed with.

        Raises:
            Unavailable: The database cannot be read.
        """
        return await self._read(_sealed_with)

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
        return await self._read(lambda connection: list(_records(connection.execute(_SELECT_ALL, (service,)))))

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
    connection = _Connection(lambda: _connect(path), 64)
    try:
        await connection
        yield connection
    finally:
        await connection.close()
        await connection.ended()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.text_factory = _lenient
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # What was in the open before a schema called it secret must not stay behind in free pages.
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("PRAGMA busy_timeout=5000")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def verify_file(path: Path, chain: Chain, *, between: Callable[[], object] = lambda: None) -> Findings:
    """Compare every row of a database with the keyed chain; a daemon may go on writing.

    Args:
        path: The SQLite file.
        chain: What links its rows.
        between: Called after every few rows; may wait, or raise to end it.

    Raises:
        Unavailable: It cannot be read.
    """
    try:
        return _verify(path, chain, between)
    except sqlite3.Error as error:
        raise Unavailable(f"The store cannot be read: {error}.") from error


def _verify(path: Path, chain: Chain, between: Callable[[], object]) -> Findings:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as found:
        found.text_factory = _lenient
        (version,) = found.execute("PRAGMA user_version").fetchone()
        if version != len(_MIGRATIONS):
            raise sqlite3.DatabaseError(f"its schema has version {version}; start this aliciacfg on it once")
        verifier = Verifier(chain)
        after = _MIN_SEQUENCE
        # Rows are only ever added, so that pieces of different moments fit. One long transaction would keep SQLite
        # from folding the write-ahead log in, and its reader the interpreter from serving anybody else.
        while True:
            found.execute("BEGIN")
            last = found.execute(_SELECT_PIECE_END, (after, after, _VERIFIED_AT_ONCE - 1)).fetchone()
            if last is None:
                break
            verifier.feed(_chained(found, verifier, "sequence > ? AND sequence <= ?", (after, last[0])))
            found.execute("COMMIT")
            after = last[0]
            between()
        # What is left, and what has no place, as of the same moment as the end.
        verifier.feed(_chained(found, verifier, "sequence > ?", (after,)))
        verifier.feed(_chained(found, verifier, "sequence IS NULL", ()))
        verifier.check_overlays(_coded_overlays(found.execute(_SELECT_OVERLAYS), verifier))
        for table in _STANDING_COLUMNS:
            verifier.check_rows(table, _coded_rows(found, table))
        return verifier.end(found.execute(_SELECT_CHAIN_END).fetchone())


def reseal_file(path: Path, chain: Chain, reseal: Reseal, *, adopt: bool = False) -> None:
    """Seal every stored configuration and overlay of a database anew, all or none; no daemon may be using it.

    The chain confirms the rows as before: it covers their secrets in the open.

    Args:
        path: The SQLite file.
        chain: Links overlays, of which it covers the sealed form.
        reseal: Makes the new document from the stored one, its environment and its service.
        adopt: As for ``Store.open``.

    Raises:
        StoreError: It cannot be read or written.
    """
    try:
        with contextlib.closing(_connect(path)) as connection:
            _migrate(connection, chain, adopt=adopt)
            _reseal(connection, chain, reseal)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be sealed anew, and stays as it was: {error}") from error


def sealed_with(path: Path) -> set[str]:
    """The ids of the keys that anything in a database is sealed with.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        with contextlib.closing(_connect(path)) as connection:
            return _sealed_with(connection)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def _sealed_with(connection: sqlite3.Connection) -> set[str]:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = (row for name in tables for row in connection.execute(f'SELECT * FROM "{name}"'))  # noqa: S608 - names of tables
    return {
        key_id
        for row in rows
        for value in row
        if isinstance(value, bytes | str)
        for key_id in key_ids(value if isinstance(value, bytes) else value.encode())
    }


def _reseal(connection: sqlite3.Connection, chain: Chain, reseal: Reseal) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        rows = [number for (number,) in connection.execute(_SELECT_SEALED)]
        for number in rows:
            environment, service, config = connection.execute(_SELECT_CONTENT, (number,)).fetchone()
            # What somebody made no JSON of holds nothing that could be sealed.
            with contextlib.suppress(InvalidRequest):
                connection.execute(_UPDATE_CONTENT, (reseal(config, environment, service), number))
        tail = _Tail(connection, chain)
        for row in connection.execute(_SELECT_OVERLAYS).fetchall():
            overlay = _stored_overlay(row, chain)
            # Of one that somebody changed a new code would hide it.
            if overlay.confirmed:
                patch = reseal(overlay.patch or b"{}", overlay.environment, overlay.service)
                tail.replace(msgspec.structs.replace(overlay, patch=patch))
        tail.write()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _lenient(text: bytes) -> str:
    """Text as SQLite has it; what is not UTF-8 must not keep anybody from finding out where it stands."""
    return text.decode(errors="replace")


def _migrate(connection: sqlite3.Connection, chain: Chain, *, adopt: bool) -> None:
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done > len(_MIGRATIONS):
        raise sqlite3.DatabaseError(
            f"its schema has version {done}, this aliciacfg knows {len(_MIGRATIONS)}: run the newer aliciacfg"
        )
    if 0 < done < _STANDING and not adopt:
        raise StoreError(
            "the database has the form of an older aliciacfg, but keys.json has written a newer one: if a backup was "
            "restored, restore its keys.json too; otherwise somebody replaced the database"
        )
    for number, script in enumerate(_MIGRATIONS[done:], start=done + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number};")
        if number == _CHAINED:
            _adopt_rows(connection, chain)
        elif number == _STANDING:
            _adopt_standing(connection, chain)
        connection.execute("COMMIT")


def _adopt_rows(connection: sqlite3.Connection, chain: Chain) -> None:
    """Take the rows of a database from before there was a chain into it.

    Once, while the chain is made: done whenever there is no end of a chain, it would make good what somebody changed.
    """
    mac = START
    sequence = 0
    update = "UPDATE revisions SET sequence = ?, digest = ?, mac = ? WHERE sequence = ?"
    rows = connection.execute(f"{_SELECT_CHAIN} ORDER BY sequence").fetchall()
    for place, _, *row in rows:
        sequence += 1
        try:
            record = _record(tuple(row))
            content = chain.recompute(record)
        except (msgspec.MsgspecError, OperationError) as error:
            raise sqlite3.DatabaseError(f"revision {row[2]} of {row[1]} in {row[0]} is damaged: {error}") from error
        record = msgspec.structs.replace(record, digest="" if content is None else content[0])
        mac = chain.link(mac, record)
        connection.execute(update, (sequence, record.digest, mac, place))
    overlays = START
    for row in connection.execute(_SELECT_OVERLAYS).fetchall():
        made = _overlay_row(_overlay(row), chain)
        overlays = total(overlays, chain.seal_overlay(_overlay(row)))
        connection.execute(_UPSERT_OVERLAY, made)
    connection.execute(_UPSERT_CHAIN_END, chain.seal_end(sequence, mac, overlays))


def _adopt_standing(connection: sqlite3.Connection, chain: Chain) -> None:
    """Give the rows of a database from before they had codes theirs; once, as ``_adopt_rows``."""
    tail = _Tail(connection, chain)
    for table in _STANDING_COLUMNS:
        for row, _ in list(_coded_rows(connection, table)):
            tail.put(table, row)
    tail.write()


def _coded_rows(connection: sqlite3.Connection, table: str) -> Iterator[tuple[_Row, object]]:
    """The rows of a table whose rows have a code each, and their codes."""
    columns = ", ".join(_STANDING_COLUMNS[table])
    for *row, code in connection.execute(f"SELECT {columns}, mac FROM {table}"):  # noqa: S608 - constants
        yield tuple(row), code


def _load(connection: sqlite3.Connection, chain: Chain) -> StoredState:
    return StoredState(
        [_newest(row, chain) for row in connection.execute(_SELECT_NEWEST)],
        [_stored_overlay(row, chain) for row in connection.execute(_SELECT_OVERLAYS)],
        [
            Announcement(subject, sequence, payload, bool(pending))
            for subject, sequence, payload, pending in connection.execute(
                "SELECT subject, sequence, payload, pending FROM outbox"
            )
        ],
        [AdoptedSchema(*row) for row in connection.execute("SELECT service, document FROM schemas")],
        dict(connection.execute("SELECT name, value FROM meta")),
    )


def _audit_entry(row: _Row) -> AuditEntry:
    return msgspec.convert(dict(zip(_AUDIT_FIELDS, row, strict=True)), AuditEntry)


def _load_audit(connection: sqlite3.Connection, wanted: tuple[int, str | None, str | None, int]) -> list[Audited]:
    cursor = connection.execute(_SELECT_AUDIT, wanted)
    names = [column[0] for column in cursor.description]
    return [msgspec.convert(dict(zip(names, row, strict=True)), Audited) for row in cursor]


def _load_tokens(connection: sqlite3.Connection, chain: Chain) -> list[Token]:
    tokens: list[Token] = []
    for row, code in _coded_rows(connection, "tokens"):
        confirmed = chain.confirms_row("tokens", row, code)
        with contextlib.suppress(msgspec.MsgspecError):
            values = {**dict(zip(_TOKEN_FIELDS, row, strict=True)), "confirmed": confirmed}
            tokens.append(msgspec.convert(values, Token))
    return tokens


def _load_recipients(connection: sqlite3.Connection, chain: Chain) -> list[Recipient]:
    return [
        msgspec.convert(dict(zip(Recipient.__struct_fields__, row, strict=True)), Recipient)
        for row, code in _coded_rows(connection, "recipients")
        if chain.confirms_row("recipients", row, code)
    ]


def _load_applied(connection: sqlite3.Connection) -> list[Applied]:
    rows = connection.execute(f"SELECT {_APPLIED_COLUMNS} FROM applied")  # noqa: S608 - constant
    return [msgspec.convert(dict(zip(Applied.__struct_fields__, row, strict=True)), Applied) for row in rows]


class _Tail:
    """The end of the chain while a transaction writes."""

    def __init__(self, connection: sqlite3.Connection, chain: Chain) -> None:
        self._connection = connection
        self._chain = chain
        self._changed = False
        (last,) = connection.execute(_SELECT_LAST).fetchone()
        end = chain.confirmed_end(connection.execute(_SELECT_CHAIN_END).fetchone())
        if end is None:
            # Rows may have been cut off. Going on as if nothing was would hide it: this is told for ever.
            self._sequence, self._mac = last, TORN
            tables = ("overlays", *_STANDING_COLUMNS)
            codes = [code for table in tables for code in self._codes(f"SELECT mac FROM {table}")]  # noqa: S608 - constants
            self._standing = total(START, *codes)
        else:
            self._sequence, self._mac, self._standing, _ = end
            # What somebody put behind the end must not be in the way of what comes.
            self._sequence = max(self._sequence, last)

    def append(self, row: Record | AuditEntry) -> None:
        """Add a row."""
        self._changed = True
        self._sequence += 1
        self._mac = self._chain.link(self._mac, row)
        if isinstance(row, Record):
            self._connection.execute(_INSERT_RECORD, (*_row(row), self._sequence, self._mac))
        else:
            self._connection.execute(_INSERT_AUDIT, (self._sequence, self._mac, *msgspec.structs.astuple(row)))

    def replace(self, overlay: Overlay) -> None:
        """Replace an overlay, or drop it."""
        self._changed = True
        key = overlay.environment, overlay.service
        self._standing = total(self._standing, *self._codes(_SELECT_OVERLAY_CODE, key))
        if overlay.patch is None:
            self._connection.execute(_DELETE_OVERLAY, key)
        else:
            self._standing = total(self._standing, self._chain.seal_overlay(overlay))
            self._connection.execute(_UPSERT_OVERLAY, _overlay_row(overlay, self._chain))

    def put(self, table: str, row: _Row) -> None:
        """Add another standing row, or replace the one with the same key."""
        self._changed = True
        columns = _STANDING_COLUMNS[table]
        code = self._chain.seal_row(table, row)
        old = self._codes(f"SELECT mac FROM {table} WHERE {columns[0]} = ?", row[:1])  # noqa: S608 - constants
        self._standing = total(self._standing, *old, code)
        places = ",".join("?" * (len(columns) + 1))
        self._connection.execute(
            f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}, mac) VALUES ({places})",  # noqa: S608 - constants
            (*row, code),
        )

    def write(self) -> None:
        """Note the end down, if it moved."""
        if self._changed:
            end = self._chain.seal_end(self._sequence, self._mac, self._standing)
            self._connection.execute(_UPSERT_CHAIN_END, end)

    def _codes(self, query: str, parameters: _Row = ()) -> list[bytes]:
        return [code for (code,) in self._connection.execute(query, parameters) if isinstance(code, bytes)]


def _apply(connection: sqlite3.Connection, chain: Chain, writes: Sequence[Write]) -> None:
    """One transaction. Rolled back whole on any error: later writes were planned on top of earlier ones."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        tail = _Tail(connection, chain)
        for write in writes:
            for row in (*write.records, *write.audit):
                tail.append(row)
            for overlay in write.overlays:
                tail.replace(overlay)
            for table, row in _standing_rows(write):
                tail.put(table, row)
            _apply_rest(connection, write)
        tail.write()
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _apply_rest(connection: sqlite3.Connection, write: Write) -> None:
    for item in write.announcements:
        connection.execute(_UPSERT_OUTBOX, (item.subject, item.sequence, item.payload, item.pending))
    for item in write.confirmed:
        connection.execute(_CONFIRM_OUTBOX, (item.subject, item.sequence))
    for applied in write.applied:
        connection.execute(_UPSERT_APPLIED, msgspec.structs.astuple(applied))
    for applied in write.forgotten:
        connection.execute(_DELETE_APPLIED, (applied.service, applied.instance))
    for record in write.resealed:
        place = (record.environment, record.service, record.revision)
        connection.execute(_UPDATE_RECORD, (record.config, record.checksum, *place))


def _standing_rows(write: Write) -> Iterator[tuple[str, _Row]]:
    """The standing rows of a write, overlays left out, with their tables."""
    for schema in write.schemas:
        yield "schemas", (schema.service, schema.document)
    for token in write.tokens:
        yield "tokens", tuple(getattr(token, name) for name in _TOKEN_FIELDS)
    for recipient in write.recipients:
        yield "recipients", (recipient.service, recipient.public_key)
    for row in write.meta:
        yield "meta", row


def _row(record: Record) -> _Row:
    values = msgspec.structs.asdict(record)
    return tuple(msgspec.json.encode(values[name]) if name in _LISTS else values[name] for name in _FIELDS)


def _chained(
    found: sqlite3.Connection, verifier: Verifier, where: str, parameters: tuple[object, ...]
) -> Iterator[ChainedRow | Misshapen]:
    """The rows of revisions and audit that stand in the chain, in its order."""
    records = _placed(found.execute(f"{_SELECT_CHAIN} WHERE {where} ORDER BY sequence", parameters), _record, verifier)
    audit = found.execute(f"{_SELECT_AUDIT_CHAIN} WHERE {where} ORDER BY sequence", parameters)
    return heapq.merge(records, _placed(audit, _audit_entry, verifier), key=lambda row: row.sequence)


def _placed(
    rows: Iterable[_Row], parse: Callable[[_Row], Record | AuditEntry], verifier: Verifier
) -> Iterator[ChainedRow | Misshapen]:
    """The rows that have a place in the chain; what has none is told at once."""
    for sequence, mac, *values in rows:
        subject, environment, service = f"audit/{sequence}", "", ""
        if parse is _record:
            environment, service, revision = map(str, values[:3])
            subject = f"{environment}/{service}/{revision}"
        if not isinstance(sequence, int) or not isinstance(mac, bytes):
            verifier.reject(subject, environment, service)
            continue
        try:
            yield ChainedRow(sequence, parse(tuple(values)), mac)
        except msgspec.MsgspecError:
            yield Misshapen(subject, environment, service, sequence, mac)


def _coded_overlays(rows: Iterable[_Row], verifier: Verifier) -> Iterator[tuple[Overlay, bytes]]:
    for row in rows:
        environment, service, *_, mac = row
        try:
            yield _overlay(row), msgspec.convert(mac, bytes)
        except msgspec.MsgspecError:
            verifier.reject(f"{environment}/{service}/overlay", str(environment), str(service))


def _record(row: _Row) -> Record:
    return msgspec.convert(_values(row), Record)


def _records(rows: Iterable[_Row]) -> Iterator[Record]:
    for row in rows:
        with contextlib.suppress(msgspec.MsgspecError):
            yield _record(row)


def _newest(row: _Row, chain: Chain) -> Record:
    """The newest revision of a configuration, or what can be believed of one that was tampered with.

    Raises:
        MsgspecError: Nothing can.
    """
    try:
        record = _record(row)
    except msgspec.MsgspecError:
        environment, service, revision, *_ = row
        return msgspec.convert(
            {
                "environment": environment, "service": service, "revision": revision, "version": versions.FIRST,
                "timestamp": 0.0, "author": "", "cause": "file", "checksum": "", "digest": "", "changed": [],
                "restart_required": [], "config": b"{}",
            },
            Record,
        )  # fmt: skip
    if not versions.is_version(record.version):
        record = msgspec.structs.replace(record, version=versions.FIRST)
    if chain.confirms(record):
        return record
    return msgspec.structs.replace(record, checksum="", config=record.config if _is_object(record.config) else b"{}")


def _is_object(config: bytes) -> bool:
    try:
        return isinstance(documents.decode(config), dict)
    except OperationError:
        return False


def _stored_overlay(row: _Row, chain: Chain) -> Overlay:
    """An overlay, or which one was tampered with."""
    try:
        overlay = _overlay(row)
        confirmed = chain.confirms_overlay(overlay, row[4])
    except msgspec.MsgspecError:
        environment, service, *_ = row
        overlay = msgspec.convert({"environment": environment, "service": service, "patch": b"{}"}, Overlay)
        confirmed = False
    return msgspec.structs.replace(overlay, confirmed=confirmed)


def _head(row: _Row) -> RecordHead:
    return msgspec.convert(_values(row), RecordHead)


def _values(row: _Row) -> dict[str, object]:
    """A row's values by name; one of a head has no content."""
    values: dict[str, object] = {}
    for name, value in zip(_FIELDS, row, strict=False):
        if isinstance(value, bytes) and name in _LISTS:
            values[name] = msgspec.json.decode(value)
        else:
            values[name] = bool(value) if name in _FLAGS else value
    return values


def _overlay(row: _Row) -> Overlay:
    environment, service, patch, origins, *_ = row
    return msgspec.convert(
        {
            "environment": environment,
            "service": service,
            "patch": patch,
            "origins": msgspec.json.decode(origins) if isinstance(origins, bytes | str) else {},
        },
        Overlay,
    )


def _overlay_row(overlay: Overlay, chain: Chain) -> _Row:
    origins = msgspec.json.encode(overlay.origins)
    return overlay.environment, overlay.service, overlay.patch, origins, chain.seal_overlay(overlay)
