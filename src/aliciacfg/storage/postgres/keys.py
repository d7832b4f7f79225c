"""The row of the keys that daemons share, in a table beside those of the home.

It is written under the same lock and with a number of the same sequence as everything else, so that the other daemons
learn of it in the order of the commits.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aliciacfg.errors import KeyFileError
from aliciacfg.storage.postgres import schema
from aliciacfg.storage.postgres.driver import Link, ServerError, Values
from aliciacfg.storage.postgres.failures import may_pass, unreadable, unusable, unwritable
from aliciacfg.storage.postgres.statements import BEGIN_WRITING, CHANNEL, SCHEMA, SELECT_END
from aliciacfg.storage.shared_keys import StoredKeys, WrappedKeys
from aliciacfg.storage.store import StoreError
from aliciacfg.storage.threads import run_alone

T = TypeVar("T")

_LOCK_SECONDS = 15
_BEGIN = (
    f"{BEGIN_WRITING}; SET LOCAL lock_timeout = '{_LOCK_SECONDS}s';"
    " SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL statement_timeout = 0"
)
_SELECT = f"SELECT content, home, key_id, generation FROM {SCHEMA}.keys"
_LOCK_HOME = f"{SELECT_END} FOR UPDATE"
_REPLACE = f"""
    INSERT INTO {SCHEMA}.keys AS k (one, content, home, key_id, generation, commit)
    VALUES (true, $1, $2, $3, $4, $5)
    ON CONFLICT (one) DO UPDATE SET content = excluded.content, home = excluded.home, key_id = excluded.key_id,
        generation = excluded.generation, commit = excluded.commit
"""
_COUNT = f"UPDATE {SCHEMA}.home SET commit = commit + 1 RETURNING commit, pg_notify('{CHANNEL}', commit::text)"
_COMMIT = "COMMIT"


class PostgresKeyTable:
    """Implements ``storage.shared_keys.KeyTable``, which says what each method promises."""

    def __init__(self, url: str, name: str) -> None:
        """Name a database; nothing is opened.

        Args:
            url: ``postgresql://…``
            name: The same for messages, without a password.
        """
        self._url = url
        self.name = name

    def load(self) -> StoredKeys:
        """Read the row."""
        try:
            return run_alone(lambda: self._connected(_read))
        except ServerError as error:
            if may_pass(error):
                raise unreadable(error) from error
            raise unusable(self.name, error) from error

    def update(self, change: Callable[[StoredKeys], WrappedKeys | None]) -> None:
        """Replace the row under the lock."""
        try:
            run_alone(lambda: self._update(change))
        except ServerError as error:
            if may_pass(error):
                raise unwritable(error) from error
            raise KeyFileError(f"the keys in {self.name} cannot be written: {error}") from error
        except StoreError as error:
            raise KeyFileError(f"the keys in {self.name} cannot be written: {error}") from error

    async def _connected(self, work: Callable[[Link], Awaitable[T]]) -> T:
        link = await Link.connect(self._url)
        try:
            return await work(link)
        finally:
            await link.close()

    async def _update(self, change: Callable[[StoredKeys], WrappedKeys | None]) -> None:
        made: WrappedKeys | None = None

        async def work(link: Link) -> None:
            nonlocal made
            made = change(await _locked(link))
            if made is None:
                return
            commits = await link.rows(_COUNT) if await schema.exists(link) else []
            await replace_keys(link, made, commits[0][0] if commits else 0)
            await link.run(_COMMIT)

        try:
            await self._connected(work)
        except ServerError as error:
            if made is None or not error.lost:
                raise
            # The answer to COMMIT may be lost; under the lock it is over. Nothing else has this nonce.
            if (await self._connected(_locked)).row != made:
                raise


async def _read(link: Link) -> StoredKeys:
    row = await read_keys(link) if await schema.has_keys(link) else None
    return StoredKeys(row, await _end(link, SELECT_END))


async def read_keys(link: Link) -> WrappedKeys | None:
    """Return the row of the keys, whose table is there; None if it is empty.

    Raises:
        ServerError: It cannot be read.
    """
    rows = await link.rows(_SELECT)
    return WrappedKeys(*rows[0]) if rows else None


async def replace_keys(link: Link, keys: WrappedKeys, commit: int) -> None:
    """Store the row of the keys, in a transaction.

    Args:
        link: Has begun it.
        keys: The row.
        commit: The number of the transaction.

    Raises:
        ServerError: It cannot be stored.
    """
    await link.rows(_REPLACE, keys.content, keys.home, keys.key_id, keys.generation, commit)


async def _locked(link: Link) -> StoredKeys:
    """Begin a transaction that holds the lock, and read the row; make its table if there is none."""
    await link.run(_BEGIN)
    await schema.prepare_keys(link)
    # First the lock: what is read afterwards is the latest.
    end = await _end(link, _LOCK_HOME)
    if end is not None:
        await schema.check_format(link)
    return StoredKeys(await read_keys(link), end)


async def _end(link: Link, query: str) -> Values | None:
    """Return the end of the chain; None if nothing was ever recorded."""
    if not await schema.exists(link):
        return None
    rows = await link.rows(query)
    return rows[0] if rows else ()
