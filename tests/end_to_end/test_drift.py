"""Drift: the four kinds appear in /drift, in health and as alerts on the bus, and disappear when they are repaired."""

import asyncio
import json
import resource
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.maintenance import verify_file
from aliciacfg.storage.verifier import Findings
from brokers import Broker
from builders import environment_file, valid_config
from commands import aliciacfg
from daemons import Daemon
from machine import wait_until
from mqtt_clients import Client, client

# The services of its daemons.
HOME_SERVICES = ("config_service", "voice_router")

UPDATE = "alicia/config/update/"
ALERT = "alicia/config/alert/drift"


@pytest.fixture
def home(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon on small files, whose service instances have a second to apply a new revision."""
    daemon = make_daemon(environ={"ALICIACFG_APPLY_GRACE_SECONDS": "1"})
    for directory in (daemon.environments, daemon.directory / "schemas"):
        for file in directory.iterdir():
            file.unlink()
    files = environment_file({"one": {}, "two": {}}, settings={"size": 1})
    (daemon.environments / "base.yaml").write_text(json.dumps(files))
    (daemon.environments / "dev.yaml").write_text("")
    return daemon


def found(daemon: Daemon, kind: str) -> dict[str, str]:
    listed = daemon.http("GET", "/drift").json["drift"]
    return {item["subject"]: item["message"] for item in listed if item["kind"] == kind}


async def appears(daemon: Daemon, kind: str, subject: str) -> str:
    return await asyncio.to_thread(wait_until, lambda: found(daemon, kind).get(subject), why=f"{subject} drifts")


async def goes(daemon: Daemon, kind: str) -> None:
    await asyncio.to_thread(wait_until, lambda: not found(daemon, kind), why=f"{kind} is mended")


@asynccontextmanager
async def listening(broker: Broker, *topics: str) -> AsyncGenerator[Client, None]:
    async with client(broker.port) as mqtt:
        await mqtt.subscribe(*topics)
        yield mqtt


async def test_a_tampered_message_is_right_again_at_once(home: Daemon, broker: Broker):
    """Without a check of the bus, again and again; changed, cleared, all topics."""
    await asyncio.to_thread(home.start)
    async with listening(broker, f"{UPDATE}one", "alicia/config/environment", "alicia/config/key") as mqtt:
        right = {message.topic: message.payload for message in [await mqtt.next() for _ in range(3)]}
        tried = [(f"{UPDATE}one", b"{}"), (f"{UPDATE}one", b""), ("alicia/config/environment", b'{"environment":"x"}')]
        for topic, payload in [*tried, ("alicia/config/key", b"\xff"), *[(f"{UPDATE}one", b'{"config":{}}')] * 4]:
            await mqtt.publish(topic, payload, retain=True)
            while (await mqtt.until(topic)).payload != right[topic]:
                pass
        kept = await mqtt.retained("alicia/config/#")
        assert {topic: kept[topic].payload for topic in right} == right
    await goes(home, "retained")
    assert home.http("GET", "/drift").json["found"]["retained"] == 8


async def test_whoever_keeps_tampering_is_drift_until_it_is_put_right(home: Daemon, broker: Broker):
    """Repairs have growing delays, so that two programs do not chase each other; the alert names the service."""
    await asyncio.to_thread(home.start)
    async with listening(broker, f"{UPDATE}one", ALERT) as mqtt:
        right = (await mqtt.next()).payload
        for _ in range(8):
            await mqtt.publish(f"{UPDATE}one", b"{}", retain=True)
            while (await mqtt.until(f"{UPDATE}one")).payload != right:
                pass
        await mqtt.publish(f"{UPDATE}one", b"{}", retain=True)
        assert "right message is published again" in await appears(home, "retained", f"{UPDATE}one")
        while (message := await mqtt.next()).payload != right or message.topic == ALERT:
            if message.topic == ALERT:
                assert message.json["service"] == "one"
    await goes(home, "retained")


async def test_a_stranger_is_taken_away_and_is_no_drift_any_more(home: Daemon, broker: Broker):
    """A name that no service can have, one that is unknown, and one whose topic is very long."""
    await asyncio.to_thread(home.start)
    async with listening(broker, f"{UPDATE}#", ALERT) as mqtt:
        for name in ("nobody", "not/a/name", "x" * 3000):
            await mqtt.publish(UPDATE + name, b'{"config":{}}', retain=True)
            heard = [message async for message in until_cleared(mqtt, UPDATE + name)]
            assert any(message.topic == ALERT for message in heard)
        kept = await mqtt.retained(f"{UPDATE}#")
        assert sorted(kept) == [f"{UPDATE}one", f"{UPDATE}two"]
    await goes(home, "retained")


async def until_cleared(mqtt: Client, topic: str) -> AsyncGenerator[Any, None]:
    """Every message until a topic is cleared and its alert has come."""
    left = {topic, ALERT}
    while left:
        message = await mqtt.next()
        yield message
        if message.topic == ALERT or (message.topic == topic and not message.payload):
            left.discard(message.topic)


async def test_a_file_that_is_changed_and_not_loaded_is_drift_until_it_is_mended(home: Daemon, broker: Broker):
    """An edit that is refused, unreadable or not loaded yet is drift until an edit or a reload ends it."""
    await asyncio.to_thread(home.start)
    dev = home.environments / "dev.yaml"
    async with listening(broker, ALERT) as mqtt:
        dev.write_text("services: [")
        assert (await mqtt.until(ALERT)).json["message"].startswith("environments/dev.yaml was changed")
        assert set(await asyncio.to_thread(found, home, "file")) == {"environments/dev.yaml"}
        dev.write_text("defaults: {settings: {size: 2}}")
        await goes(home, "file")
        assert home.config("one")["config"]["settings"]["size"] == 2
        dev.unlink()
        dev.symlink_to("nowhere.yaml")
        await mqtt.until(ALERT)
        dev.unlink()
        dev.write_text("defaults: {settings: {size: 3}}")
        # No sooner than the watcher looks twice; until then reload has done it.
        assert home.http("POST", "/reload").status == 200
        await goes(home, "file")
        (home.environments / "prod.yml").write_text("")
        await appears(home, "file", "environments/prod.yml")
        (home.environments / "prod.yml").unlink()
        await goes(home, "file")
    assert home.http("GET", "/health").json["status"] == "healthy"
    assert home.config("one")["config"]["settings"]["size"] == 3


async def test_a_tampered_row_is_found_at_the_next_start(home: Daemon, broker: Broker):
    """It is in /drift, in health and an alert on the bus, although the check ends before the connection is up."""
    await asyncio.to_thread(home.start)
    for size in (5, 6):
        assert home.http("PATCH", "/config/one", {"settings": {"size": size}}).status == 200
    home.kill()
    home.edit_database("UPDATE revisions SET author = 'nobody' WHERE service = 'one' AND revision = 2")
    async with listening(broker, ALERT) as mqtt:
        await asyncio.to_thread(home.start)
        told = (await mqtt.until(ALERT)).json
        assert (told["kind"], told["service"]) == ("drift", "one")
        assert "revision 2 of one in dev is not confirmed" in told["message"]
        await mqtt.subscribe("alicia/system/health/config_service")
        while (await mqtt.until("alicia/system/health/config_service")).json["payload"]["drift"] != 1:
            pass
    assert set(await asyncio.to_thread(found, home, "row")) == {"dev/one/2"}
    assert home.http("GET", "/health").json["drift"] == 1
    assert home.http("PATCH", "/config/one", {"settings": {"size": 7}}).status == 200
    health = home.http("GET", "/health").json
    assert (health["status"], "store:rows" in health["alerts"]) == ("degraded", True)


@pytest.mark.sqlite("its disk is full: that of a server is its own")
async def test_a_hard_life_is_no_tampering(home: Daemon):
    """Kill -9 under writes, a full disk, restarts: every row is confirmed, and nothing drifts."""
    for _ in range(2):
        await asyncio.to_thread(home.start)
        writes = [asyncio.to_thread(write_until_it_dies, home, name) for name in ("one", "two", "three")]
        group = asyncio.gather(*writes)
        await asyncio.to_thread(wait_until, lambda: revision(home, "three") > 3)
        home.kill()
        await group
    await asyncio.to_thread(home.start)
    assert home.process is not None
    _, hard = resource.prlimit(home.process.pid, resource.RLIMIT_FSIZE)
    size = (home.data / "aliciacfg.db-wal").stat().st_size
    resource.prlimit(home.process.pid, resource.RLIMIT_FSIZE, (size, hard))
    assert home.http("PATCH", "/config/one", {"settings": {"size": 99}}).status == 503
    resource.prlimit(home.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    await asyncio.to_thread(wait_until, lambda: home.http("GET", "/ready").status == 200)
    assert home.http("PATCH", "/config/one", {"settings": {"size": 100}}).status == 200
    assert home.http("DELETE", "/config/three?allow_breaking=true").status == 200
    assert await asyncio.to_thread(home.stop) == 0
    assert checked(home).broken == []
    assert checked(home).confirmed > 20
    before = len(home.logged("store_verified"))
    await asyncio.to_thread(home.start)
    await asyncio.to_thread(wait_until, lambda: len(home.logged("store_verified")) > before)
    nothing = dict.fromkeys(("retained", "file", "row", "instance"), 0)
    assert home.http("GET", "/drift").json == {
        "status": "success", "request_id": None, "drift": [], "found": nothing
    }  # fmt: skip


def checked(daemon: Daemon) -> Findings:
    keyring = KeyFile.load(daemon.data / "keys.json").make_keyring()
    return verify_file(daemon.data / "aliciacfg.db", Chain(keyring))


def revision(daemon: Daemon, service: str) -> int:
    answer = daemon.http("GET", f"/config/{service}")
    return answer.json["revision"] if answer.status == 200 else 0


def write_until_it_dies(daemon: Daemon, service: str) -> None:
    """Send writes of all kinds until the daemon is killed."""
    for number in range(10_000):
        config = valid_config(limits={"n": number})
        try:
            daemon.http("PUT", f"/config/{service}?allow_breaking=true", config)
            if number % 5 == 4:
                daemon.http("DELETE", f"/config/{service}?allow_breaking=true")
        except Exception:  # noqa: BLE001 - http.client raises many kinds when its peer is killed
            return


async def test_copies_that_do_not_run_what_they_should_are_drift(home: Daemon, broker: Broker):
    """Rejected, late or waiting for a restart: listed with the revision they run, until they apply the right one."""
    await asyncio.to_thread(home.start)
    checksum = home.config("one")["checksum"]
    async with listening(broker, ALERT) as mqtt:
        for name in ("late", "rejecting", "waiting", "right"):
            await report(mqtt, name, checksum=checksum)
        patched = home.http("PATCH", "/config/one", {"settings": {"size": 2}}).json
        await report(mqtt, "rejecting", revision=2, status="rejected", error="port in use")
        assert "port in use" in (await mqtt.until(ALERT)).json["message"]
        await report(mqtt, "waiting", revision=2, status="restart_pending")
        await report(mqtt, "right", revision=2, checksum=patched["checksum"])
        await appears(home, "instance", "one/late")
        await appears(home, "instance", "one/waiting")
        assert set(await asyncio.to_thread(found, home, "instance")) == {"one/late", "one/rejecting", "one/waiting"}
        await asyncio.to_thread(home.stop)
        await asyncio.to_thread(home.start)
        listed = {item["instance"]: item for item in home.http("GET", "/config/one/instances").json["instances"]}
        assert {name: (item["revision"], item["status"], item["current"]) for name, item in listed.items()} == {
            "late": (1, "applied", False), "rejecting": (2, "rejected", False),
            "right": (2, "applied", True), "waiting": (2, "restart_pending", False),
        }  # fmt: skip
        assert listed["rejecting"]["error"] == "port in use"
        await appears(home, "instance", "one/late")
        for name in ("late", "rejecting", "waiting"):
            await report(mqtt, name, revision=2, checksum=patched["checksum"])
        await goes(home, "instance")


async def report(mqtt: Client, instance: str, *, service: str = "one", retain: bool = False, **fields: Any) -> None:
    payload = {"instance": instance, "revision": 1, "checksum": "", "status": "applied", **fields}
    await mqtt.publish(f"alicia/config/applied/{service}", payload, retain=retain)


async def test_rubbish_in_reports_is_passed_over(home: Daemon, broker: Broker):
    """Malformed reports, retained ones too, are ignored; the next valid one counts."""
    await asyncio.to_thread(home.start)
    async with client(broker.port) as mqtt:
        topic = "alicia/config/applied/one"
        for payload in (b"", b"\xff\xfe", b"[]", b"null", b"{", b'{"instance": "x"}', b"[" * 5000, b" " * 300_000):
            await mqtt.publish(topic, payload)
        for fields in (
            {"instance": ""}, {"instance": "x" * 129}, {"instance": 5}, {"revision": 0}, {"revision": -1},
            {"revision": 2**63}, {"revision": "1"}, {"status": "fine"}, {"checksum": "x" * 129}, {"error": "x" * 1025},
            {"error": "x" * 300_000},
        ):  # fmt: skip
            await mqtt.publish(topic, {"instance": "x", "revision": 1, "checksum": "", "status": "applied", **fields})
        for service in ("nobody", "a/b", "", "x" * 200, "ümlaut"):
            await report(mqtt, "x", service=service)
        await report(mqtt, "kept", retain=True)
        await lists(home, ["kept"])
        await mqtt.publish("alicia/system/discovery/unregister", {"service_name": "one"})
        await lists(home, [])
        await asyncio.to_thread(home.stop)
        await asyncio.to_thread(home.start)
        # A message kept by mistake is believed when it comes, and not whenever the daemon does.
        await report(mqtt, "good")
        await lists(home, ["good"])
        wrapped = {"instance": "wrapped", "revision": 1, "checksum": "", "status": "applied"}
        await mqtt.publish(topic, {"message_id": "1", "payload": {"payload": wrapped}})
        await lists(home, ["good", "wrapped"])
    assert home.http("GET", "/ready").status == 200


async def lists(daemon: Daemon, names: list[str]) -> None:
    """Wait until these are the copies that are known."""

    def listed() -> bool:
        items = daemon.http("GET", "/config/one/instances").json["instances"]
        return [item["instance"] for item in items] == names

    await asyncio.to_thread(wait_until, listed, why=f"{names} are listed")


def test_a_running_daemon_survives_a_row_that_cannot_be_parsed(daemon: Daemon):
    """The next start reports it as drift; it is neither listed nor answered, everything else goes on."""
    aliciacfg(daemon, "patch", "voice_router", '{"limits": {"x": 1}}')
    aliciacfg(daemon, "patch", "voice_router", '{"limits": {"x": 2}}')
    daemon.stop()
    daemon.edit_database("UPDATE revisions SET cause = 'magic' WHERE revision = 2")
    daemon.start()
    (item,) = wait_until(lambda: daemon.http("GET", "/drift").json["drift"], why="the row is found")
    assert (item["kind"], item["subject"]) == ("row", "dev/voice_router/2")
    listed = daemon.http("GET", "/config/voice_router/history").json["revisions"]
    assert [head["revision"] for head in listed] == [3, 1]
    assert daemon.http("GET", "/config/voice_router?revision=2").status == 503
    assert daemon.config("voice_router")["config"]["limits"]["x"] == 2
