"""One daemon for a data directory and for a broker: a second one does not start, and no client replaces it."""

import asyncio
import shutil
from collections.abc import Callable

import pytest

import forking
from daemons import Daemon
from machine import wait_until
from mqtt_clients import client


async def test_a_second_daemon_on_the_same_data_directory_does_not_start(daemon: Daemon):
    """The lock keeps it off the store; the message says what to do."""
    second = Daemon(daemon.directory, broker_port=daemon.broker_port)
    environ = second.environment()
    done = await asyncio.to_thread(forking.run, ["serve"], directory=second.directory, environ=environ)
    assert done.returncode == 9
    assert "ALICIACFG_DATA_DIR" in done.stderr


async def test_a_second_daemon_on_the_same_broker_does_not_start(daemon: Daemon, make_daemon: Callable[..., Daemon]):
    """With its own data directory it detects the running daemon on the bus, and changes nothing."""
    other = make_daemon("other").spawn()
    assert await asyncio.to_thread(other.wait_exit) == 9
    assert daemon.name_file.read_text() in other.log.read_text()
    assert "MQTT_PORT=1884 ALICIACFG_HTTP_PORT=8027 aliciacfg serve --dev" in other.log.read_text()
    assert daemon.http("GET", "/ready").status == 200
    async with client(daemon.broker_port) as mqtt:
        health = await mqtt.retained("alicia/system/health/config_service")
    assert health["alicia/system/health/config_service"].json["payload"]["status"] == "healthy"


@pytest.mark.sqlite("a copy of the data directory is another daemon of the same home")
async def test_a_copy_of_the_data_directory_is_not_served_beside_it(make_daemon: Callable[..., Daemon]):
    """As of a machine that was cloned: the copy ends, and the connection of the daemon that runs stays."""
    daemon = make_daemon()
    await asyncio.to_thread(daemon.start)
    assert daemon.stop() == 0
    other = make_daemon("other").prepare()
    shutil.copytree(daemon.data, other.data, ignore=shutil.ignore_patterns("admin.sock"))
    await asyncio.to_thread(daemon.start)
    other.spawn()
    assert await asyncio.to_thread(other.wait_exit) == 9
    assert f"another_daemon: instance {daemon.name_file.read_text()}" in other.log.read_text()
    assert (daemon.http("GET", "/ready").status, daemon.logged("broker_lost")) == (200, [])


async def test_a_stale_health_message_of_a_dead_daemon_does_not_keep_another_from_starting(
    make_daemon: Callable[..., Daemon],
):
    """A retained "healthy" of an instance that does not answer is replaced."""
    daemon = make_daemon()
    async with client(daemon.broker_port) as mqtt:
        stale = {"message_id": "1", "payload": {"instance": "feedfacefeedface", "status": "healthy", "uptime": 5.0}}
        await mqtt.publish("alicia/system/health/config_service", stale, retain=True)
        await asyncio.to_thread(daemon.start)
    assert daemon.http("GET", "/ready").status == 200


async def test_a_forged_health_message_does_not_end_the_daemon(daemon: Daemon):
    """A message that claims to be an older daemon is no proof that there is one."""
    async with client(daemon.broker_port) as mqtt:
        forged = {"instance": "feedfacefeedface", "uptime": 1e18, "status": "healthy"}
        await mqtt.publish("alicia/system/health/config_service", forged)
        await asyncio.to_thread(wait_until, lambda: daemon.logged("foreign_health_unproven"))
        assert (await mqtt.ask("alicia/config/get/voice_router")).json["status"] == "success"


async def test_nobody_takes_the_daemons_place_at_the_broker(shared: Daemon):
    """Its client id is not derived from public values: a client with such a name is a session of its own."""
    before = [len(shared.logged(event)) for event in ("broker_lost", "broker_connected")]
    instance = shared.http("GET", "/health").json["instance"]
    for guess in (f"config_service_{instance}", instance, "config_service"):
        async with client(shared.broker_port, identifier=guess) as mqtt:
            await mqtt.ask("alicia/config/list")
    assert [len(shared.logged(event)) for event in ("broker_lost", "broker_connected")] == before


async def test_a_client_that_answers_as_another_daemon_does_not_end_the_daemon(daemon: Daemon):
    """Live, at once, and to every health check: the daemon serves on and says so, also over the next connection."""
    health = "alicia/system/health/config_service"
    forged = {"instance": "feedfacefeedface", "uptime": 1e18, "status": "healthy"}
    async with client(daemon.broker_port) as mallory, client(daemon.broker_port) as mqtt:
        await mallory.subscribe("alicia/system/health/check")

        async def answer() -> None:
            while True:
                await mallory.publish(health, forged, retain=True)
                await mallory.next(60)

        answering = asyncio.create_task(answer())
        await mqtt.subscribe("alicia/config/alert/another_daemon")
        assert "aliciacfg acl" in (await mqtt.until("alicia/config/alert/another_daemon")).json["message"]
        assert (await mqtt.ask("alicia/config/get/voice_router")).json["status"] == "success"
        answering.cancel()
    assert daemon.http("GET", "/ready").status == 200


async def test_of_two_daemons_that_start_at_the_same_moment_one_serves(make_daemon: Callable[..., Daemon]):
    """With data directories of their own: the other one ends, whatever the order."""
    both = [make_daemon(name).keep_services("voice_router") for name in ("one", "two")]
    for daemon in both:
        daemon.spawn()
    processes = [daemon.process for daemon in both]

    def ended() -> list[int | None]:
        return [process.poll() for process in processes if process is not None]

    await asyncio.to_thread(wait_until, lambda: any(code is not None for code in ended()))
    assert sorted(str(code) for code in ended()) == ["9", "None"]
    (served,) = [daemon for daemon, code in zip(both, ended(), strict=True) if code is None]
    (gone,) = [daemon for daemon in both if daemon is not served]
    await asyncio.to_thread(served.wait_ready)
    assert gone.wait_exit() == 9
