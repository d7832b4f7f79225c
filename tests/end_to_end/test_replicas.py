"""Whole daemons on one PostgreSQL database: which one leads, how each is, and what happens when one of them fails."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brokers import Broker
from commands import aliciacfg
from cutting_proxy import CuttingProxy
from cutting_socket import cutting_socket
from daemons import Daemon
from inprocess import eventually
from jumping_clock import JumpingClock
from machine import wait_until
from mqtt_clients import SECONDS, Client, client
from postgres import Postgres
from replica_daemons import health, leader, listed, others, role, start_replicas, status, wait_for_leader
from soak import rarely

SERVICE = "sonos_service"
SERVICES = (SERVICE, "voice_router")
LONGER_THAN_A_LEASE = 4.0
# How long a program leaves the processor to the others between two requests.
_PAUSE_SECONDS = 0.05
HEALTH = "alicia/system/health/config_service"


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.create()


@pytest.fixture(scope="module")
def made_server() -> Iterator[Postgres]:
    made = Postgres()
    yield made
    made.remove()


@pytest.fixture
def own_server(made_server: Postgres) -> Iterator[Postgres]:
    """A server that runs, to be stopped and changed as a test likes; the next test gets it as it was."""
    yield made_server.start()
    if made_server.process is None:
        made_server.start()
    made_server.execute("ALTER SYSTEM RESET ALL", "SELECT 1")
    made_server.stop(signal.SIGINT)


@pytest.fixture
def make_replicas(make_daemon: Callable[..., Daemon], url: str) -> Callable[..., list[Daemon]]:
    """Start daemons of one home, which have the same keys and files."""

    def make(*names: str, database: str = url, environ: dict[str, dict[str, str]] | None = None) -> list[Daemon]:
        return start_replicas(make_daemon, database, names, SERVICES, environ)

    return make


def test_each_daemon_says_what_it_is_and_lists_the_others(make_replicas: Callable[..., list[Daemon]]):
    """One leads; all are ready, hold the same, and have the same files; over HTTP and over MQTT."""
    daemons = make_replicas("a", "b", "c")
    first = wait_for_leader(daemons)
    wait_until(lambda: all(len(health(daemon)["replicas"]) == 3 for daemon in daemons))
    wait_until(
        lambda: all(item["role"] == "leader" for item in (listed(daemon)[first.directory.name] for daemon in daemons))
    )
    for daemon in daemons:
        own = health(daemon)["replica"]
        assert own["name"] == daemon.directory.name
        assert own["leader"] == first.directory.name
        assert own["ready"] is True
        assert own["lag_seconds"] <= 2
        assert health(daemon)["status"] == "healthy"
        assert status(daemon, "/ready") == (200, {"ready": True, "mqtt_connected": True})
        items = listed(daemon)
        assert {name: (item["role"], item["state"], item["url"]) for name, item in items.items()} == {
            other.directory.name: ("leader" if other is first else "follower", "ready", other.url) for other in daemons
        }
        assert not any(item.get("files_differ") for item in items.values())
    for way in ([], ["--broker", f"127.0.0.1:{first.broker_port}"]):
        shown = json.loads(aliciacfg(first, *way, "replicas", "-o", "json").stdout)
        assert ({item["name"] for item in shown["replicas"]}, shown["leader"]) == (
            {"a", "b", "c"},
            first.directory.name,
        )


async def retained_health(daemon: Daemon) -> dict[str, Any]:
    async with client(daemon.broker_port) as mqtt:
        (message,) = (await mqtt.retained(HEALTH)).values()
    return message.json["payload"]


def names(items: list[dict[str, Any]], state: str) -> list[str]:
    return [item["name"] for item in items if item["state"] == state]


def patched(daemon: Daemon, volume: int) -> int:
    """Change a value; return the status, of the first answer that is not ``unavailable``."""
    body = {"settings": {"max_volume_percent": volume}}
    found = wait_until(
        lambda: (answer := daemon.http("PATCH", f"/config/{SERVICE}", body)).status != 503 and answer,
        why="the store can be written",
    )
    return found.status


def test_another_daemon_leads_when_the_leader_is_killed(make_replicas: Callable[..., list[Daemon]]):
    """Health names the dead one until it runs again; who stops in order is not missed."""
    daemons = make_replicas("a", "b", "c")
    first = wait_for_leader(daemons)
    lost = first.directory.name
    wait_until(lambda: all(len(health(daemon)["replicas"]) == 3 for daemon in daemons))
    first.kill()
    left = others(daemons, first)
    second = wait_for_leader(left)
    wait_until(lambda: names(health(second)["replicas"], "gone") == [lost], why="the dead one is missed")
    found = wait_until(lambda: (told := asyncio.run(retained_health(second))).get("alerts") and told)
    assert found["status"] == "degraded"
    assert f"The daemon {lost} " in found["alerts"][f"replica_gone:{lost}"]
    assert (found["replica"]["name"], len(found["replicas"])) == (second.directory.name, 3)
    wait_until(lambda: all(listed(daemon)[lost]["state"] == "gone" for daemon in left))
    first.start()
    wait_until(lambda: all(not names(health(daemon)["replicas"], "gone") for daemon in daemons), why="it is back")
    wait_until(lambda: asyncio.run(retained_health(second))["status"] == "healthy", why="the home is told to be well")
    assert role(first) == "follower"
    second.stop()
    rest = others(daemons, second)
    wait_for_leader(rest)
    wait_until(lambda: all(second.directory.name not in listed(daemon) for daemon in rest))
    assert all(health(daemon)["alerts"] == {} for daemon in rest)


def test_a_leader_that_hangs_is_followed_by_another_one(make_replicas: Callable[..., list[Daemon]]):
    """Commands repeat what it got meanwhile; when it goes on it leads no more, and takes its share of the requests."""
    daemons = make_replicas("a", "b")
    first = wait_for_leader(daemons)
    (second,) = others(daemons, first)
    assert first.process is not None
    os.kill(first.process.pid, signal.SIGSTOP)
    try:
        for number in range(1, 4):
            # Of two in a row one goes to the daemon that hangs, as long as the broker has not noticed.
            patch = json.dumps({"settings": {"max_volume_percent": number}})
            change = ["patch", SERVICE, patch, "--answer", "-o", "json"]
            for command in (change, ["get", SERVICE, "-o", "json"]):
                done = aliciacfg(second, *command)
                assert done.returncode == 0, done.stderr
                assert "request_id" not in json.loads(done.stdout)
        wait_until(lambda: role(second) == "leader", why="the other one leads")
        assert patched(second, 31) == 200
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    assert role(first) == "follower"
    wait_until(lambda: settings(first)["max_volume_percent"] == 31, why="it follows")
    wait_until(lambda: status(first, "/ready")[0] == 200)
    assert (role(first), role(second)) == ("follower", "leader")
    assert second.logged("task_failed") == first.logged("task_failed") == []


@pytest.mark.parametrize("shift", [3600, rarely(-3600)])
def test_a_clock_that_is_an_hour_off_changes_nothing(
    make_replicas: Callable[..., list[Daemon]], tmp_path: Path, shift: int
):
    """The leader's clock jumps: it leads on, nobody is missed, what either writes reaches the other."""
    clock = JumpingClock(tmp_path)
    daemons = make_replicas("a", "b", environ={"a": clock.environ})
    first, second = daemons
    assert wait_for_leader(daemons) is first
    wait_until(lambda: all(len(health(daemon)["replicas"]) == 2 for daemon in daemons))
    clock.set(shift)
    before = listed(second)["a"]["lag_seconds"]
    assert before <= 2
    for volume, (writer, reader) in enumerate([(first, second), (second, first)] * 3, start=40):
        assert patched(writer, volume) == 200
        wait_until(
            lambda reader=reader, volume=volume: settings(reader)["max_volume_percent"] == volume,
            why="the other follows",
        )
    silent = wait_until(lambda: (item := listed(second)["a"])["silent_seconds"] > 0.5 and item)
    assert silent["state"] == "ready"
    assert (role(first), role(second)) == ("leader", "follower")
    for daemon in daemons:
        assert health(daemon)["alerts"] == {}
        assert len(daemon.logged("leader_changed")) == 1
        assert status(daemon, "/ready")[0] == 200


def test_a_database_that_is_away_for_a_while(make_replicas: Callable[..., list[Daemon]], own_server: Postgres):
    """Nobody is ready or leads meanwhile, and what is in memory is served; afterwards all is as before."""
    daemons = make_replicas("a", "b", database=own_server.create())
    wait_for_leader(daemons)
    assert patched(daemons[0], 50) == 200
    wait_until(lambda: settings(daemons[1])["max_volume_percent"] == 50, why="the other follows")
    own_server.stop(signal.SIGINT)
    away = time.monotonic()
    for daemon in daemons:
        wait_until(lambda daemon=daemon: status(daemon, "/ready")[0] == 503, why="it is not ready")
        wait_until(lambda daemon=daemon: "behind the database" in status(daemon, "/ready")[1]["reason"])
        assert health(daemon)["replica"]["ready"] is False
        assert settings(daemon)["max_volume_percent"] == 50
    wait_until(lambda: leader(daemons) is None, why="none of them leads")
    code, refused = status(daemons[0], "/replicas")
    assert (code, refused["code"]) == (503, "unavailable")
    wait_until(lambda: time.monotonic() - away > 5, why="five seconds are over")
    own_server.start()
    for daemon in daemons:
        wait_until(lambda daemon=daemon: status(daemon, "/ready")[0] == 200, why="it is ready again")
    first = wait_for_leader(daemons)
    assert patched(first, 51) == 200
    for daemon in daemons:
        wait_until(lambda daemon=daemon: settings(daemon)["max_volume_percent"] == 51, why="it follows")
        wait_until(lambda daemon=daemon: health(daemon)["status"] == "healthy", why="nothing is wrong any more")
        assert health(daemon)["alerts"] == {}
        wait_until(lambda daemon=daemon: status(daemon, "/replicas")[0] == 200, why="it knows the others again")
        wait_until(lambda daemon=daemon: {item["state"] for item in listed(daemon).values()} == {"ready"})


@pytest.mark.parametrize("fault", ["away", rarely("hangs")])
async def test_gets_over_the_bus_go_on_while_all_are_cut_off_from_the_database(
    make_replicas: Callable[..., list[Daemon]], postgres: Postgres, url: str, fault: str
):
    """Each is answered once and soon; what would have to be confirmed is refused soon, and nobody leaves."""
    async with cutting_socket(postgres.directory) as way:
        through = url.replace(str(postgres.directory), str(way.directory))
        daemons = await asyncio.to_thread(make_replicas, "a", "b", database=through)
        await asyncio.to_thread(wait_for_leader, daemons)
        port = daemons[0].broker_port
        requester = Requester("voice_router", "get")
        asking = asyncio.create_task(requester.run(port))
        if fault == "away":
            await way.shut()
        else:
            way.hang()
        cut_off = time.monotonic()
        for daemon in daemons:
            await until(lambda daemon=daemon: status(daemon, "/ready")[0] == 503)
        async with client(port) as mqtt:
            for number in range(8):
                began = time.monotonic()
                found = (await mqtt.ask("alicia/config/get/nobody")).json
                assert (found["code"], time.monotonic() - began < 10) == ("unavailable", True), number
            for operation in ("list", "explain/voice_router"):
                assert (await mqtt.ask(f"alicia/config/{operation}")).json["status"] == "success"
            for operation, fields in (("get", {"revision": 9}), ("history", {})):
                began = time.monotonic()
                found = (await mqtt.ask(f"alicia/config/{operation}/voice_router", fields)).json
                assert (found["code"], time.monotonic() - began < 10) == ("unavailable", True), operation
            if fault == "away":
                for number in range(4):
                    began = time.monotonic()
                    request = {"patch": {"settings": {"max_volume_percent": 5}}, "request_id": str(number)}
                    found = (await mqtt.ask(f"alicia/config/patch/{SERVICE}/panel", request)).json
                    assert (found["code"], time.monotonic() - began < 10) == ("unavailable", True), number
        await until(lambda: time.monotonic() - cut_off > 6)
        assert not any(daemon.logged("requests_left") for daemon in daemons)
        before = requester.answered
        await eventually(lambda: requester.answered > before + 20)
        way.reopen()
        for daemon in daemons:
            await until(lambda daemon=daemon: status(daemon, "/ready")[0] == 200)
        assert await asyncio.to_thread(patched, daemons[0], 44) == 200
        requester.stopping = True
        await asking
        assert requester.longest < 10


async def test_one_that_is_cut_off_takes_requests_while_the_other_one_hangs(
    make_replicas: Callable[..., list[Daemon]], postgres: Postgres, url: str
):
    """It had left them to the one that was ready; it leaves again when that one goes on."""
    async with cutting_socket(postgres.directory) as way:
        through = {"ALICIACFG_DATABASE_URL": url.replace(str(postgres.directory), str(way.directory))}
        first, second = await asyncio.to_thread(make_replicas, "a", "b", environ={"a": through})
        await way.shut()
        await until(lambda: bool(first.logged("requests_left")))
        requester = Requester("voice_router", "get")
        asking = asyncio.create_task(requester.run(first.broker_port))
        await eventually(lambda: requester.answered > 5)
        assert second.process is not None
        second.process.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: len(first.logged("requests_joined")) == 2)
            before = requester.answered
            await eventually(lambda: requester.answered > before + 20)
        finally:
            second.process.send_signal(signal.SIGCONT)
        await until(lambda: len(first.logged("requests_left")) == 2)
        before = requester.answered
        await eventually(lambda: requester.answered > before + 20)
        requester.stopping = True
        await asking
        # Half of the time the broker gave requests to the one that hangs.
        assert requester.longest < 12


async def test_one_that_is_cut_off_from_the_database_takes_no_requests(
    make_replicas: Callable[..., list[Daemon]], postgres: Postgres, url: str
):
    """The others answer all of them over MQTT, and one of them leads; it takes part again when it is back."""
    async with cutting_socket(postgres.directory) as way:
        through = {"ALICIACFG_DATABASE_URL": url.replace(str(postgres.directory), str(way.directory))}
        daemons = await asyncio.to_thread(make_replicas, "a", "b", environ={"a": through})
        first, second = daemons
        assert await asyncio.to_thread(wait_for_leader, daemons) is first
        await way.shut()
        await until(lambda: status(first, "/ready")[0] == 503 and role(second) == "leader")
        await until(lambda: bool(first.logged("requests_left")))
        answered = (await asyncio.to_thread(health, first))["messages_processed"] + 1
        async with client(first.broker_port) as mqtt:
            for _ in range(20):
                assert (await mqtt.ask(f"alicia/config/get/{SERVICE}")).json["status"] == "success"
        assert (await asyncio.to_thread(health, first))["messages_processed"] == answered
        way.reopen()
        await until(lambda: status(first, "/ready")[0] == 200 and len(first.logged("requests_joined")) == 2)
        assert (await asyncio.to_thread(role, first), await asyncio.to_thread(role, second)) == ("follower", "leader")


async def test_a_leader_that_loses_the_broker_leaves_the_lead_to_one_that_has_it(
    make_replicas: Callable[..., list[Daemon]], broker: Broker
):
    """It reaches the database, and could renew its lease for ever; it is still up to date over HTTP."""
    proxy = CuttingProxy(broker.port)
    daemons = await asyncio.to_thread(make_replicas, "a", "b", environ={"a": {"MQTT_PORT": str(proxy.port)}})
    first, second = daemons
    assert await asyncio.to_thread(wait_for_leader, daemons) is first
    proxy.shut()
    await until(lambda: role(second) == "leader" and role(first) == "follower")
    assert await asyncio.to_thread(patched, second, 33) == 200
    await until(lambda: settings(first)["max_volume_percent"] == 33)
    assert (await asyncio.to_thread(status, first, "/ready"))[1] == {
        "ready": False,
        "mqtt_connected": False,
        "reason": "the broker is not connected",
    }


async def until(what: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, what)


def settings(daemon: Daemon) -> dict[str, Any]:
    return daemon.config(SERVICE)["config"]["settings"]


class Requester:
    """A program that sends one request after the other, twenty a second, and repeats each until it is carried out.

    Attributes:
        answered: How many were.
        longest: How long one took at most, in seconds.
    """

    def __init__(self, name: str, operation: str) -> None:
        self.name = name
        self.operation = operation
        self.answered = 0
        self.longest = 0.0
        self.stopping = False

    async def run(self, port: int) -> None:
        answers = f"alicia/reply/{self.name}"
        async with client(port) as mqtt:
            await mqtt.subscribe(answers)
            while not self.stopping:
                began = time.monotonic()
                request: dict[str, Any] = {"request_id": str(self.answered)}
                if self.operation == "patch":
                    request["patch"] = {"settings": {"max_volume_percent": self.answered % 90 + 1}}
                while not await self._ask(mqtt, request, answers):
                    pass
                self.answered += 1
                self.longest = max(self.longest, time.monotonic() - began)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _ask(self, mqtt: Client, request: dict[str, Any], answers: str) -> bool:
        """Send a request; return whether it was carried out, as far as is known after half a second."""
        await mqtt.publish(f"alicia/config/{self.operation}/{SERVICE}/{self.name}", request, ResponseTopic=answers)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while (answer := (await mqtt.next()).json)["request_id"] != request["request_id"]:
                    pass
                return answer["status"] == "success"
        return False


async def test_no_request_over_the_bus_waits_long_when_a_leader_stands_still_or_dies(
    make_replicas: Callable[..., list[Daemon]],
):
    """None waits three seconds, each change is made once, and no message of an earlier leader alerts anything."""
    daemons = await asyncio.to_thread(make_replicas, "a", "b", "c")
    first = await asyncio.to_thread(wait_for_leader, daemons)
    requesters = [Requester("voice_router", "get"), Requester("panel", "get"), Requester("console", "patch")]
    running = [asyncio.create_task(requester.run(first.broker_port)) for requester in requesters]

    async def answers(count: int) -> None:
        most = [requester.answered + count for requester in requesters]
        await eventually(
            lambda: all(requester.answered >= least for requester, least in zip(requesters, most, strict=True)),
            seconds=SECONDS,
        )

    await answers(10)
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    second = await asyncio.to_thread(wait_for_leader, others(daemons, first))
    await answers(20)
    first.process.send_signal(signal.SIGCONT)
    await asyncio.to_thread(wait_until, lambda: role(first) == "follower", why="it follows the other one")
    await answers(10)
    second.kill()
    await answers(20)
    third = await asyncio.to_thread(wait_for_leader, others(daemons, second))
    for requester in requesters:
        requester.stopping = True
    await asyncio.gather(*running)
    assert max(requester.longest for requester in requesters) < 3.0
    changes = requesters[-1].answered
    # Its memory may be a moment behind the last change, which another daemon made.
    assert third.config(SERVICE, f"?at_least={1 + changes}")["revision"] == 1 + changes
    await asyncio.to_thread(wait_until, lambda: health(third)["outbox_pending"] == 0, why="everything is published")
    async with client(third.broker_port) as mqtt:
        (message,) = (await mqtt.retained(f"alicia/config/update/{SERVICE}")).values()
    assert (message.json["revision"], message.json["epoch"]) == (1 + changes, 1)
    kinds = {entry["kind"] for daemon in daemons for entry in daemon.logged("alert")}
    # A leader that was stopped inside a transaction holds up the others until the server ends it, which they tell.
    assert kinds <= {"replica_gone", "no_leader", "store"}


def test_a_database_that_went_back_ends_the_daemons_and_the_next_start_tells(
    make_replicas: Callable[..., list[Daemon]], own_server: Postgres, tmp_path: Path
):
    """As after a failover that lost what was acknowledged: no daemon goes on with a memory of its own."""
    first, second = make_replicas("a", "b", database=own_server.create())
    assert patched(first, 60) == 200
    epoch = first.config(SERVICE)["epoch"]
    own_server.stop(signal.SIGINT)
    shutil.copytree(own_server.data, tmp_path / "older", copy_function=shutil.copy2)
    own_server.start()
    assert patched(second, 61) == 200
    wait_until(lambda: settings(first)["max_volume_percent"] == 61, why="it follows")
    own_server.stop(signal.SIGINT)
    for path in (tmp_path / "older").rglob("*"):
        if path.is_file():
            (own_server.data / path.relative_to(tmp_path / "older")).write_bytes(path.read_bytes())
    own_server.start()
    for daemon in (first, second):
        # A service manager starts it again, unlike one that cannot start.
        assert daemon.wait_exit() == 1
        assert daemon.logged("database_went_back")
    first.start()
    assert settings(first)["max_volume_percent"] == 60
    assert first.config(SERVICE)["epoch"] > epoch
    # It ends when the broker holds everything again, which it does when the daemon says that it is ready.
    wait_until(lambda: "restored" in [entry["kind"] for entry in first.logged("alert")])


def test_a_standby_that_is_gone_holds_up_writes_and_nothing_else(
    make_replicas: Callable[..., list[Daemon]], own_server: Postgres
):
    """For longer than a lease: the leader leads on, nobody is missed, reads go on, the write counts when it is back."""
    reload = "SELECT pg_reload_conf()"
    daemons = make_replicas("a", "b", database=own_server.create())
    first = wait_for_leader(daemons)
    (second,) = others(daemons, first)
    wait_until(lambda: len(health(second)["replicas"]) == 2)
    own_server.execute("ALTER SYSTEM SET synchronous_standby_names = 'gone'", reload)
    wait_until(lambda: own_server.execute("SHOW synchronous_standby_names")[0][0] == "gone")
    answers: list[int] = []
    writing = threading.Thread(target=lambda: answers.append(patched(second, 70)))
    writing.start()
    began = time.monotonic()
    while time.monotonic() - began < LONGER_THAN_A_LEASE:
        assert (role(first), role(second)) == ("leader", "follower")
        assert [item["state"] for item in listed(second).values()] == ["ready", "ready"]
        assert all(settings(daemon)["max_volume_percent"] == 40 for daemon in daemons)
        # It is not answered, and the processor is for the others meanwhile.
        writing.join(4 * _PAUSE_SECONDS)
    assert answers == []
    own_server.execute("ALTER SYSTEM RESET synchronous_standby_names", reload)
    writing.join()
    assert answers == [200]
    for daemon in daemons:
        wait_until(lambda daemon=daemon: settings(daemon)["max_volume_percent"] == 70, why="it follows")
        assert len(daemon.logged("leader_changed")) == 1
