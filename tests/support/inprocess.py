"""The core of a daemon in the test's own process: real files, a real database, no transport."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aliciacfg import bootstrap
from aliciacfg.access.caller import Caller
from aliciacfg.bootstrap import open_core
from aliciacfg.core.configurations import Configurations
from aliciacfg.errors import Problem
from aliciacfg.http.connection_limits import Limits
from aliciacfg.http.pages import Page
from aliciacfg.http.server import HttpServer, HttpSettings
from aliciacfg.monitoring.alerts import Alert
from aliciacfg.operations.table import BY_NAME
from aliciacfg.settings import Settings, resolve
from aliciacfg.sources import layers, loader
from aliciacfg.storage.data_directory import DataDirectory
from aliciacfg.storage.store import Database

CALLER = Caller("tester", "test", proven=True, role="admin", private=True)


@dataclass
class Core:
    """A started core, and its operations as an adapter calls them; ``heard`` are the alerts since before the start."""

    home: "Home"
    parts: bootstrap.Core
    heard: list[Alert]

    @property
    def configurations(self) -> Configurations:
        return self.parts.configurations

    def write(self, file: str, content: object) -> None:
        """A file of the operator's, as ``Home`` writes it."""
        self.home.write(file, content)

    async def ask(self, operation: str, name: str = "", **fields: Any) -> Any:
        """An operation's answer to an administrator; its refusals are raised."""
        return await self.ask_as(CALLER, operation, name, **fields)

    async def ask_as(self, caller: Caller, operation: str, name: str = "", **fields: Any) -> Any:
        """Return an operation's answer to a caller."""
        answer = await BY_NAME[operation].run(self.parts.service, caller, name, fields)
        return json.loads(answer.body)

    async def text(self, name: str, **fields: Any) -> str:
        """What ``get`` answers in a form that is no JSON."""
        answer = await BY_NAME["get"].run(self.parts.service, CALLER, name, fields)
        assert answer.form == fields["format"]
        return answer.body.decode()

    async def config(self, name: str, **fields: Any) -> dict[str, Any]:
        """A configuration without its version."""
        config = (await self.ask("get", name, **fields))["config"]
        return {key: value for key, value in config.items() if key != "version"}

    async def settings(self, name: str, **fields: Any) -> dict[str, Any]:
        """The ``settings`` of a configuration."""
        return (await self.ask("get", name, **fields))["config"].get("settings", {})

    @property
    def standing(self) -> dict[str, str]:
        """The alerts that are raised."""
        return self.parts.alerts.active

    def _alert(self, kind: str) -> Alert:
        (alert,) = [alert for alert in self.parts.alerts.active_alerts if alert.kind == kind]
        return alert

    def problems(self, kind: str) -> tuple[Problem, ...]:
        """The problems that a standing alert lists."""
        return self._alert(kind).problems

    def told(self, kind: str) -> str:
        """Everything that a standing alert says."""
        return "\n".join([self._alert(kind).message, *(problem.message for problem in self.problems(kind))])

    async def drift(self, kind: str) -> list[str]:
        """The subjects of one kind of drift."""
        return [item["subject"] for item in (await self.ask("drift"))["drift"] if item["kind"] == kind]


class _OtherKeys(DataDirectory):
    """A data directory whose keys are in another one."""

    def __init__(self, path: Path, keys: Path) -> None:
        super().__init__(path)
        self._keys = keys

    @property
    def key_file(self) -> Path:
        return self._keys


class Home:
    """Files and a data directory."""

    def __init__(self, directory: Path, files: Mapping[str, object] | None = None) -> None:
        self.directory = directory
        for name in ("environments", "schemas"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        for file, content in (files or {}).items():
            self.write(file, content)

    @property
    def database(self) -> Path:
        return self.directory / "data" / "aliciacfg.db"

    @property
    def keys(self) -> Path:
        return self.directory / "data" / "keys.json"

    @property
    def stored(self) -> bytes:
        """Everything that the database and its write-ahead log hold."""
        files = (self.database, self.database.with_name(f"{self.database.name}-wal"))
        return b"".join(path.read_bytes() for path in files if path.exists())

    def write(self, file: str, content: object) -> None:
        """A file of the operator's: text as it is, anything else as JSON, which is YAML too."""
        path = self.directory / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def remove(self, file: str) -> None:
        (self.directory / file).unlink()

    def load(self) -> layers.Sources:
        return loader.load(
            environments_dir=self.directory / "environments", schemas_dir=self.directory / "schemas", variables={}
        )

    def settings(self, environment: str = "dev", **settings: str) -> Settings:
        """The settings of a daemon of this home."""
        flags = {
            "data_dir": str(self.database.parent),
            "environments_dir": str(self.directory / "environments"),
            "schemas_dir": str(self.directory / "schemas"),
            "environment": environment,
            **settings,
        }
        return resolve(flags, environ={}, dotenv_values={}).settings

    @contextlib.asynccontextmanager
    async def core(self, environment: str = "dev", **settings: str) -> AsyncGenerator[Core, None]:
        """A started core; a second one finds what the first one stored."""
        made = self.settings(environment, **settings)
        async with self._started(made, DataDirectory(Path(made.data_dir))) as core:
            yield core

    @contextlib.asynccontextmanager
    async def sharing_core(
        self, database: Database, *, keys: Path, environment: str = "dev", **settings: str
    ) -> AsyncGenerator[Core, None]:
        """A started core on a database that others share, with the keys of this file."""
        made = self.settings(environment, **settings)
        async with self._started(made, _OtherKeys(Path(made.data_dir), keys), database) as core:
            yield core

    @contextlib.asynccontextmanager
    async def _started(
        self, settings: Settings, data: DataDirectory, database: Database | None = None
    ) -> AsyncGenerator[Core, None]:
        heard: list[Alert] = []
        try:
            async with open_core(settings, data, database=database) as parts:
                parts.alerts.listen(heard.append)
                await parts.start(settings.environment)
                yield Core(self, parts, heard)
        finally:
            data.release()


@contextlib.asynccontextmanager
async def core(directory: Path, files: Mapping[str, object], **settings: str) -> AsyncGenerator[Core, None]:
    """A started core on files of these names (``environments/…``, ``schemas/…``)."""
    async with Home(directory, files).core(**settings) as made:
        yield made


@contextlib.asynccontextmanager
async def listening(
    made: Core, limits: Limits | None = None, pages: Mapping[str, Page] | None = None
) -> AsyncGenerator[str, None]:
    """The core's own HTTP face in the test's process; gives its URL."""
    adapter = HttpServer(
        made.parts.service,
        HttpSettings(host="127.0.0.1", port=0, limits=limits or Limits()),
        published_key=lambda: made.parts.key_rotation.published,
        pages=pages or {},
    )
    try:
        yield await adapter.start()
    finally:
        await adapter.stop()


async def eventually(what: Callable[[], object], *, seconds: float = 40.0) -> None:
    """Let the event loop go on until ``what()`` is true; fail after ``seconds``."""
    pause = 0.001
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(pause)
            pause = min(1.2 * pause, 0.02)
