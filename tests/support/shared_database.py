"""A database in memory that several stores share: it keeps rows, refuses stale writes, and tells each of the others.

It has no codes and no file. Whoever writes waits for some turns of the event loop, so that others come in between.
"""

# ruff: noqa: ARG002 - the arguments are those of the protocol

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec

from aliciacfg.errors import Superseded, Unavailable
from aliciacfg.model.records import (
    START,
    Applied,
    Audited,
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
from aliciacfg.sealing.boxes import key_ids
from aliciacfg.storage.conflicts import may_supersede
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.store import Adoption, Database, Kept, Origin, Removed, Reseal, SharedHome, Store
from aliciacfg.storage.verifier import Findings

Key = tuple[Any, ...]
# Of what replaces the row with the same key: the fields that are the key.
_KEYS = {
    "overlays": ("environment", "service"),
    "announcements": ("subject",),
    "schemas": ("service",),
    "renewals": ("environment", "service"),
    "tokens": ("token_id",),
    "recipients": ("service",),
    "applied": ("service", "instance"),
}


@dataclass
class Row:
    """A row, the transaction that wrote it last, and the store that made it."""

    content: Any
    commit: int
    writer: "SharedStore"


@dataclass
class SharedRows:
    """The database itself.

    Attributes:
        commit: The number of the last transaction.
        tables: Rows by key, by table.
        audit: The audit log.
        position: The position of the home.
        lock: The lock that a transaction which writes holds.
        twice: Revisions that were written a second time.
        turns: How many turns of the event loop a transaction waits, at random.
        broken: Why the database cannot be reached; None if it can.
    """

    commit: int = 0
    tables: dict[str, dict[Key, Row]] = field(default_factory=dict[str, dict[Key, Row]])
    audit: list[Audited] = field(default_factory=list[Audited])
    position: Position = START
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    twice: list[Key] = field(default_factory=list[Key])
    turns: random.Random = field(default_factory=lambda: random.Random(1))
    broken: Unavailable | None = None

    def table(self, name: str) -> dict[Key, Row]:
        return self.tables.setdefault(name, {})

    def rows(self, name: str, *, after: int = 0, but_of: "SharedStore | None" = None) -> list[Any]:
        """The rows of a table that were written after a transaction, without those of a store."""
        found = self.table(name).values()
        return [row.content for row in found if row.commit > after and row.writer is not but_of]

    def newest(self, *, after: int = 0, but_of: "SharedStore | None" = None) -> list[Record]:
        """The newest revision of each configuration, if it was written after a transaction."""
        newest: dict[Key, Row] = {}
        for (environment, service, _), row in self.table("revisions").items():
            known = newest.get((environment, service))
            if known is None or known.content.revision < row.content.revision:
                newest[environment, service] = row
        return [row.content for row in newest.values() if row.commit > after and row.writer is not but_of]

    def state(self, *, after: int = 0, but_of: "SharedStore | None" = None) -> StoredState:
        """Everything, or what was written after a transaction."""
        changes = {"after": after, "but_of": but_of}
        meta = dict(self.rows("meta", **changes))
        overlays = self.rows("overlays", **changes)
        if but_of is None:
            return StoredState(
                records=self.newest(),
                overlays=[overlay for overlay in overlays if overlay.patch is not None],
                announcements=self.rows("announcements"),
                schemas=self.rows("schemas"),
                renewals=self.rows("renewals"),
                meta=meta,
                position=self.position,
                commit=self.commit,
            )
        return StoredState(
            records=self.newest(**changes),
            overlays=overlays,
            announcements=self.rows("announcements", **changes),
            schemas=self.rows("schemas", **changes),
            renewals=self.rows("renewals", **changes),
            meta=meta,
            position=self.position,
            commit=self.commit,
            tokens=self.rows("tokens", **changes),
            recipients=self.rows("recipients", **changes),
            applied=self.rows("applied", **changes),
            forgotten=self.rows("forgotten", **changes),
        )

    async def wait(self) -> None:
        """Let others go on for some turns."""
        for _ in range(self.turns.randrange(4)):
            await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken

    def apply(self, write: Write, store: "SharedStore") -> None:
        """Apply a write of the transaction that is under way."""
        for record in write.records:
            key = record.environment, record.service, record.revision
            if key in self.table("revisions"):
                self.twice.append(key)
            self.table("revisions")[key] = Row(record, self.commit, store)
        for record in write.resealed:
            row = self.table("revisions")[record.environment, record.service, record.revision]
            row.content = _with(row.content, config=record.config, checksum=record.checksum)
            row.commit, row.writer = self.commit, store
        for name, fields in _KEYS.items():
            for item in getattr(write, name):
                self.table(name)[tuple(getattr(item, part) for part in fields)] = Row(item, self.commit, store)
        for name, value in write.meta:
            self.table("meta")[name,] = Row((name, value), self.commit, store)
        for item in write.confirmed:
            row = self.table("announcements")[item.subject,]
            if row.content.sequence == item.sequence:
                self.table("announcements")[item.subject,] = Row(_with(row.content, pending=False), self.commit, store)
        for gone in write.forgotten:
            self.table("applied").pop((gone.service, gone.instance), None)
            self.table("forgotten")[gone.service, gone.instance] = Row(
                (gone.service, gone.instance), self.commit, store
            )
        self.audit += [
            Audited(**msgspec.structs.asdict(entry), sequence=len(self.audit) + number)
            for number, entry in enumerate(write.audit, start=1)
        ]
        self.position = max(self.position, write.position or START)


class _NobodyElse:
    """What the daemons know of each other: nothing but hints."""

    def __init__(self) -> None:
        self._hints = asyncio.Event()

    async def replicas(self, *, within_seconds: float) -> list[Replica]:
        assert within_seconds > 0
        return []

    def hints(self) -> asyncio.Event:
        return self._hints


class SharedStore:
    """A store on rows that others share.

    Attributes:
        superseded: How many commits were refused because of what others changed.
        held: How often the database was held.
    """

    def __init__(self, rows: SharedRows) -> None:
        self.rows = rows
        self.unwritable: Unavailable | None = None
        self.shared = cast("SharedHome", _NobodyElse())
        self.superseded = self.held = 0
        self._known: int | None = None
        self._listener: Callable[[StoredState], None] = lambda _: None
        self._is_holding = False

    def listen_reads(self, listener: Callable[[str | None], None]) -> None:
        pass

    def listen_others(self, listener: Callable[[StoredState], None]) -> None:
        self._listener = listener

    async def probe(self) -> None:
        await self.rows.wait()

    async def load(self) -> StoredState:
        await self.rows.wait()
        if self._known is None:
            self._known = self.rows.commit
        return self.rows.state()

    @property
    def followed(self) -> int:
        return self._known or 0

    async def load_since(self, commit: int) -> StoredState:
        await self.rows.wait()
        return self.rows.state(after=commit, but_of=SharedStore(self.rows))

    async def catch_up(self) -> None:
        await self.rows.wait()
        self._tell()

    def _tell(self) -> None:
        known = self._known or 0
        if self.rows.commit > known:
            self._known = self.rows.commit
            self._listener(self.rows.state(after=known, but_of=self))

    async def commit(self, writes: Sequence[Write]) -> None:
        planned_at = self._known or 0
        await self.rows.wait()
        if not self._is_holding:
            await self.rows.lock.acquire()
        try:
            await self.rows.wait()
            self._tell()
            change = self.rows.state(after=planned_at, but_of=self)
            if self.rows.commit > planned_at and any(
                write.basis is not None and may_supersede([write.basis], change) for write in writes
            ):
                self.superseded += 1
                raise Superseded("stale")
            self.rows.commit += 1
            self._known = self.rows.commit
            for write in writes:
                self.rows.apply(write, self)
        finally:
            self._is_holding = False
            self.rows.lock.release()

    @contextlib.asynccontextmanager
    async def holding(self) -> AsyncGenerator[None]:
        await self.rows.lock.acquire()
        self._is_holding = True
        self.held += 1
        try:
            self._tell()
            yield
        finally:
            if self._is_holding:
                self._is_holding = False
                self.rows.lock.release()

    async def witnessed(self) -> Position | None:
        return None

    async def settle(self) -> bool:
        return False

    async def record(self, environment: str, service: str, revision: int) -> Record | None:
        row = self.rows.table("revisions").get((environment, service, revision))
        return None if row is None else row.content

    async def history(self, environment: str, service: str, *, before: int | None, limit: int) -> list[RecordHead]:
        found = [
            row.content
            for (env, name, number), row in self.rows.table("revisions").items()
            if (env, name) == (environment, service) and (before is None or number < before)
        ]
        return sorted(found, key=lambda record: -record.revision)[:limit]

    async def audit(self, *, before: int | None, limit: int, service: str | None) -> list[Audited]:
        found = [entry for entry in self.rows.audit if service in (None, entry.service)]
        return [entry for entry in reversed(found) if before is None or entry.sequence < before][:limit]

    async def revisions(self, service: str) -> AsyncIterator[Record]:
        for (_, name, _), row in list(self.rows.table("revisions").items()):
            if name == service:
                yield row.content

    async def overlays(self) -> list[Overlay]:
        return [overlay for overlay in self.rows.rows("overlays") if overlay.patch is not None]

    async def tokens(self) -> list[Token]:
        return self.rows.rows("tokens")

    async def recipients(self) -> list[Recipient]:
        return self.rows.rows("recipients")

    async def applied(self) -> list[Applied]:
        return self.rows.rows("applied")

    async def reseal(self, reseal: Reseal) -> None:
        async with self.rows.lock:
            self._tell()
            self.rows.commit += 1
            self._known = self.rows.commit
            for (environment, service, _), row in self.rows.table("revisions").items():
                config = reseal(row.content.config, environment, service)
                row.content, row.commit, row.writer = _with(row.content, config=config), self.rows.commit, self
            for (environment, service), row in self.rows.table("overlays").items():
                if row.content.patch is not None:
                    patch = reseal(row.content.patch, environment, service)
                    row.content, row.commit, row.writer = _with(row.content, patch=patch), self.rows.commit, self

    async def key_ids(self) -> set[str]:
        texts: Iterable[bytes] = (record.config for record in self.rows.rows("revisions"))
        return {key_id for text in texts for key_id in key_ids(text)}

    async def scrub(self) -> bool:
        return True

    async def first_kept(self, environment: str, service: str) -> int | None:
        return None

    async def remove_old(self, kept: Kept, *, pause: Callable[[], Awaitable[None]]) -> Removed:
        return Removed()

    async def backup(self, directory: Path) -> None:
        raise NotImplementedError

    async def verify(self) -> Findings:
        return Findings()


def _with(content: Any, **fields: object) -> Any:
    return msgspec.structs.replace(content, **fields)


class SharedDatabase:
    """The database as one daemon opens it; ``store`` is the one that is open."""

    def __init__(self, rows: SharedRows) -> None:
        self.rows = rows
        self.store: SharedStore

    def backup(self, directory: Path) -> None:
        raise NotImplementedError

    def origin(self, chain: Chain) -> Origin:
        return Origin(is_own=True, key_name="")

    def adopt(self, chain: Chain) -> Adoption | None:
        return None

    @contextlib.asynccontextmanager
    async def open(self, chain: Chain) -> AsyncGenerator[Store]:
        self.store = SharedStore(self.rows)
        yield self.store

    def as_database(self) -> Database:
        return cast("Database", self)
