"""Services that announce themselves get their configuration."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aliciacfg.sealing.boxes import PrivateKey
from callers import RULES, bearing, token
from commands import aliciacfg
from daemons import Daemon
from machine import wait_until
from mqtt_clients import Client, client

# The services of its daemons.
HOME_SERVICES = ("device_manager", "stt_service", "tts_service", "voice_router")


def announcement(name: object, depth: int) -> dict[str, Any]:
    message: dict[str, Any] = {"service_name": name, "status": "online", "capabilities": [], "version": "1.0.0"}
    for _ in range(depth):
        message = {"message_id": "m", "source": "somebody", "payload": message}
    return message


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_a_known_service_gets_its_configuration_published_again(shared: Daemon, depth: int):
    """Bare or wrapped once or twice, a registration makes the current update come."""
    async with client(shared.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/update/device_manager")
        first = await mqtt.next()
        await mqtt.publish("alicia/system/discovery/register", announcement("device_manager", depth))
        again = await mqtt.next()
        assert again.payload == first.payload
        assert not again.retained


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_an_unknown_service_gets_a_default_one_stored_and_published(shared: Daemon, depth: int):
    """It exists from then on, with cause and author in its update, and its name as its broker user."""
    name = f"newcomer_{depth}"
    async with client(shared.broker_port) as mqtt:
        await mqtt.subscribe(f"alicia/config/update/{name}")
        await mqtt.publish("alicia/system/discovery/register", announcement(name, depth))
        update = (await mqtt.next()).json
        assert (update["service"], update["revision"]) == (name, 1)
        assert update["config"]["mqtt_config"]["username"] == name
    assert shared.config(name)["config"] == update["config"]
    assert shared.http("DELETE", f"/config/{name}").json["remains"] is False


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"garbage",
        b"[]",
        b'{"device_id": "lamp", "device_type": "light"}',
        b'{"service_name": 7}',
        b'{"message_id": "m", "payload": {"payload": {"payload": {"service_name": "too_deep"}}}}',
    ],
)
async def test_devices_and_rubbish_on_the_discovery_topics_are_passed_over(shared: Daemon, payload: bytes):
    """Speakers and entities register there too; no configuration is created for them."""
    before = shared.http("GET", "/health").json
    async with client(shared.broker_port) as mqtt:
        for topic in ("register", "unregister"):
            await mqtt.publish(f"alicia/system/discovery/{topic}", payload)
        await mqtt.ask("alicia/config/list/t")
    after = shared.http("GET", "/health").json
    assert after["configs_managed"] == before["configs_managed"]
    assert shared.http("GET", "/config/too_deep").status == 404


async def test_a_registration_that_cannot_have_a_configuration_is_alerted(make_daemon: Callable[..., Daemon]):
    """A bad name, which the alert does not repeat, and one service too many raise an alert on the alert topic."""
    daemon = make_daemon(environ={"ALICIACFG_MAX_SERVICES": str(len(HOME_SERVICES) + 1)})
    await asyncio.to_thread(daemon.start)
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/alert/validation_failed")
        await mqtt.publish("alicia/system/discovery/register", announcement("no good name", 1))
        message = (await mqtt.next()).json["message"]
        assert ("no service can have" in message, "no good name" in message) == (True, False)
        await mqtt.publish("alicia/system/discovery/register", announcement("first_more", 1))
        await mqtt.publish("alicia/system/discovery/register", announcement("second_more", 1))
        alert = (await mqtt.next()).json
        assert "second_more" in alert["message"]
        assert "ALICIACFG_MAX_SERVICES" in alert["message"]
    await asyncio.to_thread(wait_until, lambda: daemon.http("GET", "/config/first_more").status == 200)
    assert daemon.http("GET", "/health").json["configs_managed"] == len(HOME_SERVICES) + 1


async def test_a_tombstoned_service_comes_back_with_its_next_registration(shared: Daemon):
    """Its revisions go on counting."""
    async with client(shared.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/update/returning_guest")
        await mqtt.publish("alicia/system/discovery/register", announcement("returning_guest", 1))
        assert (await mqtt.next()).json["revision"] == 1
        shared.http("DELETE", "/config/returning_guest")
        assert (await mqtt.next()).payload == b""
        await mqtt.publish("alicia/system/discovery/register", announcement("returning_guest", 1))
        assert (await mqtt.next()).json["revision"] == 3


async def test_health_counts_who_is_online(daemon: Daemon):
    """Registered and not unregistered."""
    async with client(daemon.broker_port) as mqtt:
        for name in ("voice_router", "stt_service"):
            await mqtt.publish("alicia/system/discovery/register", announcement(name, 1))
        await mqtt.publish("alicia/system/discovery/unregister", announcement("stt_service", 1))
        await mqtt.ask("alicia/config/list/t")
    assert daemon.http("GET", "/health").json["services_online"] == 1


def test_a_service_that_registered_before_it_was_defined_can_leave_the_files_again(daemon: Daemon):
    """That it once registered is no change made at run time."""
    path = daemon.environments / "dev.yaml"
    text = path.read_text()
    document = daemon.config("voice_router")["config"] | {"service_name": "late"}
    document["mqtt_config"]["password"] = "***"

    async def register() -> None:
        async with client(daemon.broker_port) as mqtt:
            await mqtt.publish("alicia/system/discovery/register", {"service_name": "late"})

    asyncio.run(register())
    wait_until(lambda: daemon.http("GET", "/config/late").status == 200)
    path.write_text(text.replace("\nservices:\n", "\nservices:\n  late: {limits: {n: 1}}\n", 1))
    assert daemon.http("POST", "/reload").json["changed"] == ["late"]
    path.write_text(text)
    assert daemon.http("POST", "/reload").status == 200
    assert daemon.http("GET", "/config/late").status == 404


async def test_a_registration_brings_neither_key_nor_schema_nor_settings(shared: Daemon):
    """A registration's further members have no effect, in any envelope: no recipient, no schema, no settings."""
    before = shared.config("tts_service")
    schema = shared.http("GET", "/config/schema/tts_service").json
    key = PrivateKey.generate()
    message: dict[str, Any] = {
        "service_name": "tts_service",
        "public_key": str(key.public),
        "recipient": str(key.public),
        "schema": {"properties": {"mqtt_config": {"properties": {"password": {"x-sensitive": False}}}}},
        "config": {"limits": {"x": 1}},
        "patch": {"limits": {"x": 1}},
        "settings": {"x": 1},
    }
    topic = "alicia/config/update/tts_service"
    async with client(shared.broker_port) as mqtt:
        held = (await mqtt.retained(topic))[topic]
        await mqtt.subscribe(topic)
        assert (await mqtt.next()).payload == held.payload
        for _ in range(3):
            await mqtt.publish("alicia/system/discovery/register", message)
            assert (await mqtt.next()).payload == held.payload
            message = {"message_id": "m", "source": "tts_service", "payload": message}
    assert shared.config("tts_service") == before
    assert shared.http("GET", "/config/schema/tts_service").json == schema


async def test_a_registration_of_a_name_that_means_something_else_makes_nothing(shared: Daemon):
    """Of a path, a filter or a reserved word; one that is a name, sent after them, is all that comes of them."""
    before = {item["service"] for item in shared.http("GET", "/configs?limit=1000").json["configs"]}
    async with client(shared.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/update/+")
        for name in ("../tts_service", "tts_service/+", "get", "#", "a" * 65, "", "reply", "registered_one"):
            await mqtt.publish("alicia/system/discovery/register", {"service_name": name})
        await mqtt.until("alicia/config/update/registered_one")
    assert {item["service"] for item in shared.http("GET", "/configs?limit=1000").json["configs"]} == before | {
        "registered_one"
    }
    shared.http("DELETE", "/config/registered_one")


async def heard_of(mqtt: Client, *services: str) -> None:
    """Announce services, and one that the files know after them, whose update shows that all were looked at."""
    await mqtt.subscribe("alicia/config/update/device_manager")
    assert (await mqtt.next()).retained
    for name in (*services, "device_manager"):
        await mqtt.publish("alicia/system/discovery/register", {"service_name": name})
    await mqtt.next()


async def test_under_rules_nobody_comes_to_be_by_registering(make_daemon: Callable[..., Daemon]):
    """An administrator, a user or an unknown name gets neither a configuration nor an account by registering."""
    daemon = make_daemon()
    (daemon.environments / "access.yaml").write_text(RULES + "users: [dashboard]\n")
    await asyncio.to_thread(daemon.start)
    names = ("operator", "dashboard", "evil")
    async with client(daemon.broker_port) as mqtt:
        await heard_of(mqtt, *names)
    admin = bearing(daemon, token(daemon, "operator"))
    assert {admin("GET", f"/config/{name}").status for name in names} == {404}
    done = await asyncio.to_thread(aliciacfg, daemon, "setup", "access")
    assert done.returncode == 0, done.stderr
    users = {line.partition(":")[0] for line in (daemon.directory / "access" / "passwords").read_text().splitlines()}
    assert not users & set(names)
