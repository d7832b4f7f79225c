"""The home's device registry: its count is requested, kept up to date, and not required."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brokers import Broker
from daemons import Daemon
from device_messages import ANSWER, DEREGISTERED, QUESTION, REGISTERED, RUBBISH, device, enveloped, twice
from machine import wait_until
from mqtt_clients import Client, client

# The services of its daemons.
HOME_SERVICES = ("config_service", "device_registry", "voice_router")


@dataclass
class Registry:
    """A device registry as it is on the bus: plain MQTT 3.1.1, QoS 1, never retained."""

    mqtt: Client
    devices: list[str] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)

    async def announce_itself(self) -> None:
        said = {"service_name": "device_registry", "status": "online", "timestamp": 1.0, "capabilities": []}
        await self.mqtt.publish("alicia/system/discovery/register", enveloped("device_registry", said))

    async def say_goodbye(self) -> None:
        said = {"service_name": "device_registry", "status": "offline", "timestamp": 1.0}
        await self.mqtt.publish("alicia/system/discovery/unregister", enveloped("device_registry", said))

    async def register(self, name: str) -> None:
        self.devices.append(name)
        await self.mqtt.publish(REGISTERED, twice({"device_id": name, "device_info": device(name)}))

    async def deregister(self, name: str) -> None:
        self.devices.remove(name)
        await self.mqtt.publish(DEREGISTERED, twice({"device_id": name}))

    async def serve(self) -> None:
        """Answer every question, reading it as the real one does: out of one envelope."""
        while True:
            message = await self.mqtt.next(3600)
            self.questions.append(message.json)
            requester = message.json.get("payload", {}).get("requester", "unknown")
            listed = [device(name) for name in self.devices]
            await self.mqtt.publish(f"{QUESTION}/{requester}", twice({"devices": listed, "count": len(listed)}))


@contextlib.asynccontextmanager
async def registry(port: int, devices: Iterable[str]) -> AsyncGenerator[Registry, None]:
    async with client(port, protocol=4) as mqtt:
        made = Registry(mqtt, list(devices))
        await mqtt.subscribe(QUESTION)
        serving = asyncio.create_task(made.serve())
        try:
            yield made
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


def known(daemon: Daemon) -> object:
    return daemon.http("GET", "/health").json["device_registry"]


async def until_known(daemon: Daemon, wanted: object) -> None:
    await asyncio.to_thread(wait_until, lambda: known(daemon) == wanted, why=f"device_registry is {wanted!r}")


def test_a_home_without_a_registry_is_well(shared: Daemon):
    """Absent is said, and nothing waits or suffers for it."""
    health = shared.http("GET", "/health").json
    assert (health["device_registry"], health["status"], health["alerts"]) == ("absent", "healthy", {})


async def test_the_registry_is_asked_once_and_its_announcements_are_followed(make_daemon: Callable[..., Daemon]):
    """The request is in the home's envelope; registrations and deregistrations change the count, each once."""
    daemon = make_daemon()
    async with registry(daemon.broker_port, ["lamp", "door"]) as there:
        await asyncio.to_thread(daemon.start)
        await until_known(daemon, 2)
        await there.register("bell")
        await until_known(daemon, 3)
        await there.mqtt.publish(REGISTERED, twice({"device_id": "bell", "device_info": device("bell")}))
        await there.deregister("lamp")
        await there.deregister("door")
        await there.mqtt.publish(DEREGISTERED, twice({"device_id": "never_seen"}))
        await until_known(daemon, 1)
        assert len(there.questions) == 1
    asked = there.questions[0]
    assert asked["payload"] == {"requester": "config_service"}
    assert asked.keys() == enveloped("x", {}).keys()
    assert asked["source"] == "config_service"


async def test_it_does_not_matter_who_starts_first(daemon: Daemon):
    """A registry that starts later is asked when it announces itself; one that signs off is absent."""
    assert known(daemon) == "absent"
    async with registry(daemon.broker_port, ["lamp"]) as there:
        # What is announced before the answer is in the answer, and counted once.
        await there.register("early")
        await there.announce_itself()
        await until_known(daemon, 2)
        await there.say_goodbye()
        await until_known(daemon, "absent")
        await there.register("unheard")
        await there.announce_itself()
        await until_known(daemon, 3)
        assert len(there.questions) == 2


async def test_after_the_broker_was_away_it_is_asked_anew(daemon: Daemon, broker: Broker):
    """The count is dropped with the connection, since events in between are missed."""
    async with registry(daemon.broker_port, ["lamp", "door"]) as there:
        await there.announce_itself()
        await until_known(daemon, 2)
    broker.kill()
    await until_known(daemon, "absent")
    broker.start()
    async with registry(daemon.broker_port, ["bell"]) as there:
        await until_known(daemon, 1)
        assert len(there.questions) == 1


async def test_what_the_session_held_does_not_bring_it_back(daemon: Daemon):
    """An answer from before the connection is older than the one to come, if one comes at all."""
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe(QUESTION)
        await asyncio.to_thread(daemon.stop)
        await mqtt.publish(ANSWER, twice({"devices": [device("lamp")], "count": 1}))
        await asyncio.to_thread(daemon.start)
        await mqtt.until(QUESTION)
    assert known(daemon) == "absent"


async def test_health_on_the_bus_tells_it(daemon: Daemon):
    """A change is published with the next health message, without a request."""
    async with client(daemon.broker_port) as mqtt, registry(daemon.broker_port, ["lamp", "door", "bell"]) as there:
        await mqtt.subscribe("alicia/system/health/config_service")
        await there.announce_itself()
        while (await mqtt.next()).json["payload"]["device_registry"] != 3:
            pass


async def test_rubbish_changes_nothing(daemon: Daemon):
    """On each of the topics; the daemon answers, stays connected, and still follows the registry."""
    async with registry(daemon.broker_port, ["lamp"]) as there:
        await there.announce_itself()
        await until_known(daemon, 1)
        for topic in (ANSWER, REGISTERED, DEREGISTERED):
            for payload in RUBBISH:
                await there.mqtt.publish(topic, payload)
        kept = json.dumps(twice({"devices": [device("old"), device("older")], "count": 2}))
        await there.mqtt.publish(ANSWER, kept, retain=True)
        await there.mqtt.publish(ANSWER, b"", retain=True)
        async with client(daemon.broker_port) as mqtt:
            assert (await mqtt.ask("alicia/config/get/voice_router")).json["status"] == "success"
        await there.register("door")
        # The answer that was published with the retain flag while the daemon listened counts like any other.
        await until_known(daemon, 3)
    await asyncio.to_thread(daemon.first_logged, "device_registry_not_understood")
    assert len(daemon.logged("device_registry_not_understood")) == 1
    assert not daemon.logged("broker_lost")


async def test_an_access_list_that_denies_it_harms_nothing(tmp_path: Path, make_daemon: Callable[..., Daemon]):
    """Without the registry's topics the daemon is READY, healthy and says absent."""
    rules = tmp_path / "acl"
    allowed = ("alicia/config/#", "alicia/reply/#", "alicia/system/#")
    rules.write_text("".join(f"pattern readwrite {topic}\n" for topic in allowed))
    broker = Broker(tmp_path / "strict", config=f"acl_file {rules}\n").start()
    try:
        daemon = make_daemon("strict_home", broker_port=broker.port).start()
        async with registry(daemon.broker_port, ["lamp"]) as there:
            await there.announce_itself()
            async with client(daemon.broker_port) as mqtt:
                await mqtt.ask("alicia/config/list")
        health = daemon.http("GET", "/health").json
        assert (health["device_registry"], health["status"], health["alerts"]) == ("absent", "healthy", {})
        assert there.questions == []
        assert not daemon.logged("broker_lost")
    finally:
        broker.stop()
