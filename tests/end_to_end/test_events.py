"""``GET /events`` of whole daemons: a restart, a stop, services on the bus, and several daemons of one home."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import aiohttp
import pytest

from callers import bearing
from certificates import Authority
from daemons import Daemon
from event_streams import Stream, listen
from machine import wait_until
from mqtt_clients import client
from postgres import Postgres
from replica_daemons import start_replicas, wait_for_leader

SERVICE = "sonos_service"
# What a person who looks at a page takes for at once.


@pytest.fixture
async def session() -> AsyncGenerator[aiohttp.ClientSession, None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


async def change(daemon: Daemon, limit: int) -> str:
    """Change the service; return the id of the event."""
    answer = await asyncio.to_thread(daemon.http, "PATCH", f"/config/{SERVICE}", {"limits": {"x": limit}})
    assert answer.status == 200, answer
    return f"{answer.json['epoch']}.{answer.json['sequence']}"


async def told(stream: Stream) -> tuple[str | None, list[str]]:
    """The id and the places of the next change."""
    event = await stream.next("change")
    return event.id, event.data["changed"]


async def test_a_reader_goes_on_after_a_crash(make_daemon: Callable[..., Daemon], session: aiohttp.ClientSession):
    """Its stream ends with the daemon; the next one tells what was missed, and what comes."""
    daemon = make_daemon().keep_services(SERVICE).start()
    async with listen(session, daemon.url) as stream:
        last = await change(daemon, 1)
        assert await told(stream) == (last, ["/limits/x"])
        missed = await change(daemon, 2)
        await asyncio.to_thread(daemon.kill)
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.rest()
    await asyncio.to_thread(daemon.start)
    async with listen(session, daemon.url, last=last) as stream:
        assert (await stream.next()).data["resumed"] is True
        # Where others may share the database, the last one may come once more.
        again = await told(stream)
        assert (again if again[0] != last else await told(stream))[0] == missed
        assert await change(daemon, 3) == (await told(stream))[0]


async def test_streams_do_not_hold_up_a_stop(make_daemon: Callable[..., Daemon], session: aiohttp.ClientSession):
    """They are told, and end at once."""
    daemon = make_daemon().keep_services(SERVICE).start()
    async with listen(session, daemon.url) as one, listen(session, daemon.url) as other:
        await one.next("online")
        await other.next("online")
        # At the deadline for a stop it would end with another code.
        assert await asyncio.to_thread(daemon.stop) == 0
        for stream in (one, other):
            assert (await stream.rest())[-1].data == {"reason": "stopping"}


async def test_what_happens_on_the_bus_is_told(make_daemon: Callable[..., Daemon], session: aiohttp.ClientSession):
    """A service that registers, reports and changes itself."""
    daemon = make_daemon().keep_services(SERVICE).start()
    async with listen(session, daemon.url) as stream, client(daemon.broker_port) as bus:
        await stream.next("online")
        await bus.publish("alicia/system/discovery/register", f'{{"service_name": "{SERVICE}"}}')
        assert (await stream.next("online")).data["services"] == {SERVICE: True}
        report = '{"instance": "a", "revision": 1, "checksum": "", "status": "applied"}'
        await bus.publish(f"alicia/config/applied/{SERVICE}", report)
        assert (await stream.next("instances")).data == {"service": SERVICE}
        await bus.publish(f"alicia/config/patch/{SERVICE}", '{"patch": {"limits": {"x": 4}}}')
        assert (await told(stream))[1] == ["/limits/x"]


async def test_streams_pass_through_tls(
    make_daemon: Callable[..., Daemon], authority: Authority, session: aiohttp.ClientSession
):
    """As everything else does."""
    pair = authority.issue("events", "127.0.0.1", "localhost", common_name="events")
    daemon = make_daemon().keep_services(SERVICE)
    daemon.environ |= {"ALICIACFG_TLS_CERT": str(pair.cert), "ALICIACFG_TLS_KEY": str(pair.key)}
    daemon.tls = authority.context()
    daemon.start()
    async with session.get(f"{daemon.url}/events", ssl=authority.context()) as response:
        stream = Stream(response)
        await stream.next("online")
        assert await change(daemon, 1) == (await told(stream))[0]
        # The end of TLS waits for the other side, which may take longer than this test's event loop lasts.
        assert response.connection is not None
        assert response.connection.transport is not None
        response.connection.transport.abort()


async def test_all_daemons_of_a_home_tell_the_same(
    make_daemon: Callable[..., Daemon], postgres: Postgres, session: aiohttp.ClientSession
):
    """With the same ids, so that a reader goes on at any of them."""
    one, other = daemons = start_replicas(make_daemon, postgres.create(), ("a", "b"), (SERVICE,), None)
    await asyncio.to_thread(wait_for_leader, daemons)
    async with listen(session, one.url) as here, listen(session, other.url) as there:
        assert (await here.next()).data["replica"] == one.directory.name
        await there.next("online")
        last = await change(one, 1)
        assert (await told(there))[0] == last
        assert (await told(here))[0] == last
    missed = [await change(other, 2), await change(one, 3)]
    for daemon in daemons:
        async with listen(session, daemon.url, last=last) as stream:
            assert (await stream.next()).data["resumed"] is True
            # The last one once more: what it does not say is whether a change with the same place was known.
            assert [(await told(stream))[0] for _ in range(3)] == [last, *missed]
    admin = (await asyncio.to_thread(one.local, "token_create", {"name": "anna", "role": "admin"}))["token"]
    await asyncio.to_thread(wait_until, lambda: other.http("GET", "/configs").status == 401)
    async with listen(session, other.url, token=admin) as stream:
        await stream.next("online")
        # A token that is made at another daemon, and what another one refuses.
        token = await asyncio.to_thread(one.local, "token_create", {"name": "viewer", "role": "reader"})
        await stream.next("tokens")
        assert (await asyncio.to_thread(bearing(one, token["token"]), "GET", "/audit")).status == 403
        told_of: set[str] = set()
        # The first event may still be about what was refused before.
        while "viewer" not in told_of:
            await stream.next("audit")
            answer = await asyncio.to_thread(bearing(other, admin), "GET", "/audit?outcome=refused")
            told_of = {entry["who"] for entry in answer.json["entries"]}
    async with listen(session, other.url, token=token["token"]) as stream:
        await stream.next("online")
        # A token that another daemon revokes is not valid here either.
        await asyncio.to_thread(one.local, "token_revoke", {"token_id": token["token_id"]})
        assert (await stream.rest())[-1].data == {"reason": "unauthorized"}
