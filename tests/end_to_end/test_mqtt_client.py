"""The client of the command line, on a Mosquitto, with a daemon that the test plays."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator

import pytest

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.client import open_client
from aliciacfg.mqtt.connection import DoesNotFit
from broker_proxies import older_broker
from brokers import Broker
from machine import SECONDS
from mqtt_clients import client
from soak import rarely

HEALTH = "alicia/system/health/config_service"
SHARED = {"message_id": "1", "payload": {"status": "healthy", "replica": {"name": "a"}}}


@contextlib.asynccontextmanager
async def address_of(broker: Broker, protocol: str) -> AsyncGenerator[BrokerAddress, None]:
    """Give the address of the broker, or of one in front of it that speaks MQTT 3.1.1 only."""
    if protocol == "5":
        yield BrokerAddress("127.0.0.1", broker.port)
    else:
        async with older_broker(broker.port) as older:
            yield BrokerAddress("127.0.0.1", older.port)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_request_names_where_to_answer(broker: Broker, protocol: str):
    """By the Response Topic, on MQTT 3.1.1 in the payload; fields that are None are left out."""
    async with client(broker.port) as daemon, address_of(broker, protocol) as address:
        await daemon.subscribe("alicia/config/#")
        async with open_client(address, "mario") as asking:
            task = asyncio.create_task(asking.ask("get", "bell", {"revision": 3, "x": None}, timeout_seconds=SECONDS))
            request = await daemon.next()
            assert request.topic == "alicia/config/get/bell/mario"
            fields = request.json
            topic = request.properties["ResponseTopic"] if protocol == "5" else fields.pop("reply_to")
            assert topic.startswith("alicia/reply/mario/")
            assert fields == {"revision": 3}
            await daemon.publish(topic, {"status": "success"})
            assert await task == {"status": "success"}


async def test_updates_are_yielded_until_the_broker_goes(broker: Broker):
    """The retained one, a change, and a deletion; who waits for the next one is told that the broker is gone."""
    async with client(broker.port) as daemon:
        await daemon.publish("alicia/config/update/bell", {"service": "bell", "revision": 1}, retain=True)
        async with open_client(BrokerAddress("127.0.0.1", broker.port), "mario") as watching:
            updates = watching.updates("bell")
            assert await anext(updates) == {"service": "bell", "revision": 1}
            await daemon.publish("alicia/config/update/bell", b"", retain=True)
            assert await anext(updates) == {"service": "bell", "deleted": True}
            following = asyncio.ensure_future(anext(updates))
            with contextlib.suppress(Exception):
                broker.kill()
            with pytest.raises(BrokerUnavailable, match="the broker is gone"):
                async with asyncio.timeout(SECONDS):
                    await following
            with pytest.raises(BrokerUnavailable):
                await watching.ask("get", "bell", {}, timeout_seconds=SECONDS)


async def test_a_request_that_is_too_large_is_not_sent(broker: Broker):
    """The broker would end the connection."""
    async with open_client(BrokerAddress("127.0.0.1", broker.port), "mario") as asking:
        with pytest.raises(DoesNotFit):
            await asking.ask("set", "bell", {"config": "x" * (65 * 1024 * 1024)}, timeout_seconds=SECONDS)


async def test_a_request_has_all_of_its_time_to_be_taken(broker: Broker, monkeypatch: pytest.MonkeyPatch):
    """A large one on a slow network takes longer than a broker has for its answer to a connect."""
    monkeypatch.setattr("aliciacfg.mqtt.client.CONNECT_SECONDS", 0.7)
    async with open_client(BrokerAddress("127.0.0.1", broker.port), "mario") as asking:
        assert broker.process is not None
        broker.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(BrokerUnavailable, match=r"no answer within 1\.4 s"):
                await asking.ask("get", "bell", {}, timeout_seconds=1.4)
        finally:
            broker.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("protocol", ["5", rarely("3.1.1")])
async def test_a_request_that_is_not_answered_is_repeated(broker: Broker, protocol: str):
    """As it was, so that it is known to be the same. One that writes only where daemons carry it out once."""
    async with client(broker.port) as daemon, address_of(broker, protocol) as address:
        await daemon.subscribe("alicia/config/#")
        async with open_client(address, "mario") as asking:
            task = asyncio.create_task(
                asking.ask("get", "bell", {"request_id": "7"}, timeout_seconds=SECONDS, repeats="always")
            )
            first, second, third = [await daemon.next() for _ in range(3)]
            assert first.payload == second.payload == third.payload
            assert first.topic == second.topic == third.topic
            topic = first.properties["ResponseTopic"] if protocol == "5" else first.json["reply_to"]
            assert protocol != "5" or second.properties["ResponseTopic"] == topic
            await daemon.publish(topic, {"status": "success"})
            assert await task == {"status": "success"}
            # The answer to the second one.
            await daemon.publish(topic, {"status": "error"})
            for health, sent in [(b"", 1), ({"payload": {"status": "healthy"}}, 1), (SHARED, 2)]:
                await daemon.publish(HEALTH, health, retain=True)
                async with open_client(address, "mario") as writing:
                    with pytest.raises(BrokerUnavailable, match="no answer"):
                        await writing.ask("patch", "bell", {}, timeout_seconds=1.8, repeats="if carried out once")
                await daemon.publish("alicia/config/end", b"")
                topics = [(await daemon.next()).topic for _ in range(sent + 1)]
                assert topics == ["alicia/config/patch/bell/mario"] * sent + ["alicia/config/end"]


async def test_nobody_answers(broker: Broker):
    """The error says where to look."""
    async with open_client(BrokerAddress("127.0.0.1", broker.port), "mario") as asking:
        with pytest.raises(BrokerUnavailable, match="is the daemon running"):
            await asking.ask("get", "bell", {}, timeout_seconds=0.05)
        with pytest.raises(BrokerUnavailable, match="no key is retained"):
            await asking.published_key(timeout_seconds=0.05)
