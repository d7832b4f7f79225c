"""Waiting over HTTP for a configuration that is not the one a client holds."""

import asyncio
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
from inprocess import Core, core, eventually, listening

FILES: dict[str, object] = {
    "environments/base.yaml": environment_file({"bell": {"settings": {"volume": 1}}, "lamp": {}}),
    "environments/dev.yaml": "",
    "environments/prod.yaml": {"services": {"bell": {"settings": {"volume": 9}}}},
}
# Longer than any of these tests may take: what ends a wait here is never its time.
LONG = 120


@dataclass
class Home:
    """A core with an HTTP face, and clients that wait."""

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
        """How many wait in the core."""
        return sum(len(found) for found in self.made.parts.service.reads._parts.waiters._waiters.values())

    async def start(self, etag: str, query: str = "", count: int = 1) -> list[asyncio.Task[tuple[int, Any]]]:
        """Clients that wait, once the core has them."""
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


async def test_what_is_not_current_is_answered_at_once(home: Home):
    """Another ETag, several others, or none at all."""
    other = await home.etag(service="lamp")
    for etag in ('"other"', other, f'"x", W/{other}', None):
        status, answer = await home.get(etag, f"?wait_seconds={LONG}")
        assert (status, answer["revision"]) == (200, 1)


async def test_a_change_ends_the_wait(home: Home):
    """With the new configuration; a write that changes nothing, or another service, does not."""
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
    """304 without a body, when the client still holds what is current."""
    etag = await home.etag()
    started = time.monotonic()
    assert await home.get(f'"x", {etag}', "?wait_seconds=0.2") == (304, "")
    assert time.monotonic() - started >= 0.2
    assert await home.get(etag, "?wait_seconds=0") == (304, "")


async def test_a_deletion_ends_the_wait(home: Home):
    """404, as any get of it from then on; who waits for that sends ``*``."""
    await home.made.ask("set", "visitor", config=valid_config())
    etag = await home.etag(service="visitor")
    asked = [asyncio.create_task(home.get(tag, f"?wait_seconds={LONG}", "visitor")) for tag in (etag, "*")]
    await eventually(lambda: home.waiting == 2)
    await home.made.ask("delete", "visitor")
    assert [(status, answer["code"]) for status, answer in await asyncio.gather(*asked)] == [(404, "not_found")] * 2
    assert (await home.get("*", f"?wait_seconds={LONG}", "visitor"))[0] == 404


async def test_an_activation_ends_the_wait_of_those_who_named_no_environment(home: Home):
    """They get what is active now; who named an environment waits on."""
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


async def test_what_the_files_bring_ends_the_wait(home: Home):
    """Whatever causes the revision."""
    (asked,) = await home.start(await home.etag())
    home.made.write("environments/dev.yaml", {"services": {"bell": {"settings": {"volume": 4}}}})
    await home.made.ask("reload")
    status, answer = await asked
    assert (status, answer["config"]["settings"]["volume"]) == (200, 4)


async def test_part_of_a_configuration_and_other_forms_are_waited_for_too(home: Home):
    """The ETag is that of the whole; the answer has the form that was asked for."""
    etag = await home.etag()
    part = await home.start(etag, "pointer=/settings")
    form = await home.start(etag, "format=yaml&pointer=/settings")
    await home.made.ask("patch", "bell", patch={"settings": {"volume": 5}})
    status, answer = await part[0]
    assert (status, answer["config"]) == (200, {"volume": 5})
    assert await form[0] == (200, "volume: 5\n")


async def test_everybody_who_waits_is_woken(home: Home):
    """A hundred clients of one configuration; none is forgotten and none waits on."""
    asked = await home.start(await home.etag(), count=100)
    await home.made.ask("patch", "bell", patch={"settings": {"volume": 6}})
    answers = await asyncio.gather(*asked)
    assert {(status, answer["revision"]) for status, answer in answers} == {(200, 2)}
    assert home.waiting == 0


async def test_nobody_waits_for_a_client_that_is_gone(home: Home):
    """The connections close, and what waited for them goes; those who are still there are answered."""
    etag = await home.etag()
    gone = await home.start(etag, count=50)
    kept = await home.start(etag, count=2)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    await eventually(lambda: home.waiting == 2)
    await home.made.ask("patch", "bell", patch={"settings": {"volume": 7}})
    assert [status for status, _ in await asyncio.gather(*kept)] == [200, 200]


async def test_a_write_of_a_client_that_is_gone_comes_to_its_end(home: Home):
    """Once it was read it is carried out whole, as a request over the bus is."""
    body = json.dumps({"settings": {"volume": 8}}).encode()
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
    await eventually(lambda: home.made.parts.state.committed(ConfigId("dev", "bell")).revision == 2)
    assert (await home.made.config("bell"))["settings"]["volume"] == 8


@pytest.mark.parametrize(
    "query",
    [
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
    ],
)
async def test_a_wrong_wait_is_refused_at_once(home: Home, query: str):
    """Out of range, no number, for an old revision, or for a place that cannot be."""
    status, answer = await home.get(await home.etag(), f"?{query}")
    assert (status, answer["code"]) == (400, "invalid_request")


async def test_what_is_not_there_is_not_waited_for(home: Home):
    """404 at once for an unknown service or environment."""
    for service, query in (("nobody", ""), ("bell", "&environment=moon")):
        status, answer = await home.get('"x"', f"?wait_seconds={LONG}{query}", service)
        assert (status, answer["code"]) == (404, "not_found")
