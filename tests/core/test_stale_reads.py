"""What a read serves is the committed revision, whatever is committed while the read is under way."""

import asyncio
import urllib.request
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.errors import NotFound
from builders import environment_file, valid_config
from inprocess import Core, Home, listening

FILES = {
    "environments/base.yaml": environment_file(),
    "environments/dev.yaml": {"services": {"bell": {"settings": {"pin": "1234"}}}},
}


class Reads:
    """Holds every read of one revision back until it is let go; None of them hangs a store that is not asked."""

    def __init__(self, made: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        read = made.parts.store.record

        async def held(*arguments: Any) -> Any:
            found = await read(*arguments)
            self.begun.set()
            await self.go_on.wait()
            return found

        monkeypatch.setattr(made.parts.store, "record", held)


def fetch(url: str) -> bytes:
    """The body of an answer over HTTP."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read()


@asynccontextmanager
async def read_held_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[tuple[Core, Callable[[], Any]]]:
    """A core that answered nothing yet, and a ``get`` on its way; what is yielded second ends the ``get``."""
    async with home.core() as made:
        reads = Reads(made, monkeypatch)
        reading = asyncio.ensure_future(made.ask("get", "siren"))
        waiting = asyncio.ensure_future(reads.begun.wait())
        await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

        async def end() -> None:
            reads.go_on.set()
            await asyncio.gather(reading, return_exceptions=True)

        yield made, end


@pytest.fixture
async def home(tmp_path: Path) -> Home:
    """A home in which ``siren`` was made at run time, and whose daemon ended since."""
    made = Home(tmp_path, FILES)
    async with made.core() as core:
        await core.ask("set", "siren", config=valid_config(settings={"pin": "1234"}))
    return made


async def test_a_get_that_overlaps_a_delete_does_not_bring_the_configuration_back(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    """After the delete was answered, no read serves what was deleted: neither an operation nor HTTP's short path."""
    async with read_held_up(home, monkeypatch) as (made, end):
        await made.ask("delete", "siren")
        await end()
        assert made.parts.service.reads.cached_get("siren") is None
        with pytest.raises(NotFound):
            await made.ask("get", "siren")


async def test_a_get_that_overlaps_a_schema_change_does_not_serve_a_new_secret_in_the_open(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    """A value that became secret while a read was under way is redacted in every answer that begins afterwards."""
    async with read_held_up(home, monkeypatch) as (made, end):
        schema = {
            "version": "1.0.1",
            "properties": {"settings": {"properties": {"pin": {"type": "string", "x-sensitive": True}}}},
        }
        made.write("schemas/siren.yaml", schema)
        await made.ask("reload")
        await end()
        assert (await made.settings("siren")) == {"pin": "***"}
        async with listening(made) as url:
            body = await asyncio.to_thread(fetch, f"{url}/config/siren")
        assert b"1234" not in body
        assert b'"pin":"***"' in body
