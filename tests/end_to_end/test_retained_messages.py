"""Retained messages: correct at the start and after every change, and repaired when others overwrite them."""

import asyncio
import json
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from aliciacfg.sealing.boxes import PrivateKey
from brokers import Broker
from daemons import Daemon, wait_nothing_pending
from machine import SECONDS, wait_until
from mqtt_clients import client
from repository import SERVICES

HOME_SERVICES = ("ai_service", "config_service", "stt_service", "tts_service", "voice_router")
UPDATES = "alicia/config/update/#"


async def test_22_retained_updates_at_start_and_after_a_set_the_one_changed(make_daemon: Callable[..., Daemon]):
    """A subscriber finds all, then gets the changed one within 100 ms on loopback, and no other."""
    daemon = make_daemon(services=None)
    await asyncio.to_thread(daemon.start)
    async with client(daemon.broker_port) as mqtt, client(daemon.broker_port) as writer:
        found = await mqtt.retained(UPDATES)
        assert sorted(topic.rpartition("/")[2] for topic in found) == SERVICES
        for topic, message in found.items():
            update = message.json
            assert update["service"] == topic.rpartition("/")[2]
            assert update["source"] == "config_service"
            assert (update["environment"], update["revision"], update["epoch"]) == ("dev", 1, 1)
            assert update["config"]["mqtt_config"]["password"] == "***"
            assert update["checksum"] == daemon.config(update["service"])["checksum"]
        await mqtt.subscribe(UPDATES)
        for _ in found:
            assert (await mqtt.next()).retained
        durations: list[float] = []
        for number in range(5):
            before = time.perf_counter()
            await writer.publish(
                "alicia/config/patch/voice_router", {"patch": {"settings": {"max_sessions": 20 + number}}}
            )
            changed = await mqtt.next()
            durations.append(time.perf_counter() - before)
            assert changed.topic == "alicia/config/update/voice_router"
            assert changed.json["changed"] == ["/settings/max_sessions"]
            assert changed.json["restart_required"] == ["/settings/max_sessions"]
            assert changed.json["config"]["settings"]["max_sessions"] == 20 + number
        # It waits for nothing but the commit; the benchmarks say how long that takes.
        assert min(durations) < 2
        assert await mqtt.silence(0.3) == []


async def test_a_write_that_changes_nothing_announces_nothing(shared: Daemon):
    """The same document again is unchanged: no revision, no message."""
    async with client(shared.broker_port) as mqtt:
        await mqtt.retained(UPDATES)
        before = shared.config("tts_service")
        await mqtt.subscribe("alicia/config/update/tts_service")
        assert (await mqtt.next()).retained
        answer = shared.http("PUT", "/config/tts_service", before["config"]).json
        assert answer["unchanged"] is True
        assert answer["revision"] == before["revision"]
        assert answer["changed"] == []
        assert await mqtt.silence(0.3) == []


async def test_a_deleted_services_retained_message_is_cleared(shared: Daemon):
    """The message of a deleted service that no file defines is cleared; the service returns with a higher revision."""
    document = shared.config("voice_router")["config"]
    document["service_name"] = "retained_guest"
    document["mqtt_config"]["password"] = "guest-password"
    async with client(shared.broker_port) as mqtt:
        assert shared.http("PUT", "/config/retained_guest", document).json["revision"] == 1
        await mqtt.subscribe("alicia/config/update/retained_guest")
        assert (await mqtt.until("alicia/config/update/retained_guest")).json["revision"] == 1
        assert shared.http("DELETE", "/config/retained_guest").json["remains"] is False
        assert (await mqtt.until("alicia/config/update/retained_guest")).payload == b""
        assert shared.http("PUT", "/config/retained_guest", document).json["revision"] == 3
        assert (await mqtt.until("alicia/config/update/retained_guest")).json["revision"] == 3


async def test_a_tampered_message_is_reported_and_put_right_at_once(daemon: Daemon):
    """A foreign message on an update topic is overwritten and raises a tamper alert."""
    async with client(daemon.broker_port) as mqtt:
        right = (await mqtt.retained("alicia/config/update/ai_service"))["alicia/config/update/ai_service"]
        await mqtt.subscribe("alicia/config/update/ai_service", "alicia/config/alert/tamper")
        assert (await mqtt.next()).retained
        await mqtt.publish("alicia/config/update/ai_service", b'{"config": {}}', retain=True)
        seen = [await mqtt.next() for _ in range(3)]
        by_topic = {message.topic: message for message in seen}
        assert by_topic["alicia/config/alert/tamper"].json["service"] == "ai_service"
        assert seen[-1].payload == right.payload or by_topic["alicia/config/update/ai_service"].payload == right.payload
        kept = await mqtt.retained("alicia/config/update/ai_service")
        assert kept["alicia/config/update/ai_service"].payload == right.payload


async def test_a_stranger_under_our_update_topics_is_taken_away(daemon: Daemon):
    """A retained configuration for a service that has none is cleared: a service must not start from it."""
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/update/stranger")
        await mqtt.publish("alicia/config/update/stranger", b'{"config": {"evil": true}}', retain=True)
        assert (await mqtt.next()).payload
        assert (await mqtt.next()).payload == b""
        assert await mqtt.retained("alicia/config/update/stranger") == {}


async def test_a_broker_that_comes_back_empty_gets_everything_again(daemon: Daemon, broker: Broker):
    """Broker killed with its memory wiped: HTTP serves on, /ready says no, then every message is right again."""
    daemon.http("PATCH", "/config/voice_router", {"settings": {"max_sessions": 33}})
    broker.kill()
    broker.wipe()
    assert await asyncio.to_thread(wait_status, daemon, "/ready", 503)
    assert daemon.config("voice_router")["revision"] == 2
    # Written while the broker is away.
    assert daemon.http("PATCH", "/config/stt_service", {"settings": {"max_audio_seconds": 44}}).status == 200
    assert daemon.http("GET", "/health").json["outbox_pending"] >= 1
    await asyncio.to_thread(broker.start)
    assert await asyncio.to_thread(wait_status, daemon, "/ready", 200)
    await asyncio.to_thread(wait_nothing_pending, daemon)
    async with client(broker.port) as mqtt:
        found = await mqtt.retained(UPDATES)
        assert sorted(topic.rpartition("/")[2] for topic in found) == sorted(HOME_SERVICES)
        for topic, message in found.items():
            expected = daemon.config(topic.rpartition("/")[2])
            assert message.json["revision"] == expected["revision"]
            assert message.json["config"] == expected["config"]
        assert found["alicia/config/update/stt_service"].json["revision"] == 2


async def test_what_somebody_wrote_while_the_daemon_was_away_is_put_right_at_its_start(
    make_daemon: Callable[..., Daemon], broker: Broker
):
    """Missing, foreign and strange retained messages are repaired by the read-back at connect."""
    daemon = make_daemon()
    await asyncio.to_thread(daemon.start)
    await asyncio.to_thread(daemon.stop)
    async with client(broker.port) as mqtt:
        await mqtt.publish("alicia/config/update/ai_service", b"", retain=True)
        await mqtt.publish("alicia/config/update/tts_service", b'{"config": "evil"}', retain=True)
        await mqtt.publish("alicia/config/update/unknown_one", b'{"config": "evil"}', retain=True)
        await asyncio.to_thread(daemon.start)
        await asyncio.to_thread(wait_nothing_pending, daemon)
        await mqtt.subscribe("alicia/config/update/unknown_one")
        found = await mqtt.retained(UPDATES)
        if "alicia/config/update/unknown_one" in found:
            found = await mqtt.retained(UPDATES)
        assert sorted(topic.rpartition("/")[2] for topic in found) == sorted(HOME_SERVICES)
        assert found["alicia/config/update/ai_service"].json["service"] == "ai_service"
        assert found["alicia/config/update/tts_service"].json["service"] == "tts_service"


async def test_environment_and_key_are_retained(shared: Daemon):
    """A new subscriber receives the active environment and the key to seal with."""
    async with client(shared.broker_port) as mqtt:
        found = await mqtt.retained("alicia/config/+")
        assert found["alicia/config/environment"].json["environment"] == "dev"
        key = found["alicia/config/key"].json
        assert len(key["key_id"]) == 16
        assert key["public_key"]


async def test_a_broker_that_denies_what_it_acknowledges_is_noticed(make_daemon: Callable[..., Daemon], tmp_path: Path):
    """Under an ACL that denies one update topic the outbox stays up and `undelivered` is alerted."""
    acl = tmp_path / "acl"
    acl.write_text(
        "user config_service\ntopic readwrite alicia/#\ntopic deny alicia/config/update/ai_service\n"
        "user watcher\ntopic readwrite alicia/#\n"
    )
    acl.chmod(0o644)
    denying = Broker(tmp_path / "denying", config=f"acl_file {acl}\n")
    await asyncio.to_thread(denying.start)
    try:
        daemon = make_daemon(broker_port=denying.port)
        await asyncio.to_thread(daemon.start)
        health = daemon.http("GET", "/health").json
        assert health["outbox_pending"] == 1
        assert "ai_service" in health["alerts"]["undelivered"]
        await asyncio.to_thread(daemon.stop)
    finally:
        denying.stop()


def wait_status(daemon: Daemon, path: str, status: int) -> bool:
    return bool(wait_until(lambda: daemon.http("GET", path).status == status, seconds=30))


async def test_what_the_daemon_says_about_itself_is_put_right(daemon: Daemon):
    """A replaced sealing key or environment raises a tamper alert, and the daemon publishes the right one again."""
    mallory = PrivateKey.generate().public
    forged = json.dumps({"key_id": mallory.key_id, "public_key": str(mallory), "environment": "attic"}).encode()
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/alert/tamper")
        for topic, payload in product(("alicia/config/key", "alicia/config/environment"), (forged, b"")):
            right = (await mqtt.retained(topic))[topic].payload
            await mqtt.publish(topic, payload, retain=True)
            alert = (await mqtt.until("alicia/config/alert/tamper")).json
            assert topic in alert["message"]
            end = time.monotonic() + SECONDS
            while topic not in (found := await mqtt.retained(topic)) or found[topic].payload != right:
                assert time.monotonic() < end


@pytest.mark.sqlite("a copy of the file is put back; a server is restored with `aliciacfg restore`, or its own means")
async def test_subscribers_follow_a_database_that_was_restored_as_the_documentation_says(
    make_daemon: Callable[..., Daemon], broker: Broker
):
    """The copy is put back beside the witness, the broker keeps its memory: one alert, no tampering, all follow."""
    daemon = make_daemon()
    await asyncio.to_thread(daemon.start)
    set_sessions(daemon, 31)
    await asyncio.to_thread(daemon.stop)
    copy = (daemon.data / "aliciacfg.db").read_bytes()
    await asyncio.to_thread(daemon.start)
    for sessions in (32, 33, 34):
        set_sessions(daemon, sessions)
    await asyncio.to_thread(wait_nothing_pending, daemon)
    await asyncio.to_thread(daemon.kill)
    async with client(broker.port) as mqtt:
        await mqtt.subscribe("alicia/config/update/voice_router", "alicia/config/alert/+")
        held = (await mqtt.next()).json
        assert held["revision"] == 5
        for file in daemon.data.glob("aliciacfg.db-*"):
            file.unlink()
        (daemon.data / "aliciacfg.db").write_bytes(copy)
        await asyncio.to_thread(daemon.start)
        alerts: list[str] = []
        while (message := await mqtt.next()).topic != "alicia/config/update/voice_router":
            alerts.append(message.topic.rpartition("/")[2])
        update = message.json
        while update["revision"] != 6:
            update = (await mqtt.until("alicia/config/update/voice_router")).json
        assert (update["epoch"], update["sequence"]) > (held["epoch"], held["sequence"])
        assert update["config"]["settings"]["max_sessions"] == 31
        now = daemon.config("voice_router")
        assert {name: now[name] for name in ("epoch", "sequence", "revision", "checksum")} == {
            name: update[name] for name in ("epoch", "sequence", "revision", "checksum")
        }
        assert alerts == ["restored"]
    assert daemon.http("GET", "/config/voice_router/history").json["revisions"][0]["cause"] == "restore"
    await asyncio.to_thread(wait_nothing_pending, daemon)
    assert daemon.http("GET", "/health").json["alerts"] == {}


def set_sessions(daemon: Daemon, number: int) -> None:
    assert daemon.http("PATCH", "/config/voice_router", {"settings": {"max_sessions": number}}).status == 200


async def test_foreign_health_is_overwritten_at_once(daemon: Daemon):
    """A retained "offline", something else, nothing: a new subscriber is not misled for longer than a moment."""
    topic = "alicia/system/health/config_service"
    async with client(daemon.broker_port) as mqtt:
        right = (await mqtt.retained(topic))[topic].json
        offline = {**right, "payload": {**right["payload"], "status": "offline"}}
        await mqtt.subscribe(topic)
        assert (await mqtt.next()).retained
        for foreign in (json.dumps(offline).encode(), b"\xff", b""):
            await mqtt.publish(topic, foreign, retain=True)
            while (message := await mqtt.until(topic)).payload == foreign:
                pass
            assert message.json["payload"]["status"] != "offline"
