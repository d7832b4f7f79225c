"""A broker that is frozen, goes away or is replaced: the daemon comes back to it, with the version that it speaks."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from broker_proxies import older_broker
from brokers import Broker
from daemons import Daemon
from machine import wait_until
from mqtt_clients import client

FEW = ("voice_router", "stt_service")
# With three seconds for a connection that hangs, five in all.
MAX_PAUSE_SECONDS = 1.5

# The log has each attempt to connect.
EACH = {"ALICIACFG_LOG_LEVEL": "debug"}


def freeze(broker: Broker) -> None:
    assert broker.process is not None
    broker.process.send_signal(signal.SIGSTOP)


def thaw(broker: Broker) -> None:
    assert broker.process is not None
    broker.process.send_signal(signal.SIGCONT)


def versions(daemon: Daemon) -> list[str]:
    return [entry["protocol"] for entry in daemon.logged("broker_connected")]


async def wait(what: Callable[[], Any]) -> None:
    await asyncio.to_thread(wait_until, what, seconds=40)


async def test_a_start_with_a_frozen_broker_leads_to_mqtt_5(make_daemon: Callable[..., Daemon], broker: Broker):
    """Its silence decides nothing, and the pauses between the attempts do not grow."""
    daemon = make_daemon().keep_services(*FEW)
    freeze(broker)
    daemon.spawn()
    await wait(lambda: daemon.logged("broker_lost"))
    thaw(broker)
    await asyncio.to_thread(daemon.wait_ready)
    await wait(lambda: versions(daemon))
    assert versions(daemon) == ["MQTT 5"]


async def test_a_broker_that_freezes_meanwhile_is_mqtt_5_afterwards(make_daemon: Callable[..., Daemon], broker: Broker):
    """For longer than an attempt to connect takes; requests of MQTT 5 are answered again."""
    daemon = await asyncio.to_thread(make_daemon(environ=EACH).keep_services(*FEW).start)
    freeze(broker)
    assert daemon.http("PATCH", "/config/voice_router", {"settings": {"max_sessions": 7}}).status == 200
    await wait(lambda: len(daemon.logged("broker_lost")) >= 2)
    assert daemon.http("GET", "/ready").status == 503
    thaw(broker)
    await wait(lambda: len(daemon.logged("broker_connected")) == 2)
    assert versions(daemon) == ["MQTT 5", "MQTT 5"]
    async with client(broker.port) as mqtt:
        assert (await mqtt.ask("alicia/config/get/voice_router")).json["config"]["settings"]["max_sessions"] == 7
        health = "alicia/system/health/config_service"
        assert (await mqtt.retained(health))[health].json["payload"]["status"] == "healthy"


async def test_the_pauses_between_attempts_are_short_and_differ(make_daemon: Callable[..., Daemon], broker: Broker):
    """However long the broker was away, and again after a good connection."""
    daemon = await asyncio.to_thread(make_daemon(environ=EACH).keep_services(*FEW).start)
    for number in (1, 2):
        before = len(daemon.logged("broker_lost"))
        broker.kill()
        await wait(lambda before=before: len(daemon.logged("broker_lost")) >= before + 6)
        pauses = [entry["retry_seconds"] for entry in daemon.logged("broker_lost")[before:]]
        assert pauses[0] <= 0.3
        assert max(pauses) <= MAX_PAUSE_SECONDS
        assert len(set(pauses)) > 1
        broker.start()
        await wait(lambda number=number: len(daemon.logged("broker_connected")) == number + 1)


@pytest.mark.sqlite("the connection of the home and the one for requests each log it once")
async def test_a_broker_that_stays_away_is_logged_once(make_daemon: Callable[..., Daemon], broker: Broker):
    """Not at each attempt; again when it was there meanwhile."""
    daemon = await asyncio.to_thread(make_daemon(environ=EACH).keep_services(*FEW).start)
    for number in (1, 2):
        before = len(daemon.logged("broker_lost"))
        broker.kill()
        await wait(lambda before=before: len(daemon.logged("broker_lost")) >= before + 6)
        levels = Counter((entry["level"], entry["reason"]) for entry in daemon.logged("broker_lost")[before:])
        assert all(count == 1 for (level, _), count in levels.items() if level == "warning")
        assert sum(count for (level, _), count in levels.items() if level == "debug") >= 3
        broker.start()
        await wait(lambda number=number: len(daemon.logged("broker_connected")) == number + 1)


async def test_a_broker_that_was_upgraded_is_asked_for_mqtt_5(make_daemon: Callable[..., Daemon], broker: Broker):
    """At the next connection, and every one after it."""
    async with older_broker(broker.port) as older:
        daemon = await asyncio.to_thread(make_daemon(broker_port=older.port).keep_services(*FEW).start)
        # The log may be behind the READY line.
        await wait(lambda: versions(daemon))
        for speaks_five in (True, False):
            older.speaks_five = speaks_five
            older.cut()
            before = len(versions(daemon))
            await wait(lambda before=before: len(versions(daemon)) > before)
        assert versions(daemon) == ["MQTT 3.1.1", "MQTT 5", "MQTT 3.1.1"]
        await asyncio.to_thread(daemon.stop)
