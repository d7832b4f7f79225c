"""Configurations for ``exec``: the client's, with the variables that the schema of the service names.

Names are needed also when the daemon is away and its last configuration comes from the snapshot. So the schema is kept
beside the snapshot, in ``aliciacfg-<service>+schema.json``; it holds no value.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aliciacfg import documents
from aliciacfg.atomic_files import replace_file
from aliciacfg.client import ConfigClient, ConfigError, Current
from aliciacfg.client.messages import MAX_BYTES
from aliciacfg.documents import JsonObject
from aliciacfg.errors import OperationError
from aliciacfg.execution.supervisor import Configuration
from aliciacfg.file_errors import reason, unwritable
from aliciacfg.model.records import AppliedStatus
from aliciacfg.private_files import NotTrusted, read_own_file
from aliciacfg.variables.resolution import names_any, names_in

_MODE = 0o600


class ClientSource:
    """Gives what a client has; an asynchronous context manager that closes the client."""

    def __init__(
        self, client: ConfigClient[dict[str, Any]], snapshot_dir: Path | None, say: Callable[[str], None]
    ) -> None:
        """Take a client.

        Args:
            client: Not entered yet; its reports are left to the caller (``manual``).
            snapshot_dir: Where it keeps its snapshot.
            say: Prints one line for a person.
        """
        self._client = client
        # No service has a "+" in its name, so this is the snapshot of none.
        self._file = None if snapshot_dir is None else snapshot_dir / f"aliciacfg-{client.service}+schema.json"
        self._say = say
        self._schema: JsonObject | None = None
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send the last report, and close the client."""
        await self._open.aclose()

    async def current(self) -> Configuration:
        """Return the first configuration.

        Raises:
            ConfigError: There is none, or the names of its variables cannot be found out.
            SettingsError: The client's settings are not usable.
        """
        await self._open.enter_async_context(self._client)
        return await self._configuration(self._client.current)

    async def changes(self) -> AsyncIterator[Configuration | None]:
        """Yield every later configuration; None when it was deleted."""
        async for change in self._client.changes():
            yield None if change.deleted else await self._configuration(change)

    async def report(self, configuration: Configuration, status: AppliedStatus, error: str | None = None) -> None:
        """Report what became of a configuration, unless a different one has come meanwhile."""
        if configuration.handle == self._client.current.checksum:
            await self._client.report(status, error)

    async def _configuration(self, record: Current[dict[str, Any]]) -> Configuration:
        schema = await self._schema_of_service()
        return Configuration(
            label=f"revision {record.revision}",
            config=record.config,
            name_of=names_in(schema),
            names_any=names_any(schema),
            hidden=record.redacted,
            handle=record.checksum,
        )

    async def _schema_of_service(self) -> JsonObject:
        """Return the schema, which names the variables, from the daemon, else as it was last.

        Raises:
            ConfigError: It is not known.
        """
        try:
            schema = await self._client.schema()
        except ConfigError:
            if self._schema is None:
                self._schema = await asyncio.to_thread(self._load)
            if self._schema is None:
                raise
        else:
            if schema != self._schema:
                await asyncio.to_thread(self._save, schema)
            self._schema = schema
        return self._schema

    def _load(self) -> JsonObject | None:
        """Return the schema that was kept; None if there is none that can be used."""
        if self._file is None:
            return None
        try:
            return documents.decode_object(read_own_file(self._file, max_bytes=MAX_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, NotTrusted, OperationError) as error:
            self._say(f"{self._file} is not used: {reason(error) if isinstance(error, OSError) else error}")
            return None

    def _save(self, schema: JsonObject) -> None:
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._file, documents.encode(schema), mode=_MODE, follow_links=False)
        except OSError as error:
            self._say(unwritable(self._file, error))
