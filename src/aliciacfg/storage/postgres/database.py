"""The PostgreSQL database of a home."""

import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from aliciacfg.errors import Unavailable
from aliciacfg.model.records import Position
from aliciacfg.storage.hash_chain import KEY_NAME_BYTES, START, Chain
from aliciacfg.storage.postgres import schema
from aliciacfg.storage.postgres.copying import copy_database
from aliciacfg.storage.postgres.driver import Link, ServerError
from aliciacfg.storage.postgres.failures import unusable
from aliciacfg.storage.postgres.filling import filling
from aliciacfg.storage.postgres.maintenance import key_ids_of
from aliciacfg.storage.postgres.shared import AHEAD_SECONDS
from aliciacfg.storage.postgres.snapshots import snapshot
from aliciacfg.storage.postgres.statements import CHANNEL, SCHEMA, SELECT_END
from aliciacfg.storage.postgres.store import PostgresStore
from aliciacfg.storage.postgres.verification import verify_database
from aliciacfg.storage.rows import parse_position
from aliciacfg.storage.store import AddRows, Adoption, CopyTarget, Filling, Origin, Reseal, Store, StoreError, Summary
from aliciacfg.storage.threads import run_alone
from aliciacfg.storage.verifier import Findings
from aliciacfg.storage.witness import FILE_NAME, Witness

T = TypeVar("T")

_HOST = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(:[0-9]*)?")

_COUNTS = f"""
    SELECT (SELECT format FROM {SCHEMA}.home), (SELECT count(*) FROM {SCHEMA}.revisions), (
        SELECT count(*) FROM (SELECT DISTINCT environment, service FROM {SCHEMA}.revisions) AS c CROSS JOIN LATERAL (
            SELECT deleted FROM {SCHEMA}.revisions AS n WHERE n.environment = c.environment AND n.service = c.service
            ORDER BY n.revision DESC LIMIT 1
        ) AS r WHERE NOT r.deleted
    )
"""
_CODES = " UNION ALL ".join(
    f"SELECT {column} AS code FROM {SCHEMA}.{table}"
    for table, column in (("revisions", "code"), ("audit", "code"), ("overlays", "mac"), ("meta", "mac"))
)
_NOW = "extract(epoch FROM clock_timestamp())"
# A daemon reports each second.
_ALIVE_SECONDS = 5
_SELECT_USERS = f"""
    WITH alive AS (SELECT replica, name FROM {SCHEMA}.replicas
        WHERE seen BETWEEN {_NOW} - {_ALIVE_SECONDS} AND {_NOW} + {AHEAD_SECONDS})
    SELECT name FROM alive
    UNION SELECT replica FROM {SCHEMA}.lease
        WHERE until BETWEEN {_NOW} AND {_NOW} + {2 * AHEAD_SECONDS} AND replica NOT IN (SELECT replica FROM alive)
    UNION SELECT 'a daemon on ' || coalesce(host(client_addr), 'the machine of the server') FROM pg_stat_activity
        WHERE datname = current_database() AND query ILIKE 'LISTEN %{CHANNEL}%' AND NOT EXISTS (SELECT FROM alive)
"""
_COUNT_NAMES = f"""
    SELECT substring(code FROM 1 FOR {KEY_NAME_BYTES}) AS name, count(*) FROM ({_CODES}) AS codes
    WHERE length(code) > {KEY_NAME_BYTES} GROUP BY 1 ORDER BY 2 DESC
"""


class PostgresDatabase:
    """Implements ``storage.store.Database``, which says what each method promises."""

    def __init__(self, directory: Path, url: str, copy_target: CopyTarget) -> None:
        """Name a database; nothing is opened.

        Args:
            directory: The data directory of this daemon.
            url: ``postgresql://…``
            copy_target: Makes the target of a backup.
        """
        self._directory = directory
        self._url = url
        self._copy_target = copy_target

    @property
    def name(self) -> str:
        """User, hosts, ports and name of the database: nothing else of its address, which may contain a password."""
        parts = urlsplit(self._url)
        if "@" in parts.path:
            # An address that was not checked: a "/" in the password ended what stands before it.
            return f"{parts.scheme}://?"
        hosts = parts.netloc.rpartition("@")[2].split(",")
        shown = ",".join(host if _HOST.fullmatch(host) else "?" for host in hosts)
        return f"{parts.scheme}://{f'{parts.username}@' if parts.username else ''}{shown}{parts.path}"

    @property
    def files(self) -> tuple[str, ...]:
        """The witness: the database itself is not in the data directory."""
        return (FILE_NAME,)

    def exists(self) -> bool:
        """Return whether there are tables."""
        return self._run(schema.exists)

    def backup(self, directory: Path, *, at_rest: bool = True) -> None:  # noqa: ARG002 - it is read by transactions
        """Copy the database into a file, in this thread."""

        async def copy() -> None:
            with self._copy_target(directory) as filling:
                await copy_database(self._url, filling.add)

        run_alone(copy)

    def copy_rows(self, add: AddRows) -> None:
        """Add every row to a copy, in this thread, or in another one where this one has an event loop that runs."""
        run_alone(lambda: copy_database(self._url, add))

    def filling(self, *, kept_as: str = "") -> AbstractContextManager[Filling]:
        """Fill the database in one transaction."""
        return filling(self._url, self.name, kept_as=kept_as)

    def users(self) -> list[str]:
        """Return the daemons that reported lately, lead, or listen to what others change."""

        async def find(link: Link) -> list[str]:
            try:
                there = await schema.check(link)
            except StoreError as error:
                raise StoreError(f"{self.name} cannot be used: {error}") from error
            return sorted(str(name) for (name,) in await link.rows(_SELECT_USERS)) if there else []

        return self._run(find)

    def witnessed(self, chain: Chain) -> Position | None:
        """Return the position in the witness file."""
        return Witness(self._directory / FILE_NAME, chain).read()

    def describe(self) -> Summary:
        """Return what the database says of itself."""

        async def describe(link: Link) -> Summary:
            ((format_, revisions, configurations),) = await link.rows(_COUNTS)
            ((sequence, mac, *_),) = await link.rows(SELECT_END)
            meta = dict(await link.rows(f"SELECT name, value FROM {SCHEMA}.meta"))
            return Summary(
                format=format_,
                position=parse_position(meta),
                meta=meta,
                rows=sequence,
                head="" if mac == START else mac.hex(),
                configurations=configurations,
                revisions=revisions,
            )

        return self._run_in_snapshot(describe)

    def origin(self, chain: Chain) -> Origin:
        """Return which key wrote the database, by the names in its codes: rows of another key are never adopted."""

        async def find(link: Link) -> Origin:
            if not await schema.exists(link):
                return Origin(is_own=False, key_name="")
            if any(chain.confirmed_end(end) is not None for end in await link.rows(SELECT_END)):
                return Origin(is_own=True, key_name="")
            named = await link.rows(_COUNT_NAMES)
            own = any(name == chain.key_name for name, _ in named)
            other = next((name.hex() for name, _ in named if name != chain.key_name), "")
            return Origin(is_own=own, key_name=other)

        return self._run(find)

    def adopt(self, chain: Chain) -> Adoption | None:
        """Refuse rows of another key: the other daemons that share the database have it."""

        async def check(link: Link) -> None:
            if not await schema.exists(link):
                return
            for end in await link.rows(SELECT_END):
                if chain.confirmed_end(end) is None:
                    raise StoreError(
                        f"{self.name} was written with other keys than these. Every daemon that shares a database "
                        "needs the keys in it: restore a backup of the home with its keys."
                    )

        self._run(check)

    def open(self, chain: Chain) -> AbstractAsyncContextManager[Store]:
        """Connect, and create the tables if there are none."""
        return PostgresStore.open(self._url, self.name, self._directory, chain, self._copy_target)

    def verify(self, chain: Chain) -> Findings:
        """Compare every row with the chain."""
        return run_alone(lambda: verify_database(self._url, chain))

    def reseal(self, chain: Chain, reseal: Reseal) -> None:
        """Reseal every stored configuration and overlay."""

        async def work() -> None:
            async with PostgresStore.open(self._url, self.name, self._directory, chain, self._copy_target) as store:
                await store.reseal(reseal)

        try:
            run_alone(work)
        except Unavailable as error:
            raise StoreError(f"{self.name} cannot be resealed, and stays as it was: {error}") from error

    def key_ids(self) -> set[str]:
        """Return the ids of the keys that any value is sealed with."""
        return self._run_in_snapshot(key_ids_of)

    def _run(self, work: Callable[[Link], Awaitable[T]]) -> T:
        """Call a function with a connection.

        Raises:
            StoreError: The database cannot be read or written.
        """

        async def call() -> T:
            link = await Link.connect(self._url)
            try:
                return await work(link)
            finally:
                await link.close()

        try:
            return run_alone(call)
        except ServerError as error:
            raise unusable(self.name, error) from error

    def _run_in_snapshot(self, work: Callable[[Link], Awaitable[T]]) -> T:
        async def call() -> T:
            async with snapshot(self._url) as link:
                return await work(link)

        try:
            return run_alone(call)
        except ServerError as error:
            raise unusable(self.name, error) from error
        except StoreError as error:
            raise StoreError(f"{self.name} cannot be used: {error}") from error
