"""Messages larger than the broker or the daemon takes: refused or set aside one by one, while the rest goes on."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker_proxies import older_broker
from brokers import Broker
from daemons import Daemon
from machine import wait_until
from mqtt_clients import client

# The services of its daemons.
HOME_SERVICES = ("stt_service", "tts_service", "voice_router")

BIG = {"settings": {"greetings": "g" * 60_000}}
FEW = ("voice_router", "stt_service", "tts_service")


def running(directory: Path, config: str) -> Iterator[Broker]:
    broker = Broker(directory, config=config).start()
    yield broker
    broker.stop()


@pytest.fixture
def small_broker(tmp_path: Path) -> Iterator[Broker]:
    """A Mosquitto that takes packets of at most 20,000 bytes."""
    yield from running(tmp_path / "small", "max_packet_size 20000\n")


@pytest.fixture
def unlimited_broker(tmp_path: Path) -> Iterator[Broker]:
    """A Mosquitto that takes whatever the protocol allows."""
    limits = "max_packet_size 268435460\nmessage_size_limit 268435455\n"
    yield from running(tmp_path / "unlimited", limits)


def alerts(daemon: Daemon) -> dict[str, str]:
    found: dict[str, str] = daemon.http("GET", "/health").json["alerts"]
    return found


async def test_a_configuration_that_does_not_fit_leaves_the_bus_to_all_others(
    make_daemon: Callable[..., Daemon], small_broker: Broker
):
    """60 kB behind a limit of 20,000: its update is alerted by name, its answers are too_large; that is all."""
    daemon = await asyncio.to_thread(make_daemon("home", broker_port=small_broker.port).keep_services(*FEW).start)
    async with client(small_broker.port) as mqtt, client(small_broker.port) as listener:
        await listener.subscribe("alicia/config/alert/undelivered")
        assert (await asyncio.to_thread(daemon.http, "PATCH", "/config/voice_router", BIG)).status == 200
        alert = (await listener.until("alicia/config/alert/undelivered")).json
        assert alert["service"] == "voice_router"
        assert "max_packet_size" in alert["message"]
        answers = [(await mqtt.ask(f"alicia/config/get/{name}")) for name in [*FEW, *FEW]]
        codes = [answer.json.get("code", "success") for answer in answers]
        assert codes == ["too_large", "success", "success"] * 2
        assert answers[0].properties["CorrelationData"] == b"\x00\x01"
        assert dict(answers[0].properties["UserProperty"]) == {"status": "error"}
        # A change of another service is announced as before; so is the smaller document that replaces the large one.
        await mqtt.subscribe("alicia/config/update/+")
        for name in FEW:
            assert (await mqtt.next()).retained, name
        small = {"patch": {"settings": {"greetings": "short"}}}
        for name in ("tts_service", "voice_router"):
            assert (await mqtt.ask(f"alicia/config/patch/{name}", small)).json["status"] == "success"
    assert daemon.logged("broker_lost") == []
    assert daemon.http("GET", "/ready").status == 200


async def test_the_alert_ends_when_the_configuration_fits_again(
    make_daemon: Callable[..., Daemon], small_broker: Broker
):
    """And the update is published."""
    daemon = await asyncio.to_thread(make_daemon("home", broker_port=small_broker.port).keep_services(*FEW).start)
    assert daemon.http("PATCH", "/config/voice_router", BIG).status == 200
    await asyncio.to_thread(wait_until, lambda: "undelivered:voice_router" in alerts(daemon))
    assert daemon.http("PATCH", "/config/voice_router", {"settings": {"greetings": "short"}}).status == 200
    await asyncio.to_thread(wait_until, lambda: "undelivered:voice_router" not in alerts(daemon))
    async with client(small_broker.port) as mqtt:
        update = (await mqtt.retained("alicia/config/update/voice_router"))["alicia/config/update/voice_router"].json
    assert update["config"]["settings"]["greetings"] == "short"
    assert daemon.http("GET", "/health").json["outbox_pending"] == 0


async def test_a_daemon_starts_with_a_configuration_that_does_not_fit(
    make_daemon: Callable[..., Daemon], small_broker: Broker
):
    """It is ready at once, as what is set aside cannot be waited for; the last will fits, too."""
    daemon = make_daemon("home", broker_port=small_broker.port).keep_services(*FEW)
    await asyncio.to_thread(daemon.start)
    assert daemon.http("PATCH", "/config/voice_router", BIG).status == 200
    assert daemon.stop() == 0
    await asyncio.to_thread(daemon.start)
    assert daemon.logged("outbox_not_drained") == []
    assert list(alerts(daemon)) == ["undelivered:voice_router"]


async def test_every_answer_over_the_limit_is_too_large_and_costs_no_connection(
    make_daemon: Callable[..., Daemon], small_broker: Broker
):
    """Lists, histories, batches, explanations; wrapped and with the request's id, where the request was."""
    daemon = await asyncio.to_thread(make_daemon("home", broker_port=small_broker.port).keep_services(*FEW).start)
    assert daemon.http("PATCH", "/config/voice_router", BIG).status == 200
    patches: list[dict[str, Any]] = [{"service": "voice_router", "patch": {"settings": {"max_sessions": 7}}}]
    requests: dict[str, dict[str, Any]] = {
        "list": {"include": "config"},
        "explain/voice_router": {},
        "batch": {"updates": patches},
        "patch/voice_router": {"patch": {"settings": {"max_sessions": 8}}},
        "set/voice_router": {"config": daemon.config("tts_service")["config"]},
    }
    async with client(small_broker.port) as mqtt:
        for topic, fields in requests.items():
            wrapped = {"message_id": "m-1", "source": "tester", "payload": fields}
            answer = (await mqtt.ask(f"alicia/config/{topic}", wrapped)).json
            if topic == "set/voice_router":
                assert answer["payload"]["code"] == "validation_failed"
                continue
            assert answer["payload"]["code"] == "too_large", topic
            assert answer["payload"]["request_id"] == "m-1"
            assert answer["destination"] == "tester"
    assert daemon.config("voice_router")["config"]["settings"]["max_sessions"] == 8
    assert daemon.logged("broker_lost") == []


async def test_a_broker_of_3_1_1_that_cuts_the_connection_is_not_asked_again(
    make_daemon: Callable[..., Daemon], small_broker: Broker
):
    """It cannot announce its limit: what was under way each time is found out, set aside and alerted."""
    async with older_broker(small_broker.port) as older:
        daemon = await asyncio.to_thread(make_daemon("home", broker_port=older.port).keep_services(*FEW).start)
        assert (await asyncio.to_thread(daemon.first_logged, "broker_connected"))["protocol"] == "MQTT 3.1.1"
        assert (await asyncio.to_thread(daemon.http, "PATCH", "/config/voice_router", BIG)).status == 200
        await asyncio.to_thread(wait_until, lambda: "undelivered:voice_router" in alerts(daemon), seconds=40)
        await asyncio.to_thread(wait_until, lambda: daemon.http("GET", "/ready").status == 200)
        lost = len(daemon.logged("broker_lost"))
        async with client(small_broker.port, protocol=3) as mqtt:
            await mqtt.subscribe("alicia/reply/#")
            for name, code in (("voice_router", "too_large"), ("tts_service", None)):
                await mqtt.publish(f"alicia/config/get/{name}")
                assert (await mqtt.until(f"alicia/reply/get/{name}")).json.get("code") == code
        assert len(daemon.logged("broker_lost")) == lost <= 4
        await asyncio.to_thread(daemon.stop)


def peak(daemon: Daemon) -> int:
    """The most that a daemon has held in memory, in bytes."""
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_giant_message_takes_no_memory_and_does_not_come_again(
    make_daemon: Callable[..., Daemon], unlimited_broker: Broker, protocol: str
):
    """A broker of MQTT 5 keeps it from the daemon; with 3.1.1 it is dropped while it comes in, and refused."""
    async with older_broker(unlimited_broker.port) as older:
        older.speaks_five = protocol == "5"
        daemon = await asyncio.to_thread(make_daemon("home", broker_port=older.port).keep_services(*FEW).start)
        before = peak(daemon)
        async with client(unlimited_broker.port, protocol=3) as mqtt:
            await mqtt.subscribe("alicia/reply/set/tts_service", "alicia/reply/get/tts_service")
            for topic in ("set/tts_service", "global/x", "update/tts_service", "applied/tts_service"):
                await mqtt.publish(f"alicia/config/{topic}", bytes(40_000_000))
            if protocol == "3.1.1":
                answer = (await mqtt.until("alicia/reply/set/tts_service")).json
                assert answer["code"] == "too_large"
            await mqtt.publish("alicia/config/get/tts_service")
            assert (await mqtt.until("alicia/reply/get/tts_service")).json["status"] == "success"
            await asyncio.to_thread(daemon.stop)
            await asyncio.to_thread(daemon.start)
            assert await mqtt.silence(0.2) == []
        assert peak(daemon) < before + 10_000_000
        assert daemon.logged("broker_lost") == []
        await asyncio.to_thread(daemon.stop)
