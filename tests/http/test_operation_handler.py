"""The way of one HTTP request through its operation, over a real connection in the test's own process."""

import asyncio
import gc
import json
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from aliciacfg.access.authorizer import Authorizer
from aliciacfg.errors import OperationError
from aliciacfg.operations.table import BY_NAME, Operation
from builders import environment_file
from inprocess import CALLER, Core, core, eventually, listening

FILES: dict[str, object] = {
    "environments/base.yaml": environment_file({"bell": {"settings": {"volume": 1}}, "lamp": {}}),
    "environments/dev.yaml": "",
    "environments/access.yaml": {"services": {"bell": {"write": {"allowed_services": ["lamp"]}}}},
}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncGenerator[Core, None]:
    async with core(tmp_path, FILES) as started:
        yield started


@pytest.fixture
async def url(made: Core) -> AsyncGenerator[str, None]:
    async with listening(made) as found:
        yield found


async def token(made: Core, name: str) -> str:
    answer = await BY_NAME["token_create"].run(made.parts.service, CALLER, "", {"name": name})
    return json.loads(answer.body)["token"]


@pytest.fixture
async def session(made: Core) -> AsyncGenerator[aiohttp.ClientSession, None]:
    """A client with the token of lamp, which may read and write bell."""
    headers = {"Authorization": f"Bearer {await token(made, 'lamp')}"}
    async with aiohttp.ClientSession(headers=headers) as opened:
        yield opened


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often callers were identified and authorized, and requests parsed."""
    counted: Counter[str] = Counter()

    def count(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return original(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    count(Authorizer, "verify_token")
    count(Operation, "authorize")
    count(Operation, "parse")
    return counted


ONCE = {"verify_token": 1, "authorize": 1, "parse": 1}


async def test_a_conditional_write_is_authorized_once_and_parsed_once(
    url: str, session: aiohttp.ClientSession, calls: Counter[str]
):
    """Identified once too; the condition changes the parsed request."""
    body = {"settings": {"volume": 2}}
    async with session.patch(f"{url}/config/bell", json=body, headers={"If-Match": '"1"'}) as response:
        assert response.status == 200
    assert calls == ONCE


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/config/bell?pointer=/settings", None),
        ("PATCH", "/config/bell", {"settings": {"volume": 3}}),
        ("POST", "/config/bell/unset", {"pointer": "/settings"}),
        ("POST", "/config/validate", {"service": "bell", "config": {}}),
        ("GET", "/configs", None),
    ],
)
async def test_every_request_is_authorized_once_and_parsed_once(
    url: str, session: aiohttp.ClientSession, calls: Counter[str], method: str, path: str, body: object
):
    """With the service in the path, in the body, and without one."""
    async with session.request(method, url + path, json=body) as response:
        assert response.status == 200, await response.text()
    assert calls == ONCE


async def test_a_long_poll_is_authorized_again_at_its_end(
    made: Core, url: str, session: aiohttp.ClientSession, calls: Counter[str]
):
    """The token may have been revoked meanwhile: then the answer is 401."""
    async with session.get(f"{url}/config/bell") as response:
        etag = response.headers["ETag"]

    async def poll(seconds: float) -> int:
        address = f"{url}/config/bell?wait_seconds={seconds}"
        async with session.get(address, headers={"If-None-Match": etag}) as response:
            return response.status

    calls.clear()
    assert await poll(0.05) == 304
    assert calls == {"verify_token": 2, "authorize": 2, "parse": 1}
    waiting = asyncio.create_task(poll(60))
    await eventually(lambda: calls["verify_token"] == 3)
    (known,) = (await made.ask("token_list"))["tokens"]
    await made.ask("token_revoke", token_id=known["token_id"])
    await made.ask("patch", "bell", patch={"settings": {"volume": 9}})
    assert await waiting == 401


@pytest.mark.parametrize(("bearer", "status"), [(None, 401), ("lamp", 403), ("bell", 403)])
async def test_a_refused_client_need_not_send_its_body(made: Core, url: str, bearer: str | None, status: int):
    """Who may not write lamp is refused before the body arrives, with or without a token."""
    authorization = "" if bearer is None else f"Authorization: Bearer {await token(made, bearer)}\r\n"
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"PUT /config/lamp HTTP/1.1\r\nHost: {address.netloc}\r\n{authorization}Content-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 5000\r\n\r\n{{".encode())
    assert (await reader.readline()).startswith(f"HTTP/1.1 {status} ".encode())
    writer.transport.abort()


async def test_a_client_that_holds_its_body_back_is_authorized_again(made: Core, url: str, calls: Counter[str]):
    """A token that is revoked while the daemon waits for the rest of a write changes nothing any more."""
    text = await token(made, "lamp")
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    body = b'{"settings": {"volume": 8}}'
    head = f"PATCH /config/bell HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {text}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:5])
    await eventually(lambda: calls["authorize"] == 1)
    for known in (await made.ask("token_list"))["tokens"]:
        await made.ask("token_revoke", token_id=known["token_id"])
    writer.write(body[5:])
    assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.transport.abort()
    assert (await made.settings("bell")) == {"volume": 1}


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [("", {"pointer": 5}, 400), ("?unknown=1", {"pointer": "/a"}, 400), ("?environment=moon", {"pointer": "/a"}, 404)],
)
async def test_every_other_refusal_comes_before_that_of_a_condition(
    url: str, session: aiohttp.ClientSession, query: str, body: object, status: int
):
    """RFC 9110 §13.2.1: a condition counts only where the request would succeed without it."""
    for headers in ({"If-Match": '"9"'}, {}):
        async with session.post(f"{url}/config/bell/unset{query}", json=body, headers=headers) as response:
            assert response.status == status
    async with session.post(f"{url}/config/lamp/unset", json=body, headers={"If-Match": '"9"'}) as response:
        assert response.status == 403


async def test_a_write_that_is_refused_is_forgotten_at_once(session: aiohttp.ClientSession, url: str):
    """A refusal that refers to itself would keep the document, which may be large, until Python looks for circles."""

    def refusals() -> set[int]:
        return {id(item) for item in gc.get_objects() if isinstance(item, OperationError)}

    gc.collect()
    gc.disable()
    try:
        before = refusals()
        for document in ({}, {"settings": {"blob": "x" * 300_000}}, {"settings": {"keys": [1] * 6000}}):
            async with session.put(f"{url}/config/bell", json=document) as response:
                assert response.status in {403, 413, 422}
        await eventually(lambda: refusals() <= before)
    finally:
        gc.enable()
