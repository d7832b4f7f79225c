"""Requests that come again byte for byte: answered as on the full way, by the rules, tokens and files of the moment."""

import asyncio
import gc
import json
import re
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from aliciacfg.access.rules import Access
from aliciacfg.access.tokens import Presented
from aliciacfg.http import cached_reads, repeats
from aliciacfg.http.cached_reads import CachedReads
from aliciacfg.http.protocol import RequestProtocol
from aliciacfg.http.repeats import MAX_BYTES, Repeats
from aliciacfg.model.records import Token
from aliciacfg.operations.table import BY_NAME
from builders import environment_file, valid_config
from inprocess import CALLER, Core, core, eventually, listening

SERVICES: dict[str, Any] = {"bell": {"settings": {"volume": 1, "door key": "front"}}, "lamp": {}}
FILES: dict[str, object] = {
    "environments/base.yaml": environment_file(SERVICES),
    "environments/dev.yaml": "",
    "environments/prod.yaml": {"services": {"bell": {"settings": {"volume": 7}}}},
}
LAMP_READS_BELL = {"services": {"bell": {"read": {"allowed_services": ["lamp"]}}}}
NOBODY_READS_BELL = {"services": {"bell": {"read": {"allowed_services": []}}}}


Answers = list[bytes]


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What was answered without parsing."""
    found: Answers = []
    original = Repeats.answer

    def answer(self: Repeats, digest: bytes) -> bytes | None:
        response = original(self, digest)
        if response is not None:
            found.append(response)
        return response

    monkeypatch.setattr(Repeats, "answer", answer)
    return found


@pytest.fixture
def protocols(monkeypatch: pytest.MonkeyPatch) -> list[RequestProtocol]:
    """Those of all connections since."""
    found: list[RequestProtocol] = []
    original = RequestProtocol.connection_made

    def connection_made(self: RequestProtocol, transport: asyncio.BaseTransport) -> None:
        found.append(self)
        original(self, transport)

    monkeypatch.setattr(RequestProtocol, "connection_made", connection_made)
    return found


class Connection:
    """A raw connection; gives the bytes of each response without its date."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)

    async def __aenter__(self) -> Self:
        self._reader, self.writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    def get(self, path: str = "/config/bell", *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
        lines = (f"{method} {path} HTTP/{version}", f"Host: {self._address.netloc}", *headers, "", "")
        return "\r\n".join(lines).encode()

    async def response(self, *, has_body: bool = True) -> bytes:
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        body = await self._reader.readexactly(int(length[1])) if length and has_body else b""
        return re.sub(rb"\r\nDate: [^\r]+", b"", head) + body

    async def ask(self, request: bytes) -> bytes:
        self.writer.write(request)
        return await self.response(has_body=not request.startswith(b"HEAD"))

    async def status(self, request: bytes) -> int:
        return int((await self.ask(request)).split(b" ", 2)[1])

    async def learn(self, request: bytes, repeated: Answers) -> bytes:
        """Ask until the request is answered without parsing: the first get of a Host is checked, the next kept."""
        responses = [await self.ask(request) for _ in range(3)]
        response = responses[-1]
        assert repeated
        assert repeated[-1].endswith(response.partition(b"\r\n\r\n")[2])
        repeated.clear()
        return response


@pytest.fixture
async def made(tmp_path: Path) -> AsyncGenerator[Core, None]:
    async with core(tmp_path, FILES) as started:
        yield started


@pytest.fixture
async def connection(made: Core) -> AsyncGenerator[Connection, None]:
    async with listening(made) as url, Connection(url) as opened:
        yield opened


async def token(made: Core, name: str, **fields: Any) -> str:
    answer = await BY_NAME["token_create"].run(made.parts.service, CALLER, "", {"name": name, **fields})
    return json.loads(answer.body)["token"]


async def outcomes(made: Core) -> list[str]:
    """Those in the audit log, once what waits is written."""
    await made.parts.queue.flush()
    return [entry["outcome"] for entry in (await made.ask("audit"))["entries"]]


def bearer(text: str) -> str:
    return f"Authorization: Bearer {text}"


async def _etag(connection: Connection) -> str:
    found = re.search(rb"ETag: ([^\r]+)", await connection.ask(connection.get()))
    assert found is not None
    return found[1].decode()


READS = [
    ("/config/bell", ""),
    ("/config/bell", "If-None-Match: {etag}"),
    ("/config/bell", 'If-None-Match: W/{etag}, "other"'),
    ("/config/bell", "If-None-Match: *"),
    ("/config/bell", 'If-None-Match: "other"'),
    ("/config/bell", 'If-None-Match: "*"'),
    ("/config/bell", "If-None-Match: "),
    ("/config/bell?pointer=/settings", ""),
    ("/config/bell?pointer=/settings/door%20key", "If-None-Match: {etag}"),
    ("/config/bell?pointer=", "Accept: */*"),
    ("/config/b%65ll", "User-Agent: a client"),
]
OTHERS = [
    ("/config/bell?pointer=/nothing/here", ""),
    ("/config/bell?pointer=malformed", ""),
    ("/config/bell?pointer=/settings&pointer=/settings", ""),
    ("/config/bell?pointer=/settings&format=yaml", ""),
    ("/config/bell?format=env", ""),
    ("/config/bell?environment=prod", ""),
    ("/config/bell?revision=1", ""),
    ("/config/bell?unknown=1", ""),
    ("/config/nobody", ""),
    ("/config/Not%20A%20Name", ""),
    ("/config/bell", "Origin: http://elsewhere.example"),
    ("/config/bell", "Authorization: Bearer acfg_nonsense"),
    ("/config/bell", "Authorization: Basic Zm9vOmJhcg=="),
    ("/config/bell", "Expect: 200-ok"),
]


async def test_a_repeated_read_has_the_response_of_the_full_way(
    made: Core, repeated: Answers, monkeypatch: pytest.MonkeyPatch
):
    """Byte for byte but for the date: of the full way, of the cache behind aiohttp, and without parsing."""
    for path, header in READS:
        async with listening(made) as url, Connection(url) as connection:
            request = connection.get(path, *([header.format(etag=await _etag(connection))] if header else []))
            with monkeypatch.context() as patched:
                patched.setattr(CachedReads, "parse", lambda *_: None)
                full = await connection.ask(request)
            assert not repeated, (path, header)
            responses = [await connection.ask(request) for _ in range(4)]
            assert responses == [full] * 4, (path, header)
            assert len(repeated) == 3, (path, header)
            repeated.clear()


async def test_what_the_cache_has_no_answer_for_goes_the_full_way(made: Core, repeated: Answers):
    """However often it comes; refusals have their audit entries and counters there."""
    for path, header in OTHERS:
        async with listening(made) as url, Connection(url) as connection:
            await _etag(connection)
            request = connection.get(path, *([header] if header else []))
            assert len({await connection.ask(request) for _ in range(3)}) == 1, (path, header)
            assert not repeated, (path, header)


@pytest.mark.parametrize(
    ("method", "version", "headers"),
    [("HEAD", "1.1", ()), ("GET", "1.0", ("Connection: keep-alive",)), ("GET", "1.1", ("Upgrade: h2c",))],
)
async def test_what_ends_the_connection_or_has_no_body_is_parsed(
    connection: Connection, repeated: Answers, method: str, version: str, headers: tuple[str, ...]
):
    """HEAD, HTTP/1.0 and an offered upgrade."""
    await _etag(connection)
    request = connection.get("/config/bell", *headers, method=method, version=version)
    for _ in range(3):
        assert await connection.status(request) == 200
    assert not repeated


async def test_a_connection_that_is_to_be_closed_is_closed(made: Core, repeated: Answers):
    """A request with Connection: close is parsed each time."""
    async with listening(made) as url:
        for _ in range(3):
            async with Connection(url) as opened:
                assert await opened.status(opened.get("/config/bell", "Connection: close")) == 200
                assert await opened._reader.read() == b""
    assert not repeated


async def test_a_change_is_seen_at_once(made: Core, connection: Connection, repeated: Answers):
    """By a get, a part and a condition that were answered before it; and the end of the configuration."""
    etag = await _etag(connection)
    whole, part = connection.get(), connection.get("/config/bell?pointer=/settings/volume")
    unchanged = connection.get("/config/bell", f"If-None-Match: {etag}")
    for request in (whole, part, unchanged):
        await connection.learn(request, repeated)
    await made.ask("patch", "bell", patch={"settings": {"volume": 2}})
    assert b'"volume":2' in await connection.ask(whole)
    assert b'"config":2' in await connection.ask(part)
    assert await connection.status(unchanged) == 200
    assert len(repeated) == 3
    await made.ask("set", "siren", config=valid_config())
    siren = connection.get("/config/siren")
    await connection.learn(siren, repeated)
    await made.ask("delete", "siren")
    assert await connection.status(siren) == 404
    assert not repeated


async def test_another_active_environment_is_seen_at_once(made: Core, connection: Connection, repeated: Answers):
    """The request names none, so it means the active one."""
    request = connection.get("/config/bell?pointer=/settings/volume")
    assert b'"config":1' in await connection.learn(request, repeated)
    await made.ask("activate", "prod")
    assert b'"config":7' in await connection.ask(request)


async def test_the_first_token_closes_the_home_at_once(made: Core, connection: Connection, repeated: Answers):
    """A request without a token that was answered before it is refused."""
    request = connection.get()
    await connection.learn(request, repeated)
    await token(made, "someone")
    assert await connection.status(request) == 401
    assert not repeated


async def test_a_revoked_token_is_refused_at_once(made: Core, connection: Connection, repeated: Answers):
    """And is in the audit log as before."""
    text = await token(made, "lamp", role="reader")
    request = connection.get("/config/bell", bearer(text))
    await connection.learn(request, repeated)
    (known,) = (await made.ask("token_list"))["tokens"]
    await made.ask("token_revoke", token_id=known["token_id"])
    assert await connection.status(request) == 401
    assert not repeated
    assert "refused" in await outcomes(made)


async def test_an_expired_token_is_refused_at_once(
    made: Core, connection: Connection, repeated: Answers, monkeypatch: pytest.MonkeyPatch
):
    """No commit tells of it: only the clock."""
    text = await token(made, "lamp", role="reader", expires_in_seconds=100)
    request = connection.get("/config/bell", bearer(text))
    await connection.learn(request, repeated)
    monkeypatch.setattr(made.parts.service.authorizer, "_clock", lambda: time.time() + 101)
    assert await connection.status(request) == 401
    assert not repeated


async def test_a_token_is_confirmed_once_while_rules_and_tokens_stay(
    made: Core, connection: Connection, repeated: Answers, monkeypatch: pytest.MonkeyPatch
):
    """Any new token makes new rules, so that the next read is decided anew; too many decisions are all forgotten."""
    monkeypatch.setattr(cached_reads, "_MAX_DECISIONS", 1)
    authorizer = made.parts.service.authorizer
    confirmed: list[Presented] = []
    original = authorizer.confirm_token

    def confirm(sent: Presented) -> Token:
        confirmed.append(sent)
        return original(sent)

    text = await token(made, "lamp", role="reader")
    bell, lamp = (connection.get(f"/config/{name}", bearer(text)) for name in ("bell", "lamp"))
    await connection.learn(bell, repeated)
    monkeypatch.setattr(authorizer, "confirm_token", confirm)
    assert [await connection.status(bell) for _ in range(3)] == [200] * 3
    assert not confirmed
    await token(made, "other")
    assert [await connection.status(bell) for _ in range(3)] == [200] * 3
    assert len(confirmed) == 1
    await connection.learn(lamp, repeated)
    confirmed.clear()
    assert [await connection.status(bell) for _ in range(3)] == [200] * 3
    assert len(confirmed) == 1


async def test_another_secret_after_the_same_id_is_refused(made: Core, connection: Connection, repeated: Answers):
    """One request that was answered says nothing about another one."""
    text = await token(made, "lamp", role="reader")
    await connection.learn(connection.get("/config/bell", bearer(text)), repeated)
    wrong = text[:-1] + ("A" if text[-1] != "A" else "B")
    assert await connection.status(connection.get("/config/bell", bearer(wrong))) == 401
    assert not repeated


async def test_new_rules_count_at_once(made: Core, connection: Connection, repeated: Answers):
    """The service lamp loses the permission to read bell, and gets it again."""
    request = connection.get("/config/bell", bearer(await token(made, "lamp")))
    assert await connection.status(request) == 403
    for _ in range(2):
        made.write("environments/access.yaml", LAMP_READS_BELL)
        await made.ask("reload")
        await connection.learn(request, repeated)
        made.write("environments/access.yaml", NOBODY_READS_BELL)
        await made.ask("reload")
        assert await connection.status(request) == 403
        assert not repeated


async def test_rules_of_the_past_are_not_kept(made: Core, connection: Connection):
    """What allowed a client that reads once does not stay until it comes again: the rules of a large home are large."""
    text = await token(made, "someone", role="reader")
    await made.ask("set", "siren", config=valid_config())
    counts: list[int] = []
    for service in ("bell", "lamp", "siren"):
        for _ in range(2):
            assert await connection.status(connection.get(f"/config/{service}", bearer(text))) == 200
        await made.ask("reload")
        gc.collect()
        counts.append(sum(isinstance(item, Access) for item in gc.get_objects()))
    assert counts == [counts[0]] * 3


async def test_secrets_in_plain_text_go_the_full_way(made: Core, connection: Connection, repeated: Answers):
    """Each delivery is recorded; also of a request that was answered before the rules delivered them."""
    await made.ask("patch", "bell", patch={"mqtt_config": {"password": "not a real one"}})
    request = connection.get("/config/bell", bearer(await token(made, "bell")))
    assert b"not a real one" not in await connection.learn(request, repeated)
    made.write("environments/access.yaml", {"services": {"bell": {"secrets": "plaintext"}}})
    await made.ask("reload")
    for _ in range(3):
        assert b"not a real one" in await connection.ask(request)
    assert not repeated
    assert (await outcomes(made)).count("secrets_delivered") == 3


async def test_reads_are_counted(made: Core, connection: Connection, repeated: Answers):
    """In the metrics of the operation and of the service, like all others."""
    request = connection.get()
    await connection.learn(request, repeated)
    meter, metrics = made.parts.service.health.metrics.meter("get", "http"), made.parts.service.health.metrics
    answered, read = meter.outcomes["success"], metrics._accesses["bell"]
    await connection.ask(request)
    assert len(repeated) == 1
    assert (meter.outcomes["success"], metrics._accesses["bell"]) == (answered + 1, read + 1)


async def test_a_known_request_inside_a_body_is_a_body(
    protocols: list[RequestProtocol], connection: Connection, repeated: Answers
):
    """The bytes of a get that was answered before, sent as the body of another request, arrive by themselves."""
    known = connection.get()
    await connection.learn(known, repeated)
    headers = ("Content-Type: application/json", f"Content-Length: {len(known)}")
    connection.writer.write(connection.get("/config/bell", *headers, method="PUT"))
    await eventually(lambda: not protocols[0]._at_end)
    assert await connection.status(known) == 400
    assert not repeated
    assert await connection.status(known) == 200


async def test_a_known_request_inside_the_body_behind_an_offered_upgrade_is_a_body(
    connection: Connection, repeated: Answers
):
    """A head that arrives with the offer is parsed when that is declined, and may be answered before its body comes."""
    known = connection.get()
    await connection.learn(known, repeated)
    offer = connection.get("/health", "Connection: Upgrade", "Upgrade: websocket")
    connection.writer.write(offer + connection.get("/keys/current", f"Content-Length: {len(known)}"))
    for _ in range(2):
        assert (await connection.response()).startswith(b"HTTP/1.1 200 ")
    connection.writer.write(known)
    connection.writer.write_eof()
    assert await connection._reader.read() == b""
    assert not repeated


async def test_a_known_request_inside_a_head_is_a_head(
    protocols: list[RequestProtocol], connection: Connection, repeated: Answers
):
    """It continues the headers that have begun."""
    known = connection.get()
    await connection.learn(known, repeated)
    connection.writer.write(b"GET /config/lamp HTTP/1.1\r\nX-Rest: ")
    await eventually(lambda: not protocols[0]._at_end)
    answer = await connection.ask(known)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"service":"lamp"' in answer
    assert not repeated


@pytest.mark.parametrize("cut", [1, 20, -4, -2, -1])
async def test_a_known_request_in_two_pieces_is_answered(
    protocols: list[RequestProtocol], connection: Connection, repeated: Answers, cut: int
):
    """It is parsed; its second piece is not taken for a request."""
    known = connection.get()
    expected = await connection.learn(known, repeated)
    for _ in range(2):
        connection.writer.write(known[:cut])
        await eventually(lambda: not protocols[0]._at_end)
        assert await connection.ask(known[cut:]) == expected
    assert not repeated
    assert await connection.ask(known) == expected


async def test_answers_keep_the_order_of_requests(
    made: Core, protocols: list[RequestProtocol], connection: Connection, repeated: Answers
):
    """A known request that arrives while another one waits is answered after it."""
    known = connection.get("/config/lamp")
    await connection.learn(known, repeated)
    etag = await _etag(connection)
    connection.writer.write(connection.get("/config/bell?wait_seconds=60", f"If-None-Match: {etag}"))
    reads = made.parts.service.reads
    await eventually(lambda: reads._parts.waiters._waiters)
    connection.writer.write(known)
    await eventually(lambda: protocols[0]._messages)
    await made.ask("patch", "bell", patch={"settings": {"volume": 5}})
    assert b'"service":"bell"' in await connection.response()
    assert b'"service":"lamp"' in await connection.response()


async def test_requests_sent_together_are_answered_in_order(connection: Connection, repeated: Answers):
    """Known ones among them; only what arrives alone is answered without parsing."""
    bell, lamp = connection.get(), connection.get("/config/lamp")
    answers = [await connection.learn(request, repeated) for request in (bell, lamp)]
    connection.writer.write(bell + lamp + bell + lamp)
    assert [await connection.response() for _ in range(4)] == answers * 2


async def test_answers_keep_the_order_of_requests_after_a_body_that_came_late(
    protocols: list[RequestProtocol], connection: Connection, repeated: Answers
):
    """Requests that arrive together are parsed together, and none is overtaken by a known one that comes alone."""
    bell, lamp = connection.get(), connection.get("/config/lamp")
    answers = [await connection.learn(request, repeated) for request in (bell, lamp)]
    for _ in range(3):
        connection.writer.write(connection.get("/keys/current", f"Content-Length: {len(bell)}"))
        assert (await connection.response()).startswith(b"HTTP/1.1 200 ")
        connection.writer.write(bell)
        await eventually(lambda: protocols[0]._waiter is not None)
        connection.writer.write(bell + lamp)
        assert await connection.response() == answers[0]
        await eventually(lambda: protocols[0]._idle)
        assert await connection.ask(bell) == answers[1]
        assert await connection.response() == answers[0]


async def test_a_client_that_receives_nothing_is_not_sent_more(
    protocols: list[RequestProtocol], connection: Connection, repeated: Answers
):
    """While its transport is full, its requests are parsed and wait as all others do."""
    known = connection.get()
    expected = await connection.learn(known, repeated)
    protocols[0].pause_writing()
    assert await connection.ask(known) == expected
    connection.writer.write(known)
    await eventually(lambda: protocols[0]._messages)
    assert not repeated
    protocols[0].resume_writing()
    assert await connection.response() == expected
    assert await connection.ask(known) == expected


async def test_few_and_short_requests_are_remembered(
    connection: Connection, repeated: Answers, monkeypatch: pytest.MonkeyPatch
):
    """All are parsed again when there are too many, a long one always."""
    monkeypatch.setattr(repeats, "_MAX_REQUESTS", 2)
    requests = [connection.get("/config/bell", f"X-Number: {number}") for number in range(3)]
    for request in requests:
        await connection.learn(request, repeated)
    await connection.ask(requests[0])
    assert not repeated
    long = connection.get("/config/bell", "X-Long: " + "x" * MAX_BYTES)
    for _ in range(3):
        assert await connection.status(long) == 200
    assert not repeated


async def test_conditions_of_many_tags_are_not_kept(connection: Connection, repeated: Answers):
    """A request of 2 KB may hold 400; a client that invents them must not fill the memory."""
    etag = await _etag(connection)
    few, many = (", ".join([etag, *(f'"{number}"' for number in range(count))]) for count in (7, 8))
    await connection.learn(connection.get("/config/bell", f"If-None-Match: {few}"), repeated)
    for _ in range(3):
        assert await connection.status(connection.get("/config/bell", f"If-None-Match: {many}")) == 304
    assert not repeated
