"""Long polls: a GET with ``wait_seconds`` waits until the client's copy is no longer current."""

import asyncio
import gc
import json
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from aliciacfg.model.config_id import ConfigId
from builders import environment_file, valid_config
from cases import case
from inprocess import Core, core, eventually, listening

FILES: dict[str, object] = {
    "environments/base.yaml": environment_file({"bell": {"settings": {"volume": 1}}, "lamp": {}}),
    "environments/dev.yaml": "",
    "environments/prod.yaml": {"services": {"bell": {"settings": {"volume": 9}}}},
}
# Longer than a test may take, so no wait here ends by its own time.
LONG = 120


@dataclass
class Home:
    """A core with an HTTP server, and clients that wait."""

    made: Core
    url: str
    session: aiohttp.ClientSession

    async def get(self, etag: str | None, query: str = "", service: str = "bell") -> tuple[int, Any]:
        headers = {} if etag is None else {"If-None-Match": etag}
        async with self.session.get(f"{self.url}/config/{service}{query}", headers=headers) as response:
            body = await response.read()
            found = json.loads(body) if body and response.content_type == "application/json" else body.decode()
            return response.status, found

    async def etag(self, query: str = "", service: str = "bell") -> str:
        async with self.session.get(f"{self.url}/config/{service}{query}") as response:
            return response.headers["ETag"]

    @property
    def waiting(self) -> int:
        """How many requests wait in the core."""
        return sum(len(found) for found in self.made.parts.service.reads._parts.waiters._waiters.values())

    async def start(self, etag: str, query: str = "", count: int = 1) -> list[asyncio.Task[tuple[int, Any]]]:
        """Start clients; return them when all of them wait in the core."""
        before = self.waiting
        asked = [
            asyncio.create_task(self.get(etag, f"?wait_seconds={LONG}{query and '&' + query}")) for _ in range(count)
        ]
        await eventually(lambda: self.waiting == before + count)
        return asked


@pytest.fixture
async def home(tmp_path: Path) -> AsyncGenerator[Home, None]:
    async with (
        core(tmp_path, FILES) as made,
        listening(made) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield Home(made, url, session)
        assert made.parts.service.reads._parts.waiters._waiters == {}


async def test_a_copy_that_is_not_current_is_answered_at_once(home: Home):
    """With another ETag, several others, or none at all."""
    other = await home.etag(service="lamp")
    for etag in ('"other"', other, f'"x", W/{other}', None):
        status, answer = await home.get(etag, f"?wait_seconds={LONG}")
        assert (status, answer["revision"]) == (200, 1)


async def test_a_change_ends_the_wait(home: Home):
    """The answer is the new configuration. A write without a change and a write to another service do not end it."""
    (asked,) = await home.start(await home.etag())
    await home.made.ask("patch", "lamp", patch={"settings": {"x": 1}})
    await home.made.ask("patch", "bell", patch={"settings": {"volume": 1}})
    await home.made.ask("patch", "bell", patch={"settings": {"volume": 2}}, environment="prod")
    assert not asked.done()
    assert home.waiting == 1
    await home.made.ask("patch", "bell", patch={"settings": {"volume": 2}})
    status, answer = await asked
    assert (status, answer["revision"], answer["config"]["settings"]["volume"]) == (200, 2, 2)


async def test_a_wait_ends_with_its_time(home: Home):
    """The answer is 304 without a body while the client's copy is still current."""
    etag = await home.etag()
    started = time.monotonic()
    assert await home.get(f'"x", {etag}', "?wait_seconds=0.2") == (304, "")
    assert time.monotonic() - started >= 0.2
    assert await home.get(etag, "?wait_seconds=0") == (304, "")


async def test_a_deletion_ends_the_wait(home: Home):
    """The answer is 404, also for a client that waits with ``If-None-Match: *``."""
    await home.made.ask("set", "visitor", config=valid_config())
    etag = await home.etag(service="visitor")
    asked = [asyncio.create_task(home.get(tag, f"?wait_seconds={LONG}", "visitor")) for tag in (etag, "*")]
    await eventually(lambda: home.waiting == 2)
    await home.made.ask("delete", "visitor")
    assert [(status, answer["code"]) for status, answer in await asyncio.gather(*asked)] == [(404, "not_found")] * 2
    assert (await home.get("*", f"?wait_seconds={LONG}", "visitor"))[0] == 404


async def test_an_activation_ends_a_wait_on_the_active_environment(home: Home):
    """The answer is from the new active environment. A wait on a named environment goes on."""
    (active,) = await home.start(await home.etag())
    (named,) = await home.start(await home.etag("?environment=dev"), "environment=dev")
    await home.made.ask("activate", "prod")
    status, answer = await active
    assert (status, answer["environment"], answer["config"]["settings"]["volume"]) == (200, "prod", 9)
    await eventually(lambda: home.waiting == 1)
    assert not named.done()
    await home.made.ask("patch", "bell", patch={"settings": {"volume": 3}}, environment="dev")
    status, answer = await named
    assert (status, answer["environment"], answer["config"]["settings"]["volume"]) == (200, "dev", 3)


async def test_a_change_of_the_files_ends_the_wait(home: Home):
    """As every revision does, whatever its cause."""
    (asked,) = await home.start(await home.etag())
    home.made.write("environments/dev.yaml", {"services": {"bell": {"settings": {"volume": 4}}}})
    await home.made.ask("reload")
    status, answer = await asked
    assert (status, answer["config"]["settings"]["volume"]) == (200, 4)


async def test_a_part_and_another_format_can_be_waited_for(home: Home):
    """The ETag is that of the whole configuration; the answer has the requested part and format."""
    etag = await home.etag()
    part = await home.start(etag, "pointer=/settings")
    form = await home.start(etag, "format=yaml&pointer=/settings")
    await home.made.ask("patch", "bell", patch={"settings": {"volume": 5}})
    status, answer = await part[0]
    assert (status, answer["config"]) == (200, {"volume": 5})
    assert await form[0] == (200, "volume: 5\n")


async def test_a_change_ends_every_wait(home: Home):
    """A hundred clients of one configuration are all answered."""
    asked = await home.start(await home.etag(), count=100)
    await home.made.ask("patch", "bell", patch={"settings": {"volume": 6}})
    answers = await asyncio.gather(*asked)
    assert {(status, answer["revision"]) for status, answer in answers} == {(200, 2)}
    assert home.waiting == 0


async def test_a_wait_ends_when_its_client_disconnects(home: Home):
    """Its waiter is removed from the core; the remaining clients are answered."""
    etag = await home.etag()
    gone = await home.start(etag, count=50)
    kept = await home.start(etag, count=2)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    await eventually(lambda: home.waiting == 2)
    await home.made.ask("patch", "bell", patch={"settings": {"volume": 7}})
    assert [status for status, _ in await asyncio.gather(*kept)] == [200, 200]


async def write_and_leave(home: Home, config: object) -> None:
    """Send a change, and disconnect while it waits for its turn."""
    body = json.dumps(config).encode()
    address = urlsplit(home.url)
    planning = home.made.parts.commits._planning
    async with planning:
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"PATCH /config/bell HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        await eventually(lambda: len(planning._waiters or ()) == 1)
        writer.transport.abort()
        # A round trip on another connection: the daemon has seen the end of the first one.
        for _ in range(3):
            assert (await home.get(None))[0] == 200


async def test_a_write_is_completed_after_its_client_disconnects(home: Home):
    """Once its body was read, as for a request over MQTT."""
    await write_and_leave(home, {"settings": {"volume": 8}})
    await eventually(lambda: home.made.parts.state.committed(ConfigId("dev", "bell")).revision == 2)
    assert (await home.made.config("bell"))["settings"]["volume"] == 8


async def test_a_refusal_that_nobody_waits_for_is_no_error(home: Home, caplog: pytest.LogCaptureFixture):
    """Of a client that has disconnected."""
    await write_and_leave(home, {"settings": {"volume": "loud"}})
    await eventually(lambda: not any(task.get_name() == "http-patch" for task in asyncio.all_tasks()))
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_a_wrong_wait_is_refused_at_once(home: Home):
    """Out of range, not a number, for an old revision, or with a malformed pointer."""
    for query in [
        "wait_seconds=-1",
        "wait_seconds=-0.001",
        "wait_seconds=300.001",
        "wait_seconds=1e9",
        "wait_seconds=nan",
        "wait_seconds=inf",
        "wait_seconds=soon",
        "wait_seconds=",
        f"wait_seconds={LONG}&revision=1",
        f"wait_seconds={LONG}&pointer=settings",
        f"wait_seconds={LONG}&pointer=/a~2",
        f"wait_seconds={LONG}&format=xml",
        f"wait_seconds={LONG}&wait_seconds=1",
    ]:
        with case(query):
            status, answer = await home.get(await home.etag(), f"?{query}")
            assert (status, answer["code"]) == (400, "invalid_request")


async def test_a_wait_for_an_unknown_configuration_is_refused(home: Home):
    """The answer is 404 at once for an unknown service or environment."""
    for service, query in (("nobody", ""), ("bell", "&environment=moon")):
        status, answer = await home.get('"x"', f"?wait_seconds={LONG}{query}", service)
        assert (status, answer["code"]) == (404, "not_found")
