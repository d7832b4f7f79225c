"""Fills a database with the rows of another one, in one transaction."""

import contextlib
from collections.abc import Callable, Generator, Sequence

from aliciacfg.errors import KeyFileError, Unavailable
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.postgres.driver import Link, ServerError
from aliciacfg.storage.postgres.failures import STANDBY, unreadable, unusable, unwritable
from aliciacfg.storage.postgres.keys import read_keys, replace_keys
from aliciacfg.storage.postgres.schema import prepare_filling
from aliciacfg.storage.postgres.statements import COLUMNS, UPDATE_HOME, insert, is_binary, is_flag
from aliciacfg.storage.postgres.verification import verify_rows
from aliciacfg.storage.rows import CHAIN, Row
from aliciacfg.storage.shared_keys import StoredKeys, WrappedKeys
from aliciacfg.storage.store import StoreError
from aliciacfg.storage.threads import LoopThread
from aliciacfg.storage.verifier import Findings


class PostgresFilling:
    """Implements ``storage.store.Filling``, in a transaction."""

    def __init__(self, link: Link, loop: LoopThread, name: str) -> None:
        """Hold the connection, which has begun the transaction, and the event loop in which it was made.

        Args:
            link: The connection.
            loop: The event loop.
            name: The database, for messages.
        """
        self._link = link
        self._loop = loop
        self.keys = _FillingKeys(link, loop, name)

    def add(self, table: str, rows: Sequence[Row]) -> None:
        """Add rows."""
        try:
            if table == CHAIN:
                for row in rows:
                    self._loop.call(self._link.rows(UPDATE_HOME, *row))
                return
            values = [_converted(table, row) for row in rows]
            self._loop.call(self._link.repeat(insert(table), values))
        except ServerError as error:
            if error.lost:
                raise unwritable(error) from error
            raise Unavailable(f"Rows of the table {table} cannot be stored: {error}.") from error

    def verify(self, chain: Chain) -> Findings:
        """Compare every row with the chain."""
        return self._loop.call(verify_rows(self._link, chain))


class _FillingKeys:
    """Implements ``storage.shared_keys.KeyTable``, in the transaction of a filling."""

    def __init__(self, link: Link, loop: LoopThread, name: str) -> None:
        self._link = link
        self._loop = loop
        self.name = name

    def load(self) -> StoredKeys:
        """Read the row. The end of the chain is not reported: the caller verifies it."""
        try:
            return StoredKeys(self._loop.call(read_keys(self._link)), None)
        except ServerError as error:
            raise unreadable(error) from error

    def update(self, change: Callable[[StoredKeys], WrappedKeys | None]) -> None:
        """Replace the row; it is there when the transaction is committed."""
        made = change(self.load())
        if made is None:
            return
        try:
            self._loop.call(replace_keys(self._link, made, 0))
        except ServerError as error:
            if error.lost:
                raise unwritable(error) from error
            raise KeyFileError(f"the keys in {self.name} cannot be written: {error}") from error


def _converted(table: str, row: Row) -> Row:
    """Return a row with values of the types that its columns have; one that cannot be converted stays as it is."""
    values: list[str | int | float | bytes | None] = []
    for name, value in zip(COLUMNS[table], row, strict=True):
        if is_flag(name) and value in {0, 1}:
            values.append(bool(value))
        elif is_binary(name) and isinstance(value, str):
            values.append(value.encode())
        else:
            values.append(value)
    return tuple(values)


@contextlib.contextmanager
def filling(url: str, name: str, *, kept_as: str) -> Generator[PostgresFilling]:
    """Yield what fills a database; see ``Database.filling``.

    Args:
        url: The database.
        name: The same for messages, without a password.
        kept_as: The name of the schema that the tables of a home get that is there; empty to refuse one.
    """
    with LoopThread() as loop:
        link = None
        try:
            link = loop.call(Link.connect(url))
            if link.read_only:
                raise StoreError(STANDBY)
            loop.call(prepare_filling(link, kept_as=kept_as))
        except (ServerError, StoreError) as error:
            if link is not None:
                loop.call_soon(link.terminate)
            if isinstance(error, ServerError):
                raise unusable(name, error) from error
            raise StoreError(f"{name} cannot be used: {error}") from error
        try:
            yield PostgresFilling(link, loop, name)
        except BaseException:
            loop.call_soon(link.terminate)
            raise
        try:
            loop.call(link.run("COMMIT"))
            loop.call(link.close())
        except ServerError as error:
            loop.call_soon(link.terminate)
            raise Unavailable(
                f"The answer to COMMIT did not come from {name} ({error}): either everything is there or nothing. "
                "Run the same again: it says whether a home is there."
            ) from error
