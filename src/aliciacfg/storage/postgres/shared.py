"""What the daemons that share a database know of each other."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from aliciacfg.model.records import AuditEntry, Replica, Write
from aliciacfg.storage.postgres import formats
from aliciacfg.storage.postgres.connections import LEASE, PRESENCE
from aliciacfg.storage.postgres.driver import Link
from aliciacfg.storage.postgres.kept_answers import KeptAnswers
from aliciacfg.storage.postgres.statements import SCHEMA, SELECT_FORMAT

_NOW = "extract(epoch FROM clock_timestamp())::double precision"
# A standby that is gone must not have every daemon look dead, or the leader lose its lease. A report, which each daemon
# makes once a second, does not wait for the disk either.
_DURABLE = "set_config('synchronous_commit', '{}', true)"
# What a program reports or leads that does not work with the format of the home any more, counts no more.
_KNOWN = f"coalesce((SELECT format FROM {SCHEMA}.home) BETWEEN {{}} AND {{}}, true)"
# A lease that ends later than any does was given before the clock went back, or by a server before a failover.
# Its holder may still lead: it ends one lease from now.
_RENEW = f"""
    INSERT INTO {SCHEMA}.lease AS l (one, replica, until)
    SELECT true, $1, {_NOW} + $2 FROM (SELECT {_DURABLE.format("local")}) AS durable WHERE {_KNOWN.format("$3", "$4")}
    ON CONFLICT (one) DO UPDATE SET until = {_NOW} + $2,
        replica = CASE WHEN l.until > {_NOW} + 2 * $2 THEN l.replica ELSE excluded.replica END
    WHERE l.replica = excluded.replica OR l.until < {_NOW} OR l.until > {_NOW} + 2 * $2
    RETURNING replica = $1
"""
# A report from later than now is one from before the clock went back; who still reports, reports again.
AHEAD_SECONDS = 5
_RELEASE = f"DELETE FROM {SCHEMA}.lease WHERE replica = $1"
_REPORTED = (
    "replica", "name", "version", "url", "started", "format", "files", "commit", "lag", "problem", "connected",
    "edited", "differing",
)  # fmt: skip
_REPLACED = ", ".join(f"{name} = excluded.{name}" for name in (*_REPORTED[1:], "behind", "seen"))
_REPORT = f"""
    INSERT INTO {SCHEMA}.replicas ({", ".join(_REPORTED)}, behind, seen)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8::bigint, $9, $10, $11, $12, $13, greatest(h.commit - $8, 0), {_NOW}
    FROM {SCHEMA}.home AS h, (SELECT {_DURABLE.format("off")}) AS durable WHERE {_KNOWN.format("$14", "$15")}
    ON CONFLICT (replica) DO UPDATE SET {_REPLACED} RETURNING replica
"""
_FORGET_OLD = f"DELETE FROM {SCHEMA}.replicas WHERE seen < {_NOW} - $1"
_FORGET = f"DELETE FROM {SCHEMA}.replicas WHERE replica = $1"
_SELECT = f"""
    SELECT {", ".join(f"r.{name}" for name in _REPORTED)}, r.seen, greatest({_NOW} - r.seen, 0), r.behind,
        coalesce((SELECT l.replica = r.replica AND l.until >= {_NOW} FROM {SCHEMA}.lease AS l), false)
    FROM {SCHEMA}.replicas AS r WHERE r.seen BETWEEN {_NOW} - $1 AND {_NOW} + {AHEAD_SECONDS}
    ORDER BY r.started, r.replica
"""
_REMOVE_ANSWERS = f"DELETE FROM {SCHEMA}.answers WHERE kept < {_NOW} - $1"
# How long the row of a daemon that ended stays.
_FORGOTTEN_SECONDS = 86400.0
# A daemon reports each second; one that did not for so long is gone.
_ALIVE_SECONDS = 5
_SELECT_LEAST = f"""
    SELECT coalesce(min(format), 0) FROM {SCHEMA}.replicas
    WHERE seen BETWEEN {_NOW} - {_ALIVE_SECONDS} AND {_NOW} + {AHEAD_SECONDS}
"""
_RAISE = f"UPDATE {SCHEMA}.home SET format = $1, needs = $2"
# Every commit waits as long as the tables are waited for; if one is read for longer, it is tried again.
_CONTRACT_LOCK_SECONDS = 1


class Call(Protocol):
    """Calls a function with a connection of its own for the time of the call; raises Unavailable."""

    def __call__(self, work: Callable[[Link], Awaitable[Any]], /, *, purpose: str = "") -> Awaitable[Any]:
        """Call it on a connection for a purpose, as in ``Connections.reading``."""
        ...


class Transact(Protocol):
    """Has a function plan writes under the lock of the home, and commits them; raises Unavailable."""

    def __call__(
        self, plan: Callable[[Link], Awaitable[tuple[Sequence[Write], Any] | None]], /
    ) -> Awaitable[Any | None]:
        """Return what else the function returned; None if it returned None, and nothing was written."""
        ...


class PostgresSharedHome:
    """Implements ``storage.store.SharedHome``, which says what each method promises."""

    def __init__(
        self,
        read: Call,
        change: Call,
        transact: Transact,
        home_format: Callable[[], int | None],
        answers: KeptAnswers,
    ) -> None:
        self._answers = answers
        self._read = read
        self._change = change
        self._transact = transact
        self._home_format = home_format
        self._hints = asyncio.Event()

    @property
    def format(self) -> int:
        """The highest format that this program can work with."""
        return formats.newest()

    @property
    def home_format(self) -> int:
        """The format of the home."""
        return self._home_format() or 0

    async def raise_format(self, to: int, audit: AuditEntry) -> bool:
        """Raise the format of the home under its lock, and take away what only older versions need."""

        async def planned(link: Link) -> tuple[Sequence[Write], bool] | None:
            ((present, _),) = await link.rows(SELECT_FORMAT)
            ((least,),) = await link.rows(_SELECT_LEAST)
            if not present < to <= least:
                return None
            await link.run(f"SET LOCAL lock_timeout = '{_CONTRACT_LOCK_SECONDS}s'")
            for step in formats.steps_between(present, to):
                for statement in step.contract:
                    await link.run(statement)
            await link.rows(_RAISE, to, formats.version_of(to))
            return [Write(audit=(audit,))], True

        return bool(await self._transact(planned))

    async def renew_lease(self, replica: str, seconds: float) -> bool:
        """Take or prolong the lease."""
        known = formats.FIRST, formats.newest()
        return (True,) in await self._change(lambda link: link.rows(_RENEW, replica, seconds, *known), purpose=LEASE)

    async def release_lease(self, replica: str) -> None:
        """End the lease."""
        await self._change(lambda link: link.rows(_RELEASE, replica), purpose=LEASE)

    async def report(self, row: Replica) -> None:
        """Add or replace the row of a replica; remove those that ended long ago."""
        values = [getattr(row, name) for name in _REPORTED]

        async def write(link: Link) -> None:
            if await link.rows(_REPORT, *values, formats.FIRST, formats.newest()):
                await link.rows(_FORGET_OLD, _FORGOTTEN_SECONDS)

        await self._change(write, purpose=PRESENCE)

    async def replicas(self, *, within_seconds: float) -> list[Replica]:
        """Return the replicas that reported lately."""
        rows = await self._read(lambda link: link.rows(_SELECT, within_seconds), purpose=PRESENCE)
        names = (*_REPORTED, "seen", "silent", "behind", "leads")
        return [Replica(**dict(zip(names, row, strict=True))) for row in rows]

    async def forget(self, replica: str) -> None:
        """Remove the row of a replica."""
        await self._change(lambda link: link.rows(_FORGET, replica), purpose=PRESENCE)

    async def answer(self, requester: str, request_id: str) -> bytes | None:
        """Return the answer that was kept for a request."""
        return await self._answers.get(requester, request_id)

    async def remove_answers(self, *, older_than_seconds: float) -> None:
        """Remove old answers."""
        await self._change(lambda link: link.rows(_REMOVE_ANSWERS, older_than_seconds))

    def hints(self) -> asyncio.Event:
        """Return the event that a notification sets."""
        return self._hints
