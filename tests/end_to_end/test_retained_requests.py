"""Requests that were published with the retain flag: never carried out, whenever they come."""

import asyncio
import json

import pytest

from daemons import Daemon
from mqtt_clients import client

# The services of its daemons.
HOME_SERVICES = ("voice_router",)

TOPIC = "alicia/config/patch/voice_router/tester"
PATCH = json.dumps({"patch": {"settings": {"max_sessions": 13}}})


def sessions(daemon: Daemon) -> int:
    return daemon.config("voice_router")["config"]["settings"]["max_sessions"]


async def test_a_retained_request_is_refused_while_the_daemon_is_connected(daemon: Daemon):
    """From a client of either version; its sender learns why, and a flood of them is logged once."""
    before = sessions(daemon)
    for protocol in (5, 3):
        async with client(daemon.broker_port, protocol=protocol) as mqtt:
            await mqtt.subscribe("alicia/reply/patch/voice_router/tester")
            for _ in range(3):
                await mqtt.publish(TOPIC, PATCH, retain=True)
                answer = (await mqtt.until("alicia/reply/patch/voice_router/tester")).json
                assert answer["code"] == "invalid_request"
                assert "retain" in answer["message"]
    assert sessions(daemon) == before
    await asyncio.to_thread(daemon.first_logged, "retained_request_ignored")
    assert len(daemon.logged("retained_request_ignored")) == 1


async def test_a_retained_get_is_not_answered_from_the_cache_either(daemon: Daemon):
    """The short path of a get is no exception. What other programs retain there is no request, and left alone."""
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/get/voice_router")
        await mqtt.publish("alicia/config/theme/kitchen", retain=True)
        await mqtt.publish("alicia/config/get/voice_router")
        assert (await mqtt.until("alicia/reply/get/voice_router")).json["status"] == "success"
        assert daemon.logged("retained_request_ignored") == []
        await mqtt.publish("alicia/config/get/voice_router", retain=True)
        assert (await mqtt.until("alicia/reply/get/voice_router")).json["code"] == "invalid_request"


async def test_a_retained_request_is_not_heard_of_at_a_start(daemon: Daemon):
    """It is not carried out, and nobody who listens now gets an answer to it."""
    before = sessions(daemon)
    assert await asyncio.to_thread(daemon.stop) == 0
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/patch/voice_router/tester", "alicia/reply/get/voice_router/tester")
        await mqtt.publish(TOPIC, PATCH, retain=True)
        await asyncio.to_thread(daemon.start)
        await mqtt.publish("alicia/config/get/voice_router/tester")
        answer = await mqtt.next()
        assert answer.topic == "alicia/reply/get/voice_router/tester"
        assert answer.json["config"]["settings"]["max_sessions"] == before
        assert await mqtt.silence(0.2) == []


@pytest.mark.sqlite("no session holds requests while a daemon that shares them is away: requesters repeat")
async def test_a_retained_request_from_before_is_neither_carried_out_nor_answered(daemon: Daemon):
    """What the session held, and what the broker delivers again at every connect; other held requests are served."""
    before = sessions(daemon)
    assert await asyncio.to_thread(daemon.stop) == 0
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/patch/voice_router/tester", "alicia/reply/get/voice_router/tester")
        await mqtt.publish(TOPIC, PATCH, retain=True)
        for _ in range(2):
            await mqtt.publish("alicia/config/get/voice_router/tester")
            await asyncio.to_thread(daemon.start)
            answer = await mqtt.next()
            assert answer.topic == "alicia/reply/get/voice_router/tester"
            assert answer.json["config"]["settings"]["max_sessions"] == before
            assert await asyncio.to_thread(daemon.stop) == 0
        assert await mqtt.silence(0.2) == []


async def test_a_registration_is_not_repeated_because_the_broker_keeps_it(daemon: Daemon):
    """Retained by mistake, it counts when it comes; at the next connect it does not bring back what was deleted."""
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/update/guest", "alicia/reply/get/guest")
        await mqtt.publish("alicia/system/discovery/register", {"service_name": "guest"}, retain=True)
        assert (await mqtt.next()).json["service"] == "guest"
        assert daemon.http("DELETE", "/config/guest").status == 200
        assert (await mqtt.next()).payload == b""
        assert await asyncio.to_thread(daemon.stop) == 0
        await asyncio.to_thread(daemon.start)
        await mqtt.publish("alicia/config/get/guest")
        assert (await mqtt.next()).json["code"] == "not_found"
