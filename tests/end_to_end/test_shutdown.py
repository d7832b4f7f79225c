"""The end of a daemon: signals, a closed terminal, a stop with requests under way, and kill -9."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing

import aiohttp
import pytest

from aliciacfg.model.records import AuditEntry, Write
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.maintenance import connect
from aliciacfg.storage.sqlite.transaction import apply
from brokers import Broker
from daemons import Daemon
from inprocess import eventually
from machine import free_port, wait_until
from mqtt_clients import client

# The services of its daemons.
HOME_SERVICES = ("config_service", "ha_bridge", "voice_router")

# Longer than any of these tests may take: what ends a wait here is never its time.
LONG = 120

TAKING_THE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


@asynccontextmanager
async def waiting_clients(daemon: Daemon, count: int) -> AsyncGenerator[list[asyncio.Task[int]], None]:
    """Clients that have sent their request and wait for its answer."""
    etag = daemon.http("GET", "/config/voice_router").headers["ETag"]
    connector = aiohttp.TCPConnector(limit=0)
    trace = aiohttp.TraceConfig()
    sent = 0

    async def on_sent(*_: object) -> None:
        nonlocal sent
        sent += 1

    trace.on_request_headers_sent.append(on_sent)
    async with aiohttp.ClientSession(connector=connector, trace_configs=[trace]) as session:

        async def get() -> int:
            url = f"{daemon.url}/config/voice_router?wait_seconds={LONG}"
            async with session.get(url, headers={"If-None-Match": etag}) as response:
                return response.status

        asked = [asyncio.create_task(get()) for _ in range(count)]
        await eventually(lambda: sent == count)
        yield asked


async def test_a_stop_does_not_wait_for_those_who_wait(make_daemon: Callable[..., Daemon]):
    """At SIGTERM a hundred waiting clients are answered, and the daemon ends without waiting for their time."""
    daemon = await asyncio.to_thread(make_daemon().start)
    async with waiting_clients(daemon, 100) as asked:
        assert (await asyncio.to_thread(daemon.http, "GET", "/health")).status == 200
        assert await asyncio.to_thread(daemon.stop) == 0
        assert await asyncio.gather(*asked) == [304] * 100


async def test_requests_under_way_at_sigterm_are_answered(daemon: Daemon):
    """Writes that the daemon has accepted are answered before it ends."""
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/bye/#")
        for number in range(60):
            await mqtt.publish(
                "alicia/config/patch/ha_bridge",
                {"patch": {"limits": {"n": number}}},
                qos=0,
                ResponseTopic=f"alicia/reply/bye/{number}",
            )
        first = await mqtt.next()
        assert first.json["status"] == "success"
        assert await asyncio.to_thread(daemon.stop) == 0
        answered = 1 + len(await mqtt.silence(0.3))
    await asyncio.to_thread(daemon.start)
    assert daemon.config("ha_bridge")["revision"] <= 1 + answered


async def test_a_clean_stop_says_goodbye_and_ends_with_0(daemon: Daemon):
    """SIGTERM: offline on the bus, exit code 0, well within the deadline."""
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/system/health/config_service")
        assert (await mqtt.next()).json["payload"]["status"] == "healthy"
        assert await asyncio.to_thread(daemon.stop) == 0
        while (message := await mqtt.next()).json["payload"]["status"] != "offline":
            pass
    assert message.json["payload"]["mqtt_connected"] is False


async def test_the_last_will_says_offline_when_the_daemon_is_killed(daemon: Daemon):
    """Kill -9 leaves no goodbye, so the broker says it."""
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/system/health/config_service")
        await mqtt.next()
        daemon.kill()
        while (message := await mqtt.next()).json["payload"]["status"] != "offline":
            pass
    assert message.json["source"] == "config_service"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_during_start_ends_it_cleanly(make_daemon: Callable[..., Daemon], name: str):
    """Before READY too: exit code 0 and no traceback."""
    daemon = make_daemon(broker_port=free_port())
    daemon.spawn()
    wait_until(lambda: daemon.logged("listening"))
    assert daemon.process is not None
    daemon.process.send_signal(getattr(signal, name))
    assert daemon.wait_exit() == 0


def test_a_broker_that_goes_at_the_same_moment_does_not_hold_the_daemon(daemon: Daemon, broker: Broker):
    """As when a machine is shut down: the daemon ends in order, and does not wait for the broker to come back."""
    for _ in range(4):
        broker.stop()
        assert daemon.stop() == 0
        broker.start()
        daemon.start()


def test_a_terminal_that_is_closed_ends_the_daemon(make_daemon: Callable[..., Daemon]):
    """This SIGHUP does not mean a reload: no user is left at that terminal."""
    daemon = make_daemon()
    ours, theirs = pty.openpty()

    program = [sys.executable, "-m", "aliciacfg", "serve"]
    with daemon.log.open("a") as log:
        daemon.process = subprocess.Popen(
            [sys.executable, "-c", TAKING_THE_TERMINAL, *program],
            cwd=daemon.directory,
            env=daemon.environment(),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    os.close(theirs)
    daemon.wait_ready()
    os.close(ours)
    assert daemon.wait_exit() == 0
    assert daemon.logged("stopped")


@pytest.fixture
def home(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon on small files, whose service instances have a second to apply a new revision."""
    daemon = make_daemon(environ={"ALICIACFG_APPLY_GRACE_SECONDS": "1"})
    for directory in (daemon.environments, daemon.directory / "schemas"):
        for file in directory.iterdir():
            file.unlink()
    (daemon.environments / "base.yaml").write_text(
        "defaults:\n"
        "  mqtt_config: {host: broker, port: 1883, password: shared-secret}\n"
        "  api_config: {host: 0.0.0.0, port: 8000}\n"
        "  settings: {size: 1}\n"
        "services: {one: {}, two: {}}\n"
    )
    (daemon.environments / "dev.yaml").write_text("")
    return daemon


@pytest.mark.sqlite("writes the rows into its file")
def test_a_long_check_holds_up_neither_reads_nor_the_end(home: Daemon):
    """While twenty thousand rows are compared, reads are answered, and SIGTERM ends the daemon."""
    home.start()
    home.stop()
    fill(home, 20_000)
    home.start()
    for _ in range(20):
        assert home.http("GET", "/config/one").status == 200
    assert home.stop() == 0
    # The check of the first start: that of the second was not done when the reads were answered and the daemon ended.
    assert len(home.logged("store_verified")) == 1


def fill(daemon: Daemon, rows: int) -> None:
    """Rows of the chain as a daemon writes them, many at once."""
    chain = Chain(KeyFile.load(daemon.data / "keys.json").make_keyring())
    entry = AuditEntry(timestamp=1.0, who="x", where="mqtt", operation="set", outcome="refused", service="one")
    with closing(connect(daemon.data / "aliciacfg.db")) as database:
        apply(database, chain, [Write(audit=(entry,) * rows)])
