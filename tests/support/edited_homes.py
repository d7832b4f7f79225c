"""A stored home as somebody edits it behind the daemon's back, on each backend."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, cast

from aliciacfg.model.records import Write
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.batch import combine
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.postgres.driver import Link, ServerError, Values
from aliciacfg.storage.postgres.maintenance import key_ids_of, reseal_rows
from aliciacfg.storage.postgres.schema import replace_home
from aliciacfg.storage.postgres.slices import Moved
from aliciacfg.storage.postgres.transaction import read_home, write_batch
from aliciacfg.storage.postgres.verification import verify_rows, verify_slices
from aliciacfg.storage.sqlite.maintenance import key_ids_in_file, reseal_file, verify_file
from aliciacfg.storage.store import Reseal
from aliciacfg.storage.verifier import Findings
from postgres import Postgres
from stored_rows import CHAIN, tamper, written

T = TypeVar("T")

# What of SQLite's dialect the statements of the tests have.
_TRANSLATED = (
    (r"CAST\(printf\('%\.\*c', ([0-9]+), '\['\) AS BLOB\)", r"convert_to(repeat('[', \1), 'UTF8')"),
    (r"CAST\(('[^']*') AS BLOB\)", r"convert_to(\1, 'UTF8')"),
    (r"CAST\(x'([0-9a-f]*)' AS TEXT\)", r"convert_from('\\x\1'::bytea, 'UTF8')"),
    (r"x'([0-9a-f]*)'", r"'\\x\1'::bytea"),
    (r"\bchain\b", "home"),
)


class EditedHome(Protocol):
    """A database that is read and written in the test's own way; no daemon has it open."""

    def tamper(self, *statements: str) -> bool:
        """Edit it in SQL; return False if the database refuses that, as it keeps types."""
        ...

    def write(self, *writes: Write) -> None:
        """Commit further writes, one by one."""
        ...

    def findings(self, chain: Chain = CHAIN) -> Findings: ...

    def reseal(self, chain: Chain, reseal: Reseal) -> None: ...

    def key_ids(self) -> set[str]: ...


def subjects(home: EditedHome, chain: Chain = CHAIN) -> list[str]:
    """The rows that the chain does not confirm."""
    return [broken.subject for broken in home.findings(chain).broken]


class EditedFile:
    """An SQLite file."""

    def __init__(self, path: Path, writes: Sequence[Write]) -> None:
        self.path = written(path, list(writes))

    def tamper(self, *statements: str) -> bool:
        tamper(self.path, *statements)
        return True

    def write(self, *writes: Write) -> None:
        written(self.path, list(writes))

    def findings(self, chain: Chain = CHAIN) -> Findings:
        return verify_file(self.path, chain)

    def reseal(self, chain: Chain, reseal: Reseal) -> None:
        reseal_file(self.path, chain, reseal)

    def key_ids(self) -> set[str]:
        return key_ids_in_file(self.path)


class _Begun:
    """A connection in a transaction that goes on, whatever begins and ends others."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def run(self, script: str) -> str:
        return script

    async def rows(self, query: str, *arguments: object) -> list[Values]:
        return await self._link.rows(query, *arguments)


class EditedTables:
    """A PostgreSQL database; what is done between ``begin`` and ``undo`` is undone, so that many tests can use it."""

    def __init__(self, server: Postgres, directory: Path, writes: Sequence[Write]) -> None:
        url = server.create()
        self._runner = asyncio.Runner()
        self._runner.run(self._write(directory, url, writes))
        self._link = self._runner.run(Link.connect(url))
        self._run(lambda link: link.run("SET search_path = aliciacfg"))
        for table in ("revisions", "audit", "overlays", "meta", "schemas", "told", "tokens", "recipients", "outbox"):
            # Statements that add rows leave it out: SQLite has no such column.
            self._run(lambda link, table=table: link.run(f"ALTER TABLE {table} ALTER COLUMN commit SET DEFAULT 0"))

    async def _write(self, directory: Path, url: str, writes: Sequence[Write]) -> None:
        async with database_in(directory, url).open(CHAIN) as store:
            for write in writes:
                await store.commit([write])

    def _run(self, call: Callable[[Link], Awaitable[T]]) -> T:
        async def work() -> T:
            return await call(self._link)

        return self._runner.run(work())

    def begin(self) -> None:
        self._run(lambda link: link.run("BEGIN"))

    def undo(self) -> None:
        self._run(lambda link: link.run("ROLLBACK"))

    def close(self) -> None:
        self._run(lambda link: link.close())
        self._runner.close()

    def tamper(self, *statements: str) -> bool:
        script = "; ".join(statements)
        for pattern, replacement in _TRANSLATED:
            script = re.sub(pattern, replacement, script)
        try:
            self._run(lambda link: link.run(f"SAVEPOINT s; {script}"))
        except ServerError as error:
            # Of a type, or a constraint.
            if error.sqlstate[:2] not in {"22", "23", "42"}:
                raise
            self._run(lambda link: link.run("ROLLBACK TO s"))
            return False
        return True

    def write(self, *writes: Write, chain: Chain = CHAIN) -> None:
        async def work(link: Link) -> None:
            # As at a start.
            await replace_home(link)
            for write in writes:
                batch = combine([write])
                await write_batch(link, chain, [write], batch, await read_home(link, batch, ()))

        self._run(work)

    def findings(self, chain: Chain = CHAIN) -> Findings:
        """Verify in one transaction, and see that slices find the same, unless nothing says where the chain ends."""

        async def in_slices(link: Link) -> Findings | None:
            try:
                return await verify_slices(cast("Link", _Begun(link)), chain)
            except Moved:
                return None

        found = self._run(lambda link: verify_rows(link, chain))
        if not found.damage:
            sliced = self._run(in_slices)
            assert sliced == found or (sliced is None and "the end of the chain was changed" in str(found.broken))
        return found

    def reseal(self, chain: Chain, reseal: Reseal) -> None:
        self.write(*self._run(lambda link: reseal_rows(link, chain, reseal)), chain=chain)

    def key_ids(self) -> set[str]:
        return self._run(key_ids_of)
