"""Connections to a PostgreSQL server: the only module that knows asyncpg.

PostgreSQL's texts hold no U+0000. A text that has one is stored with U+001A and a digit in its place, and so is U+001A
itself; that is undone when it is read.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from typing import Any, Self, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from aliciacfg.storage.postgres import address_files
from aliciacfg.storage.postgres.pace import unhurried

Values = tuple[Any, ...]
"""The values of a row, as the server's types are in Python; those of a row in a row are a tuple."""

# It has no types.
_driver: Any = asyncpg
_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_PREFETCHED = 200
# A server that does not answer at all, because its machine or the network is gone, counts as lost after this time. A
# COMMIT that takes long does not: the server's side of the connection goes on to answer.
_SILENT_SECONDS = 10
_ALIVE_OPTIONS = {"TCP_USER_TIMEOUT": _SILENT_SECONDS * 1000, "TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
# How many prepared statements a connection keeps.
_STATEMENTS = 100
_MARK = "\x1a"
_ENCODED = {"\x00": f"{_MARK}0", _MARK: f"{_MARK}1"}
_TABLE = str.maketrans(_ENCODED)
# An error of these classes, or one of these, ends the connection.
_LOST_CLASSES = ("08", "57P")
_LOST = frozenset({"25P03", "25P04"})
_NOTICE_CLASS = "01000"
# A prepared statement exists already, or does not exist: another client of a pooler made it, or lacks it.
_POOLED = frozenset({"42P05", "26000"})
_ONE_ROW = "SELECT 1"
_AUTHORITY = "sslrootcert=FILE in the address names the certificate of the authority that signed the server's"
# What the driver, or the TLS library, says of a connection that is not made.
_HINTS = {
    "rejected SSL": "set ssl = on in the server's postgresql.conf, or take another sslmode in the address",
    "CERTIFICATE_VERIFY_FAILED": _AUTHORITY,
    "root certificate file": _AUTHORITY,
}


class ServerError(Exception):
    """The server, or the way to it, failed.

    Attributes:
        sqlstate: The server's code (PostgreSQL, appendix A); empty if the error is not the server's.
        message: What happened, in the server's words.
        lost: Whether the connection is gone.
        refused: Whether no server was found at all, or none that this connection asks for.
        late: Whether the answer did not come in time.
        hint: What to do, where the code does not say it.
    """

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str = "",
        lost: bool = False,
        refused: bool = False,
        late: bool = False,
        hint: str = "",
    ) -> None:
        self.sqlstate = sqlstate
        self.message = message
        self.lost = lost
        self.refused = refused
        self.late = late
        self.hint = hint
        super().__init__(message)


def late(seconds: float) -> ServerError:
    """Return the error about an answer that did not come in time."""
    return ServerError(f"no answer within {seconds:g} s", lost=True, late=True)


def encode_text(text: str) -> str:
    """Return a text as it is stored."""
    return text.translate(_TABLE) if "\x00" in text or _MARK in text else text


def decode_text(text: str) -> str:
    """Return a stored text as it was."""
    if _MARK not in text:
        return text
    first, *others = text.split(_MARK)
    decoded = [first]
    for part in others:
        digit, rest = part[:1], part[1:]
        decoded.append({"0": "\x00", "1": _MARK}.get(digit, _MARK + digit) + rest)
    return "".join(decoded)


class _Connection(asyncpg.Connection):
    """A connection of the driver that notices when the other end is gone."""

    def __init__(self, protocol: Any, transport: Any, *others: Any) -> None:
        super().__init__(protocol, transport, *others)  # pyright: ignore[reportUnknownMemberType] - it has no types
        end = transport.get_extra_info("socket")
        if end.family == socket.AF_UNIX:
            return
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _ALIVE_OPTIONS.items():
            # Some systems do not have all of them.
            if hasattr(socket, name):
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Link:
    """One connection. Nothing of it may be called while another call has not returned.

    Every method raises ServerError.

    Attributes:
        read_only: Whether the server only lets it read: a standby for example.
        pooled: Whether a pooler stands between, which may give each transaction to another process of the server.
        patience: How many seconds ``run`` and ``rows`` wait for an answer, and then end the connection; None for ever.
        warned: Whether the server warned since ``forget_warnings`` that a commit may not be on the standby.
        ended: Is set when it can be used no longer.
    """

    def __init__(self, connection: Any, *, read_only: bool) -> None:
        self._connection = connection
        self.read_only = read_only
        self.pooled = False
        self.patience: float | None = None
        self.warned = False
        self.ended = asyncio.Event()
        connection.add_log_listener(self._warn)
        connection.add_termination_listener(self._end)

    @classmethod
    async def connect(cls, url: str) -> Self:
        """Connect to a server that takes writes, or else to one that is only read.

        Args:
            url: ``postgresql://…``; with several hosts, separated by commas, the first one is taken that fits.
        """
        try:
            return await cls._connect(url, "read-write", read_only=False)
        except ServerError as error:
            if not error.refused:
                raise
            return await cls._connect(url, "any", read_only=True)

    @classmethod
    async def _connect(cls, url: str, wanted: str, *, read_only: bool) -> Self:
        try:
            link = await cls._open(url, wanted, statements=_STATEMENTS, read_only=read_only)
        except ServerError as error:
            if error.sqlstate not in _POOLED:
                raise
        else:
            try:
                # A pooler has process ids of its own. No statement is prepared for the question: another client of the
                # pooler might have left one of that name.
                if await link.run(f"SELECT WHERE pg_backend_pid() = {link.process}") == _ONE_ROW:
                    # Compiling a query takes longer than any of these does.
                    await link.run("SET jit = off")
                    return link
            except BaseException:
                link.terminate()
                raise
            link.terminate()
        # Statements that are prepared in one transaction are not there in the next.
        link = await cls._open(url, wanted, statements=0, read_only=read_only)
        link.pooled = True
        return link

    @classmethod
    async def _open(cls, url: str, wanted: str, *, statements: int, read_only: bool) -> Self:
        prepared = address_files.prepare(url)
        with _explained(url, prepared), _translated():
            connection = await _driver.connect(
                prepared.url,
                password=prepared.password,
                timeout=_CONNECT_SECONDS,
                statement_cache_size=statements,
                target_session_attrs=wanted,
                server_settings={"application_name": "aliciacfg"},
                connection_class=_Connection,
            )
        return cls(connection, read_only=read_only)

    @property
    def closed(self) -> bool:
        """Whether it can be used no longer."""
        return self._connection.is_closed()

    @property
    def process(self) -> int:
        """The process id of the server's side."""
        return self._connection.get_server_pid()

    async def run(self, script: str) -> str:
        """Carry out statements without arguments in one round trip; return what the server says of the last one."""
        with _translated(self.patience):
            return await self._connection.execute(script, timeout=self.patience)

    async def rows(self, query: str, *arguments: object) -> list[Values]:
        """Return the rows of a query."""
        with _translated(self.patience):
            found = await self._connection.fetch(query, *map(_encode, arguments), timeout=self.patience)
        return [_decode(record) async for record in unhurried(found)]

    async def each(self, query: str, *arguments: object) -> AsyncGenerator[Values]:
        """Yield the rows of a query, some of which are in memory at a time; only in a transaction."""
        with _translated():
            async for record in self._connection.cursor(query, *map(_encode, arguments), prefetch=_PREFETCHED):
                yield _decode(record)

    async def repeat(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Carry out a statement with each of many rows of arguments, in few round trips."""
        with _translated():
            await self._connection.executemany(statement, [tuple(map(_encode, row)) for row in rows])

    async def listen(self, channel: str, heard: Callable[[int, str], None]) -> None:
        """Have a function called with the process id of each notifier of a channel, and what it says."""

        def call(_connection: object, process: int, _channel: str, payload: str) -> None:
            heard(process, payload)

        with _translated():
            await self._connection.add_listener(channel, call)

    def forget_warnings(self) -> None:
        """Reset ``warned``: it is set again by the next warning."""
        self.warned = False

    def _warn(self, _connection: object, message: object) -> None:
        if getattr(message, "sqlstate", None) == _NOTICE_CLASS:
            self.warned = True

    def _end(self, _connection: object) -> None:
        self.ended.set()

    async def close(self) -> None:
        """Close the connection in order."""
        try:
            with _translated():
                await self._connection.close(timeout=_CLOSE_SECONDS)
        except ServerError:
            self.terminate()

    def terminate(self) -> None:
        """End it at once; the server takes back a transaction that is not committed."""
        self._connection.terminate()


@contextlib.contextmanager
def _explained(url: str, prepared: address_files.Prepared) -> Generator[None]:
    """Add to the error of a connection that was not made what is wrong with its address, or with a file of it."""
    try:
        yield
    except ServerError as error:
        if error.sqlstate.startswith("28") and prepared.lacking:
            error.hint = prepared.lacking
        elif missing := address_files.missing_files(url):
            error.hint = f"a file that the address of the database names is missing: {', '.join(missing)}"
        else:
            error.hint = next((hint for part, hint in _HINTS.items() if part in error.message), "")
        raise
    except ValueError as error:
        # Of a password file that the address does not name, with a line that is cut short.
        raise ServerError(f"the password file, or the address, cannot be read: {error}") from error


@contextlib.contextmanager
def _translated(seconds: float | None = None) -> Generator[None]:
    """Raise ServerError for every error of the driver; ``seconds`` is how long it waited, if not as at a connect."""
    try:
        yield
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise ServerError(str(error), refused=True) from error
    except asyncpg.PostgresError as error:
        sqlstate = str(getattr(error, "sqlstate", None) or "")
        lost = sqlstate.startswith(_LOST_CLASSES) or sqlstate in _LOST
        # What else the server says of it may hold the content of rows, which clients and logs must not get.
        message = str(error.args[0] if error.args else sqlstate)
        raise ServerError(message, sqlstate=sqlstate, lost=lost) from error
    except asyncpg.InterfaceError as error:
        # Further lines are hints about the driver's arguments.
        raise ServerError(str(error).partition("\n")[0], lost="closed" in str(error)) from error
    except asyncpg.InternalClientError as error:
        # It says of its own state that it did not expect the end.
        raise ServerError(f"the connection ended ({error})", lost=True) from error
    except TimeoutError as error:
        raise late(_CONNECT_SECONDS if seconds is None else seconds) from error
    except OSError as error:
        raise ServerError(str(error) or type(error).__name__, lost=True) from error
    except (OverflowError, asyncio.IncompleteReadError) as error:
        raise ServerError(str(error), lost=not isinstance(error, OverflowError)) from error


def _encode(value: object) -> object:
    if isinstance(value, str):
        return encode_text(value)
    if isinstance(value, list):
        return [encode_text(item) if isinstance(item, str) else item for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _decode(record: Iterable[Any]) -> Values:
    """Return the values of a row; those of a row in a row as a tuple, as the driver does."""
    # Most values are numbers and bytes: no call for each of them.
    return tuple(
        [
            (decode_text(value) if _MARK in value else value)
            if isinstance(value, str)
            else (_decode(cast("Values", value)) if isinstance(value, tuple) else value)
            for value in record
        ]
    )
