"""Home Assistant on the bus of a real daemon and a real Mosquitto: what it sees, changes, and what is left behind."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from aliciacfg.access.rules import Access, Grants
from aliciacfg.mqtt.broker.access_list import HomeAssistant as Account
from aliciacfg.mqtt.broker.access_list import access_list
from aliciacfg.mqtt.broker.passwords import password_file
from broker_proxies import older_broker
from brokers import Broker
from builders import environment_file
from callers import bearing, token
from daemons import Daemon
from home_assistant import HomeAssistant, home_assistant, left_behind
from machine import wait_until
from mqtt_clients import client
from postgres import Postgres
from replica_daemons import others, start_replicas, wait_for_leader
from repository import SERVICES

ON = {"ALICIACFG_HOME_ASSISTANT": "on"}
HOME = "aliciacfg-_home"
ENVIRONMENT, STAGED, ACTIVATE = "home-_environment", "home-_staged", "home-_activate"
DRIFT, RESTART = "status-_drift", "status-_restart"
LEVEL = "settings--log_level"
AVAILABILITY = "alicia/ha/availability"


def write(daemon: Daemon, file: str, content: object) -> None:
    path = daemon.directory / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def schema(**settings: Any) -> dict[str, Any]:
    return {"version": "1.0.0", "type": "object", "properties": {"settings": {"properties": settings}}}


BELL = schema(
    ring={"type": "boolean", "default": True, "x-home-assistant": {"name": "Ring", "icon": "mdi:bell"}},
    volume={"type": "integer", "minimum": 0, "maximum": 11, "default": 3, "x-home-assistant": True},
    tune={"type": "string", "enum": ["ding", "dong", "none"], "default": "ding", "x-home-assistant": True},
    note={"type": "string", "default": "hello", "x-home-assistant": True},
    plain={"type": "string", "default": "not shown"},
)


@pytest.fixture
def small(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon, not started, whose home has one service; its files are the test's own."""
    made = make_daemon(environ=dict(ON))
    for folder in ("environments", "schemas"):
        for path in (made.directory / folder).iterdir():
            if path.is_file():
                path.unlink()
    write(made, "environments/dev.yaml", environment_file({"bell": {}}))
    write(made, "schemas/bell.yaml", BELL)
    return made


@dataclass(frozen=True)
class Bus:
    """A broker, and the protocol level that it speaks."""

    port: int
    protocol: int


@pytest_asyncio.fixture(params=["MQTT 5", "MQTT 3.1.1"])
async def bus(request: pytest.FixtureRequest, broker: Broker) -> AsyncGenerator[Bus, None]:
    """A broker for the daemon and Home Assistant; one of MQTT 3.1.1 knows no expiry and no Retain As Published."""
    if request.param == "MQTT 5":
        yield Bus(broker.port, 5)
    else:
        async with older_broker(broker.port) as older:
            yield Bus(older.port, 4)


async def shown(seen: HomeAssistant, service: str = "bell") -> None:
    """Wait until a service is there, with its state, and everything is available."""
    await seen.until(
        lambda: (
            any(entity.state is not None for entity in seen.entities(service))
            and seen.available.get(AVAILABILITY) == "online"
        ),
        why=f"{service} is shown",
    )


async def test_home_assistant_sees_and_changes_the_22_services(
    make_daemon: Callable[..., Daemon], bus: Bus, capsys: pytest.CaptureFixture[str]
):
    """Each has a device; a switch, a number and a select change what is stored; after ``off`` nothing is left."""
    daemon = make_daemon(environ=dict(ON), broker_port=bus.port)
    await asyncio.to_thread(daemon.start)
    async with home_assistant(bus.port, protocol=bus.protocol) as seen:
        await seen.until(lambda: len(seen.devices) == len(SERVICES) + 1, why="all devices")
        await seen.until(lambda: all(e.state for e in seen.entities() if e.platform not in {"event", "button"}))
        counts = Counter(entity.platform for entity in seen.entities())
        assert set(counts) == {"switch", "number", "select", "sensor", "binary_sensor", "event", "button"}
        assert all(len(seen.entities(service)) > 3 for service in SERVICES)
        assert len({entity.config["unique_id"] for entity in seen.entities()}) == sum(counts.values())
        took = {
            "switch": await seen.change("advanced_voice", "settings--noise_reduction_enabled", "OFF"),
            "number": await seen.change("sonos_service", "settings--default_volume_percent", "17"),
            "select": await seen.change("voice_router", LEVEL, "ERROR"),
        }
        settings = (await asyncio.to_thread(daemon.config, "advanced_voice"))["config"]["settings"]
        assert settings["noise_reduction_enabled"] is False
        await seen.until(lambda: seen.events("voice_router"), why="an event")
        (told,) = seen.events("voice_router")
        assert (told["event_type"], told["author"]) == ("revision", "home_assistant")
        assert told["changed"] == ["/settings/log_level"]
        history = await asyncio.to_thread(daemon.http, "GET", "/config/voice_router/history")
        latest = history.json["revisions"][0]
        assert (latest["author"], latest["comment"]) == ("home_assistant", "Home Assistant")
    with capsys.disabled():
        milliseconds = {name: f"{seconds * 1000:.1f} ms" for name, seconds in took.items()}
        sys.stdout.write(
            f"\nMQTT level {bus.protocol}: {sum(counts.values())} entities, {dict(counts)}; {milliseconds}\n"
        )
    assert await asyncio.to_thread(daemon.stop) == 0
    daemon.environ["ALICIACFG_HOME_ASSISTANT"] = "off"
    await asyncio.to_thread(daemon.start)
    await asyncio.to_thread(daemon.first_logged, "home_assistant_removed")
    assert await left_behind(bus.port, protocol=bus.protocol) == []
    await asyncio.to_thread(daemon.stop)


async def test_a_restart_of_the_daemon_publishes_only_what_differs(small: Daemon):
    """Everything is unavailable meanwhile; a device that is as it was is not published again."""
    small.start()
    async with home_assistant(small.broker_port) as seen:
        await shown(seen)
        await asyncio.to_thread(small.stop)
        await seen.until(lambda: seen.available[AVAILABILITY] == "offline", why="offline at a stop")
        seen.received.clear()
        await asyncio.to_thread(small.start)
        await seen.until(lambda: seen.available[AVAILABILITY] == "online", why="online again")
        assert await seen.change("bell", "settings--volume", "5") > 0
        assert seen.received == []
        small.kill()
        await seen.until(lambda: seen.available[AVAILABILITY] == "offline", why="offline by the last will")


async def test_a_restart_of_home_assistant_gets_everything_again(small: Daemon):
    """It finds what is retained; some seconds after its birth message all is published once more."""
    small.start()
    async with home_assistant(small.broker_port) as seen:
        await shown(seen)
    async with home_assistant(small.broker_port) as again:
        await shown(again)
        assert again.received == []
        for _ in range(20):
            await again.start()
        await again.until(lambda: len(again.received) == 2, why="everything again")
        assert await again.change("bell", "settings--tune", "dong") > 0
        assert len(again.received) == 2


async def test_a_broker_that_lost_everything_gets_it_again(small: Daemon, broker: Broker):
    """After its restart with an empty memory, devices and states are published anew."""
    small.start()
    async with home_assistant(small.broker_port) as seen:
        await shown(seen)
    broker.kill()
    broker.wipe()
    broker.start()
    async with home_assistant(small.broker_port) as again:
        await shown(again)
        assert await again.change("bell", "settings--volume", "6") > 0


async def test_an_announcement_every_moment_repeats_little(small: Daemon):
    """A Home Assistant that restarts in a loop gets everything once in half a minute, and commands go on."""
    small.start()
    async with home_assistant(small.broker_port) as seen:
        await shown(seen)
        # A daemon is ready before it has published for Home Assistant: the first messages may have come live.
        seen.received.clear()
        began = time.monotonic()
        for number in range(300):
            await seen.start()
            if number % 60 == 0:
                assert await seen.change("bell", "settings--volume", str(4 + number // 60)) > 0
        await seen.until(lambda: len(seen.received) >= 2, why="once")
        for _ in range(300):
            await seen.start()
        assert await seen.change("bell", "settings--tune", "dong") > 0
        # On a busy machine, more than half a minute may have passed.
        assert len(seen.received) <= 2 * (1 + (time.monotonic() - began) // 30)


async def test_after_a_crash_off_removes_everything(small: Daemon):
    """Also under a prefix that is no longer set, and devices that are gone by then; those of others stay."""
    small.environ["ALICIACFG_HOME_ASSISTANT_PREFIX"] = "discovery"
    small.start()
    foreign = {"origin": {"name": "another"}, "device": {"identifiers": ["x"]}, "components": {}}
    async with client(small.broker_port) as bus:
        await bus.subscribe("discovery/device/aliciacfg/bell/config")
        await bus.until("discovery/device/aliciacfg/bell/config")
        await bus.publish("discovery/device/aliciacfg/foreign/config", foreign, retain=True)
        await bus.publish("discovery/device/other/config", foreign, retain=True)
        small.kill()
        small.environ["ALICIACFG_HOME_ASSISTANT"] = "off"
        del small.environ["ALICIACFG_HOME_ASSISTANT_PREFIX"]
        await asyncio.to_thread(small.start)
        await asyncio.to_thread(small.first_logged, "home_assistant_removed")
        assert sorted(await bus.retained("discovery/#")) == [
            "discovery/device/aliciacfg/foreign/config",
            "discovery/device/other/config",
        ]
        assert await bus.retained("alicia/ha/#") == {}
    small.stop()
    small.start()
    assert len(small.logged("home_assistant_removed")) == 1


async def test_another_prefix_moves_all_devices(small: Daemon):
    """What was published under the one before is removed."""
    small.start()
    async with home_assistant(small.broker_port) as seen:
        await shown(seen)
        small.stop()
        small.environ["ALICIACFG_HOME_ASSISTANT_PREFIX"] = "my/discovery"
        await asyncio.to_thread(small.start)
        await seen.until(lambda: not seen.devices, why="no device under the old prefix")
    async with client(small.broker_port) as bus:
        await bus.subscribe("my/discovery/device/aliciacfg/bell/config")
        await bus.until("my/discovery/device/aliciacfg/bell/config")


async def test_services_and_settings_come_and_go(small: Daemon):
    """A new service appears; one that is deleted, and a setting that is no longer marked, disappear."""
    small.start()
    async with home_assistant(small.broker_port) as seen:
        await shown(seen)
        assert small.http("PUT", "/config/gong", {"features": {"loud": True}}).status in {200, 201}
        await shown(seen, "gong")
        assert small.http("DELETE", "/config/gong").status == 200
        await seen.until(lambda: not seen.entities("gong"), why="gong is gone")
        other = schema(
            ring={"type": "boolean", "default": True},
            volume={"type": "integer", "minimum": 0, "maximum": 20, "default": 3, "x-home-assistant": True},
            tune={"type": "string", "enum": ["ding", "dong", "none"], "default": "ding",
                  "x-home-assistant": {"read_only": True, "name": "Melody"}},
            note={"type": "string", "default": "hello", "x-home-assistant": True},
        )  # fmt: skip
        write(small, "schemas/bell.yaml", other)
        await seen.until(lambda: seen.entity("bell", "settings--volume").config["max"] == 20, why="another range")
        await seen.until(lambda: seen.entity("bell", "settings--tune").platform == "sensor", why="read-only")
        assert seen.entity("bell", "settings--tune").config["name"] == "Melody"
        assert "settings--ring" not in {entity.component for entity in seen.entities("bell")}
    async with client(small.broker_port) as bus:
        assert await bus.retained("alicia/ha/state/gong") == {}
        assert await bus.retained("homeassistant/device/aliciacfg/gong/config") == {}


async def test_names_with_dots_dashes_and_umlauts(small: Daemon):
    """Names that look alike are different devices and entities, and each command reaches its own."""
    flags = {"type": "boolean", "x-home-assistant": True}
    names = ["a.b", "a_b", "a-b", "a-2eb", "A.b"]
    write(small, "environments/dev.yaml", environment_file({name: {} for name in names}))
    keys = ["Küche.licht", "Kuche_licht", "Küche-licht", "a/b", "a~b", "", "日本", "a b"]
    for name in names:
        described = {"features": {"properties": {key: {**flags, "default": False} for key in keys}}}
        write(small, f"schemas/{name}.yaml", {"version": "1.0.0", "type": "object", "properties": described})
    small.start()
    async with home_assistant(small.broker_port) as seen:
        await seen.until(lambda: len(seen.devices) == len(names) + 1, why="all devices")
        switches = [entity for entity in seen.entities() if entity.platform == "switch"]
        assert len(switches) == len(names) * len(keys) == len({entity.config["command_topic"] for entity in switches})
        await seen.until(lambda: all(entity.state == "OFF" for entity in switches), why="all states")
        for number, entity in enumerate(switches):
            await seen.command(entity, "ON")
            await seen.until(lambda entity=entity: entity.state == "ON", why=entity.config["command_topic"])
            assert [other.state for other in switches] == ["ON"] * (number + 1) + ["OFF"] * (len(switches) - number - 1)
    for name in names:
        assert small.config(name)["config"]["features"] == dict.fromkeys(keys, True)


async def test_refused_commands_put_the_true_state_back(small: Daemon, bus: Bus):
    """And tell why: a wrong value, one out of range, an unknown or read-only setting, one that is too large."""
    small.broker_port = bus.port
    await asyncio.to_thread(small.start)
    volume, note = "settings--volume", "settings--note"
    async with home_assistant(bus.port, protocol=bus.protocol) as seen:
        await shown(seen)
        entity = seen.entity("bell", volume)
        refusals = {
            "loud": "invalid_request", "12": "validation_failed", "2.5": "invalid_request", "1e999": "invalid_request",
            "NaN": "invalid_request", "": "invalid_request", "x" * 1_000_000: "invalid_request",
            "-1": "validation_failed",
        }  # fmt: skip
        for payload, code in refusals.items():
            seen.events("bell").clear()
            entity.state = "wrong, as if it had been set"
            await seen.command(entity, payload)
            await seen.until(lambda: entity.state == "3" and seen.events("bell"), why=payload[:20])
            (told,) = seen.events("bell")
            assert (told["event_type"], told["code"], told["entity"]) == ("refused", code, volume)
            assert len(told["message"]) <= 500
        seen.events("bell").clear()
        for component in (note, "settings--plain", "nothing", "status-_drift", "x" * 2000):
            await seen.bus.publish(f"alicia/ha/set/bell/{component}", "3")
        await seen.until(lambda: len(seen.events("bell")) == 5, why="all are refused")
        assert {told["code"] for told in seen.events("bell")} == {"not_found", "invalid_request"}
        # What names no device is dropped.
        for topic in ("alicia/ha/set/nobody/x", "alicia/ha/set/bell", "alicia/ha/set/bell/a/b", "alicia/ha/set/"):
            await seen.bus.publish(topic, "3")
        assert await seen.change("bell", volume, "4") > 0
        assert (await asyncio.to_thread(small.config, "bell"))["revision"] == 2
    await asyncio.to_thread(small.stop)


async def test_a_retained_command_is_not_carried_out(small: Daemon, bus: Bus):
    """Neither the one that the broker kept, nor one that comes live where MQTT 5 shows it."""
    topic = "alicia/ha/set/bell/settings--volume"
    small.broker_port = bus.port
    async with client(bus.port, protocol=bus.protocol) as sender:
        await sender.publish(topic, "9", retain=True)
        await asyncio.to_thread(small.start)
        async with home_assistant(bus.port, protocol=bus.protocol) as seen:
            await shown(seen)
            assert seen.entity("bell", "settings--volume").state == "3"
            if bus.protocol == 5:
                await sender.publish(topic, "8", retain=True)
                await seen.until(lambda: seen.events("bell"), why="it is refused")
                assert seen.events("bell")[0]["event_type"] == "refused"
            assert await seen.change("bell", "settings--volume", "4") > 0
        assert (await asyncio.to_thread(small.config, "bell"))["revision"] == 2
    await asyncio.to_thread(small.stop)


async def test_drift_and_a_pending_restart_are_problems(small: Daemon):
    """And a copy that rejects a revision is an event."""
    small.start()
    async with home_assistant(small.broker_port) as seen:
        await shown(seen)
        revision = small.config("bell")
        report = {"instance": "i", "revision": revision["revision"], "checksum": revision["checksum"]}
        await seen.bus.publish("alicia/config/applied/bell", {**report, "status": "restart_pending"})
        await seen.until(lambda: seen.entity("bell", RESTART).state == "ON", why="restart pending")
        await seen.bus.publish("alicia/config/applied/bell", {**report, "status": "rejected", "error": "no bell"})
        await seen.until(lambda: seen.entity("bell", DRIFT).state == "ON", why="drift")
        await seen.until(lambda: seen.events("bell"), why="rejected")
        assert (seen.events("bell")[-1]["event_type"], seen.events("bell")[-1]["message"]) == ("rejected", "no bell")
        await seen.bus.publish("alicia/config/applied/bell", {**report, "status": "applied"})
        await seen.until(lambda: {seen.entity("bell", name).state for name in (DRIFT, RESTART)} == {"OFF"}, why="well")


async def test_an_environment_is_chosen_and_then_activated(small: Daemon):
    """Both entities are disabled at first; what is protected can neither be chosen nor shows its settings."""
    write(small, "environments/staging.yaml", environment_file({"bell": {"settings": {"volume": 7}}}))
    protected = {**environment_file({"bell": {}}), "protected": True}
    write(small, "environments/prod.yaml", protected)
    small.start()
    async with home_assistant(small.broker_port) as seen:
        await shown(seen)
        await shown(seen, HOME)
        staged, button = seen.entity(HOME, STAGED), seen.entity(HOME, ACTIVATE)
        assert (staged.config["options"], staged.config["enabled_by_default"]) == (["dev", "staging"], False)
        assert button.config["enabled_by_default"] is False
        await seen.command(button, "PRESS")
        await seen.until(lambda: seen.events(HOME), why="nothing is chosen")
        assert await seen.change(HOME, STAGED, "staging") > 0
        assert seen.entity(HOME, ENVIRONMENT).state == "dev"
        await seen.command(button, "PRESS")
        await seen.until(lambda: seen.entity(HOME, ENVIRONMENT).state == "staging", why="staging is active")
        await seen.until(lambda: seen.entity("bell", "settings--volume").state == "7", why="its values")
        await seen.until(lambda: seen.events(HOME)[-1].get("environment") == "staging", why="an event")
        await seen.command(staged, "prod")
        await seen.until(lambda: seen.events(HOME)[-1].get("code") == "invalid_request", why="prod is refused")
        assert small.http("POST", "/environments/prod/activate", {}).status == 200
        await seen.until(lambda: seen.entity(HOME, ENVIRONMENT).state == "prod", why="prod is active")
        await seen.until(lambda: len(seen.entities("bell")) == 3, why="no settings of a protected environment")
        only = {ENVIRONMENT, "status-_event"}
        await seen.until(lambda: {entity.component for entity in seen.entities(HOME)} == only, why="no choice")
        await seen.bus.publish("alicia/ha/set/bell/settings--volume", "1")
        await seen.until(lambda: seen.events("bell"), why="refused")
    assert small.config("bell")["config"]["settings"]["volume"] == 3


async def test_a_deleted_service_is_not_brought_back_by_a_command(small: Daemon):
    """However commands and the deletion come: at the end it is gone, and so is its device."""
    small.start()
    flags = {"version": "1.0.0", "type": "object", "properties": {
        "features": {"additionalProperties": {"type": "boolean", "x-home-assistant": True}}}}  # fmt: skip
    write(small, "schemas/gong.yaml", flags)
    async with home_assistant(small.broker_port) as seen:
        await shown(seen)
        wait_until(lambda: small.logged("files_loaded"))
        for _ in range(5):
            assert small.http("PUT", "/config/gong", {"features": {"loud": True}}).status in {200, 201}
            await seen.until(lambda: any(e.platform == "switch" for e in seen.entities("gong")), why="gong")
            switch = seen.entity("gong", "features--loud")

            async def press(switch: Any = switch) -> None:
                for number in range(40):
                    await seen.command(switch, ("ON", "OFF")[number % 2])

            pressing = asyncio.create_task(press())
            assert (await asyncio.to_thread(small.http, "DELETE", "/config/gong")).status == 200
            await pressing
            await seen.until(lambda: not seen.entities("gong"), why="gong is gone")
            assert small.http("GET", "/config/gong").status == 404


async def test_a_flood_of_commands_holds_up_nobody_else(small: Daemon):
    """The last command wins, other requests are answered meanwhile, and the daemon goes on."""
    small.start()
    async with home_assistant(small.broker_port) as seen, client(small.broker_port) as other:
        await shown(seen)
        entity = seen.entity("bell", "settings--volume")
        topic = entity.config["command_topic"]

        async def flood() -> None:
            for number in range(300):
                seen.bus.client._client.publish(topic, str(number % 11), 1)
                if number % 100 == 0:
                    await asyncio.sleep(0)

        flooding = asyncio.create_task(flood())
        for _ in range(20):
            assert (await other.ask("alicia/config/get/bell")).json["status"] == "success"
        await flooding
        await seen.command(entity, "11")
        await seen.until(lambda: entity.state == "11", seconds=50, why="the last command")
    assert small.config("bell")["config"]["settings"]["volume"] == 11


async def test_others_on_the_daemons_topics_are_overwritten(small: Daemon):
    """A state or device that another program publishes is replaced; a device of its own name is left alone."""
    small.start()
    async with home_assistant(small.broker_port) as seen:
        await shown(seen)
    async with client(small.broker_port) as bus:
        state, device = "alicia/ha/state/bell", "homeassistant/device/aliciacfg/bell/config"
        before = {**await bus.retained(state), **await bus.retained(device)}
        await bus.subscribe(state, device, "alicia/config/alert/tamper")
        for topic in (state, device):
            for payload in ("{}", "", "not JSON"):
                await bus.publish(topic, payload, retain=True)
                while (await bus.until(topic)).payload != before[topic].payload:
                    pass
        foreign = "homeassistant/device/aliciacfg/foreign/config"
        await bus.publish(foreign, {"origin": {"name": "other"}}, retain=True)
        await bus.publish("alicia/ha/state/nobody", "x", retain=True)
        await bus.until("alicia/config/alert/tamper")
        assert list(await bus.retained(foreign)) == [foreign]
        await bus.subscribe("alicia/ha/state/nobody")
        while (await bus.retained("alicia/ha/state/nobody")) != {}:
            pass


async def test_a_cap_on_entities_says_what_is_left_out(small: Daemon):
    """Services in the order of their names get them; the alert names those that do not, until there is room."""
    write(small, "environments/dev.yaml", environment_file({"bell": {}, "cowbell": {}, "gong": {}}))
    write(small, "schemas/gong.yaml", BELL)
    small.environ["ALICIACFG_HOME_ASSISTANT_MAX_ENTITIES"] = "11"
    small.start()
    async with home_assistant(small.broker_port) as seen:
        await shown(seen)
        await seen.until(lambda: len(seen.entities("cowbell")) == 3, why="cowbell")
        assert (len(seen.entities("bell")), seen.entities("gong")) == (7, [])
        alerts = small.http("GET", "/health").json["alerts"]
        assert "gong (7)" in alerts["home_assistant:entities"]
        write(small, "environments/dev.yaml", environment_file({"bell": {}, "gong": {}}))
        await seen.until(lambda: len(seen.entities("gong")) == 4, why="room for one setting of gong")
        assert not seen.entities("cowbell")
        assert "gong (3)" in small.http("GET", "/health").json["alerts"]["home_assistant:entities"]


@pytest.mark.parametrize("prefix", ["home/+", "#", "a//b", "/a", "alicia/config", "$SYS", "a b", "é", "x" * 200])
def test_a_prefix_that_is_no_topic_is_refused(make_daemon: Callable[..., Daemon], prefix: str):
    """The daemon does not start, and says which setting to correct."""
    daemon = make_daemon(environ={**ON, "ALICIACFG_HOME_ASSISTANT_PREFIX": prefix})
    daemon.spawn()
    assert daemon.wait_exit() != 0
    assert "ALICIACFG_HOME_ASSISTANT_PREFIX" in daemon.log.read_text()


def test_of_several_daemons_the_one_that_leads_serves_home_assistant(
    make_daemon: Callable[..., Daemon], postgres: Postgres, broker: Broker
):
    """A command is carried out once, whichever leads; another one takes over, and turned off nothing is left."""
    url, names = postgres.create(), ("one", "two")
    made = start_replicas(make_daemon, url, names, ("voice_router",), {name: dict(ON) for name in names})
    leading = wait_for_leader(made)
    (other,) = others(made, leading)

    async def use() -> None:
        async with home_assistant(broker.port) as seen:
            await shown(seen, "voice_router")
            assert await seen.change("voice_router", LEVEL, "ERROR") > 0
            # Written by the daemon that does not lead.
            await asyncio.to_thread(other.http, "PATCH", "/config/voice_router", {"settings": {"log_level": "INFO"}})
            await seen.until(lambda: seen.entity("voice_router", LEVEL).state == "INFO", why="the other one's write")
            assert len(seen.received) <= 2
            await asyncio.to_thread(leading.kill)
            await seen.until(lambda: seen.available[AVAILABILITY] == "offline", why="the last will")
            await seen.until(lambda: seen.available[AVAILABILITY] == "online", seconds=30, why="the other one leads")
            assert await seen.change("voice_router", LEVEL, "DEBUG") > 0
            history = await asyncio.to_thread(other.http, "GET", "/config/voice_router/history")
            authors = [revision["author"] for revision in history.json["revisions"]]
            assert authors.count("home_assistant") == 2

    asyncio.run(use())
    other.stop()
    other.environ["ALICIACFG_HOME_ASSISTANT"] = "off"
    other.start()
    other.first_logged("home_assistant_removed")
    assert asyncio.run(left_behind(broker.port, protocol=5)) == []


PASSWORDS = {"config_service": "d", "home_assistant": "h", "stranger": "s", "bell": "b", "gong": "g"}
RULES = {
    "services": {"bell": {"write": {"allowed_services": ["home_assistant"]}}},
    "users": ["home_assistant"],
    "admins": ["operator"],
}


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Broker]:
    """A broker with accounts, under the list that ``aliciacfg acl`` makes of ``RULES``."""
    (tmp_path / "passwords").write_text(password_file(PASSWORDS, iterations=1000))
    (tmp_path / "acl").write_text("")
    for name in ("passwords", "acl"):
        (tmp_path / name).chmod(0o644)
    config = f"acl_file {tmp_path / 'acl'}\npassword_file {tmp_path / 'passwords'}\n"
    made = Broker(tmp_path / "guarded", config=config)
    yield made
    made.stop()


@pytest.fixture
def ruled(small: Daemon, guarded: Broker) -> Daemon:
    """A daemon under rules, that lets Home Assistant write one service and not see another one."""
    write(small, "environments/access.yaml", RULES)
    write(small, "environments/dev.yaml", environment_file({"bell": {}, "gong": {}}))
    small.environ |= {"MQTT_USERNAME": "config_service", "MQTT_PASSWORD": PASSWORDS["config_service"]}
    small.broker_port = guarded.port
    return small


def the_list() -> str:
    access = Access(
        services={"bell": Grants(frozenset({"home_assistant"}), frozenset({"home_assistant"})), "gong": Grants()},
        admins=frozenset({"operator"}), users=frozenset({"home_assistant"}), enforced=True,
    )  # fmt: skip
    return access_list(access, home_assistant=Account("home_assistant", "home_assistant", "homeassistant"))


def account(name: str) -> dict[str, Any]:
    return {"username": name, "password": PASSWORDS[name]}


async def test_under_the_access_list_only_home_assistants_account_commands(ruled: Daemon, guarded: Broker):
    """Another account's commands, devices and states do not get through; Home Assistant cannot send requests."""
    (guarded.directory.parent / "acl").write_text(the_list())
    guarded.start()
    ruled.start()
    async with home_assistant(guarded.port, **account("home_assistant")) as seen:
        await shown(seen)
        await seen.until(lambda: len(seen.devices) == 2, why="one service, and the home")
        assert {entity.component for entity in seen.entities(HOME)} == {ENVIRONMENT, "status-_event"}
        async with client(guarded.port, **account("stranger")) as stranger:
            device = "homeassistant/device/aliciacfg/bell/config"
            for topic in ("alicia/ha/set/bell/settings--volume", "alicia/ha/state/bell", device, AVAILABILITY):
                await stranger.publish(topic, "9", retain=topic == AVAILABILITY)
            assert await stranger.retained("alicia/ha/#") == {}
            assert await stranger.retained("homeassistant/device/aliciacfg/#") == {}
        await seen.bus.subscribe("alicia/reply/#")
        await seen.bus.publish("alicia/config/patch/bell/home_assistant", {"patch": {"settings": {"volume": 9}}})
        assert await seen.change("bell", "settings--volume", "4") > 0
        await seen.until(lambda: seen.events("bell"), why="the revision")
        # Neither the stranger's command nor the request has made one.
        assert [told["revision"] for told in seen.events("bell")] == [2]
        assert seen.available[AVAILABILITY] == "online"
        assert "acl_missing" not in str(ruled.http("GET", "/health").json["alerts"])


async def test_without_the_access_list_commands_are_refused(ruled: Daemon, guarded: Broker):
    """There are rules, and every account may send commands: all are refused, and the alert says what to do."""
    (guarded.directory.parent / "acl").write_text("pattern readwrite #\n")
    guarded.start()
    ruled.start()
    async with home_assistant(guarded.port, **account("home_assistant")) as seen:
        await shown(seen)
        await seen.command(seen.entity("bell", "settings--volume"), "4")
        await seen.until(lambda: seen.events("bell"), why="refused")
        assert seen.events("bell")[0]["code"] == "unauthorized"
        assert "acl_missing:home_assistant" in ruled.http("GET", "/health").json["alerts"]


async def test_a_broker_that_denies_what_is_published_is_told(ruled: Daemon, guarded: Broker):
    """The alert names the access list; everything else goes on, and it is made good when the list is right."""
    listed = the_list()
    denied = listed.replace("topic readwrite alicia/ha/state/+\n", "").replace(
        "topic readwrite homeassistant/device/aliciacfg/+/config\n", ""
    )
    assert denied != listed
    (guarded.directory.parent / "acl").write_text(denied)
    guarded.start()
    ruled.start()
    async with client(guarded.port, **account("home_assistant")) as bus:
        wait_until(lambda: any("Home Assistant does not get" in str(e) for e in ruled.events()) or _health(ruled))
        assert await bus.retained("alicia/ha/state/bell") == {}
        (guarded.directory.parent / "acl").write_text(listed)
        guarded.reload()
        await bus.subscribe("alicia/ha/state/+")
        assert (await bus.until("alicia/ha/state/bell", seconds=30)).payload


def _health(daemon: Daemon) -> bool:
    return "undelivered:home_assistant" in daemon.http("GET", "/health").json.get("alerts", {})


async def test_nothing_is_told_of_a_service_that_the_rules_hide(ruled: Daemon, guarded: Broker):
    """Neither that it has a new revision nor that a copy rejected one: no name, no place, no text."""
    (guarded.directory.parent / "acl").write_text(the_list())
    guarded.start()
    ruled.start()
    operator = bearing(ruled, token(ruled, "operator", role="admin"))
    async with (
        home_assistant(guarded.port, **account("home_assistant")) as seen,
        client(guarded.port, **account("gong")) as gong,
    ):
        await shown(seen)
        await seen.bus.subscribe("alicia/ha/event/#")
        answer = await asyncio.to_thread(operator, "PATCH", "/config/gong", {"settings": {"hidden_place": 1}})
        assert answer.status == 200, answer
        report = {"instance": "g1", "revision": answer.json["revision"], "checksum": answer.json["checksum"]}
        report |= {"status": "rejected", "error": "hidden text"}
        await gong.publish("alicia/config/applied/gong", report)
        answer = await asyncio.to_thread(operator, "PATCH", "/config/bell", {"settings": {"volume": 5}})
        assert answer.status == 200, answer
        await seen.until(lambda: seen.events("bell"), why="what it may know")
        instances = "/config/gong/instances"
        await asyncio.to_thread(wait_until, lambda: "hidden text" in operator("GET", instances).body.decode())
        last = await asyncio.to_thread(operator, "PATCH", "/config/bell", {"settings": {"volume": 6}})
        await seen.until(
            lambda: seen.events("bell")[-1]["revision"] == last.json["revision"], why="what comes after both"
        )
        assert [topic for topic in seen._last if "gong" in topic] == []
