"""The contract of a database backend: ``Store`` for the daemon, ``Database`` for what happens before and without it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aliciacfg.errors import AliciacfgError, Unavailable
from aliciacfg.model.records import (
    Applied,
    Audited,
    AuditEntry,
    Overlay,
    Position,
    Recipient,
    Record,
    RecordHead,
    Replica,
    StoredState,
    Token,
    Write,
)
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.rows import Row
from aliciacfg.storage.shared_keys import KeyTable
from aliciacfg.storage.verifier import Findings

Reseal = Callable[[bytes, str, str], bytes]
"""Returns a document with its secrets sealed again, as JSON: from the stored one, its environment and its service.

Raises InvalidRequest if the stored document is not JSON.
"""


AddRows = Callable[[str, Sequence[Row]], None]
"""Adds rows to a table of ``rows.TABLES``, or the end of the chain (``rows.CHAIN``), of a copy.

Raises Unavailable if it cannot be written.
"""


class Filling(Protocol):
    """A new database that is filled with the rows of another one, as they are, and is complete or not there."""

    @property
    def keys(self) -> KeyTable | None:
        """The place for the keys, which are there when the rows are; None where they are a file of the directory."""
        ...

    def add(self, table: str, rows: Sequence[Row]) -> None:
        """Add rows to a table of ``rows.TABLES``, or the end of the chain (``rows.CHAIN``).

        Raises:
            Unavailable: They cannot be written, or this backend cannot store a value of them.
        """
        ...

    def verify(self, chain: Chain) -> Findings:
        """Compare every row that was added with the keyed hash chain.

        Raises:
            Unavailable: They cannot be read.
        """
        ...


CopyTarget = Callable[[Path], AbstractContextManager[Filling]]
"""Makes an empty database in a directory, to which the block adds rows; if the block fails, there is none.

Raises Unavailable if it cannot be written.
"""


@dataclass(frozen=True, slots=True)
class Adoption:
    """What an adoption changed.

    Attributes:
        key_name: The short name of the key that wrote the rows before; empty if they had no codes.
        rows: The number of rows that have a code of the new key now.
    """

    key_name: str
    rows: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Which key wrote a database.

    Attributes:
        is_own: Whether the key that was asked about confirms the end of the chain or a row.
        key_name: The short name that most rows of other keys bear; empty if there are none.
    """

    is_own: bool
    key_name: str

    @property
    def is_foreign(self) -> bool:
        """Whether another key wrote all of it."""
        return bool(self.key_name) and not self.is_own


@dataclass(frozen=True, slots=True)
class Summary:
    """What a database says of itself; nothing of it is verified.

    Attributes:
        format: The version of its tables.
        position: The position of the home.
        meta: Its table of names and values.
        rows: How many revisions and audit entries were ever added.
        head: The MAC of the last one, in hexadecimal; empty if there is none.
        configurations: How many configurations it knows, deleted ones included.
        revisions: How many revisions it holds.
    """

    format: int
    position: Position
    meta: Mapping[str, str]
    rows: int
    head: str
    configurations: int
    revisions: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of the past; the rest may be removed. None stands for everything.

    Attributes:
        revisions: How many revisions of each configuration, the newest ones.
        revisions_since: Revisions from this time on, in Unix seconds.
        audit: How many audit entries, the newest ones.
        audit_since: Audit entries from this time on, in Unix seconds.
    """

    revisions: int | None = None
    revisions_since: float | None = None
    audit: int | None = None
    audit_since: float | None = None


@dataclass(frozen=True, slots=True)
class Outdated:
    """Rows that are kept no longer.

    Attributes:
        table: Their table.
        upto: The number of the last revision, or the place of the last audit entry, that may be removed.
        environment: The environment of the configuration; empty for audit entries.
        service: The service of the configuration; empty for audit entries.
    """

    table: str
    upto: int
    environment: str = ""
    service: str = ""


@dataclass(slots=True)
class Removed:
    """How many revisions and audit entries were removed."""

    revisions: int = 0
    audit: int = 0


class StoreError(AliciacfgError):
    """The database cannot be used as it is; the message names the remedy."""


class SharedHome(Protocol):
    """What daemons that share one database know of each other. Nothing of it is covered by the hash chain.

    Every method raises Unavailable if the database cannot be reached.
    """

    async def renew_lease(self, replica: str, seconds: float) -> bool:
        """Take or prolong the lease of the leader; return whether this replica has it now.

        Args:
            replica: The id of the replica.
            seconds: How long the lease lasts from now on, by the database's clock.
        """
        ...

    async def release_lease(self, replica: str) -> None:
        """End the lease, if this replica has it, so that another one can take it at once."""
        ...

    @property
    def format(self) -> int:
        """The highest format of the database that this program can work with."""
        ...

    @property
    def home_format(self) -> int:
        """The format of the database as of the last transaction that memory follows."""
        ...

    async def raise_format(self, to: int, audit: AuditEntry) -> bool:
        """Raise the format of the database; return whether it was raised.

        It stays as it is if it is that one or a higher one, or if a replica that reported lately can not work with it.

        Args:
            to: The new format, which this program can work with.
            audit: An entry of the audit log that is written if it is raised.
        """
        ...

    async def report(self, row: Replica) -> None:
        """Add or replace the row of a replica; it is seen now, by the database's clock.

        It may be lost if the server fails at once; the next report makes up for it.
        """
        ...

    async def replicas(self, *, within_seconds: float) -> list[Replica]:
        """Return the replicas that reported within so many seconds, the oldest first; others are forgotten in time."""
        ...

    async def forget(self, replica: str) -> None:
        """Remove the row of a replica, which ended."""
        ...

    async def answer(self, requester: str, request_id: str) -> bytes | None:
        """Return the answer that was kept for a request (``Write.answers``), or None."""
        ...

    async def remove_answers(self, *, older_than_seconds: float) -> None:
        """Remove answers that were kept for so long."""
        ...

    def hints(self) -> asyncio.Event:
        """Return an event that is set when another daemon may have written; the waiter clears it.

        It may also not be set: ``Store.catch_up`` finds out in any case.
        """
        ...


class Store(Protocol):
    """Durable revisions, overlays, announcements, tokens and audit entries of one data directory.

    Every row is written with a code of ``hash_chain.Chain``. A row that is not what was written counts as absent,
    unless a method says otherwise. All methods may be called concurrently. A read sees every ``commit`` that returned
    before the read was called.

    Writers do not call ``commit`` themselves: they submit to ``write_queue.WriteQueue``.

    Several daemons may share one database. Their transactions are numbered 1, 2, 3 and so on, and memory follows them:
    ``load`` says which one it holds. Whenever the store learns of those that others made since, it calls the listener
    with what they changed.
    """

    @property
    def unwritable(self) -> Unavailable | None:
        """Why the database can only be read at present, for example because its disk is full or read-only.

        None if it can be written as far as is known. Each ``commit`` tries anew.
        """
        ...

    def listen_reads(self, listener: Callable[[str | None], None]) -> None:
        """Have a function called after every read of the database: with None if it succeeded, else with the reason.

        A row that cannot be parsed is no failure of this kind.
        """
        ...

    @property
    def shared(self) -> SharedHome | None:
        """What the daemons that share the database know of each other; None if only one daemon may have it open."""
        ...

    def listen_others(self, listener: Callable[[StoredState], None]) -> None:
        """Have a function called, in the event loop, with what other daemons changed: each change once, in order.

        It is called before ``catch_up``, ``commit`` or the entry into ``holding`` returns or raises. It must not raise,
        and not be called before ``load`` has returned. It is not called for a change of this store itself.

        Memory has to follow the writes of a ``commit`` that succeeded without awaiting anything in between: the next
        change of others may come at any later moment.
        """
        ...

    async def catch_up(self) -> None:
        """Notify the listener of what other daemons changed since memory last followed.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    @property
    def followed(self) -> int:
        """The number of the last transaction that memory follows; 0 if only one daemon may have the database open."""
        ...

    async def load_since(self, commit: int) -> StoredState:
        """Return what was changed by all transactions after one, as it is now; calls no listener.

        Args:
            commit: The number of the transaction, as ``StoredState.commit``.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    def holding(self) -> AbstractAsyncContextManager[None]:
        """Keep other daemons from writing while the block plans: what memory holds in the block is the latest.

        The first ``commit`` in the block belongs to it and ends that state; without one it ends with the block. The
        block must be short: every other daemon waits.

        Raises:
            Unavailable: The database cannot be written.
        """
        ...

    async def probe(self) -> None:
        """Read a little from the disk, not from a cache of this process, so that listeners learn whether that works.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def load(self) -> StoredState:
        """Return the newest revision of each configuration, everything that is not history, and the ``meta`` table.

        A deletion is a revision, too. An overlay that is not what was written has ``confirmed=False``.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def commit(self, writes: Sequence[Write]) -> None:
        """Apply writes, in order, in one transaction; when this returns they are durable.

        Of each write, ``records`` and then ``audit`` are added to the chain. ``overlays``, ``announcements``,
        ``schemas``, ``applied``, ``tokens``, ``recipients``, ``renewals`` and ``meta`` replace the row with the same
        key, which begins the struct; an overlay whose patch is None is deleted, and so are ``forgotten`` reports. An
        announcement in ``confirmed`` is no longer ``pending`` if the stored one has the same sequence. ``resealed``
        replaces config and checksum of a revision that exists. ``position`` replaces the one before.
        A forged row in the place of a new revision is moved away.

        Where several daemons share the database, the position becomes at least that of the writes, and ``answers`` are
        kept. If another daemon changed the ``basis`` of a write, or kept an answer to the same request, the listener is
        notified, and none of the writes counts.

        A call that is cancelled may still commit.

        Raises:
            Superseded: Another daemon changed what a write was planned on; none of the writes was applied.
            Unconfirmed: The database failed while it committed; ``settle`` finds out whether the writes were applied.
            Unavailable: The database cannot be written, or a revision exists already; none of the writes was applied.
        """
        ...

    async def witnessed(self) -> Position | None:
        """Return the position of the last write as it was noted outside of the database; None if it is not known.

        A backend notes it after each commit in a place that a restore of the database does not replace. It survives
        the end of the process; after a loss of power it may lag. It is higher than the position that ``load`` returns
        if the database is older than it was.
        """
        ...

    async def settle(self) -> bool:
        """Return whether the writes of the last ``commit`` that failed with Unconfirmed were applied; final.

        Only writes that add to the chain or replace overlays, schemas, tokens, recipients or ``meta`` count.

        Raises:
            Unavailable: It cannot be found out as long as the database cannot be written.
        """
        ...

    async def record(self, environment: str, service: str, revision: int) -> Record | None:
        """Return one revision, or None if it does not exist.

        Raises:
            Unavailable: The database cannot be read, or the row is not what was written.
        """
        ...

    async def history(self, environment: str, service: str, *, before: int | None, limit: int) -> list[RecordHead]:
        """Return revisions of one configuration without their content, newest first.

        Args:
            environment: The environment of the configuration.
            service: The service of the configuration.
            before: Only revisions with a lower number; None for all.
            limit: The largest number of revisions to return.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def audit(self, *, before: int | None, limit: int, service: str | None) -> list[Audited]:
        """Return audit entries, newest first, with the checksums of the revisions that they name.

        Args:
            before: Only entries with a lower ``sequence``; None for all.
            limit: The largest number of entries to return.
            service: Only entries about this service; None for all.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    def revisions(self, service: str) -> AsyncIterator[Record]:
        """Yield every revision of a service in all environments, one after another: together they may be large.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def overlays(self) -> list[Overlay]:
        """Return every overlay as it is stored.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def tokens(self) -> list[Token]:
        """Return every token, revoked and expired ones included; a row that was not written so is not ``confirmed``.

        Rows that cannot be parsed are left out.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def recipients(self) -> list[Recipient]:
        """Return the public keys that services registered.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def applied(self) -> list[Applied]:
        """Return what each running copy of a service last reported.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def reseal(self, reseal: Reseal) -> None:
        """Reseal every stored configuration and overlay in one transaction.

        The MACs of revisions stay valid: they cover secrets in plain text. Overlays that are not confirmed and
        revisions that are not JSON stay as they are, so that a verification still reports them.

        Args:
            reseal: Called for each document, in another thread than the caller's.

        Raises:
            Unavailable: The database cannot be written; nothing was changed.
        """
        ...

    async def key_ids(self) -> set[str]:
        """Return the ids of the keys that any value in the database is sealed with.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def scrub(self) -> bool:
        """Remove what updates and deletions left readable in the database's files, such as a write-ahead log.

        Returns:
            False if that is not possible now, because another program reads the database.

        Raises:
            Unavailable: The database cannot be written.
        """
        ...

    async def first_kept(self, environment: str, service: str) -> int | None:
        """Return the number of the oldest revision of a configuration, if older ones may have been removed; else None.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def remove_old(self, kept: Kept, *, pause: Callable[[], Awaitable[None]]) -> Removed:
        """Remove revisions and audit entries that are kept no longer, a few at a time, so that commits hardly wait.

        The newest revision of a configuration is never removed, and neither are rows that are not what was written.
        What ``verify`` finds is the same before and afterwards. A cancelled call has removed a part.

        Args:
            kept: What is kept.
            pause: Awaited between two transactions.

        Raises:
            Unavailable: The database cannot be read or written; a part may have been removed.
        """
        ...

    async def backup(self, directory: Path) -> None:
        """Copy the database, as it is at one moment, into another directory; commits go on meanwhile.

        The copy holds every ``commit`` that returned before the call. ``Database`` finds it in that directory. A
        cancelled call ends within a few milliseconds and leaves no copy.

        Raises:
            Unavailable: The database cannot be read, or the copy cannot be written; there is no copy.
        """
        ...

    async def verify(self) -> Findings:
        """Compare every row with the keyed hash chain, without delaying reads and commits.

        A cancelled call ends within a few milliseconds.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...


class Database(Protocol):
    """The database of one data directory: opens as a store, or is worked on as a whole by a command.

    All methods but ``open`` block, and open the database for themselves. ``verify`` and ``key_ids`` may run beside a
    daemon.
    """

    @property
    def name(self) -> str:
        """Where the database is, for messages."""
        ...

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files in the data directory that it may consist of; the first one is always there."""
        ...

    def exists(self) -> bool:
        """Return whether anything was ever recorded."""
        ...

    def backup(self, directory: Path, *, at_rest: bool = True) -> None:
        """Copy the database as ``Store.backup`` does; also one of an older version, which stays as it is.

        Args:
            directory: Where the copy is made.
            at_rest: Whether no process writes to it meanwhile.

        Raises:
            Unavailable: The database cannot be read, or the copy cannot be written; there is no copy.
        """
        ...

    def copy_rows(self, add: AddRows) -> None:
        """Add every row, as it is stored at one moment, to a copy.

        Raises:
            Unavailable: The database cannot be read, or the copy cannot be written.
        """
        ...

    def filling(self, *, kept_as: str = "") -> AbstractContextManager[Filling]:
        """Make the database from the rows that the block adds; if the block fails, all is as before.

        Args:
            kept_as: The name under which the database keeps the tables of a home that it holds; empty to refuse one.
                A database that is a file refuses in any case.

        Raises:
            StoreError: It holds a home already.
            Unavailable: It cannot be written.
        """
        ...

    def users(self) -> list[str]:
        """Return the daemons that use the database on a server, as far as it knows; empty if it is a file.

        Raises:
            StoreError: It cannot be read.
        """
        ...

    def witnessed(self, chain: Chain) -> Position | None:
        """Return the position that was noted outside of the database, as ``Store.witnessed``."""
        ...

    def describe(self) -> Summary:
        """Return what the database says of itself; change nothing.

        Raises:
            StoreError: It cannot be read, is not one of aliciacfg, or is one of a newer version.
        """
        ...

    def origin(self, chain: Chain) -> Origin:
        """Return whether this key or another one wrote the rows; change nothing.

        Tokens do not count: after an adoption they still have the codes of the key before.

        Raises:
            StoreError: It cannot be read.
        """
        ...

    def adopt(self, chain: Chain) -> Adoption | None:
        """Give every row a code of this key, all or none: the key that wrote them was lost, or they had no codes.

        Tokens are not adopted, and recipients are removed. To be called only with a key that has written nothing yet; a
        database whose end this key has written stays as it is, so that an adoption which was interrupted is repeated
        safely.

        Returns:
            What was adopted; None if there was nothing to adopt.

        Raises:
            StoreError: The database cannot be read or written; nothing was changed.
        """
        ...

    def open(self, chain: Chain) -> AbstractAsyncContextManager[Store]:
        """Open the database, or create it, and bring its tables up to date; close it when the block is left.

        At most one store may be open at a time; ``DataDirectory`` holds the lock.

        Raises:
            StoreError: The database cannot be used, or its rows are from before there were codes: see ``adopt``.
        """
        ...

    def verify(self, chain: Chain) -> Findings:
        """Compare every row with the keyed hash chain; change nothing.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    def reseal(self, chain: Chain, reseal: Reseal) -> None:
        """Reseal every stored configuration and overlay, as ``Store.reseal``; no daemon may be running.

        Raises:
            StoreError: The database cannot be read or written; nothing was changed.
        """
        ...

    def key_ids(self) -> set[str]:
        """Return the ids of the keys that any value in the database is sealed with.

        Raises:
            StoreError: The database cannot be read.
        """
        ...
