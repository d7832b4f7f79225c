"""Services that announce themselves get their configuration."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from support import Daemon, client, wait_until


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
    """Speakers and entities register there too; nothing is made of them."""
    before = shared.http("GET", "/health").json
    async with client(shared.broker_port) as mqtt:
        for topic in ("register", "unregister"):
            await mqtt.publish(f"alicia/system/discovery/{topic}", payload)
        await mqtt.ask("alicia/config/list/t")
    after = shared.http("GET", "/health").json
    assert after["configs_managed"] == before["configs_managed"]
    assert shared.http("GET", "/config/too_deep").status == 404


async def test_a_registration_that_cannot_have_a_configuration_is_alerted(make_daemon: Callable[..., Daemon]):
    """A bad name and one service too many are told on the alert topic."""
    daemon = make_daemon(environ={"ALICIACFG_MAX_SERVICES": "23"})
    await asyncio.to_thread(daemon.start)
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/alert/validation_failed")
        await mqtt.publish("alicia/system/discovery/register", announcement("no good name", 1))
        assert "no good name" in (await mqtt.next()).json["message"]
        await mqtt.publish("alicia/system/discovery/register", announcement("first_more", 1))
        await mqtt.publish("alicia/system/discovery/register", announcement("second_more", 1))
        alert = (await mqtt.next()).json
        assert "second_more" in alert["message"]
        assert "ALICIACFG_MAX_SERVICES" in alert["message"]
    await asyncio.to_thread(wait_until, lambda: daemon.http("GET", "/config/first_more").status == 200)
    assert daemon.http("GET", "/health").json["configs_managed"] == 23


async def test_a_tombstoned_service_comes_back_with_its_next_registration(daemon: Daemon):
    """Its revisions go on counting."""
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/update/guest")
        await mqtt.publish("alicia/system/discovery/register", announcement("guest", 1))
        assert (await mqtt.next()).json["revision"] == 1
        daemon.http("DELETE", "/config/guest")
        assert (await mqtt.next()).payload == b""
        await mqtt.publish("alicia/system/discovery/register", announcement("guest", 1))
        assert (await mqtt.next()).json["revision"] == 3


async def test_health_counts_who_is_online(daemon: Daemon):
    """Registered and not unregistered."""
    async with client(daemon.broker_port) as mqtt:
        for name in ("voice_router", "stt_service"):
            await mqtt.publish("alicia/system/discovery/register", announcement(name, 1))
        await mqtt.publish("alicia/system/discovery/unregister", announcement("stt_service", 1))
        await mqtt.ask("alicia/config/list/t")
    assert daemon.http("GET", "/health").json["services_online"] == 1
