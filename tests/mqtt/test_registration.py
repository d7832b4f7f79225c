"""What services say about themselves."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.mqtt.devices import DeviceRegistry
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.registration import Registration
from aliciacfg.mqtt.reports import Reports
from builders import environment_file
from cases import case
from inprocess import Core, core

REGISTER = "alicia/system/discovery/register"
UNREGISTER = "alicia/system/discovery/unregister"
FILES = {"environments/dev.yaml": environment_file({"bell": {}})}


@dataclass
class Bus:
    """The registration of a daemon whose core is real, and what it asks the device registry."""

    core: Core
    registration: Registration
    reports: Reports
    questions: list[str]

    async def discover(self, topic: str, message: object) -> None:
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        await self.registration.on_discovery(Inbound(topic, payload, 1, retained=False))

    async def register(self, name: object) -> None:
        await self.discover(REGISTER, {"service_name": name})

    async def report(self, service: str, report: object, *, retained: bool = False) -> None:
        payload = report if isinstance(report, bytes) else json.dumps(report).encode()
        await self.reports.receive(Inbound(f"alicia/config/applied/{service}", payload, 1, retained))

    @property
    def refused(self) -> list[str]:
        return [alert.message for alert in self.core.heard if alert.kind == "validation_failed"]

    @property
    def online(self) -> int:
        return self.core.parts.service.health.now().services_online


@asynccontextmanager
async def bus(directory: Path, **settings: str) -> AsyncGenerator[Bus, None]:
    questions: list[str] = []
    counts: list[int | None] = []
    async with core(directory, FILES, **settings) as made:
        registry = DeviceRegistry(send=lambda topic, _payload: questions.append(topic), on_count=counts.append)
        yield Bus(
            made,
            Registration(
                made.parts.service.registrations,
                health=made.parts.service.health,
                alerts=made.parts.alerts,
                device_registry=registry,
            ),
            Reports(made.parts.service.registrations),
            questions,
        )


async def test_a_name_that_gets_no_configuration_is_alerted_once(tmp_path: Path):
    """However often it announces itself; another name is alerted again."""
    async with bus(tmp_path, max_services="1") as made:
        for name in ("second", "second", "no good name", "second", "no good name"):
            await made.register(name)
        first, second = made.refused
        assert first.startswith("'second' announced itself, but gets no configuration: ")
        assert second.startswith("A program announced itself under a name that no service can have: ")
        assert made.online == 0


async def test_names_are_alerted_by_what_is_shown_of_them(tmp_path: Path):
    """Long names that begin alike are one; so a program that makes names up fills neither memory nor alerts."""
    async with bus(tmp_path) as made:
        for number in range(3):
            await made.register("x" * 80 + str(number))
        assert len(made.refused) == 1
        assert "x" * 81 not in made.refused[0]


async def test_a_great_many_refused_names_are_not_remembered(tmp_path: Path):
    """After 1,024 of them the first may be alerted once more."""
    async with bus(tmp_path, max_services="1") as made:
        for number in range(1025):
            await made.register(f"further_{number}")
        assert len(made.refused) == 1025
        # The same alert in the same second would be counted.
        made.core.parts.alerts.report_counted()
        await made.register("further_0")
        assert len(made.refused) == 1026


async def test_a_known_service_is_sent_its_configuration_again(tmp_path: Path):
    """It is online until it unregisters; an unknown one gets its default configuration."""
    async with bus(tmp_path) as made:
        outbox = made.core.parts.outbox
        for item in outbox.due():
            outbox.confirm(item)
        await made.register("bell")
        assert [item.subject for item in outbox.due()] == ["service/bell"]
        await made.register("guest")
        assert (await made.core.ask("get", "guest"))["revision"] == 1
        assert made.online == 2
        await made.discover(UNREGISTER, {"service_name": "bell"})
        assert made.online == 1
        assert made.refused == []


async def test_other_discovery_messages_are_ignored(tmp_path: Path):
    """Devices announce themselves there too, and so does the daemon."""
    async with bus(tmp_path) as made:
        for message in [
            b"",
            b"not json",
            b"[]",
            {"service_name": 7},
            {"device_id": "lamp"},
            {"service_name": "config_service"},
            b" " * 65537,
        ]:
            for topic in [REGISTER, UNREGISTER]:
                with case(message, topic):
                    before = made.core.parts.outbox.pending
                    await made.discover(topic, message)
                    assert (made.online, made.refused, made.core.parts.outbox.pending) == (0, [], before)


async def test_the_device_registry_is_asked_when_it_announces_itself(tmp_path: Path):
    """It is a service like others, and the home's device registry besides."""
    async with bus(tmp_path) as made:
        await made.register("device_registry")
        assert made.questions == ["alicia/devices/discovery"]
        await made.discover(UNREGISTER, {"service_name": "device_registry"})
        assert made.questions == ["alicia/devices/discovery"]


async def test_the_daemon_announces_itself_in_the_envelope(tmp_path: Path):
    """As every program of the home does."""
    async with bus(tmp_path) as made:
        said: dict[str, Any] = json.loads(made.registration.announcement())
        assert said["source"] == "config_service"
        assert said["payload"]["service_name"] == "config_service"
        assert said["payload"]["status"] == "online"
        assert said["payload"]["capabilities"]


REPORT = {"instance": "kitchen", "revision": 1, "checksum": "", "status": "applied"}


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_an_applied_report_is_stored(tmp_path: Path, depth: int):
    """Bare or wrapped."""
    report: dict[str, Any] = REPORT
    for _ in range(depth):
        report = {"message_id": "m", "payload": report}
    async with bus(tmp_path) as made:
        await made.report("bell", report)
        (instance,) = (await made.core.ask("instances", "bell"))["instances"]
        assert instance["instance"] == "kitchen"


async def test_what_is_no_report_is_ignored(tmp_path: Path):
    """The bus carries anything; nothing raises, and nothing is stored."""
    async with bus(tmp_path) as made:
        for service, report in [
            ("bell", b"not json"),
            ("bell", b"[]"),
            ("bell", {"instance": "kitchen"}),
            ("bell", {**REPORT, "status": "delighted"}),
            ("bell", json.dumps(REPORT).encode() + b" " * 65536),
            ("no good name", REPORT),
            ("nobody", REPORT),
        ]:
            with case(service, report):
                await made.report(service, report)
                await made.report("bell", REPORT, retained=True)
                assert (await made.core.ask("instances", "bell"))["instances"] == []
