"""``GET /events``: what happens in a home, told to clients that listen."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest

from aliciacfg.api.bus_messages import AppliedReport
from aliciacfg.core import change_log
from aliciacfg.errors import OperationError
from aliciacfg.http import event_stream
from aliciacfg.http.connection_limits import Limits
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Position
from aliciacfg.operations import event_feed, event_reader
from aliciacfg.operations.table import BY_NAME
from builders import environment_file
from event_streams import Stream, listen
from inprocess import CALLER, Core, Home, eventually, listening

FILES: dict[str, object] = {
    "environments/base.yaml": environment_file({"bell": {"settings": {"volume": 1}}, "lamp": {}, "siren": {}}),
    "environments/dev.yaml": "",
    "environments/prod.yaml": {"services": {"bell": {"settings": {"volume": 9}}}},
}
READS = {"read": {"allowed_services": ["viewer"]}}
OPEN_TO_TWO = {"read": {"allowed_services": ["one", "two"]}}
RULES = {"services": {"bell": READS}, "users": ["viewer"]}
STATES = {"health", "files", "drift", "online"}


@dataclass
class Listening:
    """A home that serves HTTP, and clients that listen to it."""

    made: Core
    url: str
    session: aiohttp.ClientSession

    @contextlib.asynccontextmanager
    async def listen(
        self, query: str = "", *, last: str | None = None, token: str | None = None
    ) -> AsyncGenerator[Stream, None]:
        async with listen(self.session, self.url, query, last=last, token=token) as stream:
            yield stream

    async def status(self, query: str = "", method: str = "GET", **headers: str) -> tuple[int, Any]:
        """The answer to a request that is not let listen."""
        async with self.session.request(method, f"{self.url}/events{query}", headers=headers) as response:
            assert response.content_type == "application/json" or method == "HEAD"
            return response.status, await response.json() if method != "HEAD" else dict(response.headers)

    async def change(self, volume: int, service: str = "bell", **fields: Any) -> Any:
        return await self.made.ask("patch", service, patch={"settings": {"volume": volume}}, **fields)

    async def token(self, name: str, **fields: Any) -> dict[str, Any]:
        """A new token, with its id."""
        fields |= {"name": name}
        answer = await BY_NAME["token_create"].run(self.made.parts.service, CALLER, "", fields)
        return json.loads(answer.body)

    @property
    def open(self) -> int:
        return self.made.parts.service.events.count


@contextlib.asynccontextmanager
async def serving(made: Core, limits: Limits | None = None) -> AsyncGenerator[Listening, None]:
    async with (
        listening(made, limits) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield Listening(made, url, session)


@contextlib.asynccontextmanager
async def home(
    directory: Path, files: Mapping[str, object] = FILES, limits: Limits | None = None, **settings: str
) -> AsyncGenerator[Listening, None]:
    async with Home(directory, files).core(**settings) as made, serving(made, limits) as found:
        yield found


async def test_a_stream_begins_with_where_the_home_is_and_its_states(tmp_path: Path):
    """The first event has an id; the states have none."""
    async with home(tmp_path) as found, found.listen() as stream:
        response = stream.response
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        assert "Content-Length" not in response.headers
        hello = await stream.next()
        state = found.made.parts.state
        assert hello.kind == "hello"
        assert hello.id == f"{state.epoch}.{state.sequence}"
        assert hello.data["environment"] == "dev"
        assert hello.data["resumed"] is False
        states = [await stream.next() for _ in STATES]
        assert {state.kind for state in states} == STATES
        assert {state.id for state in states} == {None}
        (health,) = [state.data for state in states if state.kind == "health"]
        assert (health["environment"], health["configs_managed"]) == ("dev", 3)
        assert "timestamp" not in health


async def test_a_change_is_told_without_its_values(tmp_path: Path):
    """With the place, the author, the reason and the places that changed; in its order."""
    async with home(tmp_path) as found, found.listen() as stream:
        await stream.next("online")
        answer = await found.change(4711, comment="louder")
        await found.change(8, environment="prod")
        await found.made.ask("patch", "bell", patch={"mqtt_config": {"password": "planted-secret"}})
        first, second = await stream.next("change"), await stream.next("change")
        assert first.id == f"{answer['epoch']}.{answer['sequence']}"
        expected = {name: answer[name] for name in ("service", "environment", "revision", "version", "checksum")}
        assert first.data == expected | {
            "timestamp": answer["last_updated"],
            "epoch": answer["epoch"],
            "sequence": answer["sequence"],
            "author": "tester",
            "cause": "api",
            "comment": "louder",
            "breaking": False,
            "changed": ["/settings/volume"],
            "changed_count": 1,
            "restart_required": [],
            "restart_required_count": 0,
            "deleted": False,
            "coalesced": False,
        }
        assert second.data["environment"] == "prod"
        assert (await stream.next("change")).data["changed"] == ["/mqtt_config/password"]
        assert "planted" not in str(stream.heard)
        assert "4711" not in json.dumps([event.data for event in stream.heard if event.kind == "change"])


async def test_a_deletion_is_told(tmp_path: Path):
    """Of a service that no file defines."""
    async with home(tmp_path) as found, found.listen() as stream:
        config = (await found.made.ask("get", "bell"))["config"]
        await found.made.ask("set", "extra", config={**config, "service_name": "extra"})
        await found.made.ask("delete", "extra")
        assert (await stream.next("change")).data["deleted"] is False
        gone = (await stream.next("change")).data
        assert (gone["service"], gone["revision"], gone["deleted"], gone["checksum"]) == ("extra", 2, True, "")


async def test_an_activation_is_told_once(tmp_path: Path):
    """Not the new place of each service."""
    async with home(tmp_path) as found, found.listen("?event=change&event=environment") as stream:
        await stream.next("hello")
        await found.made.ask("activate", "prod")
        await found.change(3)
        told = [await stream.next(), await stream.next()]
        assert [event.kind for event in told] == ["environment", "change"]
        assert (told[0].data["environment"], told[0].data["previous"]) == ("prod", "dev")
        assert told[0].id is not None


async def test_a_reader_goes_on_after_the_last_event(tmp_path: Path):
    """By the header that browsers send, or the parameter."""
    async with home(tmp_path) as found:
        async with found.listen() as stream:
            await found.change(2)
            last = (await stream.next("change")).id
        await found.change(3)
        await found.change(4)
        for query, header in (("", last), (f"?last_event_id={last}", None)):
            async with found.listen(query, last=header) as stream:
                hello = await stream.next()
                assert (hello.data["resumed"], hello.id) == (True, last)
                missed = [await stream.next("change"), await stream.next("change")]
                assert [event.data["revision"] for event in missed] == [3, 4]
                assert [event.data["coalesced"] for event in missed] == [False, False]
                await found.change(5)
                assert (await stream.next("change")).data["revision"] >= 5


async def test_a_reader_goes_on_after_a_restart(tmp_path: Path):
    """With the newest revision of each configuration that changed since, which may leave some out."""
    files = Home(tmp_path, FILES)
    async with files.core() as made, serving(made) as found:
        async with found.listen() as stream:
            await found.change(2)
            last = (await stream.next("change")).id
        await found.change(3, service="lamp")
        await found.change(3)
        await found.change(4)
    async with files.core() as made, serving(made) as found, found.listen(last=last) as stream:
        hello = await stream.next()
        assert (hello.data["resumed"], hello.id) == (True, last)
        missed = [await stream.next(), await stream.next()]
        assert [(event.data["service"], event.data["revision"]) for event in missed] == [("lamp", 2), ("bell", 4)]
        assert all(event.data["coalesced"] for event in missed)


async def test_what_cannot_be_told_is_read_again(tmp_path: Path):
    """After another epoch, an id that is none, or one that only another home can have given."""
    async with home(tmp_path) as found:
        rubbish = (
            ("9.1", "epoch"), ("x", "unknown_id"), ("1.99999999999999999999", "unknown_id"), ("1.999999", "unknown_id"),
        )  # fmt: skip
        for number, (last, reason) in enumerate(rubbish):
            async with found.listen(last=last) as stream:
                assert (await stream.next()).data["resumed"] is False
                reset = await stream.next()
                assert (reset.kind, reset.data["reason"]) == ("reset", reason)
                await found.change(number + 2)
                assert (await stream.next("change")).data["service"] == "bell"


async def test_too_much_that_was_missed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """If the log does not reach back so far, and more configurations changed since than are told."""
    monkeypatch.setattr(event_reader, "_MAX_MISSED", 1)
    async with home(tmp_path) as found:
        log = found.made.parts.service.events._parts.log
        log._items.clear()
        log._floor, log._capacity = log.place, 1
        async with found.listen() as stream:
            last = (await stream.next("hello")).id
        for service in ("bell", "lamp", "siren"):
            await found.change(3, service=service)
        async with found.listen(last=last) as stream:
            assert (await stream.next()).data["resumed"] is False
            assert (await stream.next()).data["reason"] == "unknown_id"


async def test_a_raised_epoch_is_told(tmp_path: Path):
    """Everything has to be read again."""
    async with home(tmp_path) as found, found.listen() as stream:
        hello = (await stream.next("hello")).data
        await found.made.parts.order.restore(Position(hello["epoch"], hello["sequence"]), {}, detail="an exercise")
        reset = await stream.next("reset")
        assert (reset.data["reason"], reset.data["epoch"]) == ("epoch", 2)
        assert reset.id == f"2.{reset.data['sequence']}"


async def test_filters(tmp_path: Path):
    """By service, environment and kind, each repeatable."""
    query = "?service=bell&service=lamp&environment=dev"
    async with home(tmp_path) as found, found.listen(f"{query}&event=change") as stream:
        await stream.next("hello")
        await found.change(2, service="siren")
        await found.change(2, environment="prod")
        await found.change(2, service="lamp")
        await found.change(2)
        told = [await stream.next(), await stream.next()]
        assert [event.data["service"] for event in told] == ["lamp", "bell"]
        assert {event.data["environment"] for event in told} == {"dev"}


async def test_wrong_requests_are_refused(tmp_path: Path):
    """As everywhere; HEAD answers what GET would begin with."""
    async with home(tmp_path) as found:
        for query in ("?service=..", "?environment=a/b", "?event=other", "?servise=bell"):
            status, answer = await found.status(query)
            assert (status, answer["code"]) == (400, "invalid_request"), query
        for site in ("cross-site", "same-site"):
            assert (await found.status(**{"Sec-Fetch-Site": site}))[0] == 403
        status, answer = await found.status(method="POST")
        assert status == 405
        status, headers = await found.status(method="HEAD")
        assert (status, headers["Content-Type"]) == (200, "text/event-stream")
        assert found.open == 0


async def test_a_reader_is_told_what_it_may_read(tmp_path: Path):
    """And nothing of drift, which is for administrators."""
    async with home(tmp_path, {**FILES, "environments/access.yaml": RULES}) as found:
        token = (await found.token("viewer"))["token"]
        assert (await found.status())[0] == 401
        assert (await found.status("?service=lamp", Authorization=f"Bearer {token}"))[0] == 403
        async with found.listen(token=token) as stream:
            await stream.next("hello")
            await found.change(2, service="lamp")
            await found.change(2)
            assert (await stream.next("change")).data["service"] == "bell"
            assert "drift" not in {event.kind for event in stream.heard}


async def test_a_revoked_token_ends_the_stream(tmp_path: Path):
    """At once, before the next change is told."""
    async with home(tmp_path) as found:
        made = await found.token("viewer", role="reader")
        async with found.listen(token=made["token"]) as stream:
            await stream.next("hello")
            await found.made.ask("token_revoke", token_id=made["token_id"])
            await found.change(2)
            rest = await stream.rest()
        assert (rest[-1].kind, rest[-1].data) == ("end", {"reason": "unauthorized"})
        assert "change" not in {event.kind for event in rest}


async def test_an_expired_token_ends_the_stream(tmp_path: Path):
    """Although nothing else happens."""
    async with home(tmp_path) as found:
        token = (await found.token("viewer", role="reader", expires_in_seconds=3))["token"]
        async with found.listen(token=token) as stream:
            rest = await stream.rest()
        assert rest[-1].data == {"reason": "unauthorized"}


async def test_other_rules_hold_for_streams_that_are_open(tmp_path: Path):
    """A reader that may read something else reads everything again; one that may read nothing is ended."""
    async with home(tmp_path, {**FILES, "environments/access.yaml": RULES}) as found:
        token = (await found.token("viewer"))["token"]
        async with found.listen(token=token) as stream:
            await stream.next("hello")
            found.made.write("environments/access.yaml", {**RULES, "services": {"bell": READS, "lamp": READS}})
            await found.made.ask("reload")
            assert (await stream.next("reset")).data["reason"] == "access"
            await found.change(2, service="lamp")
            assert (await stream.next("change")).data["service"] == "lamp"
            found.made.write("environments/access.yaml", {"users": ["viewer"]})
            await found.made.ask("reload")
            assert (await stream.rest())[-1].data == {"reason": "forbidden"}


async def test_states_are_told_when_they_change(tmp_path: Path):
    """Health, refused edits, drift, who is online, and whose copies report something else."""
    async with home(tmp_path) as found, found.listen() as stream:
        await stream.next("online")
        parts, registrations = found.made.parts, found.made.parts.service.registrations
        parts.alerts.raise_("drill", "An exercise.")
        assert (await stream.next("health")).data["alerts"] == {"drill": "An exercise."}
        parts.drift.report("row", "subject", "What was found.")
        assert (await stream.next("drift")).data["count"] == 1
        await registrations.register("bell")
        assert (await stream.next("online")).data == {"services": {"bell": True}}
        await registrations.unregister("bell")
        assert (await stream.next("online")).data == {"services": {"bell": False}}
        await registrations.applied("bell", AppliedReport(instance="one", revision=1, checksum="", status="applied"))
        assert (await stream.next("instances")).data == {"service": "bell"}
        found.made.write("environments/dev.yaml", "services: [")
        with pytest.raises(OperationError):
            await found.made.ask("reload")
        refused = (await stream.next("files")).data["refused_edits"]
        assert refused[0]["file"] == "environments/dev.yaml"
        found.made.write("environments/dev.yaml", "")
        await found.made.ask("reload")
        assert (await stream.next("files")).data == {"refused_edits": []}


async def test_administrators_are_told_of_tokens_and_of_the_audit_log(tmp_path: Path):
    """That there is something to read, and nothing of it; other readers are not. Many entries are few events."""
    async with home(tmp_path) as found:
        admin, viewer = [(await found.token(role, role=role))["token"] for role in ("admin", "reader")]
        async with found.listen(token=admin) as stream, found.listen(token=viewer) as other:
            for listener in (stream, other):
                await listener.next("online")
            made = await found.token("new")
            assert {(await stream.next("tokens", "audit")).kind for _ in range(2)} == {"tokens", "audit"}
            await found.made.ask("token_revoke", token_id=made["token_id"])
            assert {(await stream.next("tokens", "audit")).kind for _ in range(2)} == {"tokens", "audit"}
            clock = asyncio.get_running_loop().time
            began, heard = clock(), len(stream.heard)
            for name in range(100):
                path = f"{found.url}/config/bell{name}"
                async with found.session.patch(path, json={}, headers={"Authorization": f"Bearer {viewer}"}) as answer:
                    assert answer.status == 403
            await found.change(2)
            while found.made.parts.service.events._states._audited < found.made.parts.queue.audited:
                await stream.next("audit")
            told = [event.kind for event in stream.heard[heard:]]
            assert "tokens" not in told
            assert told.count("audit") <= (clock() - began) / event_feed._TICK_SECONDS + 1
            assert all(event.data == {} for event in stream.heard if event.kind in {"tokens", "audit"})
            await other.next("change")
            assert {event.kind for event in other.heard}.isdisjoint({"tokens", "audit", "drift"})


async def test_the_number_of_streams_is_bounded(tmp_path: Path):
    """Further ones are told to try later; one that ends makes room."""
    async with home(tmp_path, max_event_streams="1") as found:
        async with found.listen() as stream:
            await stream.next("hello")
            async with found.session.get(f"{found.url}/events") as refused:
                assert (refused.status, (await refused.json())["code"]) == (503, "busy")
                assert int(refused.headers["Retry-After"]) > 0
        await eventually(lambda: found.open == 0)
        async with found.listen() as stream:
            await stream.next("hello")


async def test_callers_share_the_streams_when_all_are_taken(tmp_path: Path):
    """The caller with most loses its newest one to a caller with fewer; one at its share is refused with the remedy."""
    files = {**FILES, "environments/access.yaml": {"users": ["one", "two"], "services": {"bell": OPEN_TO_TWO}}}
    async with home(tmp_path, files, max_event_streams="3") as found, contextlib.AsyncExitStack() as streams:
        one, two = [(await found.token(name))["token"] for name in ("one", "two")]

        async def listens(token: str) -> Stream:
            stream = await streams.enter_async_context(found.listen(token=token))
            await stream.next("hello")
            return stream

        held = [await listens(one) for _ in range(3)]
        third = await listens(two)
        assert (await held.pop().rest())[-1].data == {"reason": "busy"}
        for token, says in ((one, "2 of them"), (two, "1 of them")):
            bearer = {"Authorization": f"Bearer {token}"}
            async with found.session.get(f"{found.url}/events", headers=bearer) as refused:
                answer = await refused.json()
                assert (refused.status, answer["code"], refused.headers["Retry-After"]) == (503, "busy", "10")
            assert says in answer["message"]
            assert "wait_seconds" in answer["message"]
        await found.change(2)
        for stream in (*held, third):
            assert (await stream.next("change")).data["service"] == "bell"


async def test_without_a_token_an_address_is_a_caller(tmp_path: Path):
    """One that takes all streams leaves one to another."""
    async with (
        home(tmp_path, max_event_streams="2") as found,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))) as elsewhere,
        found.listen() as first,
        found.listen() as second,
    ):
        await second.next("hello")
        async with listen(elsewhere, found.url) as other:
            await other.next("hello")
            assert (await second.rest())[-1].data == {"reason": "busy"}
            await eventually(lambda: found.open == 2)
            await found.change(2)
            assert (await first.next("change")).data == (await other.next("change")).data


async def test_a_quiet_stream_is_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By comments, and longer than a connection may be idle; with the place, which filtered changes moved.

    Also while the reader is woken more often than that, to look after its rights.
    """
    monkeypatch.setattr(event_stream, "_HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(event_feed, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(event_reader, "CHECK_SECONDS", 0.01)
    limits = Limits(idle_seconds=1.0, send_seconds=15)
    async with home(tmp_path, limits=limits) as found, found.listen("?service=lamp&event=change") as stream:
        await stream.next("hello")
        answer = await found.change(2)
        waiting = asyncio.create_task(stream.next("change"))
        await eventually(lambda: stream.comments > 14)
        assert stream.ids[-1] == f"{answer['epoch']}.{answer['sequence']}"
        await found.change(3, service="lamp")
        assert (await waiting).data["service"] == "lamp"


async def test_a_client_that_receives_nothing_is_disconnected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After the time that it may take for what it is sent."""
    monkeypatch.setattr(event_feed, "_PAUSE_SECONDS", 0)
    limits = Limits(send_seconds=0.3)
    async with home(tmp_path, limits=limits) as found:
        with _slow_client(found.url) as client, contextlib.suppress(ConnectionResetError):
            await eventually(lambda: found.open == 1)
            await _flood(found, lambda: found.open == 0)
            client.setblocking(False)
            async with asyncio.timeout(40):
                while await asyncio.get_running_loop().sock_recv(client, 1 << 20):
                    pass


async def test_a_client_that_is_gone_without_a_word_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The system gives its connection up when it acknowledges nothing of what it is sent every 15 seconds."""
    used: list[asyncio.Transport] = []
    give_up = event_stream._give_up_dead

    def noted(transport: asyncio.Transport) -> None:
        give_up(transport)
        used.append(transport)

    monkeypatch.setattr(event_stream, "_give_up_dead", noted)
    async with home(tmp_path) as found, found.listen() as stream:
        await stream.next("hello")
        (transport,) = used
        given = transport.get_extra_info("socket")
        assert given.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 45_000


async def test_a_slow_client_reads_everything_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It takes no memory meanwhile: what it has not received is not kept for it."""
    monkeypatch.setattr(event_feed, "_PAUSE_SECONDS", 0)
    async with home(tmp_path, limits=Limits(send_seconds=60)) as found:
        feed = found.made.parts.service.events
        with _slow_client(found.url) as client:
            await eventually(lambda: found.open == 1)
            (reader,) = feed._readers
            log = feed._parts.log
            await _flood(found, lambda: log.end - reader._next > change_log.CAPACITY)
            heard = b""
            loop = asyncio.get_running_loop()
            client.setblocking(False)
            async with asyncio.timeout(30):
                while b'"reason":"slow"' not in heard[-200_000:]:
                    part = await loop.sock_recv(client, 1 << 20)
                    assert part
                    heard += part


@contextlib.contextmanager
def _slow_client(url: str) -> Iterator[socket.socket]:
    """A client that asks for events and receives none of them."""
    address = urlsplit(url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((address.hostname, address.port))
        client.sendall(f"GET /events HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        yield client


async def _flood(found: Listening, enough: Callable[[], bool]) -> None:
    """Have so much to tell, in changes with long names, that no buffer holds it."""
    log = found.made.parts.service.events._parts.log
    record = found.made.parts.state.committed(ConfigId("dev", "bell")).record
    assert record is not None
    large = msgspec.structs.replace(record, changed=[f"/settings/{'x' * 70}{number}" for number in range(100)])
    async with asyncio.timeout(30):
        while not enough():
            for _ in range(10):
                log._add(change_log._change(large, 1))
            log.on_added()
            await asyncio.sleep(0.001)


async def test_streams_end_when_the_server_stops(tmp_path: Path):
    """At once, and are told so."""
    async with Home(tmp_path, FILES).core() as made, contextlib.AsyncExitStack() as stack:
        found = await stack.enter_async_context(serving(made))
        stream = await stack.enter_async_context(found.listen())
        await stream.next("online")
        async with asyncio.timeout(40):
            made.parts.service.events.close()
            assert (await stream.rest())[-1].data == {"reason": "stopping"}
        assert (await found.status())[0] == 503


async def test_a_client_that_receives_nothing_does_not_hold_up_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its connection is given up, long before the time that it may take is over."""
    monkeypatch.setattr(event_feed, "_PAUSE_SECONDS", 0)
    async with Home(tmp_path, FILES).core() as made, contextlib.AsyncExitStack() as stack:
        found = await stack.enter_async_context(serving(made, Limits(send_seconds=60)))
        feed = made.parts.service.events
        with _slow_client(found.url):
            await eventually(lambda: found.open == 1)
            (reader,) = feed._readers
            await _flood(found, lambda: feed._parts.log.end - reader._next > change_log.CAPACITY)
            async with asyncio.timeout(40):
                await stack.aclose()
        assert found.open == 0


async def test_nothing_is_done_without_readers(tmp_path: Path):
    """No timer runs, and nothing is encoded."""
    async with home(tmp_path) as found:
        feed = found.made.parts.service.events
        async with found.listen() as stream:
            await stream.next("online")
            assert feed._ticking is not None
        await eventually(lambda: found.open == 0)
        await found.change(2)
        assert feed._ticking is feed._waking is None
        assert not feed._parts.log._items[-1].encoded


async def test_readers_share_what_is_encoded(tmp_path: Path):
    """A change is encoded once, and seen by every reader."""
    async with home(tmp_path) as found, contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(found.listen()) for _ in range(20)]
        for stream in streams:
            await stream.next("hello")
        await found.change(2)
        told = [await stream.next("change") for stream in streams]
        assert len({event.id for event in told}) == 1
