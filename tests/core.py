"""A daemon's core in the test's own process: real files, a real database, no transport."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aliciacfg import assembly
from aliciacfg.alerts import Alert
from aliciacfg.configurations import Configurations
from aliciacfg.datadir import DataDirectory
from aliciacfg.http.adapter import HttpAdapter, HttpSettings
from aliciacfg.messages import Caller
from aliciacfg.operations import BY_NAME
from aliciacfg.settings import resolve

CALLER = Caller("tester", "test")
WHOLE: dict[str, Any] = {
    "mqtt_config": {"host": "h", "port": 1883, "username": "u", "password": "from-the-files"},
    "api_config": {"host": "h", "port": 8000},
}
"""The smallest defaults that make every service valid."""


@dataclass
class Core:
    """The operations, called as an adapter calls them."""

    directory: Path
    parts: assembly.Core
    alerts: list[Alert] = field(default_factory=list[Alert])

    @property
    def configurations(self) -> Configurations:
        return self.parts.configurations

    async def ask(self, operation: str, name: str = "", **fields: Any) -> Any:
        """An operation's answer; its refusals are raised."""
        answer = await BY_NAME[operation].run(self.parts.service, CALLER, name, fields)
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

    def write(self, file: str, content: object) -> None:
        """A file of the operator's: text as it is, anything else as JSON, which is YAML too."""
        write(self.directory, file, content)


def write(directory: Path, file: str, content: object) -> None:
    path = directory / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@contextlib.asynccontextmanager
async def core(directory: Path, files: Mapping[str, object], **settings: str) -> AsyncGenerator[Core, None]:
    """A started core on files of these names (``environments/…``, ``schemas/…``); a second one finds the same data."""
    for name in ("environments", "schemas"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write(directory, name, content)
    given = {
        "data_dir": str(directory / "data"),
        "environments_dir": str(directory / "environments"),
        "schemas_dir": str(directory / "schemas"),
        "max_services": "100",
        **settings,
    }
    resolved = resolve(given, environ={}, dotenv_values={}).settings
    data = DataDirectory(Path(resolved.data_dir))
    try:
        async with assembly.open_core(resolved, data) as parts:
            made = Core(directory, parts)
            parts.alerts.listen(made.alerts.append)
            await parts.configurations.start(resolved.environment)
            yield made
    finally:
        data.release()


@contextlib.asynccontextmanager
async def listening(made: Core) -> AsyncGenerator[str, None]:
    """The core's own HTTP face in the test's process; gives its URL."""
    adapter = HttpAdapter(
        made.parts.service,
        HttpSettings(host="127.0.0.1", port=0),
        published_key=lambda: made.configurations.published_key,
        pages={},
    )
    try:
        yield await adapter.start()
    finally:
        await adapter.stop()


async def eventually(what: Callable[[], object], *, seconds: float = 15.0) -> None:
    """Let the event loop go on until ``what()`` is true; fail after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.001)
